// SPDX-License-Identifier: Apache-2.0
//! Match of a rule in normal form: a product of number sets, one per coordinate of a key.

use ipnet::IpNet;
use sluice_packet::{EtherType, FlowKey, Mac};

use crate::compile::ranges::Ranges;
use crate::policy::Match;

/// Bound above every [`class_of`].
pub(crate) const CLASSES: u32 = OTHER + 0x1_0000;
/// Bound above every [`l4_of`] and [`src_port_of`].
pub(crate) const L4S: u32 = NEITHER + 1;

/// Classes: IPv4 protocols, then IPv6 protocols, then the EtherTypes of everything else.
const V4: u32 = 0;
const V6: u32 = 0x100;
const OTHER: u32 = 0x200;

/// Transport: destination ports, then ICMP types, then "neither can be read".
const ICMP: u32 = 0x1_0000;
const NEITHER: u32 = ICMP + 0x100;

/// Match in normal form: matches that differ only in order or notation are equal. `None` holds for
/// every frame.
///
/// EtherType and protocol are one coordinate (class), destination port and ICMP type are one (l4):
/// no frame has both, and one table less is searched per frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Region {
    pub(crate) class: Option<Ranges<u32>>,
    pub(crate) src: Option<Prefixes>,
    pub(crate) dst: Option<Prefixes>,
    pub(crate) src_port: Option<Ranges<u32>>,
    pub(crate) l4: Option<Ranges<u32>>,
    pub(crate) src_mac: Option<Ranges<u64>>,
    pub(crate) dst_mac: Option<Ranges<u64>>,
}

/// Addresses of both families; frames that have no address are in none of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Prefixes {
    pub(crate) v4: Ranges<u32>,
    pub(crate) v6: Ranges<u128>,
}

/// Source or destination address of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    V4(u32),
    V6(u128),
    None,
}

impl Region {
    pub(crate) fn new(rule: &Match) -> Region {
        Region {
            class: classes(rule),
            src: Prefixes::new(&rule.from),
            dst: Prefixes::new(&rule.to),
            src_port: unless_empty(&rule.source_ports, |ports| {
                u32::from(*ports.start())..=u32::from(*ports.end())
            }),
            l4: l4(rule),
            src_mac: unless_empty(&rule.source_macs, |mac| number(*mac)..=number(*mac)),
            dst_mac: unless_empty(&rule.destination_macs, |mac| number(*mac)..=number(*mac)),
        }
    }

    /// Whether a frame is in both regions, as far as each coordinate alone tells.
    pub(crate) fn intersects(&self, other: &Region) -> bool {
        fn side<T>(a: Option<&T>, b: Option<&T>, meet: impl Fn(&T, &T) -> bool) -> bool {
            a.zip(b).is_none_or(|(a, b)| meet(a, b))
        }
        let prefixes =
            |a: &Prefixes, b: &Prefixes| a.v4.intersects(&b.v4) || a.v6.intersects(&b.v6);
        side(
            self.class.as_ref(),
            other.class.as_ref(),
            Ranges::intersects,
        ) && side(self.l4.as_ref(), other.l4.as_ref(), Ranges::intersects)
            && side(
                self.src_port.as_ref(),
                other.src_port.as_ref(),
                Ranges::intersects,
            )
            && side(self.src.as_ref(), other.src.as_ref(), prefixes)
            && side(self.dst.as_ref(), other.dst.as_ref(), prefixes)
            && side(
                self.src_mac.as_ref(),
                other.src_mac.as_ref(),
                Ranges::intersects,
            )
            && side(
                self.dst_mac.as_ref(),
                other.dst_mac.as_ref(),
                Ranges::intersects,
            )
    }

    /// Whether every frame in `other` is in this region too. May say no of two regions that would
    /// take reasoning across coordinates; a yes is exact.
    pub(crate) fn contains_all(&self, other: &Region) -> bool {
        fn side<T>(a: Option<&T>, b: Option<&T>, within: impl Fn(&T, &T) -> bool) -> bool {
            match (a, b) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(a), Some(b)) => within(a, b),
            }
        }
        let prefixes =
            |a: &Prefixes, b: &Prefixes| a.v4.contains_all(&b.v4) && a.v6.contains_all(&b.v6);
        side(
            self.class.as_ref(),
            other.class.as_ref(),
            Ranges::contains_all,
        ) && side(self.l4.as_ref(), other.l4.as_ref(), Ranges::contains_all)
            && side(
                self.src_port.as_ref(),
                other.src_port.as_ref(),
                Ranges::contains_all,
            )
            && side(self.src.as_ref(), other.src.as_ref(), prefixes)
            && side(self.dst.as_ref(), other.dst.as_ref(), prefixes)
            && side(
                self.src_mac.as_ref(),
                other.src_mac.as_ref(),
                Ranges::contains_all,
            )
            && side(
                self.dst_mac.as_ref(),
                other.dst_mac.as_ref(),
                Ranges::contains_all,
            )
    }
}

impl Prefixes {
    fn new(nets: &[IpNet]) -> Option<Prefixes> {
        if nets.is_empty() {
            return None;
        }
        let v4 = nets.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some(net.network().to_bits()..=net.broadcast().to_bits()),
            IpNet::V6(_) => None,
        });
        let v6 = nets.iter().filter_map(|net| match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net.network().to_bits()..=net.broadcast().to_bits()),
        });
        Some(Prefixes {
            v4: Ranges::new(v4),
            v6: Ranges::new(v6),
        })
    }
}

fn unless_empty<T, C: crate::compile::ranges::Coordinate>(
    values: &[T],
    range: impl Fn(&T) -> std::ops::RangeInclusive<C>,
) -> Option<Ranges<C>> {
    (!values.is_empty()).then(|| Ranges::new(values.iter().map(range)))
}

fn classes(rule: &Match) -> Option<Ranges<u32>> {
    let protocols_from = |base: u32| -> Vec<std::ops::RangeInclusive<u32>> {
        if rule.protocols.is_empty() {
            return vec![base..=base + 0xff];
        }
        let protocols = rule.protocols.iter();
        protocols
            .map(|&protocol| base + u32::from(protocol)..=base + u32::from(protocol))
            .collect()
    };
    if rule.ethertypes.is_empty() {
        return rule
            .is_ip_only()
            .then(|| Ranges::new(protocols_from(V4).into_iter().chain(protocols_from(V6))));
    }
    let classes = rule
        .ethertypes
        .iter()
        .flat_map(|&ethertype| match ethertype {
            EtherType::IPV4 => protocols_from(V4),
            EtherType::IPV6 => protocols_from(V6),
            _ if rule.protocols.is_empty() => {
                let class = OTHER + u32::from(ethertype);
                vec![class..=class]
            }
            _ => Vec::new(),
        });
    Some(Ranges::new(classes))
}

fn l4(rule: &Match) -> Option<Ranges<u32>> {
    let ports = rule
        .ports
        .iter()
        .map(|ports| u32::from(*ports.start())..=u32::from(*ports.end()));
    let types = rule
        .icmp_types
        .iter()
        .map(|types| ICMP + u32::from(*types.start())..=ICMP + u32::from(*types.end()));
    match (rule.ports.is_empty(), rule.icmp_types.is_empty()) {
        (true, true) => None,
        (false, true) => Some(Ranges::new(ports)),
        (true, false) => Some(Ranges::new(types)),
        // No frame has a port and an ICMP type.
        (false, false) => Some(Ranges::new([])),
    }
}

fn number(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.octets();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// Class coordinate of a key, below [`CLASSES`].
#[inline]
pub(crate) fn class_of(key: &FlowKey) -> u32 {
    if key.has(FlowKey::IPV4) {
        V4 + u32::from(key.proto)
    } else if key.has(FlowKey::IPV6) {
        V6 + u32::from(key.proto)
    } else {
        OTHER + u32::from(key.ethertype)
    }
}

/// Source port coordinate of a key, below [`L4S`].
#[inline]
pub(crate) fn src_port_of(key: &FlowKey) -> u32 {
    if key.has(FlowKey::PORTS) {
        u32::from(key.src_port)
    } else {
        NEITHER
    }
}

/// Transport coordinate of a key, below [`L4S`].
#[inline]
pub(crate) fn l4_of(key: &FlowKey) -> u32 {
    if key.has(FlowKey::PORTS) {
        u32::from(key.dst_port)
    } else if key.has(FlowKey::ICMP) {
        ICMP + u32::from(key.icmp_type)
    } else {
        NEITHER
    }
}

#[inline]
pub(crate) fn src_of(key: &FlowKey) -> Address {
    address(key, &key.src)
}

#[inline]
pub(crate) fn dst_of(key: &FlowKey) -> Address {
    address(key, &key.dst)
}

#[inline]
fn address(key: &FlowKey, bytes: &[u8; 16]) -> Address {
    if has_v4(key) {
        Address::V4(last_four(bytes))
    } else if key.has(FlowKey::IPV6) {
        Address::V6(u128::from_be_bytes(*bytes))
    } else {
        Address::None
    }
}

#[inline]
pub(crate) fn src_mac_of(key: &FlowKey) -> u64 {
    number(key.src_mac())
}

#[inline]
pub(crate) fn dst_mac_of(key: &FlowKey) -> u64 {
    number(key.dst_mac())
}

/// Whether [`src_of`] and [`dst_of`] are IPv4.
#[inline]
pub(crate) fn has_v4(key: &FlowKey) -> bool {
    key.has(FlowKey::IPV4 | FlowKey::ARP)
}

/// IPv4 source address of a key; meaningless unless [`has_v4`].
#[inline]
pub(crate) fn src_v4_of(key: &FlowKey) -> u32 {
    last_four(&key.src)
}

/// IPv4 destination address of a key; meaningless unless [`has_v4`].
#[inline]
pub(crate) fn dst_v4_of(key: &FlowKey) -> u32 {
    last_four(&key.dst)
}

#[inline]
fn last_four(bytes: &[u8; 16]) -> u32 {
    let [.., a, b, c, d] = *bytes;
    u32::from_be_bytes([a, b, c, d])
}
