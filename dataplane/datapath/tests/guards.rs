// SPDX-License-Identifier: Apache-2.0
//! Guards that no policy decides: control of the link, sources that cannot be, roles, priority, and bytes
//! behind a packet.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use lab::{Lab, tagged, vid};
use sluice_datapath::{Event, VlanSet};
use sluice_packet::build::FrameBuilder;
use sluice_packet::role::Role;
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const ALL: Mac = Mac([0xff; 6]);

fn in_vlan(tci: u16, frame: &[u8]) -> Vec<u8> {
    tagged(frame, Some(VlanTag { tpid: 0x8100, tci }))
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn udp(to: Mac, from: Mac) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1000, 2000)
        .payload(b"sixteen bytes...")
        .build()
}

#[test]
fn control_of_the_link_ends_at_the_engine_in_both_directions() {
    let mut lab = Lab::new(1);
    lab.allow("untagged, 210");
    let (pod, other) = (lab.access(0), lab.access(0));
    // PAUSE, BPDU, LACP, 802.1X, LLDP, GVRP; CDP, VTP and DTP, PVST+.
    let groups = [
        "01:80:c2:00:00:00",
        "01:80:c2:00:00:01",
        "01:80:c2:00:00:02",
        "01:80:c2:00:00:03",
        "01:80:c2:00:00:0e",
        "01:80:c2:00:00:0f",
        "01:80:c2:00:00:21",
        "01:00:0c:cc:cc:cc",
        "01:00:0c:cc:cc:cd",
    ];
    for group in groups {
        let frame = |from| {
            FrameBuilder::new(mac(group), from)
                .ethertype(0x88b5)
                .payload(&[0; 46])
                .build()
        };
        assert_eq!(
            lab.pod_sends(&pod, frame(pod.mac)),
            Some("reserved_group"),
            "{group}"
        );
        assert_eq!(
            lab.wire_sends(frame(HOST)),
            Some("reserved_group"),
            "{group}"
        );
    }
    // A group that bridges do forward.
    let ptp = FrameBuilder::new(mac("01:1b:19:00:00:00"), pod.mac)
        .ethertype(0x88f7)
        .payload(&[0; 46]);
    assert_eq!(lab.pod_sends(&pod, ptp.build()), None);
    for ethertype in [0x8808, 0x8809, 0x888e, 0x88cc, 0x88f5, 0x88f6] {
        for to in [HOST, other.mac, ALL] {
            let frame = FrameBuilder::new(to, pod.mac)
                .ethertype(ethertype)
                .payload(&[0; 46])
                .build();
            assert_eq!(
                lab.pod_sends(&pod, frame),
                Some("link_control"),
                "{ethertype:#x} to {to}"
            );
        }
        let frame = FrameBuilder::new(pod.mac, HOST)
            .ethertype(ethertype)
            .payload(&[0; 46])
            .build();
        assert_eq!(
            lab.wire_sends(frame),
            Some("link_control"),
            "{ethertype:#x}"
        );
    }
    let bpdu = FrameBuilder::new(HOST, pod.mac)
        .ethertype(38)
        .payload(&[0x42, 0x42, 3, 0, 0, 0, 0, 0]);
    assert_eq!(lab.pod_sends(&pod, bpdu.build()), Some("link_control"));
    assert!(
        lab.out(&other.port).len() == 1 && lab.out(&lab.wire).len() == 1,
        "PTP alone"
    );
    lab.end();
}

#[test]
fn a_frame_from_the_wire_is_not_from_a_local_attachment() {
    for workers in [1, 3] {
        let mut lab = Lab::new(workers);
        lab.allow("210, 220");
        let (a, b) = (lab.access(210), lab.access(210));
        let sources = [
            (Mac([0; 6]), "bad_source"),
            (ALL, "bad_source"),
            (mac("01:00:5e:00:00:01"), "bad_source"),
            (a.mac, "local_source"),
            (b.mac, "local_source"),
        ];
        for (source, reason) in sources {
            for to in [a.mac, b.mac, ALL, HOST] {
                let frame = in_vlan(210, &udp(to, source));
                assert_eq!(lab.wire_sends(frame), Some(reason), "{source} to {to}");
            }
        }
        assert!(lab.out(&a.port).is_empty() && lab.out(&b.port).is_empty());
        // In another VLAN it is somebody else.
        let c = lab.access(220);
        assert_eq!(lab.wire_sends(in_vlan(220, &udp(c.mac, a.mac))), None);
        // Told once for each, and counted at the uplink for ever.
        let told: Vec<_> = lab
            .engine
            .take_events()
            .into_iter()
            .map(|event| match event {
                Event::LocalSource { attachment, vid } => (attachment, vid.get()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(a.id, 210), (b.id, 210)]);
        let uplinks = lab.engine.snapshot().uplinks;
        assert_eq!(uplinks[0].drops.get("local_source"), Some(&8));
        assert_eq!(uplinks[0].drops.get("bad_source"), Some(&12));
        lab.end();
    }
}

#[test]
fn a_flow_of_the_cache_ends_when_its_source_becomes_local() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    let frame = in_vlan(210, &udp(pod.mac, spec.mac));
    for _ in 0..3 {
        assert_eq!(lab.wire_sends(frame.clone()), None);
    }
    spec.name = "late/net1".to_owned();
    lab.attach(spec);
    assert_eq!(lab.wire_sends(frame), Some("local_source"));
    lab.end();
}

/// Frames that only one with a role may send, with the reason that they are dropped for without it.
fn of_roles(pod: Mac) -> Vec<(Role, &'static str, Vec<u8>)> {
    let address = |text: &str| text.parse().unwrap();
    let v6 = |group: &str| {
        FrameBuilder::new(ALL, pod)
            .ipv6(address("fe80::ff:fe00:1"), address(group))
            .ttl(255)
    };
    let v4 = FrameBuilder::new(ALL, pod).ipv4([10, 0, 0, 5].into(), [224, 0, 0, 1].into());
    let igmp = |kind: u8| {
        let body = [kind, 0, 0, 0, 0, 0, 0, 0];
        let message = v4.clone().ttl(1).ip_options(&[148, 4, 0, 0]).proto(2);
        message.payload(&body).build()
    };
    let redirect: &[u8] = &[0; 32];
    vec![
        (
            Role::Router,
            "not_router",
            v6("ff02::1").icmp(134, 0, [0; 4]).payload(&[0; 8]).build(),
        ),
        (
            Role::Router,
            "not_router",
            v6("fd00::9").icmp(137, 0, [0; 4]).payload(redirect).build(),
        ),
        (
            Role::Router,
            "not_router",
            v6("ff02::6a").icmp(151, 0, [0; 4]).build(),
        ),
        (
            Role::Router,
            "not_router",
            v4.clone()
                .icmp(5, 1, [10, 0, 0, 9])
                .payload(&[0x45; 28])
                .build(),
        ),
        (
            Role::Router,
            "not_router",
            v4.clone().icmp(9, 0, [1, 2, 0, 9]).build(),
        ),
        (
            Role::Router,
            "not_router",
            v4.clone().proto(103).payload(&[0x20, 0, 0, 0]).build(),
        ),
        (Role::Router, "not_router", igmp(0x30)),
        (
            Role::DhcpServer,
            "not_dhcp_server",
            v4.clone().udp(67, 68).payload(&[2; 240]).build(),
        ),
        (
            Role::DhcpServer,
            "not_dhcp_server",
            v4.clone().udp(6767, 68).payload(&[2; 240]).build(),
        ),
        (
            Role::DhcpServer,
            "not_dhcp_server",
            v4.clone().udp(68, 67).payload(&[2; 240]).build(),
        ),
        (
            Role::DhcpServer,
            "not_dhcp_server",
            v6("fe80::9").udp(547, 546).payload(&[7; 8]).build(),
        ),
        (
            Role::DhcpServer,
            "not_dhcp_server",
            v6("ff02::1:2").udp(547, 547).payload(&[13; 34]).build(),
        ),
        (Role::Querier, "not_querier", igmp(0x11)),
        (
            Role::Querier,
            "not_querier",
            v6("ff02::1")
                .ttl(1)
                .icmp(130, 0, [0; 4])
                .payload(&[0; 16])
                .build(),
        ),
    ]
}

#[test]
fn roles_are_asked_for_by_name_with_addresses_or_without() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    for addresses in [vec![], vec!["10.0.0.5".parse().unwrap()]] {
        for given in Role::ALL.map(Some).into_iter().chain([None]) {
            let mut spec = lab.spec(VlanSet::Access(vid(210)));
            spec.mac = Mac([2, 0, 0, 0, 0, 1]);
            spec.addresses.clone_from(&addresses);
            spec.roles = given.into_iter().collect();
            let pod = lab.attach(spec);
            for (role, reason, frame) in of_roles(pod.mac) {
                let expected = (given != Some(role)).then_some(reason);
                let shown = format!("{role} as {given:?} with {addresses:?}");
                assert_eq!(lab.pod_sends(&pod, frame), expected, "{shown}");
            }
            lab.engine.detach(pod.id).unwrap();
        }
    }
    lab.end();
}

#[test]
fn a_dhcp_reply_does_not_hide_behind_the_request_before_it() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let dhcp = |op: u8| {
        let body = [op; 240];
        let ip = FrameBuilder::new(HOST, pod.mac).ipv4([10, 0, 0, 5].into(), [10, 0, 0, 9].into());
        ip.udp(68, 67).payload(&body).build()
    };
    for _ in 0..3 {
        assert_eq!(lab.pod_sends(&pod, dhcp(1)), None);
    }
    assert_eq!(lab.pod_sends(&pod, dhcp(2)), Some("not_dhcp_server"));
    lab.end();
}

#[test]
fn a_dhcp_reply_does_not_hide_in_a_later_piece() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let refused = Some("not_dhcp_server");
    let address = |text: &str| text.parse().unwrap();
    let eth = FrameBuilder::new(ALL, pod.mac);
    let v4 = eth.clone().ipv4([10, 0, 0, 5].into(), [10, 0, 0, 9].into());
    let v6 = eth.ipv6(address("fe80::ff:fe00:1"), address("ff02::1:2"));
    for (ip, port, message_type) in [(v4, 67, 2), (v6, 547, 7)] {
        let piece = |id, message_type: u8, bytes: usize, offset| {
            let body = [message_type; 64];
            let udp = ip.clone().id(id).udp(68, port).payload(&body[..bytes]);
            udp.fragment(offset, offset == 0).build()
        };
        let header_alone = |id| piece(id, 0, 0, 0);
        assert_eq!(lab.pod_sends(&pod, header_alone(1)), refused);
        assert_eq!(lab.pod_sends(&pod, piece(1, message_type, 64, 8)), refused);
        // A client's first piece, and one more that is to open what lies behind the UDP header.
        assert_eq!(lab.pod_sends(&pod, piece(2, 1, 64, 0)), None);
        let over = piece(2, message_type, 64, 8);
        assert_eq!(lab.pod_sends(&pod, over.clone()), Some("fragment_overlap"));
        assert_eq!(lab.pod_sends(&pod, header_alone(2)), refused);
        assert_eq!(lab.pod_sends(&pod, over), Some("fragment_overlap"));
        // Nor one that has pushed out the first.
        for id in 100..170 {
            lab.pod_sends(&pod, piece(id, 1, 64, 0));
        }
        assert_eq!(lab.pod_sends(&pod, header_alone(2)), refused);
        assert_eq!(lab.pod_sends(&pod, piece(2, message_type, 64, 8)), refused);
        // Nor one that goes ahead of its first, for receivers that let the piece before win.
        let ahead = piece(3, message_type, 64, 8);
        assert_eq!(
            lab.pod_sends(&pod, ahead.clone()),
            Some("fragment_without_first")
        );
        assert_eq!(lab.pod_sends(&pod, piece(3, 1, 64, 0)), None);
        assert_eq!(lab.pod_sends(&pod, ahead), Some("fragment_overlap"));
    }
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.roles = [Role::DhcpServer].into_iter().collect();
    let server = lab.attach(spec);
    for offset in [0, 8] {
        let ip =
            FrameBuilder::new(HOST, server.mac).ipv4([10, 0, 0, 6].into(), [10, 0, 0, 9].into());
        let udp = ip.udp(67, 67).fragment(offset, offset == 0);
        assert_eq!(lab.pod_sends(&server, udp.build()), None);
    }
    lab.end();
}

#[test]
fn priority_is_the_networks_to_grant() {
    for keeps_priority in [false, true] {
        let mut lab = Lab::new(1);
        lab.allow("210, 220");
        let mut spec = lab.spec(VlanSet::Trunk {
            vids: vec![vid(210)],
            native: Some(vid(220)),
        });
        spec.keeps_priority = keeps_priority;
        let pod = lab.attach(spec);
        let frame = udp(HOST, pod.mac);
        let kept = if keeps_priority { 0xb000 } else { 0 };
        // Tagged, and by a priority tag in the native VLAN.
        for (sent, arrives) in [(0xb000 | 210, 210), (0xb000, 220)] {
            assert_eq!(lab.pod_sends(&pod, in_vlan(sent, &frame)), None);
            assert_eq!(lab.out(&lab.wire), [in_vlan(kept | arrives, &frame)]);
        }
        // That of the wire stays.
        let frame = udp(pod.mac, HOST);
        assert_eq!(lab.wire_sends(in_vlan(0xb000 | 210, &frame)), None);
        assert_eq!(lab.out(&pod.port), [in_vlan(0xb000 | 210, &frame)]);
        lab.end();
    }
}

#[test]
fn bytes_behind_the_packet_go_no_further() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let (a, b) = (lab.access(210), lab.access(210));
    let packet = udp(b.mac, a.mac);
    assert_eq!(packet.len(), 58);
    let short = FrameBuilder::new(b.mac, a.mac)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1, 2)
        .build();
    for (packet, behind, left) in [
        (&packet, 0, 58),
        (&packet, 2, 60),
        (&packet, 200, 60),
        (&packet, 1, 59),
        (&short, 200, 60),
        (&short, 18, 60),
        (&short, 17, 59),
    ] {
        let mut frame = packet.clone();
        frame.resize(packet.len() + behind, 0xee);
        // The second one hits in the flow cache where that may be.
        for _ in 0..2 {
            assert_eq!(lab.pod_sends(&a, frame.clone()), None);
            assert_eq!(lab.out(&b.port), [&frame[..left]]);
        }
    }
    // The MTU is that of the packet: what is cut off does not count.
    let mut frame = packet.clone();
    frame.resize(2000, 0xee);
    assert_eq!(lab.pod_sends(&a, frame), None);
    let from_wire = udp(a.mac, HOST);
    let mut frame = in_vlan(210, &from_wire);
    frame.resize(400, 0xee);
    assert_eq!(lab.wire_sends(frame), None);
    let arrived = lab.out(&a.port);
    assert_eq!(arrived[0].len(), 60);
    assert_eq!(arrived[0][..58], from_wire[..]);
    lab.end();
}

#[test]
fn who_hides_addresses_is_dropped() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = lab.access(210);
    let v4 = || FrameBuilder::new(HOST, pod.mac).ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let v6 = || {
        FrameBuilder::new(HOST, pod.mac)
            .ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
    };
    let home = [&[0, 2, 0xc9, 16][..], &[0xfd; 16], &[1, 2, 0, 0]].concat();
    let hidden = [
        v4().ip_options(&[131, 7, 4, 10, 9, 9, 9]).udp(1, 2).build(),
        v4().ip_options(&[137, 7, 4, 10, 9, 9, 9]).udp(1, 2).build(),
        v6().extension(
            43,
            &[
                0, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            ],
        )
        .udp(1, 2)
        .build(),
        v6().extension(
            43,
            &[
                0, 2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            ],
        )
        .udp(1, 2)
        .build(),
        v6().extension(60, &home).udp(1, 2).build(),
    ];
    for frame in hidden {
        assert_eq!(lab.pod_sends(&pod, frame.clone()), Some("hidden_address"));
        let mut back = frame;
        back.splice(..12, [pod.mac.0, HOST.0].concat());
        assert_eq!(lab.wire_sends(in_vlan(210, &back)), Some("hidden_address"));
    }
    let jumbo = v6()
        .extension(0, &[0, 0, 0xc2, 4, 0, 1, 0, 0])
        .udp(1, 2)
        .build();
    assert_eq!(lab.pod_sends(&pod, jumbo), Some("bad_header"));
    lab.end();
}
