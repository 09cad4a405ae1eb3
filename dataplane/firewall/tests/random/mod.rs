// SPDX-License-Identifier: Apache-2.0
//! Random policies and keys that meet at boundaries: both draw from the same few values.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sluice_firewall::{Defaults, Directions, Match, Policy, Position, Rule, Verdict};
use sluice_packet::{EtherType, FlowKey, IpProto, Mac};

const PREFIXES: &[&str] = &[
    "0.0.0.0/0",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "128.0.0.0/1",
    "255.255.255.255/32",
    "::/0",
    "::/128",
    "::ffff:0.0.0.0/96",
    "fd00::/8",
    "fd00:1::/32",
    "fd00:1::5/128",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
];
const PORTS: &[u16] = &[0, 1, 79, 80, 81, 255, 256, 1023, 1024, 5060, 65534, 65535];
const PROTOCOLS: &[u8] = &[0, 1, 6, 17, 33, 58, 132, 255];
const ETHERTYPES: &[u16] = &[0, 0x0600, 0x0800, 0x0806, 0x86dd, 0x88cc, 0xffff];
const ICMP_TYPES: &[u8] = &[0, 3, 8, 128, 135, 254, 255];
const MACS: &[[u8; 6]] = &[[0; 6], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6]];

fn prefix() -> impl Strategy<Value = IpNet> + Clone {
    select(PREFIXES).prop_map(|text| text.parse().expect("a prefix"))
}

/// First and last of a prefix, and their neighbours.
fn address() -> impl Strategy<Value = IpAddr> + Clone {
    (prefix(), 0u32..4).prop_map(|(net, which)| edge(&net, which))
}

/// 0: the first address of `net`, 1: its last, 2 and 3: those just outside.
pub(crate) fn edge(net: &IpNet, which: u32) -> IpAddr {
    let (outer, last) = (which >= 2, which % 2 == 1);
    match net {
        IpNet::V4(net) => {
            let (first, end) = (net.network().to_bits(), net.broadcast().to_bits());
            IpAddr::V4(match (last, outer) {
                (false, false) => first.into(),
                (false, true) => first.wrapping_sub(1).into(),
                (true, false) => end.into(),
                (true, true) => end.wrapping_add(1).into(),
            })
        }
        IpNet::V6(net) => {
            let (first, end) = (net.network().to_bits(), net.broadcast().to_bits());
            IpAddr::V6(match (last, outer) {
                (false, false) => first.into(),
                (false, true) => first.wrapping_sub(1).into(),
                (true, false) => end.into(),
                (true, true) => end.wrapping_add(1).into(),
            })
        }
    }
}

/// Mostly no condition, else a few values.
fn some<T: Clone + std::fmt::Debug>(
    present: f64,
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Vec<T>> + Clone {
    prop::option::weighted(present, vec(value, 1..4)).prop_map(Option::unwrap_or_default)
}

fn range<T: Copy + Ord + std::fmt::Debug + 'static>(
    edges: &'static [T],
) -> impl Strategy<Value = RangeInclusive<T>> + Clone {
    (select(edges), select(edges)).prop_map(|(a, b)| a.min(b)..=a.max(b))
}

pub(crate) fn verdict() -> impl Strategy<Value = Verdict> + Clone {
    select(&[Verdict::Accept, Verdict::Drop, Verdict::Reject][..])
}

fn matches() -> impl Strategy<Value = Match> + Clone {
    (
        some(0.35, prefix()),
        some(0.35, prefix()),
        some(0.4, select(PROTOCOLS)),
        some(0.15, range(PORTS)),
        some(0.25, range(PORTS)),
        some(0.1, range(ICMP_TYPES)),
        some(0.2, select(ETHERTYPES)),
        some(0.15, select(MACS).prop_map(Mac)),
        some(0.15, select(MACS).prop_map(Mac)),
    )
        .prop_map(
            |(from, to, protocols, source_ports, ports, icmp_types, ethertypes, source, dest)| {
                Match {
                    from,
                    to,
                    protocols,
                    source_ports,
                    ports,
                    icmp_types,
                    ethertypes,
                    source_macs: source,
                    destination_macs: dest,
                }
            },
        )
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> + Clone {
    let directions = select(&[Directions::Ingress, Directions::Egress, Directions::Both][..]);
    (directions, matches(), verdict(), any::<bool>()).prop_map(
        |(directions, matches, verdict, log)| Rule {
            name: None,
            at: Position::default(),
            directions,
            matches,
            verdict,
            log,
        },
    )
}

pub(crate) fn policy(
    rules: impl Into<prop::collection::SizeRange>,
) -> impl Strategy<Value = Policy> {
    (vec(rule(), rules), verdict(), verdict())
        .prop_map(|(rules, ingress, egress)| named("random", Defaults { ingress, egress }, rules))
}

pub(crate) fn named(name: &str, default: Defaults, rules: Vec<Rule>) -> Policy {
    Policy {
        name: name.to_owned(),
        file: format!("{name}.yaml"),
        uplink: None,
        vlans: Vec::new(),
        default,
        rules,
    }
}

/// The rest of an IP key once its protocol is known, as the parser would fill it in.
pub(crate) fn transport(key: &mut FlowKey, fragment: u8, ports: (u16, u16), icmp_type: u8) {
    key.flags |= match fragment {
        0 => FlowKey::FRAGMENT,
        1 => FlowKey::FRAGMENT | FlowKey::LATER_FRAGMENT,
        _ => 0,
    };
    if key.has(FlowKey::LATER_FRAGMENT) {
        return;
    }
    match key.proto {
        IpProto::TCP | IpProto::UDP | IpProto::SCTP | IpProto::DCCP => {
            key.flags |= FlowKey::PORTS;
            (key.src_port, key.dst_port) = ports;
        }
        IpProto::ICMP if key.has(FlowKey::IPV4) => key.flags |= FlowKey::ICMP,
        IpProto::ICMPV6 if key.has(FlowKey::IPV6) => key.flags |= FlowKey::ICMP,
        _ => {}
    }
    if key.has(FlowKey::ICMP) {
        key.icmp_type = icmp_type;
    }
}

/// Puts two addresses of one family into a key, with that family's EtherType and flag.
pub(crate) fn addresses(key: &mut FlowKey, src: IpAddr, dst: IpAddr) {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            key.src = FlowKey::mapped(src.octets());
            key.dst = FlowKey::mapped(dst.octets());
            key.ethertype = EtherType::IPV4;
            key.flags |= FlowKey::IPV4;
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            key.src = src.octets();
            key.dst = dst.octets();
            key.ethertype = EtherType::IPV6;
            key.flags |= FlowKey::IPV6;
        }
        (IpAddr::V4(src), IpAddr::V6(_)) => addresses(key, src.into(), src.into()),
        (IpAddr::V6(src), IpAddr::V4(_)) => addresses(key, src.into(), src.into()),
    }
}

/// Keys as the parser makes them: IP of both families, whole and in fragments, ARP, and the rest.
pub(crate) fn key() -> impl Strategy<Value = FlowKey> + Clone {
    let macs = (select(MACS), select(MACS));
    let ip = (
        (address(), address()),
        select(PROTOCOLS),
        0u8..6,
        (select(PORTS), select(PORTS)),
        select(ICMP_TYPES),
    );
    (macs, 0..10, ip, select(ETHERTYPES)).prop_map(|(macs, kind, ip, ethertype)| {
        let ((src, dst), proto, fragment, ports, icmp_type) = ip;
        let mut key = FlowKey {
            src_mac: macs.0,
            dst_mac: macs.1,
            vid: 210,
            ..FlowKey::default()
        };
        match kind {
            0..=7 => {
                addresses(&mut key, src, dst);
                key.proto = proto;
                transport(&mut key, fragment, ports, icmp_type);
            }
            8 => {
                key.ethertype = EtherType::ARP;
                if let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) {
                    key.src = FlowKey::mapped(src.octets());
                    key.dst = FlowKey::mapped(dst.octets());
                    key.flags = FlowKey::ARP;
                }
            }
            _ => {
                key.ethertype = match ethertype {
                    EtherType::IPV4 | EtherType::IPV6 => 0x88b5,
                    other => other,
                };
            }
        }
        key
    })
}
