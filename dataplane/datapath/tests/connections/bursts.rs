// SPDX-License-Identifier: Apache-2.0
//! Bursts: frames of many connections, of none and of others' policies beside each other.

use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::flag::{ACK, PSH, RST, SYN};

use crate::bench::{Bench, Conversation, HOST, PEER, POD, POLICY, conversations, open};

#[test]
fn a_burst_of_both_directions_passes_and_is_counted_frame_by_frame() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let served: Vec<_> = (0..30)
        .map(|n| Conversation {
            mac: pod.mac,
            pod_port: 443,
            peer_port: 50_000 + n,
        })
        .collect();
    open(&mut bench, &pod, false, &served);
    let (before, inserted) = (bench.hits("https"), flow_inserts(&bench));
    assert_eq!(before, 90);
    let data = |from_pod, numbers| {
        served
            .iter()
            .map(move |one| one.tcp(from_pod, ACK | PSH, numbers))
    };
    assert_eq!(bench.wire_sends(data(false, [101, 501])), []);
    assert_eq!(bench.pod_sends(&pod, data(true, [501, 101])), []);
    assert_eq!(bench.hits("https"), 150);
    assert_eq!(
        flow_inserts(&bench),
        inserted,
        "the flow cache is not asked"
    );
    assert_eq!(Bench::out(&pod.port), 90);
    bench.end();
}

fn flow_inserts(bench: &Bench) -> u64 {
    let workers = bench.engine.snapshot().workers;
    workers
        .iter()
        .map(|worker| worker.flow_inserts + worker.flow_hits)
        .sum()
}

#[test]
fn among_the_frames_of_connections_those_of_none_are_dropped() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let all = conversations(&pod, 20, 80);
    open(&mut bench, &pod, true, &all[..10]);
    let burst = all.iter().map(|one| one.tcp(false, ACK, [501, 101]));
    assert_eq!(bench.wire_sends(burst), [("invalid_state", 10)]);
    let syns = all.iter().map(|one| one.tcp(false, SYN, [900, 0])).skip(10);
    assert_eq!(bench.wire_sends(syns), [("denied", 10)]);
    bench.end();
}

#[test]
fn a_burst_may_open_a_connection_and_use_it() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let all = conversations(&pod, 1, 80);
    let one = all[0];
    // A SYN, and an RST by the same end: the second is of the connection that the first has opened.
    let burst = [one.tcp(true, SYN, [100, 0]), one.tcp(true, RST, [101, 0])];
    assert_eq!(bench.pod_sends(&pod, burst), []);
    // Datagrams of one new flow.
    let datagrams = (0..5).map(|_| one.out().udp(5060, 5060));
    assert_eq!(bench.pod_sends(&pod, datagrams), []);
    assert_eq!(bench.wire_sends([one.back().udp(5060, 5060)]), []);
    let invalid = &bench.engine.snapshot().workers[0].connections.invalid;
    assert_eq!(invalid, &[], "nothing was counted that passed");
    bench.end();
}

#[test]
fn what_a_pod_says_of_itself_is_checked_in_frames_of_its_connections_too() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.attach(|spec| spec.addresses = vec![POD.into()]);
    let all = conversations(&pod, 1, 80);
    open(&mut bench, &pod, true, &all);
    let segment = || all[0].tcp(true, ACK, [101, 501]);
    let spoofed = FrameBuilder::new(HOST, Mac([2, 0, 0, 0, 0xee, 1]))
        .ipv4(POD, PEER)
        .udp(5060, 5060);
    let from_another = FrameBuilder::new(HOST, pod.mac)
        .ipv4([10, 0, 0, 9].into(), PEER)
        .udp(5060, 5060);
    // An answer of a DHCP server behind a frame that is the pod's right.
    let dhcp = all[0].out().udp(67, 68);
    let burst = [segment(), spoofed, from_another, dhcp, segment()];
    let dropped = bench.pod_sends(&pod, burst);
    assert_eq!(
        dropped,
        [
            ("not_dhcp_server", 1),
            ("spoofed_ip", 1),
            ("spoofed_mac", 1)
        ]
    );
    // From the wire: a frame with the pod's own address as source is a loop.
    let looped = FrameBuilder::new(pod.mac, pod.mac)
        .ipv4(PEER, POD)
        .udp(5060, 5060);
    assert_eq!(bench.wire_sends([looped]), [("local_source", 1)]);
    bench.end();
}

#[test]
fn a_frame_to_another_host_goes_there_whatever_its_connection_did_before() {
    let mut bench = Bench::new(&[POLICY]);
    let (pod, other) = (bench.pod(), bench.pod());
    let all = conversations(&pod, 1, 80);
    open(&mut bench, &pod, true, &all);
    Bench::out(&bench.wire);
    // The same connection, to the MAC address of another pod: there it is of no connection.
    let to_other =
        FrameBuilder::new(other.mac, pod.mac)
            .ipv4(POD, PEER)
            .tcp(sluice_packet::tcp::TcpFields {
                src_port: 40_000,
                dst_port: 80,
                seq: 101,
                ack: 501,
                flags: ACK,
                window: 1000,
            });
    let to_host = || all[0].tcp(true, ACK, [101, 501]);
    let burst = [to_host(), to_other, to_host()];
    assert_eq!(bench.pod_sends(&pod, burst), [("invalid_state", 1)]);
    assert_eq!(Bench::out(&bench.wire), 2);
    assert_eq!(Bench::out(&other.port), 0);
    bench.end();
}

#[test]
fn two_pods_of_a_worker_are_judged_at_both_ends_and_have_an_entry_each() {
    let mut bench = Bench::new(&[&POLICY.replace("ingress: drop", "ingress: accept")]);
    let (client, server) = (bench.pod(), bench.pod());
    let there = |n: u16| {
        FrameBuilder::new(server.mac, client.mac)
            .ipv4(POD, PEER)
            .udp(4000 + n, 53)
    };
    let back = |n: u16| {
        FrameBuilder::new(client.mac, server.mac)
            .ipv4(PEER, POD)
            .udp(53, 4000 + n)
    };
    for _ in 0..3 {
        assert_eq!(bench.pod_sends(&client, (0..20).map(there)), []);
        assert_eq!(bench.pod_sends(&server, (0..20).map(back)), []);
    }
    let opened = bench.engine.snapshot().workers[0].connections.opened;
    bench.later(20);
    let figures = &bench.engine.snapshot().workers[0].connections;
    assert_eq!((figures.opened.max(opened), figures.now), (40, 40));
    assert_eq!(
        (Bench::out(&server.port), Bench::out(&client.port)),
        (60, 60)
    );
    bench.end();
}

#[test]
fn policies_of_both_kinds_stand_beside_each_other() {
    let open_to_all = "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n";
    let own = "
name: own
stateful: true
default: {ingress: drop, egress: accept}
";
    let mut bench = Bench::new(&[open_to_all, own]);
    let tracked = bench.attach(|spec| spec.policy = Some("own".to_owned()));
    let free = bench.pod();
    let burst = |pod: &crate::bench::Pod| {
        let out = conversations(pod, 20, 53);
        let out: Vec<_> = out
            .into_iter()
            .map(|one| one.out().udp(one.pod_port, one.peer_port))
            .collect();
        out
    };
    for _ in 0..3 {
        assert_eq!(bench.pod_sends(&tracked, burst(&tracked)), []);
        assert_eq!(bench.pod_sends(&free, burst(&free)), []);
    }
    // One burst of the wire for both: only the tracked pod refuses what is no answer.
    let to = |mac, port| FrameBuilder::new(mac, HOST).ipv4(PEER, POD).udp(53, port);
    let mixed = (0..10u16).flat_map(|n| {
        [
            to(tracked.mac, 40_000 + n),
            to(free.mac, 40_000 + n),
            to(tracked.mac, 30_000 + n),
            to(free.mac, 30_000 + n),
        ]
    });
    assert_eq!(bench.wire_sends(mixed), [("denied", 10)]);
    assert_eq!(
        (Bench::out(&tracked.port), Bench::out(&free.port)),
        (10, 20)
    );
    let workers = bench.engine.snapshot().workers;
    assert!(workers[0].flow_hits >= 20, "the other uses the flow cache");
    bench.end();
}

#[test]
fn a_change_of_policies_in_the_middle_asks_each_connection_once() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let served: Vec<_> = (0..20)
        .map(|n| Conversation {
            mac: pod.mac,
            pod_port: 443,
            peer_port: 50_000 + n,
        })
        .collect();
    let own = conversations(&pod, 20, 80);
    open(&mut bench, &pod, false, &served);
    open(&mut bench, &pod, true, &own);
    bench.policies(&[&POLICY.replace("443", "444")]);
    let twice = |all: &[Conversation]| {
        let one = |one: &Conversation| one.tcp(true, ACK, [501, 101]);
        all.iter().chain(all).map(one).collect::<Vec<_>>()
    };
    assert_eq!(bench.pod_sends(&pod, twice(&served)), [("denied", 40)]);
    let kept = own.iter().map(|one| one.tcp(false, ACK, [501, 101]));
    assert_eq!(bench.wire_sends(kept), []);
    let kept = own.iter().map(|one| one.tcp(true, ACK, [101, 501]));
    assert_eq!(bench.pod_sends(&pod, kept), []);
    bench.end();
}

#[test]
fn who_gets_a_place_after_another_has_none_of_its_connections() {
    let mut bench = Bench::new(&[POLICY]);
    for _ in 0..3 {
        let pod = bench.pod();
        let all = conversations(&pod, 40, 80);
        let dropped = bench.wire_sends(all.iter().map(|one| one.tcp(false, ACK, [501, 101])));
        assert_eq!(dropped, [("invalid_state", 40)]);
        open(&mut bench, &pod, true, &all);
        bench.engine.detach(pod.id).unwrap();
    }
    // Some of one at a time.
    (0..5).for_each(|_| bench.later(20));
    assert_eq!(bench.engine.snapshot().workers[0].connections.now, 0);
    bench.end();
}
