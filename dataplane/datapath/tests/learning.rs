// SPDX-License-Identifier: Apache-2.0
//! Learning: MAC addresses besides their own that pods send from, and who gets what is for them.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;
mod shares_lab;

use lab::{Lab, Pod, tagged, vid};
use shares_lab::{Bench, GATEWAY};
use sluice_datapath::{AttachmentSpec, Limits, Rate, VlanSet};
use sluice_packet::build::{ArpFields, FrameBuilder};
use sluice_packet::pose::{AddressPair, AntiSpoof};
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const ALL: Mac = Mac([0xff; 6]);
/// A VRRP router's virtual MAC address.
const VIRTUAL: Mac = Mac([0, 0, 0x5e, 0, 1, 0x33]);

/// A host behind a bridge.
fn behind(number: u8) -> Mac {
    Mac([2, 9, 9, 9, 9, number])
}

fn udp(to: Mac, from: Mac) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1000, 2000)
        .payload(b"sixteen bytes...")
        .build()
}

/// A gratuitous ARP request for the virtual router's address.
fn announcement(from: Mac) -> Vec<u8> {
    let fields = ArpFields {
        operation: 1,
        sender_mac: from,
        sender_ip: [10, 0, 0, 100].into(),
        target_mac: Mac([0; 6]),
        target_ip: [10, 0, 0, 100].into(),
    };
    FrameBuilder::new(ALL, from).arp(fields).build()
}

fn in_vlan(number: u16, frame: &[u8]) -> Vec<u8> {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: number,
    };
    tagged(frame, Some(tag))
}

/// An untagged pod, changed by `change`.
fn pod(lab: &mut Lab, worker: usize, change: impl FnOnce(&mut AttachmentSpec)) -> Pod {
    let mut spec = lab.spec(VlanSet::Access(vid(0)));
    spec.worker = Some(worker);
    change(&mut spec);
    lab.attach(spec)
}

fn bridge(lab: &mut Lab, worker: usize) -> Pod {
    pod(lab, worker, |spec| spec.pose.anti_spoof = AntiSpoof::Off)
}

/// A strict pod that may be the virtual router.
fn router(lab: &mut Lab, worker: usize) -> Pod {
    pod(lab, worker, |spec| {
        spec.pose.pairs = vec![AddressPair {
            mac: Some(VIRTUAL),
            ip: None,
        }];
    })
}

fn learned(lab: &Lab, pod: &Pod) -> Vec<Mac> {
    let listed = lab.engine.learned(pod.id).unwrap();
    let all = lab.engine.snapshot().attachments;
    let counted = all.iter().find(|one| one.id == pod.id).unwrap().learned;
    assert_eq!(listed.len(), counted);
    listed.into_iter().map(|(_, mac)| mac).collect()
}

fn moves(lab: &Lab, pod: &Pod) -> u64 {
    let all = lab.engine.snapshot().attachments;
    all.iter().find(|one| one.id == pod.id).unwrap().moves
}

/// Sends frames to a MAC address, three of one flow, so that the flow cache has it, and returns how many
/// of them each of `ports` gets.
fn arrivals(
    lab: &Lab,
    from: &lab::Shared,
    source: Mac,
    to: Mac,
    ports: [&lab::Shared; 3],
) -> [usize; 3] {
    ports.iter().for_each(|port| drop(lab.out(port)));
    for _ in 0..3 {
        lab.send(from, [udp(to, source)]);
    }
    let to_it = |frame: &Vec<u8>| frame[..6] == to.0;
    ports.map(|port| lab.out(port).iter().filter(|f| to_it(f)).count())
}

#[test]
fn a_bridge_gets_what_is_for_the_hosts_behind_it() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        lab.allow("untagged");
        let one = bridge(&mut lab, 0);
        let other = pod(&mut lab, workers - 1, |_| {});
        let (wire, ports) = (
            lab.wire.clone(),
            [&one.port, &other.port, &lab.wire.clone()],
        );
        let from_pod = |to| arrivals(&lab, &other.port, other.mac, to, ports);
        let from_wire = |to| arrivals(&lab, &wire, HOST, to, ports);
        assert_eq!(from_pod(behind(1)), [0, 0, 3], "nobody has sent from it");
        assert_eq!(lab.wire_sends(udp(behind(1), HOST)), Some("not_ours"));
        assert_eq!(lab.pod_sends(&one, udp(other.mac, behind(1))), None);
        assert_eq!(lab.out(&other.port).last().unwrap()[6..12], behind(1).0);
        assert_eq!(learned(&lab, &one), [behind(1)]);
        // What was cached before is no longer so.
        assert_eq!(from_pod(behind(1)), [3, 0, 0]);
        assert_eq!(from_wire(behind(1)), [3, 0, 0]);
        assert_eq!(from_pod(one.mac), [3, 0, 0]);
        assert_eq!(
            lab.pod_sends(&one, udp(one.mac, behind(1))),
            Some("hairpin")
        );
        assert_eq!(
            lab.pod_sends(&one, udp(behind(1), behind(2))),
            Some("hairpin")
        );
        assert_eq!(lab.pod_sends(&one, udp(HOST, behind(2))), None);
        assert_eq!(learned(&lab, &one), [behind(1), behind(2)]);
        assert_eq!(moves(&lab, &one), 0);
        lab.end();
    }
}

#[test]
fn a_virtual_router_fails_over_with_its_first_frame() {
    for (workers, [a, b, c]) in [
        (1, [0, 0, 0]),
        (2, [0, 1, 0]),
        (2, [0, 1, 1]),
        (2, [0, 0, 1]),
    ] {
        let mut lab = Lab::new(workers);
        lab.allow("untagged");
        let (first, second) = (router(&mut lab, a), router(&mut lab, b));
        let client = pod(&mut lab, c, |_| {});
        let wire = lab.wire.clone();
        let ports = [&first.port, &second.port, &wire];
        let arrive = || {
            let from_pod = arrivals(&lab, &client.port, client.mac, VIRTUAL, ports);
            let from_wire = arrivals(&lab, &wire, HOST, VIRTUAL, ports);
            (from_pod, from_wire)
        };
        assert_eq!(lab.pod_sends(&first, announcement(VIRTUAL)), None);
        assert_eq!(arrive(), ([3, 0, 0], [3, 0, 0]));
        assert_eq!(lab.pod_sends(&second, announcement(VIRTUAL)), None);
        assert_eq!(arrive(), ([0, 3, 0], [0, 3, 0]), "{workers} {a} {b} {c}");
        assert_eq!(
            (learned(&lab, &first), learned(&lab, &second)),
            (vec![], vec![VIRTUAL])
        );
        // A master on another node.
        assert_eq!(lab.wire_sends(announcement(VIRTUAL)), None);
        assert_eq!(arrive().0, [0, 0, 3]);
        assert_eq!(lab.wire_sends(udp(VIRTUAL, HOST)), Some("not_ours"));
        assert_eq!(learned(&lab, &second), []);
        // Back, and by a frame of a flow that the cache had when the address moved.
        let cached = udp(client.mac, VIRTUAL);
        assert_eq!(lab.pod_sends(&first, cached.clone()), None);
        assert_eq!(lab.pod_sends(&first, cached.clone()), None);
        assert_eq!(arrive(), ([3, 0, 0], [3, 0, 0]));
        assert_eq!(lab.wire_sends(announcement(VIRTUAL)), None);
        assert_eq!(lab.pod_sends(&first, cached), None);
        assert_eq!(arrive(), ([3, 0, 0], [3, 0, 0]));
        assert_eq!((moves(&lab, &first), moves(&lab, &second)), (4, 2));
        lab.end();
    }
}

#[test]
fn an_address_that_is_in_two_places_stays_in_one() {
    let mut lab = Lab::new(2);
    lab.allow("untagged");
    let pods = [bridge(&mut lab, 0), bridge(&mut lab, 1)];
    let wire = lab.wire.clone();
    let sends = |turn: usize| lab.pod_sends(&pods[turn % 2], udp(HOST, behind(1)));
    // The first is no move, and five are no fault.
    for turn in 0..6 {
        assert_eq!(sends(turn), None, "{turn}");
    }
    for turn in 6..10 {
        let expected = if turn % 2 == 1 {
            None
        } else {
            Some("mac_flapping")
        };
        assert_eq!(sends(turn), expected, "{turn}: it stays at the second");
    }
    assert_eq!(learned(&lab, &pods[1]), [behind(1)]);
    // The wire gets it all the same, and keeps it.
    assert_eq!(lab.wire_sends(udp(pods[0].mac, behind(1))), None);
    let ports = [&pods[0].port, &pods[1].port, &wire];
    for turn in 0..2 {
        assert_eq!(sends(turn), Some("mac_flapping"));
    }
    let stays = arrivals(&lab, &pods[0].port, pods[0].mac, behind(1), ports);
    assert_eq!(stays, [0, 0, 3]);
    lab.end();
}

#[test]
fn a_pod_has_so_many_addresses_at_most() {
    let limits = Limits {
        macs: 3,
        ..Limits::default()
    };
    let mut lab = Lab::with_limits(1, limits);
    lab.allow("untagged, 210");
    let trunk = lab.spec(VlanSet::Trunk {
        vids: vec![vid(210)],
        native: Some(vid(0)),
    });
    let one = {
        let mut spec = trunk;
        spec.pose.anti_spoof = AntiSpoof::Off;
        lab.attach(spec)
    };
    let other = bridge(&mut lab, 0);
    let sends = |n: u8| lab.pod_sends(&one, udp(HOST, behind(n)));
    assert_eq!([1, 2].map(sends), [None; 2]);
    let tagged = in_vlan(210, &udp(HOST, behind(1)));
    assert_eq!(lab.pod_sends(&one, tagged), None, "over all its VLANs");
    assert_eq!([3, 4].map(sends), [Some("mac_limited"); 2]);
    assert_eq!([1, 2].map(sends), [None; 2], "those that it has");
    assert_eq!(lab.pod_sends(&one, udp(HOST, one.mac)), None);
    assert_eq!(
        lab.pod_sends(&other, udp(HOST, behind(3))),
        None,
        "the other's are its own"
    );
    // One less, one more.
    assert_eq!(lab.pod_sends(&other, udp(HOST, behind(1))), None);
    assert_eq!(sends(4), None);
    let listed = lab.engine.learned(one.id).unwrap();
    assert_eq!(
        listed,
        [
            (vid(0), behind(2)),
            (vid(0), behind(4)),
            (vid(210), behind(1))
        ]
    );
    lab.end();
}

#[test]
fn an_attachments_own_address_is_learned_by_nobody() {
    let mut lab = Lab::new(1);
    lab.allow("untagged");
    let one = bridge(&mut lab, 0);
    let client = pod(&mut lab, 0, |_| {});
    assert_eq!(
        lab.pod_sends(&one, udp(HOST, client.mac)),
        Some("spoofed_mac")
    );
    assert_eq!(lab.pod_sends(&one, udp(client.mac, behind(1))), None);
    // It comes later, and has it all the same.
    let late = pod(&mut lab, 0, |spec| spec.mac = behind(1));
    assert_eq!(
        lab.pod_sends(&one, udp(client.mac, behind(1))),
        Some("spoofed_mac")
    );
    let wire = lab.wire.clone();
    let ports = [&one.port, &late.port, &wire];
    let found = arrivals(&lab, &client.port, client.mac, behind(1), ports);
    assert_eq!(found, [0, 3, 0]);
    assert_eq!(
        lab.wire_sends(udp(client.mac, behind(1))),
        Some("local_source")
    );
    lab.end();
}

#[test]
fn the_next_pod_of_a_slot_inherits_nothing() {
    let mut lab = Lab::new(2);
    lab.allow("untagged");
    let client = pod(&mut lab, 1, |_| {});
    let one = bridge(&mut lab, 0);
    for number in 1..20 {
        assert_eq!(lab.pod_sends(&one, udp(client.mac, behind(number))), None);
    }
    let slot = one.id.slot();
    lab.engine.detach(one.id).unwrap();
    let next = bridge(&mut lab, 0);
    assert_eq!(next.id.slot(), slot);
    assert_eq!(learned(&lab, &next), []);
    assert!(lab.engine.learned(one.id).is_err());
    let wire = lab.wire.clone();
    let ports = [&next.port, &client.port, &wire];
    let found = arrivals(&lab, &client.port, client.mac, behind(7), ports);
    assert_eq!(found, [0, 0, 3]);
    assert_eq!(lab.wire_sends(udp(behind(7), HOST)), Some("not_ours"));
    lab.end();
}

#[test]
fn what_was_learned_outlives_changes_of_the_tables() {
    let mut lab = Lab::with_limits(
        2,
        Limits {
            macs: 8,
            ..Limits::default()
        },
    );
    lab.allow("untagged");
    let one = bridge(&mut lab, 0);
    for number in 1..9 {
        assert_eq!(lab.pod_sends(&one, udp(HOST, behind(number))), None);
    }
    // Tables that grow keep what is in them.
    let more: Vec<_> = (0..20).map(|n| bridge(&mut lab, n % 2)).collect();
    lab.allow("untagged, 210");
    assert_eq!(learned(&lab, &one).len(), 8);
    let wire = lab.wire.clone();
    let ports = [&one.port, &more[0].port, &wire];
    let found = arrivals(&lab, &more[19].port, more[19].mac, behind(3), ports);
    assert_eq!(found, [3, 0, 0]);
    lab.end();
}

#[test]
fn promiscuous_pods_get_what_is_for_nobody() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        let open = "name: open\nvlans: [untagged]\ndefault: {ingress: accept, egress: accept}\n";
        lab.policies(&[
            open,
            "name: shut\ndefault: {ingress: drop, egress: accept}\n",
        ]);
        let last = workers - 1;
        let listens = |spec: &mut AttachmentSpec| spec.pose.promiscuous = true;
        let first = pod(&mut lab, last, listens);
        let client = pod(&mut lab, 0, |_| {});
        let one = bridge(&mut lab, 0);
        let wire = lab.wire.clone();
        let ports = [&first.port, &client.port, &wire];
        let from_pod = |to| arrivals(&lab, &client.port, client.mac, to, ports);
        let from_wire = |to| arrivals(&lab, &wire, HOST, to, ports);
        assert_eq!(from_pod(HOST), [3, 0, 3], "besides the wire");
        assert_eq!(from_wire(behind(1)), [3, 0, 0], "alone");
        assert_eq!(from_wire(client.mac), [0, 3, 0], "somebody has it");
        assert_eq!(lab.pod_sends(&one, udp(HOST, behind(1))), None);
        assert_eq!(from_pod(behind(1)), [0, 0, 0], "it is learned");
        let own = arrivals(&lab, &first.port, first.mac, HOST, ports);
        assert_eq!(own, [0, 0, 3], "never back to the sender");
        let shut = pod(&mut lab, 0, |spec| {
            spec.pose.promiscuous = true;
            spec.policy = Some("shut".to_owned());
        });
        let ports = [&first.port, &shut.port, &wire];
        let found = arrivals(&lab, &wire, HOST, behind(2), ports);
        assert_eq!(found, [3, 0, 0], "each judges for itself");
        let drops = lab.engine.snapshot().attachments;
        let shut = drops.iter().find(|one| one.id == shut.id).unwrap();
        assert_eq!(shut.ingress_drops.get("denied"), Some(&3));
        lab.end();
    }
}

#[test]
fn the_wire_has_so_many_copies_for_promiscuous_pods() {
    let limits = Limits {
        wire_groups: Rate::new(1, 4),
        ..Limits::default()
    };
    let mut lab = Lab::with_limits(1, limits);
    lab.allow("untagged");
    let pods = [0; 3].map(|_| pod(&mut lab, 0, |spec| spec.pose.promiscuous = true));
    let sent = [0; 4].map(|_| lab.wire_sends(udp(behind(1), HOST)));
    // Three copies each: the second is on credit.
    assert_eq!(
        sent,
        [None, None, Some("unknown_limited"), Some("unknown_limited")]
    );
    assert_eq!(lab.out(&pods[2].port).len(), 2);
    lab.end();
}

#[test]
fn addresses_that_nobody_sends_from_are_forgotten() {
    let mut bench = Bench::new(1, None, &shares_lab::allow());
    let (bridge, client) = (bench.bridge(0), bench.pod(0, 1500));
    let arrives = |bench: &mut Bench, number| {
        client.send(udp(behind(number), client.mac));
        bench.round();
        bridge.take().len()
    };
    // A round of housekeeping looks at some entries only.
    let pass = |bench: &mut Bench, from: u64, to: u64| {
        for second in from..to {
            bench.step_clock(second);
            bench.round();
        }
    };
    bench.step_clock(1000);
    for number in [1, 2] {
        bridge.send(udp(GATEWAY, behind(number)));
        bench.round();
    }
    assert_eq!(bench.learned(0), (2, 0));
    // A cached flow keeps the second one in use.
    pass(&mut bench, 1001, 1200);
    bridge.send(udp(GATEWAY, behind(2)));
    pass(&mut bench, 1200, 1299);
    assert_eq!([1, 2].map(|n| arrives(&mut bench, n)), [1, 1]);
    pass(&mut bench, 1299, 1310);
    assert_eq!(bench.learned(0).0, 1);
    assert_eq!([1, 2].map(|n| arrives(&mut bench, n)), [0, 1]);
    pass(&mut bench, 1310, 1520);
    assert_eq!(bench.learned(0), (0, 0));
    assert_eq!(arrives(&mut bench, 2), 0);
    bench.assert_conserved();
}

#[test]
fn an_address_that_was_held_is_let_go() {
    let mut bench = Bench::new(1, None, &shares_lab::allow());
    let bridges = [bench.bridge(0), bench.bridge(0)];
    bench.step_clock(1000);
    for turn in 0..10 {
        bridges[turn % 2].send(udp(GATEWAY, behind(1)));
        bench.round();
    }
    assert_eq!(bench.take_from_wire().len(), 8);
    assert_eq!(bench.drops().get("mac_flapping"), Some(&2));
    bench.step_clock(1061);
    bridges[0].send(udp(GATEWAY, behind(1)));
    bench.round();
    assert_eq!(bench.take_from_wire().len(), 1);
    assert_eq!(bench.learned(0), (1, 6));
}

/// Takes the frames that came to each leg of a bridging pod and sends them from its other leg.
fn forward(lab: &Lab, legs: [&Pod; 2]) -> usize {
    let [left, right] = legs.map(|leg| lab.out(&leg.port));
    let forwarded = left.len() + right.len();
    for (frames, to) in [(left, legs[1]), (right, legs[0])] {
        let mut queues = to.port.lock().unwrap();
        queues
            .input
            .extend(frames.into_iter().map(|frame| (frame, None)));
    }
    forwarded
}

#[test]
fn two_pods_that_bridge_two_vlans_do_not_melt_the_node() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        lab.allow("210, 220");
        let leg = |lab: &mut Lab, vlan| {
            let mut spec = lab.spec(VlanSet::Access(vid(vlan)));
            spec.pose.anti_spoof = AntiSpoof::Off;
            spec.pose.promiscuous = true;
            lab.attach(spec)
        };
        let legs: Vec<_> = [210, 220, 210, 220].map(|vlan| leg(&mut lab, vlan)).into();
        let neighbours = [lab.access(210), lab.access(210)];
        let wire = lab.wire.clone();
        let mut most = 0;
        for round in 0..60_u8 {
            // Frames to everybody and to nobody, from a pod and from the wire, in both VLANs.
            for to in [ALL, Mac([2, 5, 5, 5, 5, round])] {
                lab.send(&neighbours[0].port, [udp(to, neighbours[0].mac)]);
                for vlan in [210, 220] {
                    lab.send(&wire, [in_vlan(vlan, &udp(to, behind(round % 50)))]);
                }
            }
            for _ in 0..5 {
                let there = forward(&lab, [&legs[0], &legs[1]]);
                most = most.max(there + forward(&lab, [&legs[2], &legs[3]]));
                legs.iter().for_each(|leg| lab.settle(&leg.port));
            }
            lab.out(&wire);
            lab.out(&neighbours[1].port);
            lab.send(
                &neighbours[0].port,
                [udp(neighbours[1].mac, neighbours[0].mac)],
            );
            let arrived = lab.out(&neighbours[1].port);
            let to_it = arrived.iter().filter(|f| f[..6] == neighbours[1].mac.0);
            assert_eq!(to_it.count(), 1, "{workers} workers, round {round}");
        }
        let drops = lab.all_drops();
        assert!(drops.contains_key("mac_flapping"), "{drops:?}");
        assert!(drops.contains_key("spoofed_mac"), "{drops:?}");
        assert!(most < 1000, "{most} frames went round: {drops:?}");
        lab.end();
    }
}
