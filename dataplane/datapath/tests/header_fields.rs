// SPDX-License-Identifier: Apache-2.0
//! Rules by header fields that differ within a flow decide on every frame, whatever the flow cache has of others.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use std::net::Ipv4Addr;

use lab::{Lab, tagged};
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

const POLICY: &str = "
name: voice
vlans: [210]
default: {ingress: drop, egress: accept}
rules:
  - {name: opens, direction: ingress, protocol: tcp, tcp-flags: initial, verdict: drop}
  - {name: answers, direction: ingress, protocol: tcp, source-ports: [80], verdict: accept}
  - {name: voice, direction: ingress, protocol: udp, dscp: ef, pcp: 5, verdict: accept}
  - {name: near, direction: ingress, protocol: udp, ports: [3784], ttl: 255, verdict: accept}
  - {name: plain, direction: ingress, protocol: udp, ports: [53], verdict: accept}
  - {name: far, direction: egress, protocol: udp, ttl: 0-1, verdict: drop}
";

fn in_vlan(frame: &[u8], priority: u16) -> Vec<u8> {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: priority << 13 | 210,
    };
    tagged(frame, Some(tag))
}

fn udp(to: Mac, port: u16) -> FrameBuilder<'static> {
    FrameBuilder::new(to, HOST).ipv4(PEER, POD).udp(5000, port)
}

fn tcp(to: Mac, flags: u8) -> Vec<u8> {
    let fields = TcpFields {
        src_port: 80,
        dst_port: 4000,
        seq: 1,
        ack: 1,
        flags,
        window: 1000,
    };
    let frame = FrameBuilder::new(to, HOST).ipv4(PEER, POD).tcp(fields);
    in_vlan(&frame.build(), 0)
}

fn flow_hits(lab: &Lab) -> u64 {
    let workers = lab.engine.snapshot().workers;
    workers.iter().map(|worker| worker.flow_hits).sum()
}

#[test]
fn an_accepted_answer_lets_no_syn_of_its_flow_pass() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    for _ in 0..3 {
        assert_eq!(lab.wire_sends(tcp(pod.mac, flag::ACK)), None);
        assert_eq!(lab.wire_sends(tcp(pod.mac, flag::SYN | flag::ACK)), None);
        assert_eq!(lab.wire_sends(tcp(pod.mac, flag::SYN)), Some("denied"));
    }
    assert_eq!(lab.out(&pod.port).len(), 6);
    assert_eq!(
        (lab.hits("voice", "opens"), lab.hits("voice", "answers")),
        (3, 6)
    );
    assert_eq!(flow_hits(&lab), 0, "nothing of it is cached");
    lab.end();
}

#[test]
fn class_priority_and_ttl_are_those_of_each_frame() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    let sends =
        |frame: FrameBuilder<'_>, priority| lab.wire_sends(in_vlan(&frame.build(), priority));
    for _ in 0..3 {
        assert_eq!(sends(udp(pod.mac, 4000).tos(46 << 2), 5), None);
        assert_eq!(sends(udp(pod.mac, 4000).tos(46 << 2), 4), Some("denied"));
        assert_eq!(sends(udp(pod.mac, 4000).tos(0), 5), Some("denied"));
        assert_eq!(sends(udp(pod.mac, 3784).ttl(255), 0), None);
        assert_eq!(sends(udp(pod.mac, 3784).ttl(254), 0), Some("denied"));
    }
    assert_eq!(
        (lab.hits("voice", "voice"), lab.hits("voice", "near")),
        (3, 3)
    );
    lab.end();
}

#[test]
fn a_flow_that_such_rules_do_not_decide_is_cached() {
    let mut lab = Lab::new(1);
    lab.policies(&[&POLICY.replace("protocol: udp, dscp", "protocol: udp, ports: [5060], dscp")]);
    let pod = lab.access(210);
    for _ in 0..5 {
        assert_eq!(lab.wire_sends(in_vlan(&udp(pod.mac, 53).build(), 0)), None);
    }
    assert!(flow_hits(&lab) >= 4, "{}", flow_hits(&lab));
    assert_eq!(lab.hits("voice", "plain"), 5);
    lab.end();
}

#[test]
fn what_a_pod_sends_is_judged_alike() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    let frame = |ttl| {
        FrameBuilder::new(HOST, pod.mac)
            .ipv4(POD, PEER)
            .udp(1, 2)
            .ttl(ttl)
            .build()
    };
    for _ in 0..3 {
        assert_eq!(lab.pod_sends(&pod, frame(64)), None);
        assert_eq!(lab.pod_sends(&pod, frame(1)), Some("denied"));
    }
    assert_eq!(lab.hits("voice", "far"), 3);
    lab.end();
}

#[test]
fn a_stateful_policy_reads_them_in_the_first_frame() {
    let stateful = POLICY.replace("vlans: [210]", "vlans: [210]\nstateful: true");
    let mut lab = Lab::new(1);
    lab.policies(&[&stateful]);
    let pod = lab.access(210);
    let sends =
        |frame: FrameBuilder<'_>, priority| lab.wire_sends(in_vlan(&frame.build(), priority));
    assert_eq!(sends(udp(pod.mac, 4000).tos(0), 0), Some("denied"));
    assert_eq!(sends(udp(pod.mac, 4000).tos(46 << 2), 5), None);
    assert_eq!(
        sends(udp(pod.mac, 4000).tos(0), 0),
        None,
        "of a connection that was let begin"
    );
    assert_eq!(lab.wire_sends(tcp(pod.mac, flag::SYN)), Some("denied"));
    lab.end();
}
