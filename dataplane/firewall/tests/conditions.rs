// SPDX-License-Identifier: Apache-2.0
//! Conditions by name, negated and with exceptions: the frames that they match, judged by the compiled
//! table and by the naive walk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use sluice_firewall::{Direction, Fragments, MaskedMac, Policy, Table, naive};
use sluice_packet::{EtherType, FlowKey, IpProto, Mac, Vid};

fn read(text: &str) -> Policy {
    Policy::parse("p", text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

fn sample() -> Policy {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/names.yaml");
    read(&fs::read_to_string(file).unwrap())
}

/// Name of the rule that decides, by table and walk alike.
fn decider(policy: &Policy, direction: Direction, key: &FlowKey) -> String {
    let hit = Table::compile(policy, direction).judge(key);
    assert_eq!(hit, naive::judge(policy, direction, key), "{key:?}");
    let rules = policy.rules.iter();
    let mut rules = rules.filter(|rule| rule.directions.includes(direction));
    match rules.nth(hit.rule as usize) {
        Some(rule) => rule.name.clone().unwrap(),
        None => "default".to_owned(),
    }
}

/// Whether a rule with these conditions matches.
fn matches(conditions: &str, key: &FlowKey) -> bool {
    let rule = format!("{{name: it, direction: both, verdict: accept, {conditions}}}");
    let policy = read(&format!("name: p\nrules: [{rule}]"));
    decider(&policy, Direction::Ingress, key) == "it"
}

fn ip(from: &str, to: &str, proto: u8) -> FlowKey {
    let mut key = FlowKey {
        proto,
        ..FlowKey::default()
    };
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            key.src = FlowKey::mapped(from.octets());
            key.dst = FlowKey::mapped(to.octets());
            (key.ethertype, key.flags) = (EtherType::IPV4, FlowKey::IPV4);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            (key.src, key.dst) = (from.octets(), to.octets());
            (key.ethertype, key.flags) = (EtherType::IPV6, FlowKey::IPV6);
        }
        _ => panic!("{from} and {to}"),
    }
    key
}

fn v4(proto: u8) -> FlowKey {
    ip("10.0.0.1", "10.0.0.2", proto)
}

fn with_ports(mut key: FlowKey, src_port: u16, dst_port: u16) -> FlowKey {
    key.flags |= FlowKey::PORTS;
    (key.src_port, key.dst_port) = (src_port, dst_port);
    key
}

fn icmp(mut key: FlowKey, icmp_type: u8, icmp_code: u8) -> FlowKey {
    key.flags |= FlowKey::ICMP;
    (key.icmp_type, key.icmp_code) = (icmp_type, icmp_code);
    key
}

fn other(ethertype: u16) -> FlowKey {
    FlowKey {
        ethertype,
        ..FlowKey::default()
    }
}

fn v6(proto: u8) -> FlowKey {
    ip("fd00::1", "fd00::2", proto)
}

#[test]
fn the_sample_is_read_whole() {
    let policy = sample();
    let comment = Some("Every word and negation at least once.");
    assert_eq!(policy.comment.as_deref(), comment);
    assert_eq!(
        policy.rules[0].comment.as_deref(),
        Some("From anywhere but the guests.")
    );
    let vids = policy.vlans.iter().flat_map(|range| range.vids());
    let vids: Vec<u16> = vids.map(Vid::get).collect();
    assert_eq!(vids, [200, 202, 203, 204, 207, 208, 209]);
    assert_eq!(policy.rules[6].matches.fragments, Some(Fragments::Any));
    let macs = &policy.rules[7].matches.destination_macs;
    assert_eq!(*macs, [MaskedMac::MULTICAST]);
    assert_eq!(policy.warnings(), []);
}

#[test]
fn the_sample_decides() {
    let policy = sample();
    let ingress = |key: &FlowKey| decider(&policy, Direction::Ingress, key);
    let egress = |key: &FlowKey| decider(&policy, Direction::Egress, key);

    let web = |from: &str, port| with_ports(ip(from, "10.0.0.2", IpProto::TCP), 1024, port);
    for port in [80, 443, 8000, 8079, 8081, 8089, 8096, 8099] {
        assert_eq!(ingress(&web("10.0.0.1", port)), "web", "{port}");
        assert_eq!(ingress(&web("192.168.7.7", port)), "default", "{port}");
    }
    for port in [79, 7999, 8080, 8090, 8095, 8100] {
        assert_eq!(ingress(&web("10.0.0.1", port)), "default", "{port}");
    }
    let v6_web = with_ports(v6(IpProto::TCP), 1, 443);
    assert_eq!(ingress(&v6_web), "web");

    let unreachable = |code| icmp(v4(IpProto::ICMP), 3, code);
    assert_eq!(ingress(&unreachable(4)), "path-mtu");
    assert_eq!(ingress(&unreachable(3)), "default");
    assert_eq!(ingress(&icmp(v4(IpProto::ICMP), 11, 0)), "path-mtu");
    assert_eq!(ingress(&icmp(v4(IpProto::ICMP), 11, 1)), "default");
    for (code, rule) in [
        (0, "unreachable"),
        (1, "unreachable"),
        (2, "no-more-types"),
        (4, "unreachable"),
    ] {
        assert_eq!(ingress(&icmp(v6(IpProto::ICMPV6), 1, code)), rule, "{code}");
    }
    assert_eq!(ingress(&icmp(v6(IpProto::ICMPV6), 128, 0)), "no-more-types");
    assert_eq!(ingress(&icmp(v6(IpProto::ICMPV6), 135, 0)), "default");

    assert_eq!(ingress(&v4(IpProto::ESP)), "tunnels");
    assert_eq!(ingress(&v6(IpProto::AH)), "tunnels");
    assert_eq!(ingress(&with_ports(v4(IpProto::UDP), 9, 4500)), "tunnels");
    assert_eq!(ingress(&with_ports(v4(IpProto::UDP), 500, 9)), "default");

    let piece = |mut key: FlowKey, more: u8| {
        key.flags |= FlowKey::FRAGMENT | more;
        key
    };
    let later = FlowKey::LATER_FRAGMENT;
    assert_eq!(ingress(&piece(v4(47), 0)), "first-pieces");
    assert_eq!(ingress(&piece(v4(47), later)), "default");
    assert_eq!(ingress(&piece(v4(99), 0)), "first-pieces");
    assert_eq!(ingress(&piece(v4(99), later)), "pieces");
    assert_eq!(ingress(&piece(v4(IpProto::UDP), 0)), "pieces");
    assert_eq!(ingress(&v4(99)), "default");
    // A later piece of UDP whose ports are not known is no IKE; of ESP it is ESP.
    assert_eq!(ingress(&piece(v4(IpProto::UDP), later)), "pieces");
    assert_eq!(ingress(&piece(v4(IpProto::ESP), later)), "tunnels");

    let frame = |source, destination, ethertype| FlowKey {
        src_mac: source,
        dst_mac: destination,
        ..other(ethertype)
    };
    let (ours, group) = ([2, 0, 0x5e, 9, 9, 9], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(egress(&frame(ours, group, EtherType::ARP)), "vendor");
    assert_eq!(egress(&frame(ours, [0xff; 6], EtherType::ARP)), "default");
    assert_eq!(
        egress(&frame(ours, [2, 0, 0, 0, 0, 1], EtherType::ARP)),
        "default"
    );
    assert_eq!(
        egress(&frame([2, 0, 0x5f, 9, 9, 9], group, EtherType::ARP)),
        "default"
    );

    let mut sctp = with_ports(v4(IpProto::SCTP), 1, 2);
    assert_eq!(egress(&sctp), "others");
    sctp.src_mac = [2, 0, 0x5e, 0, 0, 1];
    assert_eq!(egress(&sctp), "default");
    assert_eq!(egress(&with_ports(v4(IpProto::SCTP), 1, 5060)), "default");
}

#[test]
fn a_field_that_is_not_there_meets_no_negation() {
    let arp = other(EtherType::ARP);
    let udp = with_ports(v4(IpProto::UDP), 53, 9);
    let later = {
        let mut key = v4(IpProto::UDP);
        key.flags |= FlowKey::FRAGMENT | FlowKey::LATER_FRAGMENT;
        key
    };
    assert!(matches("protocol: udp, not-ports: 80", &udp));
    assert!(!matches("protocol: udp, not-ports: 9", &udp));
    assert!(!matches("protocol: udp, not-ports: 80", &later));
    assert!(!matches("protocol: udp, not-source-ports: 80", &later));
    assert!(matches("not-protocol: tcp", &udp) && matches("not-protocol: tcp", &later));
    assert!(!matches("not-protocol: tcp", &arp) && !matches("not-protocol: udp", &udp));
    // IPv4 prefixes alone leave all of IPv6; a frame without addresses is left by none.
    assert!(matches("not-from: 10.0.0.0/8", &v6(6)) && !matches("not-from: 10.0.0.0/8", &udp));
    assert!(matches("not-to: 11.0.0.0/8", &udp) && !matches("not-from: 11.0.0.0/8", &arp));
    assert!(!matches("not-from: ['0.0.0.0/0', '::/0']", &udp));
    assert!(matches("not-ethertype: arp", &udp) && !matches("not-ethertype: arp", &arp));
    assert!(!matches("not-ethertype: [ipv4, lldp]", &udp));
    assert!(matches("not-destination-mac: broadcast", &udp));
    let ping = icmp(v4(IpProto::ICMP), 8, 0);
    assert!(matches("protocol: icmp, not-icmp-type: 3/4", &ping));
    assert!(!matches(
        "protocol: icmp, not-icmp-type: echo-request",
        &ping
    ));
    assert!(!matches(
        "protocol: icmp, not-icmp-type: 3",
        &v4(IpProto::ICMP)
    ));
}

#[test]
fn any_is_no_condition() {
    let bare = read("name: p\nrules: [{direction: both, verdict: drop}]");
    let any = read(
        "name: p\nrules: [{direction: both, from: any, to: [any], protocol: any, ports: any, \
         source-ports: any, verdict: drop}]",
    );
    assert_eq!(any, bare);
    assert!(matches("from: any, protocol: any", &other(EtherType::ARP)));
    let excepted =
        read("name: p\nrules: [{direction: both, from: [any, except: 10.0.0.0/8], verdict: drop}]");
    let negated = read("name: p\nrules: [{direction: both, not-from: 10.0.0.0/8, verdict: drop}]");
    assert_eq!(excepted, negated);
}

#[test]
fn services_are_their_protocols_and_ports() {
    let dhcp = "service: dhcp";
    assert!(matches(dhcp, &with_ports(v4(IpProto::UDP), 68, 67)));
    assert!(!matches(dhcp, &with_ports(v4(IpProto::TCP), 68, 67)));
    assert!(!matches(dhcp, &v4(IpProto::ESP)));
    let dns = "service: dns, from: 10.0.0.0/8";
    assert!(matches(dns, &with_ports(v4(IpProto::TCP), 9, 53)));
    assert!(matches(dns, &with_ports(v4(IpProto::UDP), 9, 53)));
    let neighbours = "service: neighbour-discovery";
    assert!(matches(neighbours, &icmp(v6(IpProto::ICMPV6), 135, 0)));
    assert!(!matches(neighbours, &icmp(v6(IpProto::ICMPV6), 128, 0)));
    assert!(!matches(neighbours, &icmp(v4(IpProto::ICMP), 135, 0)));
}

#[test]
fn macs_under_masks() {
    let from = |mac: [u8; 6]| FlowKey {
        src_mac: mac,
        ..other(EtherType::ARP)
    };
    let local = "source-mac: 02:00:00:00:00:00/02:00:00:00:00:00";
    assert!(matches(local, &from([0xfe, 1, 2, 3, 4, 5])));
    assert!(!matches(local, &from([0xfc, 1, 2, 3, 4, 5])));
    let bits = "source-mac: 02:00:5e:00:00:00/23";
    let mask = "source-mac: 02-00-5E-00-00-00/ff:ff:fe:00:00:00";
    for key in [from([2, 0, 0x5f, 9, 9, 9]), from([2, 0, 0x60, 0, 0, 0])] {
        assert_eq!(matches(bits, &key), matches(mask, &key));
        assert_eq!(matches(bits, &key), key.src_mac[2] == 0x5f);
    }
    assert!(matches("source-mac: 00:00:00:00:00:00/0", &from([9; 6])));
    assert!(matches(
        "destination-mac: broadcast",
        &FlowKey {
            dst_mac: Mac::BROADCAST.0,
            ..from([9; 6])
        }
    ));
}

#[test]
fn nothing_left_is_said() {
    let policy = read(
        "name: p\nrules: [{direction: both, from: [10.1.0.0/16, except: 10.0.0.0/8], verdict: drop}]",
    );
    let warnings = policy.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0]
            .message
            .starts_with("rule #1 never decides: no frame meets")
    );
}
