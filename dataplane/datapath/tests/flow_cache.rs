// SPDX-License-Identifier: Apache-2.0
//! The flow cache: its flows go where the tables send them, and are counted as if these were asked.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use lab::{Lab, Pod};
use sluice_datapath::VlanSet;
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);

const POLICY: &str = "
name: lan
vlans: [210]
default: {ingress: drop, egress: drop}
rules:
  - {name: sip-out, direction: egress, protocol: udp, ports: [5060], verdict: accept}
  - {name: sip-in, direction: ingress, protocol: udp, ports: [5060], verdict: accept}
  - {name: out, direction: egress, protocol: udp, ports: [5061-5070], verdict: accept}
  - {name: never, direction: egress, protocol: udp, ports: [9], verdict: drop}
  - {name: told, direction: egress, protocol: udp, ports: [10], verdict: reject}
  - {name: logged, direction: both, protocol: udp, ports: [11], verdict: accept, log: true}
";

fn udp(to: Mac, from: Mac, port: u16, bytes: usize) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1000, port)
        .payload(&vec![7; bytes])
        .build()
}

fn known(lab: &Lab) -> u64 {
    let snapshot = lab.engine.snapshot();
    snapshot.workers.iter().map(|worker| worker.flow_hits).sum()
}

/// Sends frames one burst after the other, so that each finds what the one before taught.
fn send_each(lab: &Lab, from: &Pod, to: Mac, port: u16, times: usize) {
    for _ in 0..times {
        lab.send(&from.port, [udp(to, from.mac, port, 30)]);
    }
}

#[test]
fn frames_of_a_known_flow_are_counted_by_the_rules_of_both_pods() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        lab.policies(&[POLICY]);
        let (a, b) = (lab.access(210), lab.access(210));
        send_each(&lab, &a, b.mac, 5060, 10);
        lab.settle(&b.port);
        assert_eq!(lab.out(&b.port).len(), 10);
        assert_eq!(lab.hits("lan", "sip-out"), 10);
        assert_eq!(lab.hits("lan", "sip-in"), 10);
        assert!(known(&lab) >= 9, "{} of 10 were known", known(&lab));
        lab.end();
    }
}

#[test]
fn what_is_denied_at_either_pod_is_denied_and_counted_when_it_is_known() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    send_each(&lab, &a, b.mac, 9, 5);
    send_each(&lab, &a, b.mac, 5061, 5);
    assert_eq!(lab.out(&b.port).len(), 0);
    assert_eq!(lab.hits("lan", "never"), 5);
    assert_eq!(lab.hits("lan", "out"), 5);
    let snapshot = lab.engine.snapshot();
    let denied = |id| {
        let found = snapshot.attachments.iter().find(|found| found.id == id);
        let found = found.unwrap();
        let egress: u64 = found.egress_drops.values().sum();
        let ingress: u64 = found.ingress_drops.values().sum();
        (egress, ingress)
    };
    assert_eq!(denied(a.id), (5, 0), "by the sender's judge");
    assert_eq!(denied(b.id), (0, 5), "by the receiver's");
    assert!(known(&lab) >= 8);
    lab.end();
}

#[test]
fn rejects_and_logs_are_for_every_frame() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    send_each(&lab, &a, b.mac, 10, 3);
    assert_eq!(lab.out(&a.port).len(), 3, "each is answered");
    send_each(&lab, &a, b.mac, 11, 3);
    assert_eq!(lab.out(&b.port).len(), 3);
    assert_eq!(known(&lab), 0);
    lab.end();
}

#[test]
fn a_known_flow_is_judged_by_the_policies_of_the_moment() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    send_each(&lab, &a, b.mac, 5060, 4);
    assert_eq!(lab.out(&b.port).len(), 4);
    lab.policies(&[&POLICY.replace("[5060], verdict: accept", "[5060], verdict: drop")]);
    send_each(&lab, &a, b.mac, 5060, 4);
    assert_eq!(lab.out(&b.port).len(), 0);
    lab.policies(&[POLICY]);
    send_each(&lab, &a, b.mac, 5060, 4);
    assert_eq!(lab.out(&b.port).len(), 4);
    lab.end();
}

#[test]
fn a_known_flow_to_a_pod_that_has_gone_goes_where_the_tables_say() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    send_each(&lab, &a, b.mac, 5060, 4);
    assert_eq!(lab.out(&b.port).len(), 4);
    lab.engine.detach(b.id).unwrap();
    send_each(&lab, &a, b.mac, 5060, 4);
    assert_eq!(lab.out(&b.port).len(), 0);
    assert_eq!(lab.out(&lab.wire).len(), 4, "its address is nobody's now");
    lab.end();
}

#[test]
fn a_longer_frame_of_a_known_flow_meets_the_mtu_of_both_pods() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let a = lab.access(210);
    let mut small = lab.spec(VlanSet::Access(lab::vid(210)));
    small.mtu = 600;
    let b = lab.attach(small);
    send_each(&lab, &a, b.mac, 5060, 3);
    lab.send(&a.port, [udp(b.mac, a.mac, 5060, 700)]);
    lab.send(&a.port, [udp(b.mac, a.mac, 5060, 1500)]);
    send_each(&lab, &a, b.mac, 5060, 3);
    assert_eq!(lab.out(&b.port).len(), 6);
    assert_eq!(lab.all_drops().get("too_long"), Some(&2));
    lab.end();
}

#[test]
fn a_known_flow_cannot_be_had_from_another_address() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    send_each(&lab, &a, b.mac, 5060, 3);
    // The very same bytes from another pod are not its own.
    let c = lab.access(210);
    send_each(&lab, &a, b.mac, 5060, 3);
    lab.out(&b.port);
    lab.send(&c.port, [udp(b.mac, a.mac, 5060, 30)]);
    assert_eq!(lab.out(&b.port).len(), 0);
    assert_eq!(lab.all_drops().get("spoofed_mac"), Some(&1));
    lab.end();
}

#[test]
fn frames_from_the_wire_are_known_too_and_stay_in_order() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let b = lab.access(210);
    let mut sent = Vec::new();
    for round in 0..40_u8 {
        let burst: Vec<_> = (0..20_u8)
            .map(|n| {
                // Some flows are known by then and some are new.
                let port = if n % 3 == 0 {
                    5060
                } else {
                    5060 + u16::from(round % 2)
                };
                let frame = FrameBuilder::new(b.mac, HOST)
                    .ipv4([10, 0, 0, round / 8].into(), [10, 0, 0, 2].into())
                    .udp(u16::from(n % 4), port)
                    .payload(&[round, n])
                    .build();
                lab::tagged(
                    &frame,
                    Some(sluice_packet::VlanTag {
                        tpid: 0x8100,
                        tci: 210,
                    }),
                )
            })
            .collect();
        sent.extend(burst.iter().map(|frame| frame[46..48].to_vec()));
        lab.send(&lab.wire, burst);
    }
    let got: Vec<_> = lab.out(&b.port);
    let numbers: Vec<_> = got.iter().map(|frame| frame[42..44].to_vec()).collect();
    let mut expected = sent.iter();
    for number in &numbers {
        assert!(
            expected.any(|one| one == number),
            "{number:?} came out of order"
        );
    }
    assert!(known(&lab) > 0);
    lab.end();
}
