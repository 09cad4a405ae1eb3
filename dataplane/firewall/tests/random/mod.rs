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
use sluice_firewall::{
    Defaults, Directions, Fragments, HeaderKind, HeaderMatch, IcmpTypes, MaskedMac, Match, Policy,
    Position, Rule, States, TcpFlags, Verdict,
};
use sluice_packet::{EtherType, FlowKey, Headers, IpProto, Mac, Vid};

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
const PROTOCOLS: &[u8] = &[0, 1, 6, 17, 33, 50, 51, 58, 132, 255];
const ETHERTYPES: &[u16] = &[0, 0x0600, 0x0800, 0x0806, 0x86dd, 0x88cc, 0xffff];
const ICMP_TYPES: &[u8] = &[0, 3, 8, 128, 135, 254, 255];
const ICMP_CODES: &[u8] = &[0, 1, 4, 255];
const MACS: &[[u8; 6]] = &[
    [0; 6],
    [1, 0, 0x5e, 0, 0, 1],
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    [0xff; 6],
];

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
    select(
        &[
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Reject,
            Verdict::Audit,
        ][..],
    )
}

fn icmp_types() -> impl Strategy<Value = IcmpTypes> + Clone {
    let codes = prop_oneof![Just(0..=u8::MAX), range(ICMP_CODES)];
    (range(ICMP_TYPES), codes).prop_map(|(types, codes)| IcmpTypes { types, codes })
}

fn mac() -> impl Strategy<Value = MaskedMac> + Clone {
    let masked = |(mac, length): ([u8; 6], u32)| MaskedMac::with_prefix(Mac(mac), length);
    prop_oneof![
        3 => select(MACS).prop_map(|mac| Mac(mac).into()),
        1 => Just(MaskedMac::MULTICAST),
        1 => (select(MACS), select(&[0u32, 8, 40, 47][..]))
            .prop_map(move |mac| masked(mac).expect("at most 48")),
    ]
}

/// Values of a condition that are given with this probability, and of its negation, given less often.
fn both<T: Clone + std::fmt::Debug>(
    present: f64,
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = (Vec<T>, Vec<T>)> + Clone {
    (some(present, value.clone()), some(present / 3.0, value))
}

fn matches() -> impl Strategy<Value = Match> + Clone {
    let fragments = select(&[Fragments::First, Fragments::Later, Fragments::Any][..]);
    (
        (both(0.35, prefix()), both(0.35, prefix())),
        both(0.4, select(PROTOCOLS)),
        (both(0.15, range(PORTS)), both(0.25, range(PORTS))),
        both(0.1, icmp_types()),
        both(0.2, select(ETHERTYPES)),
        (both(0.15, mac()), both(0.15, mac())),
        (
            prop::option::weighted(0.1, fragments),
            prop::bool::weighted(0.2),
        ),
        prop::bool::weighted(0.02),
    )
        .prop_map(
            |(
                nets,
                protocols,
                ports,
                icmp_types,
                ethertypes,
                macs,
                (fragments, portless),
                never,
            )| {
                Match {
                    from: nets.0.0,
                    not_from: nets.0.1,
                    to: nets.1.0,
                    not_to: nets.1.1,
                    protocols: protocols.0,
                    not_protocols: protocols.1,
                    source_ports: ports.0.0,
                    not_source_ports: ports.0.1,
                    ports: ports.1.0,
                    not_ports: ports.1.1,
                    without_ports: portless,
                    icmp_types: icmp_types.0,
                    not_icmp_types: icmp_types.1,
                    ethertypes: ethertypes.0,
                    not_ethertypes: ethertypes.1,
                    source_macs: macs.0.0,
                    not_source_macs: macs.0.1,
                    destination_macs: macs.1.0,
                    not_destination_macs: macs.1.1,
                    fragments,
                    headers: HeaderMatch::default(),
                    never,
                }
            },
        )
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> + Clone {
    let directions = select(&[Directions::Ingress, Directions::Egress, Directions::Both][..]);
    (directions, matches(), verdict(), any::<bool>()).prop_map(
        |(directions, matches, verdict, log)| Rule {
            name: None,
            comment: None,
            at: Position::default(),
            directions,
            matches,
            verdict,
            log,
            log_sample: 1,
            states: States::NEW,
            limit: None,
        },
    )
}

pub(crate) fn policy(
    rules: impl Into<prop::collection::SizeRange>,
) -> impl Strategy<Value = Policy> {
    let policy = (
        vec(rule(), rules),
        verdict(),
        verdict(),
        prop::bool::weighted(0.1),
    );
    policy.prop_map(|(rules, ingress, egress, audit)| Policy {
        audit,
        ..named("random", Defaults { ingress, egress }, rules)
    })
}

pub(crate) fn named(name: &str, default: Defaults, rules: Vec<Rule>) -> Policy {
    Policy {
        name: name.to_owned(),
        comment: None,
        audit: false,
        file: format!("{name}.yaml"),
        uplink: None,
        vlans: Vec::new(),
        stateful: false,
        default,
        log_default: None,
        rules,
        sets: Vec::new(),
    }
}

/// The rest of an IP key once its protocol is known, as the parser would fill it in.
pub(crate) fn transport(key: &mut FlowKey, fragment: u8, ports: (u16, u16), icmp: (u8, u8)) {
    key.flags |= match fragment {
        0 => FlowKey::FRAGMENT,
        1 => FlowKey::FRAGMENT | FlowKey::LATER_FRAGMENT,
        _ => 0,
    };
    // One later fragment in two is completed with what its datagram's first piece said.
    if key.has(FlowKey::LATER_FRAGMENT) && ports.0.is_multiple_of(2) {
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
        (key.icmp_type, key.icmp_code) = icmp;
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
        (select(ICMP_TYPES), select(ICMP_CODES)),
    );
    (macs, 0..10, ip, select(ETHERTYPES)).prop_map(|(macs, kind, ip, ethertype)| {
        let ((src, dst), proto, fragment, ports, icmp) = ip;
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
                transport(&mut key, fragment, ports, icmp);
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

const FLAGS: &[u8] = &[0, 0x02, 0x10, 0x12, 0x04, 0x14, 0x11, 0xff];
const DSCPS: &[u8] = &[0, 8, 46, 63];
const HOP_LIMITS: &[u8] = &[0, 1, 63, 64, 254, 255];
const KINDS: &[u8] = &[0, 1, 2, 3, 16, 31];
const PRIORITIES: &[u8] = &[0, 5, 7];
const VIDS: &[u16] = &[0, 1, 210, 4094];
const OPERATIONS: &[u16] = &[1, 2, 9, 0xffff];

fn flags() -> impl Strategy<Value = TcpFlags> + Clone {
    (select(FLAGS), select(FLAGS)).prop_map(|(set, clear)| TcpFlags {
        set,
        clear: clear & !set,
    })
}

fn header_kind() -> impl Strategy<Value = HeaderKind> + Clone {
    select(KINDS).prop_map(|kinds| match kinds {
        0 => HeaderKind::None,
        kinds => HeaderKind::Any(kinds),
    })
}

/// Conditions on header fields, none of them in one case of four or so.
pub(crate) fn header_match() -> impl Strategy<Value = HeaderMatch> + Clone {
    let hop_limit = (select(HOP_LIMITS), select(HOP_LIMITS))
        .prop_map(|(a, b)| RangeInclusive::new(a.min(b), a.max(b)));
    let vid = select(VIDS).prop_map(|vid| Vid::new(vid).expect("at most 4094").into());
    (
        some(0.3, flags()),
        both(0.15, select(OPERATIONS)),
        both(0.2, select(DSCPS)),
        both(0.2, hop_limit),
        (both(0.1, header_kind()), both(0.1, header_kind())),
        both(0.15, select(PRIORITIES)),
        both(0.1, vid),
    )
        .prop_map(
            |(tcp_flags, operations, dscp, hop_limits, (options, extensions), priorities, vids)| {
                HeaderMatch {
                    tcp_flags,
                    arp_operations: operations.0,
                    not_arp_operations: operations.1,
                    dscp: dscp.0,
                    not_dscp: dscp.1,
                    hop_limits: hop_limits.0,
                    not_hop_limits: hop_limits.1,
                    ip_options: options.0,
                    not_ip_options: options.1,
                    extensions: extensions.0,
                    not_extensions: extensions.1,
                    priorities: priorities.0,
                    not_priorities: priorities.1,
                    inner_vids: vids.0,
                    not_inner_vids: vids.1,
                }
            },
        )
}

/// Header fields of any frame; they need not go with a key.
pub(crate) fn headers() -> impl Strategy<Value = Headers> + Clone {
    let maybe = |values: &'static [u8]| prop::option::weighted(0.8, select(values));
    (
        maybe(FLAGS),
        prop::option::weighted(0.3, select(OPERATIONS)),
        maybe(DSCPS),
        maybe(HOP_LIMITS),
        (maybe(KINDS), maybe(KINDS)),
        (select(VIDS), select(PRIORITIES)),
    )
        .prop_map(
            |(tcp_flags, arp_operation, dscp, hop_limit, (ip_options, extensions), tags)| Headers {
                tcp_flags,
                arp_operation,
                dscp,
                hop_limit,
                ip_options,
                extensions,
                inner_vid: tags.0,
                priority: tags.1,
            },
        )
}
