// SPDX-License-Identifier: Apache-2.0
//! The two flows: who gets a frame, who judges it, and what becomes of the rest.
#![allow(
    clippy::unwrap_used,
    clippy::cloned_ref_to_slice_refs,
    reason = "a test says what it expects, plainly"
)]

mod lab;

use std::sync::mpsc::channel;

use lab::{Lab, tagged, vid};
use sluice_datapath::{Error, Event, VlanSet};
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{FlowKey, InnerTag, IpProto, Mac, VlanTag, parse};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const ALL: Mac = Mac([0xff; 6]);

fn udp(to: Mac, from: Mac, port: u16) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1000, port)
        .payload(b"sixteen bytes...")
        .build()
}

fn in_vlan(number: u16, frame: &[u8]) -> Vec<u8> {
    tagged(
        frame,
        Some(VlanTag {
            tpid: 0x8100,
            tci: number,
        }),
    )
}

#[test]
fn without_a_policy_nothing_passes() {
    let mut lab = Lab::new(1);
    let pod = lab.access(210);
    let frame = udp(pod.mac, HOST, 1);
    assert_eq!(lab.wire_sends(in_vlan(210, &frame)), Some("no_policy"));
    assert_eq!(
        lab.pod_sends(&pod, udp(HOST, pod.mac, 1)),
        Some("no_policy")
    );
    lab.allow("220");
    assert_eq!(
        lab.wire_sends(in_vlan(210, &frame)),
        Some("no_policy"),
        "that of another VLAN"
    );
    lab.allow("210");
    assert_eq!(lab.wire_sends(in_vlan(210, &frame)), None);
    lab.end();
}

#[test]
fn the_rule_that_decided_is_counted_and_keeps_its_count_when_policies_change() {
    let mut lab = Lab::new(1);
    let policy = |extra: &str| {
        format!(
            "
name: voice
vlans: [210]
default: {{ingress: drop, egress: accept}}
rules:
  - {{name: sip, direction: ingress, protocol: udp, ports: [5060], verdict: accept}}
{extra}"
        )
    };
    lab.policies(&[&policy("")]);
    let pod = lab.access(210);
    for _ in 0..3 {
        assert_eq!(
            lab.wire_sends(in_vlan(210, &udp(pod.mac, HOST, 5060))),
            None
        );
    }
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(pod.mac, HOST, 5061))),
        Some("denied")
    );
    assert_eq!(
        (lab.hits("voice", "sip"), lab.hits("voice", "default")),
        (3, 1)
    );
    lab.policies(&[&policy(
        "  - {name: more, direction: ingress, protocol: udp, ports: [5061], verdict: accept}\n",
    )]);
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(pod.mac, HOST, 5061))),
        None
    );
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(pod.mac, HOST, 5060))),
        None
    );
    assert_eq!(
        (lab.hits("voice", "sip"), lab.hits("voice", "more")),
        (4, 1)
    );
    lab.end();
}

#[test]
fn an_attachments_own_policy_must_accept_too() {
    let mut lab = Lab::new(1);
    let vlan = "name: vlan\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n";
    let own = "
name: own
default: {ingress: accept, egress: accept}
rules:
  - {name: telnet, direction: ingress, protocol: udp, ports: [23], verdict: drop}
";
    lab.policies(&[vlan, own]);
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.policy = Some("own".to_owned());
    let guarded = lab.attach(spec);
    let open = lab.access(210);
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(guarded.mac, HOST, 23))),
        Some("denied")
    );
    assert_eq!(lab.wire_sends(in_vlan(210, &udp(open.mac, HOST, 23))), None);
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(guarded.mac, HOST, 24))),
        None
    );
    assert_eq!(lab.hits("own", "telnet"), 1);

    lab.policies(&[vlan]);
    let gone = lab.wire_sends(in_vlan(210, &udp(guarded.mac, HOST, 24)));
    assert_eq!(
        gone,
        Some("no_policy"),
        "a policy that is gone does not open the door"
    );

    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.policy = Some("none-such".to_owned());
    let refused = lab.engine.attach(spec);
    assert!(matches!(refused, Err(Error::UnknownPolicy { name, .. }) if name == "none-such"));
    lab.end();
}

#[test]
fn between_two_pods_egress_of_one_and_ingress_of_the_other_judge() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        lab.policies(&["
name: both
vlans: [210]
default: {ingress: drop, egress: drop}
rules:
  - {name: out, direction: egress, protocol: udp, ports: [1-10], verdict: accept}
  - {name: in, direction: ingress, protocol: udp, ports: [10-20], verdict: accept}
"]);
        let (a, b) = (lab.access(210), lab.access(210));
        assert_eq!(lab.pod_sends(&a, udp(b.mac, a.mac, 10)), None);
        assert_eq!(lab.out(&b.port), [udp(b.mac, a.mac, 10)]);
        assert_eq!(
            lab.pod_sends(&a, udp(b.mac, a.mac, 11)),
            Some("denied"),
            "egress of a"
        );
        assert_eq!(
            lab.pod_sends(&a, udp(b.mac, a.mac, 9)),
            Some("denied"),
            "ingress of b"
        );
        assert_eq!((lab.hits("both", "out"), lab.hits("both", "in")), (2, 1));
        assert!(
            lab.out(&lab.wire).is_empty(),
            "nothing of it reaches the wire"
        );
        assert_eq!(lab.pod_sends(&a, udp(a.mac, a.mac, 10)), Some("hairpin"));
        lab.end();
    }
}

#[test]
fn segments_are_apart() {
    let mut lab = Lab::new(1);
    lab.allow("210, 220");
    let (a, b) = (lab.access(210), lab.access(220));
    assert_eq!(lab.pod_sends(&a, udp(b.mac, a.mac, 1)), None);
    assert!(lab.out(&b.port).is_empty());
    assert_eq!(lab.out(&lab.wire), [in_vlan(210, &udp(b.mac, a.mac, 1))]);
    assert_eq!(
        lab.wire_sends(in_vlan(220, &udp(a.mac, HOST, 1))),
        Some("not_ours")
    );
    lab.end();
}

#[test]
fn broadcast_goes_to_everybody_else_in_the_segment_and_each_judges_for_itself() {
    for workers in [1, 3] {
        let mut lab = Lab::new(workers);
        lab.policies(&[
            "name: vlan\nvlans: [210, 220]\ndefault: {ingress: accept, egress: accept}\n",
            "name: deaf\ndefault: {ingress: drop, egress: accept}\n",
        ]);
        let pods = [lab.access(210), lab.access(210), lab.access(210)];
        let stranger = lab.access(220);
        let mut spec = lab.spec(VlanSet::Access(vid(210)));
        spec.policy = Some("deaf".to_owned());
        let deaf = lab.attach(spec);
        let frame = udp(ALL, pods[0].mac, 1);
        assert_eq!(
            lab.pod_sends(&pods[0], frame.clone()),
            Some("denied"),
            "by the deaf one"
        );
        for pod in &pods[1..] {
            assert_eq!(
                lab.out(&pod.port),
                [frame.clone()],
                "{workers} workers, {}",
                pod.name
            );
        }
        for pod in [&pods[0], &stranger, &deaf] {
            assert!(
                lab.out(&pod.port).is_empty(),
                "{workers} workers, {}",
                pod.name
            );
        }
        assert_eq!(lab.out(&lab.wire), [in_vlan(210, &frame)]);

        let frame = udp(Mac([1, 0, 0x5e, 0, 0, 9]), HOST, 1);
        assert_eq!(lab.wire_sends(in_vlan(210, &frame)), Some("denied"));
        for pod in &pods {
            assert_eq!(lab.out(&pod.port), [frame.clone()]);
        }
        assert!(lab.out(&lab.wire).is_empty(), "never back to the wire");
        lab.end();
    }
}

#[test]
fn a_flood_is_limited_and_counted_against_its_sender() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pods = [lab.access(210), lab.access(210)];
    lab.send(&pods[0].port, vec![udp(ALL, pods[0].mac, 1); 20_000]);
    let drops = lab.all_drops();
    let limited = drops.get("broadcast_limited").copied().unwrap_or(0);
    let arrived = lab.out(&pods[1].port).len() as u64;
    assert!(limited > 0, "{drops:?}");
    assert_eq!(limited + arrived, 20_000);
    let sender = lab
        .engine
        .snapshot()
        .attachments
        .into_iter()
        .find(|a| a.id == pods[0].id);
    assert_eq!(
        sender.unwrap().egress_drops.get("broadcast_limited"),
        Some(&limited)
    );
    lab.end();
}

#[test]
fn a_pod_cannot_be_somebody_else() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.addresses = vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
    let pod = lab.attach(spec);
    let from = |address: &str| {
        let builder = FrameBuilder::new(HOST, pod.mac);
        match address.parse().unwrap() {
            std::net::IpAddr::V4(v4) => builder.ipv4(v4, [10, 0, 0, 9].into()),
            std::net::IpAddr::V6(v6) => builder.ipv6(v6, "fd00::9".parse().unwrap()),
        }
        .udp(1, 2)
        .build()
    };
    for address in ["10.0.0.5", "fd00::5", "fe80::ff:fe00:1"] {
        assert_eq!(lab.pod_sends(&pod, from(address)), None, "{address}");
    }
    for address in ["10.0.0.6", "fd00::6", "fe80:1::1", "0.0.0.0"] {
        assert_eq!(
            lab.pod_sends(&pod, from(address)),
            Some("spoofed_ip"),
            "{address}"
        );
    }
    let mut frame = from("10.0.0.5");
    frame[11] ^= 1;
    assert_eq!(lab.pod_sends(&pod, frame), Some("spoofed_mac"));

    let arp = |mac: Mac, ip: [u8; 4]| {
        let fields = sluice_packet::arp::ArpFields {
            operation: 1,
            sender_mac: mac,
            sender_ip: ip.into(),
            target_mac: Mac([0; 6]),
            target_ip: [10, 0, 0, 9].into(),
        };
        FrameBuilder::new(ALL, pod.mac).arp(fields).build()
    };
    assert_eq!(lab.pod_sends(&pod, arp(pod.mac, [10, 0, 0, 5])), None);
    assert_eq!(
        lab.pod_sends(&pod, arp(pod.mac, [10, 0, 0, 9])),
        Some("spoofed_arp")
    );
    assert_eq!(
        lab.pod_sends(&pod, arp(HOST, [10, 0, 0, 5])),
        Some("spoofed_arp")
    );
    lab.end();
}

#[test]
fn a_reject_is_answered_on_the_port_it_came_from() {
    let mut lab = Lab::new(1);
    lab.policies(&["
name: closed
vlans: [210]
default: {ingress: reject, egress: reject}
"]);
    let (pod, other) = (lab.access(210), lab.access(210));
    let syn = |to: Mac, from: Mac| {
        FrameBuilder::new(to, from)
            .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
            .tcp(TcpFields {
                src_port: 1000,
                dst_port: 80,
                seq: 77,
                ack: 0,
                flags: flag::SYN,
                window: 1000,
            })
            .build()
    };
    assert_eq!(lab.pod_sends(&pod, syn(HOST, pod.mac)), Some("rejected"));
    let answers = lab.out(&pod.port);
    let key = parse(&answers[0], InnerTag::Refuse).unwrap().key;
    assert_eq!((key.dst_mac(), key.src_mac()), (pod.mac, HOST));
    assert_eq!(
        (key.src_ip(), key.dst_port),
        (Some([10, 0, 0, 2].into()), 1000)
    );
    assert_eq!(key.proto, IpProto::TCP);

    let frame = in_vlan(210, &udp(pod.mac, HOST, 9));
    assert_eq!(lab.wire_sends(frame), Some("rejected"));
    let answers = lab.out(&lab.wire);
    assert_eq!(answers.len(), 1);
    let mut answer = answers[0].clone();
    assert_eq!(
        answer.drain(12..16).collect::<Vec<_>>(),
        [0x81, 0, 0, 210],
        "in its VLAN"
    );
    let key = parse(&answer, InnerTag::Refuse).unwrap().key;
    assert!(key.has(FlowKey::ICMP) && key.icmp_type == 3 && key.icmp_code == 13);
    assert_eq!((key.dst_mac(), key.src_mac()), (HOST, pod.mac));

    assert_eq!(
        lab.pod_sends(&pod, udp(ALL, pod.mac, 9)),
        Some("denied"),
        "a broadcast never"
    );
    assert_eq!(
        lab.pod_sends(&pod, udp(other.mac, pod.mac, 9)),
        Some("rejected")
    );
    assert!(lab.out(&other.port).is_empty());
    let drops = lab.all_drops();
    lab.out(&pod.port);
    lab.send(&pod.port, vec![udp(HOST, pod.mac, 9); 1000]);
    let after = lab.all_drops();
    let new = |reason| after.get(reason).unwrap_or(&0) - drops.get(reason).unwrap_or(&0);
    assert!(new("reject_limited") > 0, "{after:?}");
    assert_eq!(new("rejected") + new("reject_limited"), 1000);
    assert_eq!(lab.out(&pod.port).len() as u64, new("rejected"));
    lab.end();
}

#[test]
fn what_has_no_way_on_is_counted_where_it_ended() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let other = lab.access(210);
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(Mac([2, 0, 0, 0, 0xff, 2]), HOST, 1))),
        Some("not_ours")
    );
    assert_eq!(
        lab.wire_sends(vec![0; 13]),
        Some("truncated"),
        "read before its segment is looked for"
    );
    assert_eq!(
        lab.wire_sends(in_vlan(210, &[2; 15])[..18].to_vec()),
        Some("not_ours")
    );
    assert_eq!(lab.pod_sends(&pod, vec![0; 13]), Some("truncated"));
    let mut cut = udp(HOST, pod.mac, 1);
    cut.truncate(40);
    assert_eq!(lab.pod_sends(&pod, cut), Some("truncated"));
    let long = FrameBuilder::new(HOST, pod.mac).payload(&[0; 1501]).build();
    assert_eq!(lab.pod_sends(&pod, long.clone()), Some("too_long"));
    let long = FrameBuilder::new(pod.mac, HOST).payload(&[0; 1501]).build();
    assert_eq!(lab.wire_sends(in_vlan(210, &long)), Some("too_long"));

    pod.port.lock().unwrap().room = Some(0);
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(pod.mac, HOST, 1))),
        Some("ring_full")
    );
    lab.wire.lock().unwrap().room = Some(0);
    assert_eq!(
        lab.pod_sends(&pod, udp(HOST, pod.mac, 1)),
        Some("uplink_full")
    );
    assert!(lab.engine.disconnect(other.id).unwrap().is_some());
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(other.mac, HOST, 1))),
        Some("link_down")
    );
    lab.engine.detach(other.id).unwrap();
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(other.mac, HOST, 1))),
        Some("not_ours")
    );
    assert!(matches!(
        lab.engine.detach(other.id),
        Err(Error::NoAttachment)
    ));
    lab.end();
}

#[test]
fn a_pod_that_breaks_the_protocol_loses_its_port_and_nobody_elses() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let (bad, good) = (lab.access(210), lab.access(210));
    bad.port.lock().unwrap().fault = Some("it lied".to_owned());
    lab.few_loops();
    let events = lab.engine.take_events();
    assert!(
        matches!(&events[..], [Event::PortFault { attachment, fault }]
            if *attachment == bad.id && fault.reason == "it lied"),
        "{events:?}"
    );
    assert_eq!(
        lab.wire_sends(in_vlan(210, &udp(bad.mac, HOST, 1))),
        Some("link_down")
    );
    assert_eq!(lab.wire_sends(in_vlan(210, &udp(good.mac, HOST, 1))), None);
    lab.end();
}

#[test]
fn a_port_that_takes_its_time_to_end_holds_nobody_else() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let (faulty, leaving) = (lab.access(210), lab.access(210));
    let slow_end = |port: &lab::Shared| {
        let (ending, is_ending) = channel();
        let (leave, given) = channel();
        port.lock().unwrap().slow_end = Some((ending, given));
        (is_ending, leave)
    };
    // The port of a pod that broke the protocol ends beside whoever takes events.
    let (is_ending, leave) = slow_end(&faulty.port);
    faulty.port.lock().unwrap().fault = Some("it lied".to_owned());
    lab.few_loops();
    assert_eq!(lab.engine.take_events().len(), 1);
    is_ending.recv().unwrap();
    let third = lab.access(210);
    lab.engine.detach(third.id).unwrap();
    leave.send(()).unwrap();
    // One that is detached with its port is waited for by its own caller alone.
    let (is_ending, leave) = slow_end(&leaving.port);
    std::thread::scope(|scope| {
        let detached = scope.spawn(|| lab.engine.detach(leaving.id));
        is_ending.recv().unwrap();
        assert_eq!(lab.engine.snapshot().attachments.len(), 1);
        leave.send(()).unwrap();
        detached.join().unwrap().unwrap();
    });
    lab.end();
}

#[test]
fn rules_with_log_tell_what_they_decided() {
    let mut lab = Lab::new(1);
    lab.policies(&["
name: watched
vlans: [210]
default: {ingress: drop, egress: drop}
rules:
  - {name: look, direction: ingress, protocol: udp, ports: [7], verdict: accept, log: true}
"]);
    let pod = lab.access(210);
    assert_eq!(lab.wire_sends(in_vlan(210, &udp(pod.mac, HOST, 7))), None);
    let events = lab.engine.take_events();
    assert!(
        matches!(&events[..], [Event::Log(record)]
            if record.rule == "look" && record.policy == "watched" && record.key.dst_port == 7),
        "{events:?}"
    );
    lab.end();
}

#[test]
fn one_mac_address_is_one_attachments_in_a_segment() {
    let mut lab = Lab::new(1);
    lab.allow("210, 220");
    let pod = lab.access(210);
    let mut spec = lab.spec(VlanSet::Trunk {
        vids: vec![vid(220)],
        native: Some(vid(210)),
    });
    spec.mac = pod.mac;
    let refused = lab.engine.attach(spec.clone());
    assert!(matches!(refused, Err(Error::DuplicateMac { holder, .. }) if holder == pod.name));
    spec.vlans = VlanSet::Access(vid(220));
    lab.engine.attach(spec.clone()).unwrap();
    spec.mac = Mac([1, 0, 0, 0, 0, 1]);
    assert!(matches!(lab.engine.attach(spec), Err(Error::BadMac(_))));
    lab.end();
}

#[test]
fn policies_change_and_pods_come_and_go_while_frames_flow_and_no_mbuf_is_lost() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        lab.allow("210");
        let pods = [lab.access(210), lab.access(210)];
        let frames: Vec<_> = (0..20_000u16)
            .map(|n| udp(pods[1].mac, pods[0].mac, n))
            .collect();
        pods[0]
            .port
            .lock()
            .unwrap()
            .input
            .extend(frames.into_iter().map(|f| (f, None)));
        for round in 0..20 {
            if round % 2 == 0 {
                lab.policies(&[
                    "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: drop}\n",
                ]);
            } else {
                lab.allow("210");
            }
            let visitor = lab.access(210);
            lab.few_loops();
            lab.engine.detach(visitor.id).unwrap();
        }
        lab.settle(&pods[0].port);
        let arrived = lab.out(&pods[1].port);
        let sequence: Vec<_> = arrived
            .iter()
            .map(|frame| parse(frame, InnerTag::Refuse).unwrap().key.dst_port)
            .collect();
        assert!(sequence.is_sorted(), "frames of one pod stay in order");
        let drops = lab.all_drops();
        let dropped: u64 = drops.values().sum();
        assert_eq!(arrived.len() as u64 + dropped, 20_000, "{drops:?}");
        lab.end();
    }
}

#[test]
fn one_pods_floods_leave_the_others_theirs() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let (loud, quiet, listener) = (lab.access(210), lab.access(210), lab.access(210));
    lab.send(&loud.port, vec![udp(ALL, loud.mac, 1); 50_000]);
    lab.out(&listener.port);
    assert_eq!(lab.pod_sends(&quiet, udp(ALL, quiet.mac, 2)), None);
    assert_eq!(lab.out(&listener.port), [udp(ALL, quiet.mac, 2)]);
    lab.end();
}
