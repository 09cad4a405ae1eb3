// SPDX-License-Identifier: Apache-2.0
//! Kinds of traffic: IPv6, GRE, SCTP, routers, and a flood beside connections that others use.

use std::net::{Ipv4Addr, Ipv6Addr};

use sluice_packet::IpProto;
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::flag::{ACK, PSH, SYN};
use sluice_packet::tcp::{TcpFields, flag};

use crate::bench::{Bench, Conversation, HOST, PEER, POD, POLICY, Pod, conversations, open};

const POD6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

fn out6(pod: &Pod) -> FrameBuilder<'static> {
    FrameBuilder::new(HOST, pod.mac).ipv6(POD6, PEER6)
}

fn back6(pod: &Pod) -> FrameBuilder<'static> {
    FrameBuilder::new(pod.mac, HOST).ipv6(PEER6, POD6)
}

#[test]
fn ipv6_is_answered_as_ipv4_is_and_in_the_same_burst() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let v4 = conversations(&pod, 10, 53);
    let all = (&v4, &pod);
    let both = |from_pod: bool| {
        let (v4, pod) = all;
        v4.iter().flat_map(move |one| {
            let (a, b) = (one.pod_port, one.peer_port);
            match from_pod {
                true => [one.out().udp(a, b), out6(pod).udp(a, b)],
                false => [one.back().udp(b, a), back6(pod).udp(b, a)],
            }
        })
    };
    assert_eq!(bench.wire_sends(both(false)), [("denied", 20)]);
    for _ in 0..2 {
        assert_eq!(bench.pod_sends(&pod, both(true)), []);
        assert_eq!(bench.wire_sends(both(false)), []);
    }
    let echo = |builder: FrameBuilder<'static>, icmp_type| builder.icmp(icmp_type, 0, [0, 7, 0, 1]);
    let answer = || [echo(back6(&pod), 129)];
    assert_eq!(bench.wire_sends(answer()), [("invalid_state", 1)]);
    assert_eq!(bench.pod_sends(&pod, [echo(out6(&pod), 128)]), []);
    assert_eq!(bench.wire_sends(answer()), []);
    let segment = |builder: FrameBuilder<'static>, ports: (u16, u16), flags, seq, ack| {
        builder.tcp(TcpFields {
            src_port: ports.0,
            dst_port: ports.1,
            seq,
            ack,
            flags,
            window: 1000,
        })
    };
    let (there, back) = ((4000, 80), (80, 4000));
    assert_eq!(
        bench.pod_sends(&pod, [segment(out6(&pod), there, SYN, 100, 0)]),
        []
    );
    let syn_ack = segment(back6(&pod), back, SYN | ACK, 500, 101);
    assert_eq!(bench.wire_sends([syn_ack]), []);
    assert_eq!(
        bench.pod_sends(&pod, [segment(out6(&pod), there, ACK, 101, 501)]),
        []
    );
    let far = segment(back6(&pod), back, ACK | PSH, 501 + (1 << 24), 101);
    assert_eq!(bench.wire_sends([far]), [("invalid_state", 1)]);
    bench.end();
}

#[test]
fn gre_is_answered_by_address_pair_for_ten_minutes() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let one = conversations(&pod, 1, 0)[0];
    let gre = |builder: FrameBuilder<'static>| builder.proto(47).payload(&[0, 0, 8, 0, 1, 2, 3, 4]);
    assert_eq!(bench.wire_sends([gre(one.back())]), [("denied", 1)]);
    assert_eq!(bench.pod_sends(&pod, [gre(one.out())]), []);
    assert_eq!(bench.wire_sends([gre(one.back())]), []);
    let stranger = FrameBuilder::new(pod.mac, HOST).ipv4([10, 0, 0, 3].into(), POD);
    assert_eq!(bench.wire_sends([gre(stranger)]), [("denied", 1)]);
    bench.later(590_000);
    assert_eq!(bench.wire_sends([gre(one.back())]), []);
    bench.later(601_000);
    assert_eq!(bench.wire_sends([gre(one.back())]), [("denied", 1)]);
    bench.end();
}

#[test]
fn sctp_is_answered_and_forgotten_soon_after_its_end() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let one = conversations(&pod, 1, 0)[0];
    /// SCTP packets between ports 5000 and 36412 whose first chunk is of a kind.
    const fn packet(kind: u8, from_pod: bool) -> [u8; 16] {
        let [a, b, c, d] = match from_pod {
            true => [0x13, 0x88, 0x8e, 0x3c],
            false => [0x8e, 0x3c, 0x13, 0x88],
        };
        [a, b, c, d, 0, 0, 0, 1, 0, 0, 0, 0, kind, 0, 0, 4]
    }
    const INIT: [u8; 16] = packet(1, true);
    const INIT_ACK: [u8; 16] = packet(2, false);
    const COOKIE_ECHO: [u8; 16] = packet(10, true);
    const HEARTBEAT: [u8; 16] = packet(4, false);
    const ABORT: [u8; 16] = packet(6, true);
    let sctp = |builder: FrameBuilder<'static>, packet: &'static [u8]| {
        builder.proto(IpProto::SCTP).payload(packet)
    };
    assert_eq!(
        bench.wire_sends([sctp(one.back(), &INIT_ACK)]),
        [("denied", 1)]
    );
    assert_eq!(bench.pod_sends(&pod, [sctp(one.out(), &INIT)]), []);
    assert_eq!(bench.wire_sends([sctp(one.back(), &INIT_ACK)]), []);
    assert_eq!(bench.pod_sends(&pod, [sctp(one.out(), &COOKIE_ECHO)]), []);
    bench.later(800_000);
    assert_eq!(bench.wire_sends([sctp(one.back(), &HEARTBEAT)]), []);
    assert_eq!(bench.pod_sends(&pod, [sctp(one.out(), &ABORT)]), []);
    bench.later(31_000);
    assert_eq!(
        bench.wire_sends([sctp(one.back(), &HEARTBEAT)]),
        [("denied", 1)]
    );
    bench.end();
}

#[test]
fn a_router_that_sees_one_direction_alone_is_tracked_by_flags() {
    let mut bench = Bench::new(&[POLICY]);
    let (router, host) = (bench.router(), bench.pod());
    for (pod, far) in [(&router, vec![]), (&host, vec![("invalid_state", 1)])] {
        let all = conversations(pod, 1, 80);
        open(&mut bench, pod, true, &all);
        // Far outside what the other end has offered, as it looks where half of the frames go another way.
        let segment = all[0].tcp(false, ACK | PSH, [501 + (1 << 24), 101]);
        assert_eq!(bench.wire_sends([segment]), far);
    }
    // Hosts behind a router have addresses of their own.
    let behind = FrameBuilder::new(HOST, router.mac)
        .ipv4([192, 0, 2, 7].into(), PEER)
        .udp(4000, 53);
    assert_eq!(bench.pod_sends(&router, [behind]), []);
    let answer = FrameBuilder::new(router.mac, HOST)
        .ipv4(PEER, [192, 0, 2, 7].into())
        .udp(53, 4000);
    assert_eq!(bench.wire_sends([answer]), []);
    bench.end();
}

#[test]
fn a_flood_of_syns_from_one_pod_costs_no_established_connection() {
    const SYNS: u32 = 100_000;
    let mut bench = Bench::new(&[POLICY]);
    let (flooder, other) = (bench.pod(), bench.pod());
    let serves = |pod: &Pod| -> Vec<Conversation> {
        let one = |n: u16| Conversation {
            mac: pod.mac,
            pod_port: 443,
            peer_port: 50_000 + n,
        };
        (0..50).map(one).collect()
    };
    let sets = [
        (&flooder, serves(&flooder), false),
        (&flooder, conversations(&flooder, 50, 80), true),
        (&other, serves(&other), false),
        (&other, conversations(&other, 50, 80), true),
    ];
    for (pod, all, by_pod) in &sets {
        open(&mut bench, pod, *by_pod, all);
    }
    let before = bench.engine.snapshot().workers[0].connections.clone();
    let syns = (0..SYNS).map(|n| {
        let [_, a, b, c] = n.to_be_bytes();
        let port = u16::try_from(1024 + n % 60_000).unwrap();
        FrameBuilder::new(HOST, flooder.mac)
            .ipv4(POD, Ipv4Addr::new(11, a, b, c))
            .tcp(TcpFields {
                src_port: port,
                dst_port: 443,
                flags: flag::SYN,
                window: 1000,
                ..TcpFields::default()
            })
    });
    bench.pod_sends(&flooder, syns);
    bench.later(20);
    let after = bench.engine.snapshot().workers[0].connections.clone();
    assert!(
        after.evicted > before.evicted,
        "its own went first: {after:?}"
    );
    let mut lost = 0;
    for (pod, all, by_pod) in &sets {
        let (pods, peers) = match by_pod {
            true => ([101, 501], [501, 101]),
            false => ([501, 101], [101, 501]),
        };
        let out = all.iter().map(|one| one.tcp(true, ACK | PSH, pods));
        lost += bench
            .pod_sends(pod, out)
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>();
        let back = all.iter().map(|one| one.tcp(false, ACK, peers));
        lost += bench
            .wire_sends(back)
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>();
    }
    assert_eq!(lost, 0, "of {} established connections", 4 * 50);
    bench.end();
}
