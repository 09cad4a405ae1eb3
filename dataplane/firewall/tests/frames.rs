// SPDX-License-Identifier: Apache-2.0
//! Meaning of the documented forms for real frames, through the parser.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{Ipv4Addr, Ipv6Addr};

use sluice_firewall::{Direction, Policy, Table, Verdict, naive};
use sluice_packet::build::FrameBuilder;
use sluice_packet::{EtherType, InnerTag, IpProto, Mac, parse};

const POD: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);
const PEER: Mac = Mac([2, 0, 0x5e, 0x20, 0, 2]);

/// `ingress drop` by default, and these rules.
fn table(rules: &str) -> (Policy, Table) {
    let text = format!("name: t\nrules:\n{rules}");
    let policy = Policy::parse("t.yaml", &text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let table = Table::compile(&policy, Direction::Ingress);
    (policy, table)
}

/// Slot of the rule that decides; the default's if none does.
fn decides((policy, table): &(Policy, Table), frame: &FrameBuilder<'_>) -> u32 {
    let key = parse(&frame.build(), InnerTag::Refuse).unwrap().key;
    let hit = table.judge(&key);
    assert_eq!(
        hit,
        naive::judge(policy, Direction::Ingress, &key),
        "{key:?}"
    );
    hit.rule
}

fn v4() -> FrameBuilder<'static> {
    FrameBuilder::new(POD, PEER).ipv4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 21, 0, 5))
}

fn v6() -> FrameBuilder<'static> {
    let address = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    FrameBuilder::new(POD, PEER).ipv6(address(1), address(5))
}

#[test]
fn later_fragments_match_no_ports() {
    let rules = table(
        "- {direction: ingress, protocol: udp, ports: 53, verdict: accept}\n\
         - {direction: ingress, protocol: icmp, icmp-type: 0-255, verdict: accept}\n\
         - {direction: ingress, protocol: udp, from: 10.0.0.0/8, verdict: accept}\n",
    );
    let payload = [0; 64];
    let udp = v4().udp(1024, 53).payload(&payload);
    assert_eq!(decides(&rules, &udp), 0);
    assert_eq!(decides(&rules, &udp.clone().fragment(0, true)), 0);
    assert_eq!(decides(&rules, &udp.clone().fragment(64, false)), 2);
    let icmp = v4().icmp(8, 0, [0; 4]).payload(&payload);
    assert_eq!(decides(&rules, &icmp), 1);
    assert_eq!(decides(&rules, &icmp.clone().fragment(64, false)), 3);
    // Not IPv4, so not rule 2.
    assert_eq!(
        decides(
            &rules,
            &v6().udp(1024, 53).payload(&payload).fragment(64, false)
        ),
        3
    );
}

#[test]
fn families_do_not_mix() {
    let rules = table("- {direction: ingress, from: \"::/0\", verdict: drop}\n");
    assert_eq!(decides(&rules, &v4().udp(1, 2)), 1);
    assert_eq!(decides(&rules, &v6().udp(1, 2)), 0);
    let rules = table("- {direction: ingress, from: 0.0.0.0/0, verdict: accept}\n");
    assert_eq!(decides(&rules, &v4().udp(1, 2)), 0);
    // An IPv6 packet that pretends to come from an IPv4-mapped address.
    let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
    let frame = FrameBuilder::new(POD, PEER)
        .ipv6(mapped, Ipv6Addr::LOCALHOST)
        .udp(1, 2);
    if let Ok(parsed) = parse(&frame.build(), InnerTag::Refuse) {
        assert_eq!(rules.1.judge(&parsed.key).rule, 1);
    }
}

#[test]
fn rules_about_ip_leave_arp_alone() {
    let arp = FrameBuilder::new(POD, PEER).arp(sluice_packet::arp::ArpFields {
        operation: 1,
        sender_mac: PEER,
        sender_ip: Ipv4Addr::new(10, 0, 0, 1),
        target_mac: Mac::ZERO,
        target_ip: Ipv4Addr::new(10, 21, 0, 5),
    });
    let rules = table(
        "- {direction: ingress, from: 10.0.0.0/8, verdict: drop}\n\
         - {direction: ingress, protocol: 0, verdict: drop}\n\
         - {direction: ingress, ethertype: arp, from: 10.9.0.0/16, verdict: drop}\n\
         - {direction: ingress, ethertype: [arp, ipv4], from: 10.0.0.0/8, to: 10.21.0.5, verdict: accept}\n",
    );
    assert_eq!(decides(&rules, &arp), 3);
    assert_eq!(decides(&rules, &v4().udp(1, 2)), 0);
    let catch_all = table("- {direction: ingress, verdict: reject}\n");
    assert_eq!(decides(&catch_all, &arp), 0);
    assert_eq!(
        catch_all.1.hit(0).map(|hit| hit.verdict),
        Some(Verdict::Reject)
    );
}

#[test]
fn icmp_types_and_extension_headers() {
    let rules = table(
        "- {direction: ingress, protocol: icmpv6, icmp-type: [133-137], verdict: accept}\n\
         - {direction: ingress, protocol: icmpv6, verdict: drop}\n\
         - {direction: ingress, protocol: icmp, icmp-type: 8, verdict: accept}\n\
         - {direction: ingress, protocol: udp, ports: 53, verdict: accept}\n",
    );
    assert_eq!(
        decides(&rules, &v6().icmp(135, 0, [0; 4]).payload(&[0; 16])),
        0
    );
    assert_eq!(decides(&rules, &v6().icmp(128, 0, [0; 4])), 1);
    assert_eq!(decides(&rules, &v4().icmp(8, 0, [0; 4])), 2);
    assert_eq!(decides(&rules, &v4().icmp(0, 0, [0; 4])), 4);
    let hidden = v6().extension(IpProto::DEST_OPTIONS, &[0; 8]).udp(1024, 53);
    assert_eq!(decides(&rules, &hidden), 3);
}

#[test]
fn other_ethertypes_and_macs() {
    let rules = table(
        "- {direction: ingress, ethertype: 0x88b5, source-mac: \"02:00:5e:20:00:02\", verdict: accept}\n\
         - {direction: ingress, destination-mac: \"ff:ff:ff:ff:ff:ff\", verdict: drop}\n\
         - {direction: ingress, ethertype: lldp, verdict: accept}\n",
    );
    let experimental = |src, dst| FrameBuilder::new(dst, src).payload(&[0; 46]);
    assert_eq!(decides(&rules, &experimental(PEER, POD)), 0);
    assert_eq!(decides(&rules, &experimental(POD, PEER)), 3);
    assert_eq!(decides(&rules, &experimental(POD, Mac::BROADCAST)), 1);
    let lldp = FrameBuilder::new(POD, PEER)
        .ethertype(EtherType::LLDP)
        .payload(&[0; 46]);
    assert_eq!(decides(&rules, &lldp), 2);
}
