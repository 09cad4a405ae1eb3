// SPDX-License-Identifier: Apache-2.0
//! Rules with `state`: they decide on frames of connections, on ICMP errors about them and on what is possible in
//! none.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use std::net::Ipv4Addr;

use lab::{Lab, Pod, tagged};
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

const POLICY: &str = "
name: voice
version: 2
vlans: [210]
default: {ingress: drop, egress: accept}
rules:
  - {name: https, direction: ingress, protocol: tcp, ports: [443], verdict: accept}
  - {name: no-urgent, direction: ingress, protocol: tcp, tcp-flags: urg, state: established, verdict: drop}
  - {name: seen, direction: egress, protocol: tcp, source-ports: [443], state: established, verdict: accept}
  - {name: stray, direction: ingress, protocol: tcp, ports: [9000], state: invalid, verdict: accept}
";

/// Sends a segment between the pod's port and the peer's, and returns the reason for which it was dropped.
fn sends(
    lab: &Lab,
    pod: &Pod,
    ports: (u16, u16),
    from_pod: bool,
    segment: (u8, u32, u32),
) -> Option<&'static str> {
    let (flags, seq, ack) = segment;
    let fields = |src_port, dst_port| TcpFields {
        src_port,
        dst_port,
        seq,
        ack,
        flags,
        window: 1000,
    };
    if from_pod {
        let frame = FrameBuilder::new(HOST, pod.mac).ipv4(POD, PEER);
        return lab.pod_sends(pod, frame.tcp(fields(ports.0, ports.1)).build());
    }
    let frame = FrameBuilder::new(pod.mac, HOST).ipv4(PEER, POD);
    let frame = frame.tcp(fields(ports.1, ports.0)).build();
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 210,
    };
    lab.wire_sends(tagged(&frame, Some(tag)))
}

#[test]
fn rules_for_established_frames_come_before_the_connection() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    let one = |from_pod, segment| sends(&lab, &pod, (443, 50_000), from_pod, segment);
    assert_eq!(one(false, (flag::SYN, 100, 0)), None);
    assert_eq!(one(true, (flag::SYN | flag::ACK, 500, 101)), None);
    assert_eq!(one(false, (flag::ACK, 101, 501)), None);
    assert_eq!(
        one(false, (flag::ACK | flag::URG, 101, 501)),
        Some("denied")
    );
    assert_eq!(one(true, (flag::ACK, 501, 101)), None);
    assert_eq!(
        one(false, (flag::ACK, 101, 501)),
        None,
        "the connection lives on"
    );
    assert_eq!(lab.hits("voice", "no-urgent"), 1);
    assert_eq!(
        lab.hits("voice", "seen"),
        2,
        "what the pod answers counts here"
    );
    assert_eq!(
        lab.hits("voice", "https"),
        6,
        "every frame counts where it began"
    );
    lab.end();
}

#[test]
fn what_is_possible_in_no_connection_passes_where_a_rule_says_so() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    let answer = (flag::SYN | flag::ACK, 500, 101);
    let stray = |port| sends(&lab, &pod, (port, 50_000), false, answer);
    assert_eq!(stray(9000), None);
    assert_eq!(stray(9001), Some("invalid_state"));
    assert_eq!(lab.hits("voice", "stray"), 1);
    lab.end();
}

#[test]
fn errors_about_a_connection_are_dropped_where_a_rule_says_so() {
    for (rule, expected) in [("", None), ("protocol: icmp, ", Some("denied"))] {
        let rule = match rule {
            "" => String::new(),
            rule => format!(
                "  - {{name: errors, direction: ingress, {rule}state: related, verdict: drop}}\n"
            ),
        };
        let mut lab = Lab::new(1);
        lab.policies(&[&format!("{POLICY}{rule}")]);
        let pod = lab.access(210);
        let sent = FrameBuilder::new(HOST, pod.mac).ipv4(POD, PEER);
        let sent = sent.udp(5000, 7).payload(&[7; 40]).build();
        assert_eq!(lab.pod_sends(&pod, sent.clone()), None);
        let router = Ipv4Addr::new(10, 9, 9, 9);
        let error = FrameBuilder::new(pod.mac, HOST).ipv4(router, POD);
        // Port unreachable, about the packet behind the Ethernet header.
        let error = error.icmp(3, 3, [0; 4]).payload(&sent[14..42]).build();
        let tag = VlanTag {
            tpid: 0x8100,
            tci: 210,
        };
        assert_eq!(
            lab.wire_sends(tagged(&error, Some(tag))),
            expected,
            "{rule}"
        );
        lab.end();
    }
}
