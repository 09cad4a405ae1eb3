// SPDX-License-Identifier: Apache-2.0
//! Meaning of tags, case by case, in both directions.
#![allow(
    clippy::unwrap_used,
    clippy::cloned_ref_to_slice_refs,
    reason = "a test says what it expects, plainly"
)]

mod lab;

use lab::{Lab, tagged, vid};
use sluice_datapath::VlanSet;
use sluice_packet::build::FrameBuilder;
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

fn tag(tpid: u16, number: u16) -> VlanTag {
    VlanTag { tpid, tci: number }
}

fn plain(to: Mac, from: Mac) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1000, 2000)
        .payload(b"sixteen bytes...")
        .build()
}

fn with(frame: &[u8], tags: &[VlanTag]) -> Vec<u8> {
    tags.iter()
        .rev()
        .fold(frame.to_vec(), |frame, tag| tagged(&frame, Some(*tag)))
}

#[test]
fn from_the_wire_to_an_access_pod() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let frame = plain(pod.mac, HOST);

    assert_eq!(lab.wire_sends(with(&frame, &[tag(Q, 210)])), None);
    assert_eq!(lab.out(&pod.port), [frame.clone()], "the pod sees no tag");
    assert_eq!(
        lab.wire_sends(with(&frame, &[tag(Q, 0xa000 | 210)])),
        None,
        "with a priority"
    );
    assert_eq!(lab.out(&pod.port), [frame.clone()]);

    assert_eq!(
        lab.wire_sends(frame.clone()),
        Some("no_segment"),
        "untagged, and no native VLAN"
    );
    assert_eq!(
        lab.wire_sends(with(&frame, &[tag(Q, 0)])),
        Some("no_segment"),
        "VID 0 is untagged"
    );
    assert_eq!(
        lab.wire_sends(with(&frame, &[tag(Q, 4095)])),
        Some("bad_vid")
    );
    assert_eq!(
        lab.wire_sends(with(&frame, &[tag(Q, 211)])),
        Some("no_segment")
    );
    let double = with(&frame, &[tag(Q, 210), tag(Q, 5)]);
    assert_eq!(lab.wire_sends(double), Some("inner_tag"));
    let triple = with(&frame, &[tag(Q, 210), tag(Q, 5), tag(Q, 6)]);
    assert_eq!(lab.wire_sends(triple), Some("third_tag"));
    let ad = with(&frame, &[tag(AD, 210)]);
    assert_eq!(
        lab.wire_sends(ad),
        Some("no_segment"),
        "not a TPID of this uplink: untagged"
    );
    assert!(lab.out(&pod.port).is_empty());
    lab.end();
}

#[test]
fn a_tag_that_the_device_took_off_counts_like_one_in_the_bytes() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let frame = plain(pod.mac, HOST);
    lab.wire
        .lock()
        .unwrap()
        .input
        .push_back((frame.clone(), Some(tag(Q, 210))));
    lab.settle(&lab.wire.clone());
    assert_eq!(lab.out(&pod.port), [frame.clone()]);

    lab.wire
        .lock()
        .unwrap()
        .input
        .push_back((frame.clone(), Some(tag(AD, 210))));
    lab.settle(&lab.wire.clone());
    assert_eq!(
        lab.all_drops().get("no_segment"),
        Some(&1),
        "not a TPID of this uplink: untagged"
    );

    let inner = with(&frame, &[tag(Q, 5)]);
    lab.wire
        .lock()
        .unwrap()
        .input
        .push_back((inner, Some(tag(Q, 210))));
    lab.settle(&lab.wire.clone());
    assert_eq!(lab.all_drops().get("inner_tag"), Some(&1));
    lab.end();
}

#[test]
fn from_an_access_pod_to_the_wire() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let frame = plain(HOST, pod.mac);

    assert_eq!(lab.pod_sends(&pod, frame.clone()), None);
    assert_eq!(lab.out(&lab.wire), [with(&frame, &[tag(Q, 210)])]);
    assert_eq!(
        lab.pod_sends(&pod, with(&frame, &[tag(Q, 0x6000)])),
        None,
        "priority alone"
    );
    assert_eq!(
        lab.out(&lab.wire),
        [with(&frame, &[tag(Q, 210)])],
        "it is the network's to grant"
    );

    for number in [210, 211, 1] {
        let frame = with(&frame, &[tag(Q, number)]);
        assert_eq!(
            lab.pod_sends(&pod, frame),
            Some("tag_on_access"),
            "VID {number}"
        );
    }
    assert_eq!(
        lab.pod_sends(&pod, with(&frame, &[tag(AD, 210)])),
        Some("tag_on_access")
    );
    assert_eq!(
        lab.pod_sends(&pod, with(&frame, &[tag(Q, 4095)])),
        Some("bad_vid")
    );
    let under_priority = with(&frame, &[tag(Q, 0), tag(Q, 210)]);
    assert_eq!(lab.pod_sends(&pod, under_priority), Some("inner_tag"));
    assert!(lab.out(&lab.wire).is_empty());
    lab.end();
}

#[test]
fn a_trunk_pod() {
    let mut lab = Lab::new(1);
    lab.allow("1, 210, 220");
    let vlans = VlanSet::Trunk {
        vids: vec![vid(210), vid(220)],
        native: Some(vid(1)),
    };
    let mut spec = lab.spec(vlans);
    spec.keeps_priority = true;
    let pod = lab.attach(spec);
    let inward = plain(pod.mac, HOST);
    let outward = plain(HOST, pod.mac);

    for number in [210, 0xe000 | 220] {
        assert_eq!(lab.wire_sends(with(&inward, &[tag(Q, number)])), None);
        assert_eq!(
            lab.out(&pod.port),
            [with(&inward, &[tag(Q, number)])],
            "{number}"
        );
        assert_eq!(lab.pod_sends(&pod, with(&outward, &[tag(Q, number)])), None);
        assert_eq!(
            lab.out(&lab.wire),
            [with(&outward, &[tag(Q, number)])],
            "{number}"
        );
    }
    assert_eq!(lab.wire_sends(with(&inward, &[tag(Q, 1)])), None);
    assert_eq!(
        lab.out(&pod.port),
        [inward.clone()],
        "the native VLAN is untagged for the pod"
    );
    for native in [outward.clone(), with(&outward, &[tag(Q, 0)])] {
        assert_eq!(lab.pod_sends(&pod, native), None);
        assert_eq!(lab.out(&lab.wire), [with(&outward, &[tag(Q, 1)])]);
    }
    for number in [1, 211] {
        let frame = with(&outward, &[tag(Q, number)]);
        assert_eq!(
            lab.pod_sends(&pod, frame),
            Some("vlan_not_allowed"),
            "VID {number}"
        );
    }
    let double = with(&outward, &[tag(Q, 210), tag(Q, 220)]);
    assert_eq!(lab.pod_sends(&pod, double), Some("inner_tag"));
    lab.end();
}

#[test]
fn a_trunk_pod_without_a_native_vlan() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let spec = lab.spec(VlanSet::Trunk {
        vids: vec![vid(210)],
        native: None,
    });
    let pod = lab.attach(spec);
    assert_eq!(
        lab.pod_sends(&pod, plain(HOST, pod.mac)),
        Some("untagged_on_trunk")
    );
    lab.end();
}

#[test]
fn an_uplink_with_a_native_vlan() {
    let mut lab = Lab::with(1, vec![Q], Some(7));
    lab.allow("7");
    let pod = lab.access(7);
    let (inward, outward) = (plain(pod.mac, HOST), plain(HOST, pod.mac));
    for frame in [
        inward.clone(),
        with(&inward, &[tag(Q, 0)]),
        with(&inward, &[tag(Q, 7)]),
    ] {
        assert_eq!(lab.wire_sends(frame), None);
        assert_eq!(lab.out(&pod.port), [inward.clone()]);
    }
    assert_eq!(lab.pod_sends(&pod, outward.clone()), None);
    assert_eq!(lab.out(&lab.wire), [outward], "untagged on the wire");
    lab.end();
}

#[test]
fn an_untagged_segment() {
    let mut lab = Lab::new(1);
    lab.allow("untagged");
    let pod = lab.access(0);
    let (inward, outward) = (plain(pod.mac, HOST), plain(HOST, pod.mac));
    assert_eq!(lab.wire_sends(inward.clone()), None);
    assert_eq!(lab.out(&pod.port), [inward]);
    assert_eq!(lab.pod_sends(&pod, outward.clone()), None);
    assert_eq!(lab.out(&lab.wire), [outward]);
    lab.end();
}

#[test]
fn qinq_pods_may_have_one_inner_tag_and_rules_see_behind_it() {
    let mut lab = Lab::with(1, vec![AD, Q], None);
    lab.policies(&["
name: inner
vlans: [210]
default: {ingress: drop, egress: drop}
rules:
  - {direction: both, protocol: udp, ports: [2000], verdict: accept}
"]);
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.qinq = true;
    let pod = lab.attach(spec);
    let (inward, outward) = (plain(pod.mac, HOST), plain(HOST, pod.mac));

    assert_eq!(
        lab.wire_sends(with(&inward, &[tag(AD, 210), tag(Q, 5)])),
        None
    );
    assert_eq!(
        lab.out(&pod.port),
        [with(&inward, &[tag(Q, 5)])],
        "the inner tag is the pod's"
    );
    assert_eq!(lab.pod_sends(&pod, with(&outward, &[tag(Q, 5)])), None);
    assert_eq!(
        lab.out(&lab.wire),
        [with(&outward, &[tag(AD, 210), tag(Q, 5)])]
    );
    assert_eq!(
        lab.pod_sends(&pod, outward.clone()),
        None,
        "it need not have one"
    );
    assert_eq!(lab.out(&lab.wire), [with(&outward, &[tag(AD, 210)])]);
    let double = with(&outward, &[tag(Q, 5), tag(Q, 6)]);
    assert_eq!(lab.pod_sends(&pod, double), Some("third_tag"));
    let denied = FrameBuilder::new(HOST, pod.mac)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1000, 2001)
        .build();
    assert_eq!(
        lab.pod_sends(&pod, with(&denied, &[tag(Q, 5)])),
        Some("denied")
    );
    lab.end();
}

#[test]
fn a_qinq_trunk_pod() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let mut spec = lab.spec(VlanSet::Trunk {
        vids: vec![vid(210)],
        native: None,
    });
    spec.qinq = true;
    let pod = lab.attach(spec);
    let frame = with(&plain(HOST, pod.mac), &[tag(Q, 210), tag(Q, 5)]);
    assert_eq!(lab.pod_sends(&pod, frame.clone()), None);
    assert_eq!(lab.out(&lab.wire), [frame]);
    let triple = with(&plain(HOST, pod.mac), &[tag(Q, 210), tag(Q, 5), tag(Q, 6)]);
    assert_eq!(lab.pod_sends(&pod, triple), Some("third_tag"));
    lab.end();
}

#[test]
fn an_inner_tag_never_becomes_the_outer_one() {
    // On a wire whose untagged frames are VLAN 7's.
    let mut lab = Lab::with(1, vec![Q], Some(7));
    lab.allow("7, 210");
    let mut spec = lab.spec(VlanSet::Access(vid(7)));
    spec.qinq = true;
    let pod = lab.attach(spec);
    let frame = with(&plain(HOST, pod.mac), &[tag(Q, 300)]);
    assert_eq!(lab.pod_sends(&pod, frame), Some("inner_tag"));
    assert!(lab.out(&lab.wire).is_empty());

    // Towards a trunk pod whose untagged frames are VLAN 7's.
    let mut spec = lab.spec(VlanSet::Trunk {
        vids: vec![vid(210)],
        native: Some(vid(7)),
    });
    spec.qinq = true;
    let trunk = lab.attach(spec);
    let frame = with(&plain(trunk.mac, HOST), &[tag(Q, 7), tag(Q, 210)]);
    assert_eq!(lab.wire_sends(frame), Some("inner_tag"));
    let frame = with(&plain(trunk.mac, HOST), &[tag(Q, 210), tag(Q, 5)]);
    assert_eq!(lab.wire_sends(frame.clone()), None);
    assert_eq!(lab.out(&trunk.port), [frame]);
    lab.end();
}

#[test]
fn untagged_frames_of_a_wire_are_one_vlans() {
    let mut lab = Lab::with(1, vec![Q], Some(7));
    let spec = lab.spec(VlanSet::Access(vid(0)));
    let refused = lab.engine.attach(spec).unwrap_err().to_string();
    assert!(refused.contains("VLAN 7"), "{refused}");
    lab.end();
}

#[test]
fn an_inner_tag_comes_on_top_of_the_mtu_and_nothing_else_does() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.qinq = true;
    let pod = lab.attach(spec);
    let full = FrameBuilder::new(HOST, pod.mac).payload(&[0; 1500]).build();
    assert_eq!(lab.pod_sends(&pod, with(&full, &[tag(Q, 5)])), None);
    let over = FrameBuilder::new(HOST, pod.mac).payload(&[0; 1501]).build();
    assert_eq!(lab.pod_sends(&pod, over), Some("too_long"));
    lab.end();
}

#[test]
fn under_a_port_vlan_every_tag_is_a_second_one() {
    let mut lab = Lab::in_port_vlan(210);
    lab.policies(&[
        "name: ours\nvlans: [210]\nuplink: net0\ndefault: {ingress: accept, egress: accept}\n",
    ]);
    let pod = lab.access(210);
    let frame = plain(pod.mac, HOST);
    // The NIC took the tag off.
    assert_eq!(lab.wire_sends(frame.clone()), None);
    assert_eq!(
        lab.out(&pod.port),
        [frame.clone()],
        "the network's policy allows it"
    );
    assert_eq!(
        lab.wire_sends(with(&frame, &[tag(Q, 0)])),
        None,
        "priority alone is no VLAN"
    );
    assert_eq!(lab.out(&pod.port), [frame.clone()]);
    for number in [210, 211] {
        let sent = lab.wire_sends(with(&frame, &[tag(Q, number)]));
        assert_eq!(sent, Some("inner_tag"), "VLAN {number} inside VLAN 210");
    }
    assert_eq!(lab.out(&pod.port), Vec::<Vec<u8>>::new());

    for vlans in [
        VlanSet::Access(vid(211)),
        VlanSet::Trunk {
            vids: vec![vid(210)],
            native: None,
        },
    ] {
        let spec = lab.spec(vlans);
        let refused = lab.engine.attach(spec).unwrap_err().to_string();
        assert!(refused.contains("port VLAN 210"), "{refused}");
    }
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.qinq = true;
    let refused = lab.engine.attach(spec).unwrap_err().to_string();
    assert!(refused.contains("without qinq"), "{refused}");
}
