// SPDX-License-Identifier: Apache-2.0
//! Flood limits of one source: a token bucket for each kind of flooded frame.

use sluice_packet::{FlowKey, IpProto, nd};

use super::token_bucket::TokenBucket;
use crate::drops::DropReason;
use crate::limits::FloodLimits;

/// Kind of a flooded frame, by which it is rationed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloodKind {
    /// Broadcast other than ARP.
    Broadcast,
    /// Multicast other than neighbour discovery.
    Multicast,
    /// ARP and neighbour discovery: without them nobody finds anybody.
    Neighbour,
}

impl FloodKind {
    /// Returns the kind of a frame to a group address.
    pub(crate) fn of(key: &FlowKey) -> FloodKind {
        let discovery = key.has(FlowKey::ICMP)
            && key.proto == IpProto::ICMPV6
            && matches!(key.icmp_type, nd::ROUTER_SOLICIT..=nd::REDIRECT);
        if key.has(FlowKey::ARP) || discovery {
            FloodKind::Neighbour
        } else if key.dst_mac().is_broadcast() {
            FloodKind::Broadcast
        } else {
            FloodKind::Multicast
        }
    }

    /// Returns the reason under which a frame over the limit is counted.
    pub(crate) fn drop_reason(self) -> DropReason {
        match self {
            FloodKind::Broadcast => DropReason::BroadcastLimited,
            FloodKind::Multicast => DropReason::MulticastLimited,
            FloodKind::Neighbour => DropReason::ArpNdLimited,
        }
    }
}

/// Token buckets of one source: an attachment, or the wire in one segment.
#[derive(Debug)]
pub(crate) struct FloodBuckets {
    broadcast: TokenBucket,
    multicast: TokenBucket,
    arp_nd: TokenBucket,
}

impl FloodBuckets {
    /// Full buckets.
    pub(crate) fn new(limits: &FloodLimits) -> FloodBuckets {
        FloodBuckets {
            broadcast: TokenBucket::new(limits.broadcast),
            multicast: TokenBucket::new(limits.multicast),
            arp_nd: TokenBucket::new(limits.arp_nd),
        }
    }

    /// Whether the source may have another frame flooded at the time `now_ns`.
    pub(crate) fn take(&self, kind: FloodKind, now_ns: u64) -> bool {
        match kind {
            FloodKind::Broadcast => self.broadcast.take(now_ns),
            FloodKind::Multicast => self.multicast.take(now_ns),
            FloodKind::Neighbour => self.arp_nd.take(now_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use sluice_packet::build::{ArpFields, FrameBuilder};
    use sluice_packet::{InnerTag, Mac, parse};

    use super::*;

    fn kind(frame: &[u8]) -> FloodKind {
        FloodKind::of(&parse(frame, InnerTag::Refuse).unwrap().key)
    }

    #[test]
    fn arp_and_neighbour_discovery_have_a_reserve() {
        let from = Mac([2, 0, 0, 0, 0, 1]);
        let group = Mac([0x33, 0x33, 0, 0, 0, 1]);
        let to_all = "ff02::1".parse().unwrap();
        let source = "fe80::1".parse().unwrap();
        let icmp = |icmp_type| {
            let frame = FrameBuilder::new(group, from).ipv6(source, to_all).ttl(255);
            kind(&frame.icmp(icmp_type, 0, [0; 4]).payload(&[0; 24]).build())
        };
        let arp = FrameBuilder::new(Mac([0xff; 6]), from).arp(ArpFields {
            operation: 1,
            sender_mac: from,
            sender_ip: [10, 0, 0, 1].into(),
            target_mac: Mac([0; 6]),
            target_ip: [10, 0, 0, 2].into(),
        });
        assert_eq!(kind(&arp.build()), FloodKind::Neighbour);
        for discovery in 133..=137 {
            assert_eq!(icmp(discovery), FloodKind::Neighbour);
        }
        assert_eq!(icmp(128), FloodKind::Multicast, "an echo request");
        let dhcp = FrameBuilder::new(Mac([0xff; 6]), from)
            .ipv4([0; 4].into(), [255; 4].into())
            .udp(68, 67);
        assert_eq!(kind(&dhcp.build()), FloodKind::Broadcast);
        let lldp = FrameBuilder::new(Mac([1, 0x80, 0xc2, 0, 0, 0x10]), from).ethertype(0x88cc);
        assert_eq!(kind(&lldp.build()), FloodKind::Multicast);
    }
}
