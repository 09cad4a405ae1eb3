// SPDX-License-Identifier: Apache-2.0
//! Policies that are stateful: what passes without a rule, and what does not.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use std::net::Ipv4Addr;

use lab::{Lab, Pod, tagged, vid};
use sluice_datapath::VlanSet;
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The pod may open anything; from outside one port is open, and pings are.
const POLICY: &str = "
name: voice
vlans: [210]
stateful: true
default: {ingress: drop, egress: accept}
rules:
  - {name: https, direction: ingress, protocol: tcp, ports: [443], verdict: accept}
  - {name: ping, direction: ingress, protocol: icmp, icmp-type: echo-request, verdict: accept}
";

fn in_vlan(frame: &[u8]) -> Vec<u8> {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 210,
    };
    tagged(frame, Some(tag))
}

/// Ends of a conversation over the wire, and what they have sent so far.
struct Conversation<'a> {
    lab: &'a Lab,
    pod: &'a Pod,
    ports: (u16, u16),
}

impl Conversation<'_> {
    fn out(&self) -> FrameBuilder<'static> {
        FrameBuilder::new(HOST, self.pod.mac).ipv4(POD, PEER)
    }

    fn back(&self) -> FrameBuilder<'static> {
        FrameBuilder::new(self.pod.mac, HOST).ipv4(PEER, POD)
    }

    fn tcp(&self, from_pod: bool, flags: u8, seq: u32, ack: u32) -> FrameBuilder<'static> {
        let (pod, peer) = self.ports;
        let (builder, src_port, dst_port) = match from_pod {
            true => (self.out(), pod, peer),
            false => (self.back(), peer, pod),
        };
        builder.tcp(TcpFields {
            src_port,
            dst_port,
            seq,
            ack,
            flags,
            window: 1000,
        })
    }

    /// Sends a segment and returns the reason for which it was dropped.
    fn sends(&self, from_pod: bool, flags: u8, seq: u32, ack: u32) -> Option<&'static str> {
        self.passes(from_pod, &self.tcp(from_pod, flags, seq, ack))
    }

    fn passes(&self, from_pod: bool, frame: &FrameBuilder<'_>) -> Option<&'static str> {
        match from_pod {
            true => self.lab.pod_sends(self.pod, frame.build()),
            false => self.lab.wire_sends(in_vlan(&frame.build())),
        }
    }

    /// Opens a connection from one end; sequence numbers begin at 100 and 500.
    fn opens(&self, from_pod: bool) {
        assert_eq!(self.sends(from_pod, flag::SYN, 100, 0), None);
        assert_eq!(self.sends(!from_pod, flag::SYN | flag::ACK, 500, 101), None);
        assert_eq!(self.sends(from_pod, flag::ACK, 101, 501), None);
    }
}

/// Waits until TCP frames of connections that are not known are taken up no more: time goes on by itself there, so
/// the tests ask only for what holds in either time.
fn lab() -> (Lab, Pod) {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pod = lab.access(210);
    (lab, pod)
}

#[test]
fn answers_to_what_the_pod_opened_pass_without_a_rule_and_nothing_else_does() {
    let (lab, pod) = lab();
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (40_000, 80),
    };
    one.opens(true);
    assert_eq!(one.sends(false, flag::ACK | flag::PSH, 501, 101), None);
    // A stranger who sends from the same port to where an SSH server listens.
    let stranger = Conversation {
        ports: (22, 80),
        ..one
    };
    assert_eq!(stranger.sends(false, flag::SYN, 1, 0), Some("denied"));
    assert_eq!(
        stranger.sends(false, flag::SYN | flag::ACK, 1, 2),
        Some("invalid_state")
    );
    // Far outside the pod's window, and an acknowledgement of what was never sent.
    let far = 501 + (1 << 24);
    assert_eq!(one.sends(false, flag::ACK, far, 101), Some("invalid_state"));
    assert_eq!(
        one.sends(false, flag::ACK, 501, 90_000),
        Some("invalid_state")
    );
    assert_eq!(
        one.sends(false, flag::RST, 501 + 500_000, 0),
        Some("invalid_state")
    );
    assert_eq!(one.sends(false, flag::ACK, 501, 101), None, "it lives on");
    lab.end();
}

#[test]
fn what_comes_in_by_a_rule_is_answered_and_counts_at_that_rule() {
    let (lab, pod) = lab();
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (443, 50_000),
    };
    one.opens(false);
    assert_eq!(one.sends(true, flag::ACK | flag::PSH, 501, 101), None);
    assert_eq!(lab.hits("voice", "https"), 4, "both directions");
    let other = Conversation {
        ports: (80, 50_000),
        ..one
    };
    assert_eq!(other.sends(false, flag::SYN, 1, 0), Some("denied"));
    lab.end();
}

#[test]
fn udp_and_pings_are_answered() {
    let (lab, pod) = lab();
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (0, 0),
    };
    let answer = one.back().udp(53, 4000);
    assert_eq!(one.passes(false, &answer), Some("denied"));
    assert_eq!(one.passes(true, &one.out().udp(4000, 53)), None);
    assert_eq!(one.passes(false, &answer), None);
    assert_eq!(
        one.passes(false, &one.back().udp(54, 4000)),
        Some("denied"),
        "from another port"
    );
    let echo = |builder: FrameBuilder<'static>, icmp_type| builder.icmp(icmp_type, 0, [0, 7, 0, 1]);
    assert_eq!(
        one.passes(false, &echo(one.back(), 0)),
        Some("invalid_state")
    );
    assert_eq!(one.passes(true, &echo(one.out(), 8)), None);
    assert_eq!(one.passes(false, &echo(one.back(), 0)), None);
    let other = one.back().icmp(0, 0, [0, 8, 0, 1]);
    assert_eq!(
        one.passes(false, &other),
        Some("invalid_state"),
        "another identifier"
    );
    lab.end();
}

#[test]
fn errors_about_a_connection_pass_and_invented_ones_do_not() {
    let (lab, pod) = lab();
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (4000, 53),
    };
    let sent = one.out().dont_fragment().udp(4000, 53).payload(&[0; 1400]);
    assert_eq!(one.passes(true, &sent), None);
    let router = Ipv4Addr::new(192, 0, 2, 1);
    let error = |about: &[u8], mtu: u8| {
        FrameBuilder::new(pod.mac, HOST)
            .ipv4(router, POD)
            .icmp(3, 4, [0, 0, 4, mtu])
            .payload(&about[14..14 + 28])
            .build()
    };
    assert_eq!(lab.wire_sends(in_vlan(&error(&sent.build(), 0))), None);
    let invented = one.out().udp(4001, 53).payload(&[0; 1400]).build();
    assert_eq!(
        lab.wire_sends(in_vlan(&error(&invented, 0))),
        Some("invalid_state")
    );
    lab.end();
}

#[test]
fn a_policy_that_no_longer_allows_a_connection_ends_it_and_one_that_does_keeps_it() {
    let (mut lab, pod) = lab();
    for (file, left) in [
        (POLICY.replace("name: ping", "name: echo"), None),
        (POLICY.replace("443", "444"), Some("denied")),
    ] {
        {
            let one = Conversation {
                lab: &lab,
                pod: &pod,
                ports: (443, 50_000),
            };
            if left.is_none() {
                one.opens(false);
            }
        }
        lab.policies(&[&file]);
        let one = Conversation {
            lab: &lab,
            pod: &pod,
            ports: (443, 50_000),
        };
        // Judged as it was opened, whoever sends first.
        assert_eq!(one.sends(true, flag::ACK | flag::PSH, 501, 101), left);
        assert_eq!(one.sends(false, flag::ACK, 101, 501), left);
    }
    // No resurrection.
    lab.policies(&[POLICY]);
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (443, 50_000),
    };
    assert_eq!(one.sends(false, flag::ACK, 101, 501), None, "allowed again");
    lab.end();
}

#[test]
fn a_pod_to_pod_connection_is_judged_at_both_ends() {
    let mut lab = Lab::new(2);
    let server = "
name: server
stateful: true
default: {ingress: drop, egress: drop}
rules:
  - {direction: ingress, protocol: udp, ports: [53], verdict: accept}
";
    let open = "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n";
    lab.policies(&[open, server]);
    let client = lab.access(210);
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.policy = Some("server".to_owned());
    let pod = lab.attach(spec);
    let ask = FrameBuilder::new(pod.mac, client.mac)
        .ipv4(PEER, POD)
        .udp(4000, 53)
        .build();
    let answer = FrameBuilder::new(client.mac, pod.mac)
        .ipv4(POD, PEER)
        .udp(53, 4000)
        .build();
    assert_eq!(lab.pod_sends(&pod, answer.clone()), Some("denied"));
    for _ in 0..3 {
        assert_eq!(lab.pod_sends(&client, ask.clone()), None);
        assert_eq!(lab.pod_sends(&pod, answer.clone()), None);
    }
    assert_eq!(
        (lab.out(&pod.port).len(), lab.out(&client.port).len()),
        (3, 3)
    );
    // Its successor in the same place knows nothing of it.
    lab.engine.detach(pod.id).unwrap();
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.policy = Some("server".to_owned());
    let pod = lab.attach(spec);
    let answer = FrameBuilder::new(client.mac, pod.mac)
        .ipv4(POD, PEER)
        .udp(53, 4000)
        .build();
    assert_eq!(lab.pod_sends(&pod, answer), Some("denied"));
    lab.end();
}

#[test]
fn a_policy_that_is_only_tried_lets_everything_through() {
    let mut lab = Lab::new(1);
    lab.policies(&[&format!("{POLICY}audit: true\n")]);
    let pod = lab.access(210);
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (40_000, 80),
    };
    assert_eq!(one.sends(false, flag::SYN | flag::ACK, 1, 2), None);
    assert_eq!(one.sends(false, flag::SYN, 1, 2), None, "no rule is for it");
    one.opens(true);
    let far = 501 + (1 << 24);
    assert_eq!(one.sends(false, flag::ACK, far, 101), None);
    lab.end();
}

#[test]
fn pieces_follow_their_datagram() {
    let (lab, pod) = lab();
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (0, 0),
    };
    assert_eq!(one.passes(true, &one.out().udp(5060, 5060)), None);
    let answer = one.back().udp(5060, 5060).payload(&[0; 1200]);
    assert_eq!(one.passes(false, &answer.clone().fragment(0, true)), None);
    assert_eq!(
        one.passes(false, &answer.clone().fragment(1208, false)),
        None
    );
    let denied = one.back().id(9).udp(5061, 5060).payload(&[0; 1200]);
    assert_eq!(
        one.passes(false, &denied.clone().fragment(0, true)),
        Some("denied")
    );
    assert_eq!(
        one.passes(false, &denied.clone().fragment(1208, false)),
        Some("invalid_state"),
        "its first piece has opened nothing"
    );
    lab.end();
}

#[test]
fn a_flood_of_syns_costs_nobody_a_connection() {
    let (lab, pod) = lab();
    let one = Conversation {
        lab: &lab,
        pod: &pod,
        ports: (443, 50_000),
    };
    let own = Conversation {
        ports: (40_000, 80),
        ..one
    };
    one.opens(false);
    own.opens(true);
    let syns = (0..40_000u32).map(|n| {
        let [_, a, b, c] = n.to_be_bytes();
        let from = Ipv4Addr::new(11, a, b, c);
        let port = 1024 + u16::try_from(n % 60_000).unwrap();
        let syn = FrameBuilder::new(pod.mac, HOST)
            .ipv4(from, POD)
            .tcp(TcpFields {
                src_port: port,
                dst_port: 443,
                flags: flag::SYN,
                window: 1000,
                ..TcpFields::default()
            });
        in_vlan(&syn.build())
    });
    lab.send(&lab.wire, syns);
    assert_eq!(
        lab.out(&pod.port).len(),
        40_000 + 3,
        "each reaches the open port"
    );
    assert_eq!(one.sends(true, flag::ACK | flag::PSH, 501, 101), None);
    assert_eq!(own.sends(false, flag::ACK, 501, 101), None);
    // A client whose SYN found no room is served all the same, at once and later.
    let late = Conversation {
        ports: (443, 51_000),
        ..one
    };
    late.opens(false);
    assert_eq!(late.sends(false, flag::ACK | flag::PSH, 101, 501), None);
    assert_eq!(late.sends(true, flag::ACK, 501, 101), None);
    lab.end();
}
