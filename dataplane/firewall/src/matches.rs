// SPDX-License-Identifier: Apache-2.0
//! Conditions of a rule.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::{FlowKey, IpProto};

use crate::header_match::HeaderMatch;
use crate::masked_mac::MaskedMac;

/// Protocols whose first bytes have ports or an ICMP type, which a later fragment lacks.
const WITH_L4: [u8; 7] = [
    IpProto::TCP,
    IpProto::UDP,
    IpProto::DCCP,
    IpProto::SCTP,
    IpProto::UDP_LITE,
    IpProto::ICMP,
    IpProto::ICMPV6,
];

/// Conditions of a rule: every condition must hold, and an empty condition always holds. A condition
/// with several values holds if one of them fits, a negated one (`not_from` and so on) if none does.
///
/// * `from`, `to`, `protocols`, their negations and `fragments` are about IP: a rule that has one of
///   them and no `ethertypes` matches IP packets only. With `ethertypes` it can also match ARP: then
///   `from` and `to` are compared with the sender's and the target's IPv4 address.
/// * An IPv4 prefix never holds for an IPv6 packet, nor the other way round, IPv4-mapped IPv6
///   addresses included. So `not_from` with IPv4 prefixes alone holds for every IPv6 packet.
/// * `source_ports` and `ports` hold only for frames whose ports are known, `icmp_types` only where
///   the ICMP type is, and **so do their negations**: a frame without ports is not one whose port is
///   another. A later fragment has them if its datagram's first fragment came before it and the caller
///   remembers that; **else it has neither**, and only rules by prefix and protocol match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// Source prefixes.
    pub from: Vec<IpNet>,
    /// Source prefixes that do not match.
    pub not_from: Vec<IpNet>,
    /// Destination prefixes.
    pub to: Vec<IpNet>,
    /// Destination prefixes that do not match.
    pub not_to: Vec<IpNet>,
    /// IP protocol numbers; behind the extension headers in IPv6.
    pub protocols: Vec<u8>,
    /// IP protocol numbers that do not match.
    pub not_protocols: Vec<u8>,
    /// Source ports.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Source ports that do not match.
    pub not_source_ports: Vec<RangeInclusive<u16>>,
    /// Destination ports.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Destination ports that do not match.
    pub not_ports: Vec<RangeInclusive<u16>>,
    /// Whether frames of protocols that have neither ports nor an ICMP type meet `ports` and
    /// `not_ports` as well. So IPsec is one rule: UDP to its ports, ESP and AH.
    pub without_ports: bool,
    /// ICMP or ICMPv6 types.
    pub icmp_types: Vec<IcmpTypes>,
    /// ICMP or ICMPv6 types that do not match.
    pub not_icmp_types: Vec<IcmpTypes>,
    /// EtherTypes behind all VLAN tags; 0 stands for 802.3 frames with a length in its place.
    pub ethertypes: Vec<u16>,
    /// EtherTypes that do not match.
    pub not_ethertypes: Vec<u16>,
    /// Source MACs.
    pub source_macs: Vec<MaskedMac>,
    /// Source MACs that do not match.
    pub not_source_macs: Vec<MaskedMac>,
    /// Destination MACs.
    pub destination_macs: Vec<MaskedMac>,
    /// Destination MACs that do not match.
    pub not_destination_macs: Vec<MaskedMac>,
    /// Fragments; `None`: whole packets and every fragment.
    pub fragments: Option<Fragments>,
    /// Header fields that differ within a flow.
    pub headers: HeaderMatch,
    /// Whether nothing matches, because a condition's values are an empty set.
    pub never: bool,
}

/// Range of ICMP or ICMPv6 types, and of their codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpTypes {
    /// Types.
    pub types: RangeInclusive<u8>,
    /// Codes of each of the types.
    pub codes: RangeInclusive<u8>,
}

/// Fragments that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fragments {
    /// First fragments of datagrams.
    First,
    /// Fragments other than the first.
    Later,
    /// Fragments of either kind; no whole packets.
    Any,
}

impl Match {
    /// Whether a condition that only IP can meet restricts it to IP packets.
    pub(crate) fn is_ip_only(&self) -> bool {
        let addressed = [&self.from, &self.not_from, &self.to, &self.not_to];
        self.ethertypes.is_empty()
            && (self.is_about_protocols() || addressed.iter().any(|nets| !nets.is_empty()))
    }

    /// Whether a condition is about the IP header behind the addresses, so that only IP meets it,
    /// whatever the EtherTypes are.
    pub(crate) fn is_about_protocols(&self) -> bool {
        !self.protocols.is_empty()
            || !self.not_protocols.is_empty()
            || self.fragments.is_some()
            || self.headers.is_about_ip()
    }
}

impl IcmpTypes {
    /// Range of types with every code.
    #[must_use]
    pub const fn of(types: RangeInclusive<u8>) -> IcmpTypes {
        let codes = 0..=u8::MAX;
        IcmpTypes { types, codes }
    }

    /// Whether a message of this type and code is in the range.
    #[must_use]
    pub fn contains(&self, icmp_type: u8, code: u8) -> bool {
        self.types.contains(&icmp_type) && self.codes.contains(&code)
    }
}

impl Fragments {
    /// Whether an IP packet with this key is among them.
    #[must_use]
    pub const fn include(self, key: &FlowKey) -> bool {
        match self {
            Fragments::First => key.has(FlowKey::FRAGMENT) && !key.has(FlowKey::LATER_FRAGMENT),
            Fragments::Later => key.has(FlowKey::LATER_FRAGMENT),
            Fragments::Any => key.has(FlowKey::FRAGMENT),
        }
    }
}

/// Whether packets of a protocol have ports or an ICMP type, be they readable in this one or not.
pub(crate) fn has_l4(proto: u8) -> bool {
    WITH_L4.contains(&proto)
}
