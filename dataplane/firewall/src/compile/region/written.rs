// SPDX-License-Identifier: Apache-2.0
//! Written conditions as sets of coordinates.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::EtherType;

use super::numbers::{
    CLASSES, FIRST, ICMP, KINDS, LATER, OTHER, UNKNOWN, V4, V6, WHOLE, WITHOUT, icmp_number,
};
use super::{Prefixes, Region};
use crate::compile::ranges::{Coordinate, Ranges};
use crate::masked_mac::MaskedMac;
use crate::matches::{Fragments, IcmpTypes, Match};

/// Highest port.
const MAX_PORT: u32 = 0xffff;
/// Highest number of a MAC address.
const MAX_MAC: u64 = (1 << 48) - 1;

impl Region {
    /// Normal form of a rule's conditions.
    pub(crate) fn new(rule: &Match) -> Region {
        let ports = |ports: &RangeInclusive<u16>| [port_range(ports)];
        let macs = |mac: &MaskedMac| mac.ranges().collect::<Vec<_>>();
        Region {
            class: match rule.never {
                true => Some(Ranges::new([])),
                false => classes(rule),
            },
            src: Prefixes::new(&rule.from, &rule.not_from),
            dst: Prefixes::new(&rule.to, &rule.not_to),
            src_port: side(
                &rule.source_ports,
                &rule.not_source_ports,
                0..=MAX_PORT,
                ports,
            ),
            l4: l4(rule),
            src_mac: side(&rule.source_macs, &rule.not_source_macs, 0..=MAX_MAC, macs),
            dst_mac: side(
                &rule.destination_macs,
                &rule.not_destination_macs,
                0..=MAX_MAC,
                macs,
            ),
        }
    }
}

impl Prefixes {
    fn new(nets: &[IpNet], not: &[IpNet]) -> Option<Prefixes> {
        let v4 = |net: &IpNet| match net {
            IpNet::V4(net) => Some(net.network().to_bits()..=net.broadcast().to_bits()),
            IpNet::V6(_) => None,
        };
        let v6 = |net: &IpNet| match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net.network().to_bits()..=net.broadcast().to_bits()),
        };
        Some(Prefixes {
            v4: side(nets, not, 0..=u32::MAX, v4)?,
            v6: side(nets, not, 0..=u128::MAX, v6)?,
        })
    }
}

/// Set of a condition and its negation within `all`, the numbers of frames that have the field at all.
/// `None` if there is neither.
fn side<T, C: Coordinate, R: IntoIterator<Item = RangeInclusive<C>>>(
    values: &[T],
    not: &[T],
    all: RangeInclusive<C>,
    ranges: impl Fn(&T) -> R,
) -> Option<Ranges<C>> {
    if values.is_empty() && not.is_empty() {
        return None;
    }
    let set = match values {
        [] => Ranges::new([all]),
        values => Ranges::new(values.iter().flat_map(&ranges)),
    };
    Some(match not {
        [] => set,
        not => set.minus(&Ranges::new(not.iter().flat_map(&ranges))),
    })
}

fn port_range(ports: &RangeInclusive<u16>) -> RangeInclusive<u32> {
    u32::from(*ports.start())..=u32::from(*ports.end())
}

fn classes(rule: &Match) -> Option<Ranges<u32>> {
    let not = (!rule.not_ethertypes.is_empty()).then(|| {
        let classes = rule.not_ethertypes.iter();
        Ranges::new(classes.map(|ethertype| match *ethertype {
            EtherType::IPV4 => V4..=V6 - 1,
            EtherType::IPV6 => V6..=OTHER - 1,
            ethertype => other(ethertype),
        }))
    });
    let set = if rule.ethertypes.is_empty() {
        match (rule.is_ip_only(), &not) {
            (false, None) => return None,
            (false, Some(_)) => Ranges::new([0..=CLASSES - 1]),
            (true, _) => {
                let [v4, v6] = [V4, V6].map(|base| ip_classes(base, rule));
                Ranges::new(v4.into_iter().chain(v6))
            }
        }
    } else {
        let others = rule.ethertypes.iter().filter_map(|&ethertype| {
            let is_ip = matches!(ethertype, EtherType::IPV4 | EtherType::IPV6);
            (!is_ip && !rule.is_about_protocols()).then(|| other(ethertype))
        });
        let version = |ethertype, base| {
            let named = rule.ethertypes.contains(&ethertype);
            named.then(|| ip_classes(base, rule)).into_iter().flatten()
        };
        let (v4, v6) = (version(EtherType::IPV4, V4), version(EtherType::IPV6, V6));
        Ranges::new(others.chain(v4).chain(v6))
    };
    Some(match not {
        Some(not) => set.minus(&not),
        None => set,
    })
}

/// Class of frames that are neither IPv4 nor IPv6.
fn other(ethertype: u16) -> RangeInclusive<u32> {
    let class = OTHER + u32::from(ethertype);
    class..=class
}

/// Classes of one IP version, whose first is `base`, that the rule's protocols and fragments leave.
fn ip_classes(base: u32, rule: &Match) -> Vec<RangeInclusive<u32>> {
    let protocols = side(
        &rule.protocols,
        &rule.not_protocols,
        0..=0xff,
        |&protocol| [u32::from(protocol)..=u32::from(protocol)],
    );
    let protocols = protocols.unwrap_or_else(|| Ranges::new([0..=0xff]));
    let class = |protocol, kind| base + protocol * KINDS + kind;
    let (first_kind, last_kind) = match rule.fragments {
        None => {
            let ranges = protocols.iter();
            let all = |(first, last)| class(first, WHOLE)..=class(last, KINDS - 1);
            return ranges.map(all).collect();
        }
        Some(Fragments::First) => (FIRST, FIRST),
        Some(Fragments::Later) => (LATER, LATER),
        Some(Fragments::Any) => (FIRST, LATER),
    };
    let protocols = protocols.iter().flat_map(|(first, last)| first..=last);
    let kinds = |protocol| class(protocol, first_kind)..=class(protocol, last_kind);
    protocols.map(kinds).collect()
}

fn l4(rule: &Match) -> Option<Ranges<u32>> {
    let ports = side(&rule.ports, &rule.not_ports, 0..=MAX_PORT, |ports| {
        [port_range(ports)]
    });
    let types = side(
        &rule.icmp_types,
        &rule.not_icmp_types,
        ICMP..=UNKNOWN - 1,
        icmp_ranges,
    );
    match (ports, types) {
        (Some(ports), None) if rule.without_ports => {
            let ports = ports.iter().map(|(first, last)| first..=last);
            Some(Ranges::new(ports.chain([WITHOUT..=WITHOUT])))
        }
        // No frame has a port and an ICMP type.
        (Some(_), Some(_)) => Some(Ranges::new([])),
        (ports, types) => ports.or(types),
    }
}

fn icmp_ranges(icmp: &IcmpTypes) -> Vec<RangeInclusive<u32>> {
    let (first, last) = (*icmp.codes.start(), *icmp.codes.end());
    let codes = |icmp_type| icmp_number(icmp_type, first)..=icmp_number(icmp_type, last);
    icmp.types.clone().map(codes).collect()
}
