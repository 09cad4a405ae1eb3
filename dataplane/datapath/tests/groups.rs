// SPDX-License-Identifier: Apache-2.0
//! Multicast snooping: frames of a group go to its members, and to nobody else.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod lab;

use std::net::Ipv6Addr;

use lab::{Lab, Pod, tagged, vid};
use sluice_datapath::{FloodLimits, Limits, Rate, VlanSet};
use sluice_packet::build::FrameBuilder;
use sluice_packet::role::Role;
use sluice_packet::{IpProto, Mac, VlanTag, checksum};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const GROUP: [u8; 4] = [239, 1, 2, 3];
const GROUP_MAC: Mac = Mac([1, 0, 0x5e, 1, 2, 3]);
/// Largest frame count that a test puts into a port at once.
const ROUND: usize = 1_000;

fn in_vlan(frame: &[u8]) -> Vec<u8> {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 210,
    };
    tagged(frame, Some(tag))
}

fn udp(from: Mac, payload: &[u8]) -> Vec<u8> {
    FrameBuilder::new(GROUP_MAC, from)
        .ipv4([10, 0, 0, 1].into(), GROUP.into())
        .udp(1000, 2000)
        .payload(payload)
        .build()
}

fn igmp(from: Mac, to: [u8; 4], message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let sum = checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let [_, b, c, d] = to;
    FrameBuilder::new(Mac([1, 0, 0x5e, b & 0x7f, c, d]), from)
        .ipv4([10, 0, 0, 1].into(), to.into())
        .ip_options(&[148, 4, 0, 0])
        .ttl(1)
        .proto(IpProto::IGMP)
        .payload(&message)
        .build()
}

fn join(from: Mac) -> Vec<u8> {
    let [a, b, c, d] = GROUP;
    igmp(from, GROUP, &[0x16, 0, 0, 0, a, b, c, d])
}

fn leave(from: Mac) -> Vec<u8> {
    let [a, b, c, d] = GROUP;
    igmp(from, [224, 0, 0, 2], &[0x17, 0, 0, 0, a, b, c, d])
}

fn general_query(from: Mac) -> Vec<u8> {
    igmp(from, [224, 0, 0, 1], &[0x11, 100, 0, 0, 0, 0, 0, 0])
}

/// Flood limits so low that nothing of a test's size gets through by them.
fn tight() -> Limits {
    let few = FloodLimits {
        broadcast: Rate::new(1, 2),
        multicast: Rate::new(1, 2),
        arp_nd: Rate::new(1, 64),
    };
    Limits {
        attachment: few,
        wire: few,
        ..Limits::default()
    }
}

fn lab(workers: usize, pods: usize) -> (Lab, Vec<Pod>) {
    let mut lab = Lab::with_limits(workers, tight());
    lab.allow("210");
    let pods = (0..pods).map(|_| lab.access(210)).collect();
    (lab, pods)
}

/// Sends a pod's reports and waits until every worker knows of them.
fn report(lab: &Lab, pod: &Pod, frame: Vec<u8>) {
    lab.send(&pod.port, [frame]);
    lab.few_loops();
}

#[test]
fn a_hundred_thousand_frames_go_to_three_subscribers_of_ten_and_to_nobody_else() {
    for (workers, from_pod) in [(1, false), (2, false), (1, true), (2, true)] {
        let (lab, pods) = lab(workers, 11);
        let (sender, pods) = pods.split_first().unwrap();
        for pod in [&pods[1], &pods[4], &pods[8]] {
            report(&lab, pod, join(pod.mac));
        }
        let to_wire = lab.out(&lab.wire);
        assert_eq!(to_wire.len(), 3, "reports go to the wire");
        for pod in pods {
            assert!(lab.out(&pod.port).is_empty(), "and to no pod");
        }
        let from = if from_pod { sender.mac } else { HOST };
        let port = if from_pod { &sender.port } else { &lab.wire };
        for round in 0..100_u32 {
            let frames = (0..ROUND).map(|number| {
                let mut payload = round.to_be_bytes().to_vec();
                payload.extend(number.to_be_bytes());
                let frame = udp(from, &payload);
                if from_pod { frame } else { in_vlan(&frame) }
            });
            let frames: Vec<_> = frames.collect();
            // Half a burst at a time, so that no ring between workers is what loses frames.
            for some in frames.chunks(250) {
                lab.send(port, some.to_vec());
            }
            let untagged: Vec<_> = frames
                .iter()
                .map(|frame| {
                    if from_pod {
                        frame.clone()
                    } else {
                        without_tag(frame)
                    }
                })
                .collect();
            for (number, pod) in pods.iter().enumerate() {
                let got = lab.out(&pod.port);
                if [1, 4, 8].contains(&number) {
                    assert!(
                        got == untagged,
                        "{workers} workers, pod {number}: {}",
                        got.len()
                    );
                } else {
                    assert!(got.is_empty(), "{workers} workers, pod {number}");
                }
            }
            let to_wire = lab.out(&lab.wire).len();
            assert_eq!(to_wire, if from_pod { ROUND } else { 0 });
        }
        assert!(lab.out(&sender.port).is_empty());
        assert!(lab.all_drops().is_empty(), "{:?}", lab.all_drops());
        lab.end();
    }
}

fn without_tag(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &frame[16..]].concat()
}

#[test]
fn a_pod_that_leaves_gets_nothing_more_and_the_group_is_unknown_again() {
    for workers in [1, 2] {
        let (lab, pods) = lab(workers, 3);
        let frame = in_vlan(&udp(HOST, b"x"));
        let reached = |count| {
            lab.send(&lab.wire.clone(), vec![frame.clone(); count]);
            [0, 1, 2].map(|pod: usize| lab.out(&pods[pod].port).len())
        };
        report(&lab, &pods[1], join(pods[1].mac));
        report(&lab, &pods[2], join(pods[2].mac));
        assert_eq!(reached(100), [0, 100, 100], "{workers} workers");
        report(&lab, &pods[1], leave(pods[1].mac));
        assert_eq!(reached(100), [0, 0, 100]);
        lab.engine.detach(pods[2].id).unwrap();
        let [first, second, _] = reached(100);
        assert_eq!((first, second), (2, 2), "flooded within the limit");
        lab.end();
    }
}

#[test]
fn queries_reach_the_pods_and_reports_of_the_wire_do_not() {
    let (lab, pods) = lab(1, 2);
    let query = general_query(HOST);
    assert_eq!(lab.wire_sends(in_vlan(&query)), None);
    for pod in &pods {
        assert_eq!(lab.out(&pod.port), std::slice::from_ref(&query));
    }
    assert_eq!(
        lab.wire_sends(in_vlan(&join(HOST))),
        Some("no_receiver"),
        "a host that heard it would keep its own back"
    );
    let forged = general_query(pods[0].mac);
    assert_eq!(lab.pod_sends(&pods[0], forged), Some("not_querier"));
    for port in [&pods[0].port, &pods[1].port, &lab.wire] {
        assert!(lab.out(port).is_empty());
    }
    lab.end();
}

#[test]
fn a_router_among_the_pods_hears_of_all_groups() {
    for workers in [1, 2] {
        let (mut lab, pods) = lab(workers, 3);
        let mut spec = lab.spec(VlanSet::Access(vid(210)));
        spec.roles = [Role::Router, Role::Querier].into_iter().collect();
        let router = lab.attach(spec);
        let query = general_query(router.mac);
        lab.send(&router.port, [query.clone()]);
        lab.few_loops();
        for pod in &pods {
            assert_eq!(lab.out(&pod.port), std::slice::from_ref(&query));
        }
        report(&lab, &pods[0], join(pods[0].mac));
        assert_eq!(
            lab.out(&router.port),
            [join(pods[0].mac)],
            "{workers} workers"
        );
        let from_wire = in_vlan(&join(HOST));
        lab.send(&lab.wire.clone(), [from_wire]);
        lab.few_loops();
        assert_eq!(lab.out(&router.port), [join(HOST)]);
        for is_member in [false, true] {
            if is_member {
                report(&lab, &router, join(router.mac));
            }
            lab.send(&lab.wire.clone(), vec![in_vlan(&udp(HOST, b"x")); 100]);
            lab.few_loops();
            assert_eq!(lab.out(&router.port).len(), 100, "once, {workers} workers");
            assert_eq!(lab.out(&pods[0].port).len(), 100);
        }
        assert!(lab.out(&pods[1].port).is_empty());
        lab.end();
    }
}

#[test]
fn groups_of_the_link_reach_everybody() {
    let (lab, pods) = lab(1, 3);
    let mdns = [224, 0, 0, 251];
    let [a, b, c, d] = mdns;
    report(
        &lab,
        &pods[0],
        igmp(pods[0].mac, mdns, &[0x16, 0, 0, 0, a, b, c, d]),
    );
    let frame = FrameBuilder::new(Mac([1, 0, 0x5e, 0, 0, 251]), HOST)
        .ipv4([10, 0, 0, 9].into(), mdns.into())
        .udp(5353, 5353)
        .build();
    assert_eq!(lab.wire_sends(in_vlan(&frame)), None);
    for pod in &pods {
        assert_eq!(lab.out(&pod.port), std::slice::from_ref(&frame));
    }
    assert!(lab.engine.groups().unwrap().is_empty());
    lab.end();
}

#[test]
fn a_members_policies_still_judge() {
    let (mut lab, pods) = lab(1, 2);
    report(&lab, &pods[0], join(pods[0].mac));
    assert_eq!(lab.wire_sends(in_vlan(&udp(HOST, b"x"))), None);
    assert_eq!(lab.out(&pods[0].port).len(), 1);
    lab.policies(&["name: closed\nvlans: [210]\ndefault: {ingress: drop, egress: accept}\n"]);
    assert_eq!(lab.wire_sends(in_vlan(&udp(HOST, b"x"))), Some("denied"));
    // A report that the pod's policies do not let out is not learned either.
    lab.policies(&["name: mute\nvlans: [210]\ndefault: {ingress: accept, egress: drop}\n"]);
    report(&lab, &pods[1], join(pods[1].mac));
    let known = lab.engine.groups().unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].attachment, pods[0].id);
    assert_eq!(known[0].group, std::net::Ipv4Addr::from(GROUP));
    lab.end();
}

#[test]
fn a_report_with_somebody_elses_address_is_spoofed() {
    let (mut lab, pods) = lab(1, 1);
    assert_eq!(
        lab.pod_sends(&pods[0], join(Mac([2, 0, 0, 0, 0, 99]))),
        Some("spoofed_mac")
    );
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.addresses = vec!["10.0.0.77".parse().unwrap()];
    let strict = lab.attach(spec);
    assert_eq!(
        lab.pod_sends(&strict, join(strict.mac)),
        Some("spoofed_ip"),
        "from 10.0.0.1"
    );
    assert!(lab.engine.groups().unwrap().is_empty());
    lab.end();
}

#[test]
fn groups_over_the_limit_are_refused_and_counted() {
    let limits = Limits {
        groups: 3,
        ..Limits::default()
    };
    let mut lab = Lab::with_limits(1, limits);
    lab.allow("210");
    let pod = lab.access(210);
    let mut message = vec![0x22, 0, 0, 0, 0, 0, 0, 10];
    for number in 0..10 {
        message.extend([4, 0, 0, 0, 239, 0, 3, number]);
    }
    report(&lab, &pod, igmp(pod.mac, [224, 0, 0, 22], &message));
    assert_eq!(lab.engine.groups().unwrap().len(), 3);
    assert_eq!(lab.engine.snapshot().attachments[0].refused_groups, 7);
    lab.end();
}

#[test]
fn a_group_given_with_the_attachment_needs_no_report() {
    for workers in [1, 2] {
        let (mut lab, pods) = lab(workers, 2);
        let mut spec = lab.spec(VlanSet::Access(vid(210)));
        spec.groups = vec![std::net::Ipv4Addr::from(GROUP).into()];
        let member = lab.attach(spec);
        lab.send(&pods[0].port, vec![udp(pods[0].mac, b"x"); 100]);
        lab.few_loops();
        assert_eq!(lab.out(&member.port).len(), 100);
        assert!(lab.out(&pods[1].port).is_empty());
        lab.end();
    }
}

#[test]
fn the_wires_copies_to_known_groups_are_bounded_in_each_vlan() {
    for workers in [1, 2] {
        let limits = Limits {
            wire_groups: Rate::new(1, 30),
            ..tight()
        };
        let mut lab = Lab::with_limits(workers, limits);
        lab.allow("210, 220");
        let pods: Vec<_> = (0..5).map(|_| lab.access(210)).collect();
        let other = lab.access(220);
        for pod in pods[..3].iter().chain([&other]) {
            report(&lab, pod, join(pod.mac));
        }
        lab.out(&lab.wire);
        let wire = lab.wire.clone();
        lab.send(&wire, vec![in_vlan(&udp(HOST, b"x")); 100]);
        lab.few_loops();
        let got: Vec<_> = pods.iter().map(|pod| lab.out(&pod.port).len()).collect();
        assert_eq!(got, [10, 10, 10, 0, 0], "three copies each, at any worker");
        assert_eq!(lab.all_drops(), [("group_limited", 90)].into());
        let elsewhere = VlanTag {
            tpid: 0x8100,
            tci: 220,
        };
        lab.send(&wire, vec![tagged(&udp(HOST, b"x"), Some(elsewhere)); 20]);
        lab.few_loops();
        assert_eq!(lab.out(&other.port).len(), 20, "another VLAN has its own");
        lab.send(&pods[4].port, vec![udp(pods[4].mac, b"x"); 20]);
        lab.few_loops();
        assert_eq!(lab.out(&pods[0].port).len(), 20, "and pods pay by waiting");
        assert_eq!(lab.all_drops(), [("group_limited", 90)].into());
        lab.end();
    }
}

#[test]
fn five_thousand_frames_of_a_pod_reach_the_member_that_mld_told_of() {
    let group: Ipv6Addr = "ff05::1:3".parse().unwrap();
    let group_mac = Mac([0x33, 0x33, 0, 1, 0, 3]);
    for workers in [1, 2] {
        let (lab, pods) = lab(workers, 4);
        let (sender, member) = (&pods[0], &pods[1]);
        let mut record = vec![4, 0, 0, 0];
        record.extend(group.octets());
        let mld = FrameBuilder::new(Mac([0x33, 0x33, 0, 0, 0, 0x16]), member.mac)
            .ipv6("fe80::2".parse().unwrap(), "ff02::16".parse().unwrap())
            .ttl(1)
            .extension(IpProto::HOP_BY_HOP, &[0, 0, 5, 2, 0, 0, 1, 0])
            .icmp(143, 0, [0, 0, 0, 1])
            .payload(&record)
            .build();
        report(&lab, member, mld);
        assert_eq!(lab.engine.groups().unwrap().len(), 1);
        let frames: Vec<_> = (0..5_000_u32)
            .map(|number| {
                FrameBuilder::new(group_mac, sender.mac)
                    .ipv6("2001:db8::1".parse().unwrap(), group)
                    .udp(1000, 2000)
                    .payload(&number.to_be_bytes())
                    .build()
            })
            .collect();
        lab.send(&sender.port, frames.clone());
        lab.few_loops();
        assert!(lab.out(&member.port) == frames, "{workers} workers");
        for pod in [sender, &pods[2], &pods[3]] {
            assert!(lab.out(&pod.port).is_empty(), "{workers} workers");
        }
        assert!(lab.all_drops().is_empty(), "{:?}", lab.all_drops());
        lab.end();
    }
}
