// SPDX-License-Identifier: Apache-2.0
//! Rules with a limit: what they accept beyond it is dropped and counted as that, whatever the flow cache has.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use std::net::Ipv4Addr;

use lab::{Lab, Pod};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);

/// Rates so low that a slow test earns little beside the burst.
const POLICY: &str = "
name: lan
vlans: [210]
default: {ingress: accept, egress: drop}
rules:
  - {name: few, direction: egress, protocol: udp, ports: [53], verdict: accept, limit: {frames: 1/s, burst: 10s}}
  - {name: each, direction: egress, protocol: udp, ports: [54], verdict: accept, limit: {frames: 1/s, burst: 5s, per: source}}
  - {name: short, direction: egress, protocol: udp, ports: [55], verdict: accept, limit: {bytes: 10k/s, burst: 10s}}
  - {name: any, direction: egress, protocol: udp, ports: [56], verdict: accept}
";

fn udp(pod: &Pod, from: Ipv4Addr, port: u16, bytes: usize) -> Vec<u8> {
    FrameBuilder::new(HOST, pod.mac)
        .ipv4(from, [10, 0, 0, 99].into())
        .udp(1000, port)
        .payload(&vec![7; bytes])
        .build()
}

/// Sends frames one by one; returns how many passed. The others were over a limit.
fn passed(lab: &Lab, pod: &Pod, from: [u8; 4], port: u16, bytes: usize, times: usize) -> usize {
    let results = (0..times).map(|_| lab.pod_sends(pod, udp(pod, from.into(), port, bytes)));
    let results: Vec<_> = results.collect();
    for result in results.iter().flatten() {
        assert_eq!(*result, "rule_limited");
    }
    results.iter().filter(|result| result.is_none()).count()
}

#[test]
fn a_rule_gives_each_attachment_its_burst_and_no_more() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    let first = passed(&lab, &a, [10, 0, 0, 1], 53, 20, 40);
    assert!((10..20).contains(&first), "{first}");
    let other = passed(&lab, &b, [10, 0, 0, 2], 53, 20, 12);
    assert!(
        (10..12).contains(&other),
        "its neighbour took nothing of it: {other}"
    );
    assert_eq!(
        lab.hits("lan", "few"),
        52,
        "the rule decided on every frame"
    );
    let unlimited = passed(&lab, &a, [10, 0, 0, 1], 56, 20, 40);
    assert_eq!(unlimited, 40);
    lab.end();
}

#[test]
fn sources_have_rates_of_their_own() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    for source in 1..=3 {
        let passed = passed(&lab, &pod, [10, 0, 0, source], 54, 20, 12);
        assert!((5..12).contains(&passed), "{passed}");
    }
    lab.end();
}

#[test]
fn bytes_are_those_of_the_frames() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    let passed = passed(&lab, &pod, [10, 0, 0, 1], 55, 958, 150);
    assert!(
        (100..120).contains(&passed),
        "100,000 bytes of 1,000 each: {passed}"
    );
    lab.end();
}

#[test]
fn a_stateful_policy_limits_what_begins_and_not_what_has_begun() {
    let mut lab = Lab::new(1);
    lab.policies(&[&POLICY.replace("vlans: [210]", "version: 2\nvlans: [210]")]);
    let pod = lab.access(210);
    let frame = |source_port| {
        let frame = FrameBuilder::new(HOST, pod.mac);
        let frame = frame.ipv4([10, 0, 0, 1].into(), [10, 0, 0, 99].into());
        frame.udp(source_port, 53).build()
    };
    for _ in 0..40 {
        assert_eq!(lab.pod_sends(&pod, frame(1000)), None, "one connection");
    }
    let begun = (0..40).filter(|n| lab.pod_sends(&pod, frame(2000 + n)).is_none());
    let begun = begun.count();
    assert!((9..20).contains(&begun), "{begun}");
    lab.end();
}
