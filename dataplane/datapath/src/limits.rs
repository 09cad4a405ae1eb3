// SPDX-License-Identifier: Apache-2.0
//! Limits of what one source may cause others to receive, which control hands in.

use sluice_firewall::connections::Timeouts;

/// Rate of a token bucket, with its depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Frames a second.
    pub per_second: u32,
    /// Frames at once.
    pub burst: u32,
}

impl Rate {
    /// Rate of `per_second` frames, `burst` of them at once.
    pub const fn new(per_second: u32, burst: u32) -> Rate {
        Rate { per_second, burst }
    }
}

/// Limits of the frames that one source may have flooded. Each kind has tokens of its own, so that
/// none of the three can take another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimits {
    /// Broadcast other than ARP.
    pub broadcast: Rate,
    /// Multicast to groups that nobody is known to be in, and to those that are always flooded.
    pub multicast: Rate,
    /// Reserve for ARP and neighbour discovery.
    pub arp_nd: Rate,
}

impl FloodLimits {
    /// Default of each attachment.
    ///
    /// A host sends a few ARP requests a second when it starts talking, and broadcasts hardly ever:
    /// DHCP, a discovery protocol. A thousand neighbours resolved at once are the largest burst
    /// that a router makes.
    pub const ATTACHMENT: FloodLimits = FloodLimits {
        broadcast: Rate::new(1_000, 256),
        multicast: Rate::new(2_000, 512),
        arp_nd: Rate::new(1_000, 1_024),
    };

    /// Default of each uplink's segment: the wire has all the hosts of a VLAN behind it.
    pub const WIRE: FloodLimits = FloodLimits {
        broadcast: Rate::new(10_000, 2_048),
        multicast: Rate::new(20_000, 4_096),
        arp_nd: Rate::new(10_000, 4_096),
    };
}

/// Limits of the connections of stateful policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Room of each worker for connections of each IP version: 112 bytes each in IPv4, 144 in IPv6, which it has from
    /// its start on. In [`ConnectionLimits::PLACES`].
    pub places: u32,
    /// Most connections of an attachment in each IP version, if its equal part of three quarters of the places is more;
    /// at least 1.
    pub most: u32,
    /// Percent of an attachment's connections that may be half open, 1 to 100.
    pub half_open_percent: u32,
    /// Percent that nothing has come back of, 1 to 100.
    pub one_way_percent: u32,
    /// Percent that one remote address may have, 1 to 100.
    pub one_source_percent: u32,
    /// Seconds after a worker's start in which TCP connections are taken up in their middle; 0: none are.
    pub grace_s: u32,
    /// Seconds of silence after which a connection ends.
    pub timeouts: Timeouts,
}

impl ConnectionLimits {
    /// Least and most places: the memory of the most is 1 GiB for each worker.
    pub const PLACES: (u32, u32) = (1_024, 1 << 22);
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            places: 1 << 16,
            most: 1_000_000,
            half_open_percent: 25,
            one_way_percent: 25,
            one_source_percent: 12,
            grace_s: 30,
            timeouts: Timeouts::default(),
        }
    }
}

/// Default of [`Limits::wire_groups`]: 100,000 frames a second to twenty pods. It is as many copies as
/// the wire's other multicast makes at a hundred attachments.
const WIRE_GROUPS: Rate = Rate::new(2_000_000, 262_144);

/// Limits of all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Limits of each attachment.
    pub attachment: FloodLimits,
    /// Limits of the wire, for each segment of each uplink.
    pub wire: FloodLimits,
    /// Copies, for each segment of each uplink, of the wire's frames to groups that somebody is known to
    /// be in; and as many of those to unicast addresses that nobody has, for promiscuous attachments.
    pub wire_groups: Rate,
    /// Multicast groups that an attachment may be in.
    pub groups: u16,
    /// MAC addresses besides its own that an attachment may have learned, over all its VLANs, where it may
    /// send from such at all.
    pub macs: u16,
    /// Limits of the connections of stateful policies.
    pub connections: ConnectionLimits,
}

/// Default of [`Limits::macs`]: as many virtual machines or containers as a pod may have behind a
/// bridge.
const MACS: u16 = 64;

/// Default of [`Limits::groups`]: three times what Linux lets a socket join. Every membership takes
/// 80 bytes at each worker.
const GROUPS: u16 = 64;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            attachment: FloodLimits::ATTACHMENT,
            wire: FloodLimits::WIRE,
            wire_groups: WIRE_GROUPS,
            groups: GROUPS,
            macs: MACS,
            connections: ConnectionLimits::default(),
        }
    }
}
