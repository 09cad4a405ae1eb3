// SPDX-License-Identifier: Apache-2.0
//! Words that stand for numbers: the one table of each kind, from which the reader, the grammar page
//! and the JSON schema are made. Of several words for a number the first is the usual one.

mod headers;
mod icmp;
mod ports;

use std::fmt;

use sluice_packet::{EtherType, IpProto};

use crate::limit::LimitScope;
use crate::matches::Fragments;
use crate::policy::Directions;
use crate::states::State;
use crate::verdict::Verdict;

pub(crate) use headers::{
    ARP_OPERATIONS, DSCP, EXTENSION_HEADERS, IP_OPTIONS, TCP_FLAGS, TcpFlagWord,
};
pub(crate) use icmp::{ICMP_TYPES, ICMPV6_TYPES, IcmpWord};
pub(crate) use ports::PORTS;

/// Words with their values.
pub(crate) type Words<T> = &'static [(&'static str, T)];

/// Verdicts.
pub(crate) const VERDICTS: Words<Verdict> = &[
    ("accept", Verdict::Accept),
    ("drop", Verdict::Drop),
    ("reject", Verdict::Reject),
    ("audit", Verdict::Audit),
];

/// Directions of a rule.
pub(crate) const DIRECTIONS: Words<Directions> = &[
    ("ingress", Directions::Ingress),
    ("egress", Directions::Egress),
    ("both", Directions::Both),
];

/// States of connections.
pub(crate) const STATES: Words<State> = &[
    ("new", State::New),
    ("established", State::Established),
    ("related", State::Related),
    ("invalid", State::Invalid),
];

/// Traffic that shares a limit.
pub(crate) const LIMIT_SCOPES: Words<LimitScope> = &[
    ("attachment", LimitScope::Attachment),
    ("source", LimitScope::Source),
];

/// Truth values.
pub(crate) const BOOLEANS: Words<bool> = &[("true", true), ("false", false)];

/// Kinds of fragments.
pub(crate) const FRAGMENTS: Words<Fragments> = &[
    ("first", Fragments::First),
    ("later", Fragments::Later),
    ("any", Fragments::Any),
];

/// IP protocols (IANA "Protocol Numbers"), the usual ones first.
pub(crate) const PROTOCOLS: Words<u8> = &[
    ("tcp", IpProto::TCP),
    ("udp", IpProto::UDP),
    ("icmp", IpProto::ICMP),
    ("icmpv6", IpProto::ICMPV6),
    ("sctp", IpProto::SCTP),
    ("ah", IpProto::AH),
    ("dccp", IpProto::DCCP),
    ("eigrp", 88),
    ("esp", IpProto::ESP),
    ("etherip", 97),
    ("gre", 47),
    ("igmp", IpProto::IGMP),
    ("ipcomp", 108),
    ("ipip", 4),
    ("ipv6", 41),
    ("isis", 124),
    ("l2tp", 115),
    ("mpls-in-ip", 137),
    ("ospf", 89),
    ("pgm", 113),
    ("pim", IpProto::PIM),
    ("rsvp", 46),
    ("udp-lite", IpProto::UDP_LITE),
    ("udplite", IpProto::UDP_LITE),
    ("vrrp", 112),
    ("carp", 112),
];

/// EtherTypes (IANA "IEEE 802 Numbers"); 0 is any 802.3 length.
pub(crate) const ETHERTYPES: Words<u16> = &[
    ("arp", EtherType::ARP),
    ("ipv4", EtherType::IPV4),
    ("ipv6", EtherType::IPV6),
    ("lldp", EtherType::LLDP),
    ("802.3", 0),
    ("aoe", 0x88a2),
    ("eapol", EtherType::EAPOL),
    ("ethercat", 0x88a4),
    ("fcoe", 0x8906),
    ("goose", 0x88b8),
    ("macsec", 0x88e5),
    ("mpls", 0x8847),
    ("pppoe-discovery", 0x8863),
    ("pppoe-session", 0x8864),
    ("profinet", 0x8892),
    ("ptp", 0x88f7),
    ("roce", 0x8915),
    ("sampled-values", 0x88ba),
];

/// Service: protocols, and ports or ICMP types of theirs, that are one condition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// IP protocols.
    pub(crate) protocols: &'static [u8],
    /// Destination ports of those that have ports.
    pub(crate) ports: &'static [u16],
    /// First and last ICMP type.
    pub(crate) icmp_types: Option<(u8, u8)>,
}

/// Formats what it stands for: `(udp, esp, ah; ports 500, 4500)`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocols = self.protocols.iter().map(|protocol| {
            let mut words = PROTOCOLS.iter();
            let word = words.find(|(_, number)| number == protocol);
            word.map_or_else(|| protocol.to_string(), |(word, _)| (*word).to_owned())
        });
        write!(f, "({}", protocols.collect::<Vec<_>>().join(", "))?;
        if !self.ports.is_empty() {
            let ports = self.ports.iter().map(ToString::to_string);
            write!(f, "; ports {}", ports.collect::<Vec<_>>().join(", "))?;
        }
        if let Some((first, last)) = self.icmp_types {
            write!(f, "; types {first}-{last}")?;
        }
        f.write_str(")")
    }
}

/// Services.
pub(crate) const SERVICES: Words<Service> = &[
    (
        "dhcp",
        Service {
            protocols: &[IpProto::UDP],
            ports: &[67, 68],
            icmp_types: None,
        },
    ),
    (
        "dhcpv6",
        Service {
            protocols: &[IpProto::UDP],
            ports: &[546, 547],
            icmp_types: None,
        },
    ),
    (
        "dns",
        Service {
            protocols: &[IpProto::TCP, IpProto::UDP],
            ports: &[53],
            icmp_types: None,
        },
    ),
    (
        // IKE, IKE and ESP behind NAT (RFC 3948), ESP and AH.
        "ipsec",
        Service {
            protocols: &[IpProto::UDP, IpProto::ESP, IpProto::AH],
            ports: &[500, 4500],
            icmp_types: None,
        },
    ),
    (
        // RFC 4861: router and neighbour solicitations and advertisements, redirects.
        "neighbour-discovery",
        Service {
            protocols: &[IpProto::ICMPV6],
            ports: &[],
            icmp_types: Some((133, 137)),
        },
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn assert_distinct<T>(words: Words<T>) {
        let mut seen = HashSet::new();
        for (word, _) in words {
            assert!(seen.insert(word), "{word} is there twice");
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            assert!(word.chars().all(allowed), "{word}");
            assert!(*word == "802.3" || !word.starts_with(|c: char| c.is_ascii_digit()));
        }
    }

    #[test]
    fn every_word_has_one_meaning() {
        assert_distinct(PROTOCOLS);
        assert_distinct(ETHERTYPES);
        assert_distinct(SERVICES);
        assert_distinct(PORTS);
        assert_distinct(ICMP_TYPES);
        assert_distinct(ICMPV6_TYPES);
    }
}
