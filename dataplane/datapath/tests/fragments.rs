// SPDX-License-Identifier: Apache-2.0
//! Later fragments: they follow their datagram's first piece, and open nothing else.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use lab::{Lab, tagged};
use sluice_packet::build::FrameBuilder;
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);

const POLICY: &str = "
name: ports
vlans: [210]
default: {ingress: drop, egress: drop}
rules:
  - {name: dns, direction: both, protocol: udp, ports: [53], verdict: accept}
  - {name: echo, direction: both, protocol: icmp, icmp-type: [8], verdict: accept}
";

fn in_vlan(frame: &[u8]) -> Vec<u8> {
    tagged(
        frame,
        Some(VlanTag {
            tpid: 0x8100,
            tci: 210,
        }),
    )
}

/// Datagram `id` of UDP to `port`, as its first piece or a later one.
fn piece(to: Mac, from: Mac, v6: bool, id: u32, port: u16, offset: u16) -> Vec<u8> {
    let eth = FrameBuilder::new(to, from);
    let ip = if v6 {
        eth.ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
    } else {
        eth.ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
    };
    ip.id(id)
        .udp(4000, port)
        .payload(&[7; 24])
        .fragment(offset, offset < 64)
        .build()
}

#[test]
fn a_datagram_passes_whole_or_not_at_all() {
    for workers in [1, 3] {
        let mut lab = Lab::new(workers);
        lab.policies(&[POLICY]);
        let (a, b) = (lab.access(210), lab.access(210));
        for v6 in [false, true] {
            for (id, port, expected) in [(1, 53, None), (2, 54, Some("denied")), (3, 53, None)] {
                for offset in [0, 32, 64] {
                    let from_pod = piece(b.mac, a.mac, v6, id, port, offset);
                    assert_eq!(lab.pod_sends(&a, from_pod), expected, "{id} at {offset}");
                    let from_wire = in_vlan(&piece(a.mac, HOST, v6, id, port, offset));
                    assert_eq!(lab.wire_sends(from_wire), expected, "{id} at {offset}");
                }
            }
            // Pieces of a datagram nobody began.
            let alone = piece(b.mac, a.mac, v6, 9, 53, 32);
            assert_eq!(lab.pod_sends(&a, alone), Some("fragment_without_first"));
            let alone = in_vlan(&piece(a.mac, HOST, v6, 9, 53, 32));
            assert_eq!(lab.wire_sends(alone), Some("denied"));
        }
        assert_eq!(lab.out(&b.port).len(), 12);
        assert_eq!(lab.out(&a.port).len(), 12);
        lab.end();
    }
}

#[test]
fn a_piece_follows_its_own_datagram_only() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    let first = |from: Mac, to: Mac, port| piece(to, from, false, 1, port, 0);
    assert_eq!(lab.pod_sends(&a, first(a.mac, b.mac, 53)), None);
    // The same numbers from another pod, and from the wire.
    assert_eq!(
        lab.pod_sends(&b, piece(a.mac, b.mac, false, 1, 53, 32)),
        Some("fragment_without_first")
    );
    let from_wire = in_vlan(&piece(a.mac, HOST, false, 1, 53, 32));
    assert_eq!(lab.wire_sends(from_wire), Some("denied"));
    // A first piece that is denied closes what one before it had opened.
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 32)),
        None
    );
    assert_eq!(lab.pod_sends(&a, first(a.mac, b.mac, 22)), Some("denied"));
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 32)),
        Some("denied")
    );
    lab.end();
}

#[test]
fn pieces_over_the_first_are_refused() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 0)),
        None
    );
    for offset in [8, 16, 24] {
        let over = piece(b.mac, a.mac, false, 1, 53, offset);
        assert_eq!(lab.pod_sends(&a, over), Some("fragment_overlap"));
    }
    lab.end();
}

#[test]
fn a_change_of_policies_judges_the_rest_anew() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 0)),
        None
    );
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 32)),
        None
    );
    lab.policies(&[&POLICY.replace("[53]", "[5353]")]);
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 64)),
        Some("denied")
    );
    lab.end();
}

#[test]
fn a_large_ping_passes_by_its_type() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (a, b) = (lab.access(210), lab.access(210));
    let ping = |icmp_type: u8, offset: u16| {
        FrameBuilder::new(b.mac, a.mac)
            .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
            .id(icmp_type.into())
            .icmp(icmp_type, 0, [0; 4])
            .payload(&[7; 24])
            .fragment(offset, offset == 0)
            .build()
    };
    for (icmp_type, expected) in [(8, None), (13, Some("denied"))] {
        for offset in [0, 32] {
            assert_eq!(lab.pod_sends(&a, ping(icmp_type, offset)), expected);
        }
    }
    lab.end();
}

#[test]
fn a_pod_that_begins_many_datagrams_costs_no_other_its_own() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let (flooder, a, b) = (lab.access(210), lab.access(210), lab.access(210));
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 0)),
        None
    );
    let from_wire = in_vlan(&piece(a.mac, HOST, false, 1, 53, 0));
    assert_eq!(lab.wire_sends(from_wire), None);
    for round in 0..5 {
        let many = (0..1000).map(|id| piece(b.mac, flooder.mac, false, round * 1000 + id, 53, 0));
        lab.send(&flooder.port, many);
        lab.out(&b.port);
    }
    let wire = lab.wire.clone();
    lab.send(
        &wire,
        (0..1000).map(|id| in_vlan(&piece(b.mac, HOST, false, id, 53, 0))),
    );
    assert_eq!(
        lab.pod_sends(&a, piece(b.mac, a.mac, false, 1, 53, 32)),
        None
    );
    let from_wire = in_vlan(&piece(a.mac, HOST, false, 1, 53, 32));
    assert_eq!(lab.wire_sends(from_wire), None);
    lab.end();
}
