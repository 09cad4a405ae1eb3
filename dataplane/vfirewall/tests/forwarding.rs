// SPDX-License-Identifier: Apache-2.0
//! The forwarding path: what becomes of frames, byte for byte and count for count.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, reason = "tests")]

mod rig;

use std::time::Duration;

use proptest::prelude::*;
use rig::{CONFIG, HOST, OPEN, OWN, Rig, arp_reply, from_host, parsed};
use sluice_packet::arp::Arp;
use sluice_packet::build::{FrameBuilder, TcpFields};
use sluice_packet::icmp::Icmp;
use sluice_packet::ipv4::Ipv4;
use sluice_packet::tcp::flag;
use sluice_packet::{EtherType, FlowKey, IpProto, Mac, Vid, VlanTag, icmp, l4, outer_tag};
use sluice_vfirewall::context::Sent;
use sluice_vfirewall::drops::Drop;

fn tag(vid: u16) -> VlanTag {
    VlanTag::new(EtherType::VLAN, Vid::new(vid).unwrap())
}

fn vid_of(frame: &[u8]) -> Option<u16> {
    outer_tag(frame, &[EtherType::VLAN]).map(|tag| tag.tci & 0xfff)
}

#[test]
fn a_packet_goes_through_with_its_hop_counted_and_new_macs() {
    let mut rig = Rig::new();
    rig.know(1, "10.22.0.5", HOST[1]);
    let frame = from_host("10.21.0.5", "10.22.0.5")
        .udp(1000, 53)
        .payload(b"question");
    let sent = rig.give(0, &[frame.build()]);
    let expected = FrameBuilder::new(HOST[1], OWN[1])
        .tag(tag(220))
        .ipv4([10, 21, 0, 5].into(), [10, 22, 0, 5].into())
        .ttl(63)
        .udp(1000, 53)
        .payload(b"question")
        .padded()
        .build();
    let unpadded = FrameBuilder::new(HOST[1], OWN[1])
        .tag(tag(220))
        .ipv4([10, 21, 0, 5].into(), [10, 22, 0, 5].into())
        .ttl(63)
        .udp(1000, 53)
        .payload(b"question")
        .build();
    assert!(
        sent == [(1, expected)] || sent == [(1, unpadded)],
        "{sent:?}"
    );
    // The other way, the tag goes.
    rig.know(0, "10.21.0.5", HOST[0]);
    let answer = FrameBuilder::new(OWN[1], HOST[1])
        .tag(tag(220))
        .ipv4([10, 22, 0, 5].into(), [10, 21, 0, 5].into())
        .udp(53, 1000)
        .payload(&[7; 100])
        .build();
    let sent = rig.give(1, &[answer]);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0, vid_of(&sent[0].1)), (0, None));
    let back = parsed(&sent[0].1);
    assert_eq!((back.key.dst_mac(), back.key.src_mac()), (HOST[0], OWN[0]));
    assert_eq!(l4::verify_checksum(&sent[0].1, &back), Some(true));
    rig.check_conservation();
}

#[test]
fn ipv6_goes_through_and_its_neighbour_is_asked_for() {
    let mut rig = Rig::new();
    let frame = from_host("fd21::5", "fd22::5")
        .ttl(9)
        .udp(1, 2)
        .payload(b"six");
    let sent = rig.give(0, &[frame.build()]);
    assert_eq!(sent.len(), 1, "a solicitation");
    let asked = parsed(&sent[0].1);
    assert_eq!(vid_of(&sent[0].1), Some(220));
    assert_eq!(asked.key.icmp_type, 135);
    assert_eq!(asked.key.dst_mac(), Mac([0x33, 0x33, 0xff, 0, 0, 5]));
    assert_eq!(l4::verify_checksum(&sent[0].1, &asked), Some(true));
    // Who answers from another hop, or with a wrong checksum, is not believed.
    let mut body = [0; 24];
    body[..16].copy_from_slice(&"fd22::5".parse::<std::net::Ipv6Addr>().unwrap().octets());
    body[16..].copy_from_slice(&[2, 1, 2, 0, 0, 0, 0, 0xb]);
    let advert = |ttl| {
        FrameBuilder::new(OWN[1], HOST[1])
            .tag(tag(220))
            .ipv6("fd22::5".parse().unwrap(), "fd22::1".parse().unwrap())
            .ttl(ttl)
            .icmp(136, 0, [0x60, 0, 0, 0])
            .payload(&body)
            .build()
    };
    let mut broken = advert(255);
    *broken.last_mut().unwrap() ^= 1;
    assert!(rig.give(1, &[advert(254), broken]).is_empty());
    assert_eq!(rig.dropped(1, Drop::BadNeighbour), 2);
    let sent = rig.give(1, &[advert(255)]);
    assert_eq!(sent.len(), 1, "what waited");
    let packet = parsed(&sent[0].1);
    assert_eq!(packet.key.dst_mac(), HOST[1]);
    assert_eq!(sent[0].1[18 + 7], 8, "hop limit");
    assert_eq!(l4::verify_checksum(&sent[0].1, &packet), Some(true));
    rig.check_conservation();
}

#[test]
fn own_addresses_answer_arp_ping_and_solicitations() {
    let mut rig = Rig::new();
    let ask = sluice_packet::arp::ArpFields {
        operation: 1,
        sender_mac: HOST[0],
        sender_ip: [10, 21, 0, 5].into(),
        target_mac: Mac::ZERO,
        target_ip: [10, 21, 0, 1].into(),
    };
    let arp = FrameBuilder::new(Mac::BROADCAST, HOST[0])
        .arp(ask)
        .padded()
        .build();
    let ping = from_host("10.21.0.5", "10.21.0.1")
        .ttl(1)
        .icmp(8, 0, [1, 2, 3, 4])
        .payload(b"ping");
    let ping6 = from_host("fd21::5", "fd21::1")
        .icmp(128, 0, [1, 2, 3, 4])
        .payload(b"ping");
    // Also the address of another leg.
    let far = from_host("10.21.0.5", "10.23.0.1")
        .icmp(8, 0, [9; 4])
        .payload(b"ping");
    let sent = rig.give(0, &[arp, ping.build(), ping6.build(), far.build()]);
    assert_eq!(sent.len(), 4);
    let answer = Arp::new(&sent[0].1[14..]).unwrap();
    assert_eq!((answer.operation(), answer.sender_mac()), (2, OWN[0]));
    assert_eq!(answer.target_ip().octets(), [10, 21, 0, 5]);
    for (frame, echo) in [(&sent[1].1, 0), (&sent[2].1, 129), (&sent[3].1, 0)] {
        let reply = parsed(frame);
        assert_eq!((reply.key.icmp_type, reply.key.dst_mac()), (echo, HOST[0]));
        assert_eq!(l4::verify_checksum(frame, &reply), Some(true));
    }
    assert!(Ipv4::new(&sent[1].1[14..]).unwrap().checksum_ok());
    // The host was learned from what it asked.
    assert_eq!(rig.neighbours.counts().known, 1);
    assert_eq!(rig.state.counters.interfaces[0].local, 4);
    rig.check_conservation();
}

#[test]
fn errors_are_sent_as_routers_send_them() {
    let mut rig = Rig::new();
    let expired = from_host("10.21.0.5", "10.22.0.5")
        .ttl(1)
        .udp(33000, 33435)
        .payload(b"trace");
    let nowhere = from_host("10.21.0.5", "203.0.113.9").udp(1, 2);
    let port = from_host("10.21.0.5", "10.21.0.1").udp(1, 2);
    let big = vec![1; 1600];
    let too_big = from_host("10.21.0.5", "10.22.0.5")
        .dont_fragment()
        .udp(1, 2)
        .payload(&big);
    let frames = [
        expired.build(),
        nowhere.build(),
        port.build(),
        too_big.build(),
    ];
    let mut sent = Vec::new();
    for frame in &frames {
        sent.extend(rig.give(0, std::slice::from_ref(frame)));
    }
    let expected = [(11, 0, 0), (3, 0, 0), (3, 3, 0), (3, 4, 1500)];
    assert_eq!(sent.len(), expected.len());
    for ((leg, frame), ((kind, code, mtu), about)) in
        sent.iter().zip(expected.into_iter().zip(&frames))
    {
        let error = parsed(frame);
        assert_eq!(*leg, 0);
        assert_eq!(error.key.dst_mac(), HOST[0]);
        assert_eq!(error.key.src_ip(), Some("10.21.0.1".parse().unwrap()));
        assert_eq!((error.key.icmp_type, error.key.icmp_code), (kind, code));
        assert_eq!(l4::verify_checksum(frame, &error), Some(true));
        let icmp = Icmp::new(Ipv4::new(&frame[14..]).unwrap().payload()).unwrap();
        assert_eq!(icmp.rest(), u32::to_be_bytes(mtu));
        let quoted = icmp.payload();
        assert_eq!(quoted, &about[14..14 + quoted.len()]);
        assert!(quoted.len() >= 28);
    }
    let too_big = from_host("fd21::5", "fd22::5")
        .udp(1, 2)
        .payload(&big)
        .build();
    let expired = from_host("fd21::5", "fd22::5").ttl(1).udp(1, 2).build();
    let nowhere = from_host("fd21::5", "2001:db8::1").udp(1, 2).build();
    let sent = rig.give(0, &[too_big, expired, nowhere]);
    for ((_, frame), (kind, code)) in sent.iter().zip([(2, 0), (3, 0), (1, 0)]) {
        let error = parsed(frame);
        assert_eq!((error.key.icmp_type, error.key.icmp_code), (kind, code));
        assert_eq!(l4::verify_checksum(frame, &error), Some(true));
    }
    assert_eq!(sent.len(), 3);
    rig.check_conservation();
}

#[test]
fn there_are_no_errors_about_errors_groups_or_later_fragments() {
    let mut rig = Rig::new();
    let frames = [
        from_host("10.21.0.5", "10.22.0.5")
            .ttl(1)
            .icmp(3, 1, [0; 4])
            .payload(&[0x45; 28])
            .build(),
        from_host("10.21.0.5", "10.22.0.5")
            .ttl(1)
            .fragment(800, true)
            .udp(1, 2)
            .payload(&[0; 64])
            .build(),
        from_host("fd21::5", "fd22::5")
            .ttl(1)
            .icmp(1, 0, [0; 4])
            .payload(&[0x60; 48])
            .build(),
        FrameBuilder::new(Mac::BROADCAST, HOST[0])
            .ipv4([10, 21, 0, 5].into(), [255; 4].into())
            .ttl(1)
            .udp(67, 68)
            .build(),
    ];
    assert!(rig.give(0, &frames).is_empty());
    assert_eq!(rig.state.counters.interfaces[0].errors_withheld, 3);
    // And not more of them than the limit.
    let expired = from_host("10.21.0.5", "10.22.0.5").ttl(1).udp(1, 2).build();
    let sent = rig.give(0, &vec![expired; 10_000]);
    assert_eq!(sent.len(), 50);
    rig.check_conservation();
}

#[test]
fn what_no_router_takes_is_dropped_with_its_reason() {
    let reasons = |frames: Vec<(FrameBuilder<'_>, Drop)>| {
        let mut rig = Rig::new();
        rig.know(1, "10.22.0.5", HOST[1]);
        for (frame, reason) in frames {
            let sent = rig.give(0, &[frame.build()]);
            assert!(sent.is_empty(), "{reason:?}: {sent:?}");
            assert_eq!(
                rig.dropped(0, reason),
                1,
                "{reason:?}: {:?}",
                rig.state.counters
            );
            rig.state.counters.interfaces[0].drops[reason.index()] = 0;
        }
    };
    let v4 = |src: [u8; 4], dst: [u8; 4]| {
        FrameBuilder::new(OWN[0], HOST[0])
            .ipv4(src.into(), dst.into())
            .udp(1, 2)
    };
    let (host, server) = ([10, 21, 0, 5], [10, 22, 0, 5]);
    reasons(vec![
        (v4([127, 0, 0, 1], server), Drop::MartianSource),
        (v4([0, 0, 0, 0], server), Drop::MartianSource),
        (v4([224, 0, 0, 1], server), Drop::MartianSource),
        (v4([255; 4], server), Drop::MartianSource),
        (v4([10, 21, 255, 255], server), Drop::MartianSource),
        (v4([10, 22, 0, 1], server), Drop::MartianSource),
        (v4([10, 22, 0, 77], server), Drop::ReversePath),
        (v4([203, 0, 113, 1], server), Drop::ReversePath),
        (v4(host, [127, 0, 0, 1]), Drop::MartianDestination),
        (v4(host, [240, 0, 0, 1]), Drop::MartianDestination),
        (v4(host, [224, 0, 0, 5]), Drop::NotUnicast),
        (v4(host, [10, 22, 255, 255]), Drop::NotUnicast),
        (v4(host, [169, 254, 0, 1]), Drop::LinkLocal),
        (from_host("fe80::5", "fd22::5").udp(1, 2), Drop::LinkLocal),
        (from_host("fd21::5", "fe80::9").udp(1, 2), Drop::LinkLocal),
        (from_host("fd21::5", "ff0e::1").udp(1, 2), Drop::NotUnicast),
        (from_host("::1", "fd22::5").udp(1, 2), Drop::MartianSource),
        (from_host("::", "fd22::5").udp(1, 2), Drop::MartianSource),
        (
            FrameBuilder::new(HOST[1], HOST[0])
                .ipv4(host.into(), server.into())
                .udp(1, 2),
            Drop::NotForUs,
        ),
        (
            FrameBuilder::new(Mac::BROADCAST, HOST[0])
                .ipv4(host.into(), server.into())
                .udp(1, 2),
            Drop::NotUnicast,
        ),
        (
            FrameBuilder::new(OWN[0], Mac::BROADCAST)
                .ipv4(host.into(), server.into())
                .udp(1, 2),
            Drop::Malformed,
        ),
        (FrameBuilder::new(OWN[0], HOST[0]), Drop::NotIp),
    ]);
    let mut rig = Rig::new();
    let mut wrong = v4(host, server).build();
    wrong[24] ^= 1;
    let tagged = v4(host, server).tag(tag(210)).build();
    let priority = from_host("10.21.0.5", "10.21.0.1")
        .icmp(8, 0, [0; 4])
        .tag(tag(0))
        .build();
    let sent = rig.give(0, &[wrong, tagged, vec![7; 5], priority]);
    assert_eq!(sent.len(), 1, "VID 0 is a priority alone");
    assert_eq!(rig.dropped(0, Drop::BadChecksum), 1);
    assert_eq!(
        rig.state.counters.legs[0].drops[Drop::UnknownVlan.index()],
        1
    );
    rig.check_conservation();
}

#[test]
fn both_policies_judge_and_denials_are_logged_with_rule_and_file() {
    let mut rig = Rig::new();
    rig.know(1, "10.22.0.5", HOST[1]);
    let syn = TcpFields {
        src_port: 1000,
        dst_port: 23,
        seq: 7,
        ack: 0,
        flags: flag::SYN,
        window: 1,
    };
    let telnet = from_host("10.21.0.5", "10.22.0.5").tcp(syn).build();
    let syslog = from_host("10.21.0.5", "10.22.0.5").udp(1000, 514).build();
    let closed = from_host("10.21.0.5", "10.23.0.5").udp(1, 2).build();
    let sent = rig.give(0, &[telnet, syslog, closed]);
    assert_eq!(sent.len(), 1, "a reset");
    let reset = parsed(&sent[0].1);
    assert_eq!(reset.key.src_ip(), Some("10.22.0.5".parse().unwrap()));
    assert_eq!((reset.key.dst_port, reset.key.proto), (1000, IpProto::TCP));
    let lines = rig.log_lines();
    assert_eq!(lines.len(), 3);
    let [telnet, syslog, closed] = &lines[..] else {
        panic!()
    };
    assert_eq!(telnet["rule"], "telnet");
    assert_eq!(
        (&telnet["leg"], &telnet["vlan"], &telnet["direction"]),
        (&"net1".into(), &210.into(), &"ingress".into())
    );
    assert_eq!(
        (&telnet["file"], &telnet["line"]),
        (&"open.yaml".into(), &6.into())
    );
    assert_eq!(
        (&telnet["source"], &telnet["destination_port"]),
        (&"10.21.0.5".into(), &23.into())
    );
    assert_eq!(
        (&syslog["rule"], &syslog["direction"], &syslog["leg"]),
        (&"syslog".into(), &"egress".into(), &"net2".into())
    );
    assert_eq!(
        (&syslog["vlan"], &syslog["reason"]),
        (&220.into(), &"denied_egress".into())
    );
    assert_eq!(
        closed["reason"], "no_policy",
        "VLAN 230 has no policy: {closed}"
    );
    assert_eq!(rig.dropped(0, Drop::NoPolicy), 1);
    let counts = &rig.state.counters.rules;
    assert_eq!(
        counts.iter().sum::<u64>(),
        3 + 1,
        "three at ingress, one at egress"
    );
    rig.check_conservation();
}

#[test]
fn log_lines_are_limited_and_the_lost_are_told() {
    let mut rig = Rig::new();
    rig.know(1, "10.22.0.5", HOST[1]);
    let syslog = from_host("10.21.0.5", "10.22.0.5").udp(1000, 514).build();
    rig.give(0, &vec![syslog; 1000]);
    assert_eq!(rig.log_lines().len(), 5);
    rig.state.log.tell_losses(&rig.tables, rig.now);
    let lines = rig.log_lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["event"], &lines[0]["lines"]),
        (&"lines_lost".into(), &995.into())
    );
    assert_eq!(
        (rig.state.log.lost(), rig.dropped(0, Drop::DeniedEgress)),
        (995, 1000)
    );
}

#[test]
fn packets_wait_for_their_neighbour_and_who_is_not_there_is_told() {
    let mut rig = Rig::new();
    let to = |host: &'static str| {
        from_host("10.21.0.5", host)
            .udp(1, 2)
            .payload(host.as_bytes())
            .build()
    };
    let sent = rig.give(
        0,
        &[
            to("10.22.0.5"),
            to("10.22.0.5"),
            to("10.22.0.6"),
            to("192.0.2.9"),
        ],
    );
    let asked: Vec<_> = sent
        .iter()
        .map(|(_, frame)| Arp::new(&frame[18..]).unwrap().target_ip().to_string())
        .collect();
    assert_eq!(asked, ["10.22.0.5", "10.22.0.6", "10.22.0.254"]);
    let reply = arp_reply("10.22.0.5", HOST[1], "10.22.0.1")
        .tag(tag(220))
        .build();
    let sent = rig.give(1, &[reply]);
    assert_eq!(sent.len(), 2, "both that waited, in order");
    let sent = rig.pass(Duration::from_secs(4));
    let errors: Vec<_> = sent
        .iter()
        .filter(|(leg, _)| *leg == 0)
        .map(|(_, frame)| parsed(frame).key)
        .collect();
    assert_eq!(errors.len(), 2, "hosts 10.22.0.6 and 192.0.2.9");
    assert!(
        errors
            .iter()
            .all(|key| (key.icmp_type, key.icmp_code) == (icmp::UNREACHABLE, 1))
    );
    assert_eq!(rig.dropped(0, Drop::Unreachable), 2);
    assert_eq!(rig.neighbours.counts().waiting, 0);
    rig.check_conservation();
}

#[test]
fn a_flood_of_hosts_that_are_not_there_stays_bounded_and_harms_no_other() {
    let mut rig = Rig::new();
    rig.know(1, "10.22.0.5", HOST[1]);
    let mut asked = 0;
    for n in 0..20_000_u32 {
        let [.., c, d] = n.to_be_bytes();
        let scan = FrameBuilder::new(OWN[0], HOST[0])
            .ipv4([10, 21, 0, 5].into(), [10, 22, 100 + (c & 0x7f), d].into())
            .udp(1, 2)
            .build();
        let known = from_host("10.21.0.5", "10.22.0.5").udp(1, 2).build();
        let sent = rig.give(0, &[scan, known]);
        asked += sent.len() - 1;
    }
    let counts = rig.neighbours.counts();
    assert!(asked <= 256, "{asked}");
    assert!(counts.pending <= 256 && counts.waiting <= 64, "{counts:?}");
    assert_eq!(rig.state.counters.interfaces[1].output, 20_000);
    rig.check_conservation();
    // A host on another interface is still found.
    let other = FrameBuilder::new(OWN[1], HOST[1])
        .tag(tag(220))
        .ipv4([10, 22, 0, 5].into(), [10, 21, 0, 77].into())
        .udp(1, 2)
        .build();
    assert_eq!(rig.give(1, &[other]).len(), 1, "a request");
}

#[test]
fn twenty_thousand_hosts_scan_and_each_gets_its_answer() {
    let mut rig = Rig::new();
    rig.know(1, "10.22.0.5", HOST[1]);
    let mut answered = 0;
    for n in 0..20_000_u32 {
        let [.., c, d] = n.to_be_bytes();
        let host = std::net::Ipv4Addr::from([10, 21, 1 + c, d]);
        if rig.tables.interfaces.get(0).is_directed_broadcast(host) {
            continue;
        }
        let mac = Mac([2, 1, 0, 0, c, d]);
        let ask = sluice_packet::arp::ArpFields {
            operation: 1,
            sender_mac: mac,
            sender_ip: host,
            target_mac: Mac::ZERO,
            target_ip: [10, 21, 0, 1].into(),
        };
        let arp = FrameBuilder::new(Mac::BROADCAST, mac).arp(ask).build();
        let there = FrameBuilder::new(OWN[0], mac)
            .ipv4(host, [10, 22, 0, 5].into())
            .udp(1, 2);
        assert_eq!(rig.give(0, &[arp, there.build()]).len(), 2);
        let back = FrameBuilder::new(OWN[1], HOST[1])
            .tag(tag(220))
            .ipv4([10, 22, 0, 5].into(), host)
            .udp(2, 1)
            .build();
        let sent = rig.give(1, &[back]);
        assert_eq!(parsed(&sent[0].1).key.dst_mac(), mac);
        answered += 1;
    }
    assert_eq!(answered, 20_000);
    assert_eq!(rig.neighbours.counts().waiting, 0);
    rig.check_conservation();
}

#[test]
fn a_large_packet_is_fragmented_where_it_may_be() {
    let mut rig = Rig::new();
    rig.know(1, "10.22.0.5", HOST[1]);
    let data: Vec<u8> = (0..=250).cycle().take(1900).collect();
    let frame = from_host("10.21.0.5", "10.22.0.5")
        .id(9)
        .udp(1, 2)
        .payload(&data)
        .build();
    let sent = rig.give(0, std::slice::from_ref(&frame));
    assert_eq!(sent.len(), 2);
    let mut joined = Vec::new();
    for (_, piece) in &sent {
        assert_eq!(vid_of(piece), Some(220));
        let ip = Ipv4::new(&piece[18..]).unwrap();
        assert!(ip.checksum_ok() && usize::from(ip.total_len()) <= 1500);
        assert_eq!((ip.ttl(), ip.id()), (63, 9));
        joined.extend_from_slice(ip.payload());
    }
    assert_eq!(joined, Ipv4::new(&frame[14..]).unwrap().payload());
    let output = &rig.state.counters.interfaces[1];
    assert_eq!((output.output, output.fragmented), (1, 1));
    rig.check_conservation();
}

#[test]
fn neighbours_that_lie_are_not_believed() {
    let mut rig = Rig::new();
    let lies = [
        // Its MAC is another's.
        FrameBuilder::new(OWN[1], HOST[0]).arp(fields("10.22.0.5", HOST[1])),
        // The firewall's own address.
        arp_reply("10.22.0.1", HOST[1], "10.22.0.1"),
        // Not on this link.
        arp_reply("10.21.0.5", HOST[1], "10.22.0.1"),
        arp_reply("10.22.0.5", Mac([3, 0, 0, 0, 0, 1]), "10.22.0.1"),
    ];
    for (n, lie) in (1..).zip(lies) {
        assert!(rig.give(1, &[lie.tag(tag(220)).build()]).is_empty());
        let told = rig.dropped(1, Drop::BadNeighbour) + rig.dropped(1, Drop::Malformed);
        assert_eq!(told, n);
    }
    assert_eq!(rig.neighbours.counts().known, 0);
    assert_eq!(rig.state.counters.interfaces[1].conflicts, 1);
    let lines = rig.log_lines();
    assert_eq!(lines[0]["event"], "address_conflict");
    rig.check_conservation();
}

fn fields(sender: &str, mac: Mac) -> sluice_packet::arp::ArpFields {
    sluice_packet::arp::ArpFields {
        operation: 2,
        sender_mac: mac,
        sender_ip: sender.parse().unwrap(),
        target_mac: OWN[1],
        target_ip: [10, 22, 0, 1].into(),
    }
}

#[test]
fn full_rings_and_links_that_are_down_are_counted() {
    let mut rig = Rig::new();
    rig.know(1, "10.22.0.5", HOST[1]);
    let frame = from_host("10.21.0.5", "10.22.0.5").udp(1, 2).build();
    for (refused, reason) in [(Sent::Full, Drop::RingFull), (Sent::Down, Drop::LinkDown)] {
        rig.links.refuse = Some(refused);
        assert!(rig.give(0, &vec![frame.clone(); 100]).is_empty());
        assert_eq!(rig.dropped(0, reason), 100);
    }
    rig.check_conservation();
}

#[test]
fn reverse_path_checks_can_be_left_out() {
    let config = CONFIG.replacen(
        "    mtu: 2000\n",
        "    mtu: 2000\n    reverse_path: off\n",
        1,
    );
    let mut rig = Rig::with(&config, OPEN);
    rig.know(1, "10.22.0.5", HOST[1]);
    let frame = from_host("203.0.113.1", "10.22.0.5").udp(1, 2).build();
    assert_eq!(rig.give(0, &[frame]).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes of any kind, among them frames with one byte changed: nothing panics, and every frame is
    /// counted once.
    #[test]
    fn no_frame_breaks_the_path(
        noise in proptest::collection::vec(any::<u8>(), 0..2100),
        at in 0usize..80,
        with: u8,
        leg in 0usize..2,
        version: bool,
    ) {
        let mut rig = Rig::new();
        rig.know(1, "10.22.0.5", HOST[1]);
        let base = if version {
            from_host("10.21.0.5", "10.22.0.5").udp(1, 2).payload(&noise)
        } else {
            from_host("fd21::5", "fd22::5").icmp(135, 0, [0; 4]).payload(&noise)
        };
        let mut frame = base.build();
        let at = at % frame.len();
        frame[at] = with;
        let tagged = base.tag(tag(220)).build();
        rig.give(leg, &[noise.clone(), frame, tagged]);
        rig.pass(Duration::from_secs(4));
        rig.check_conservation();
    }

    /// Packets that came in with right checksums leave with right ones.
    #[test]
    fn what_leaves_is_right(
        data in proptest::collection::vec(any::<u8>(), 0..1400),
        ttl in 2u8..,
        src_port: u16,
        dst_port: u16,
    ) {
        prop_assume!(dst_port != 514);
        let mut rig = Rig::new();
        rig.know(1, "10.22.0.5", HOST[1]);
        rig.know(1, "fd22::5", HOST[1]);
        for (src, dst) in [("10.21.0.5", "10.22.0.5"), ("fd21::5", "fd22::5")] {
            let frame = from_host(src, dst).ttl(ttl).udp(src_port, dst_port).payload(&data).build();
            let sent = rig.give(0, &[frame]);
            prop_assert_eq!(sent.len(), 1);
            let out = parsed(&sent[0].1);
            prop_assert_eq!(l4::verify_checksum(&sent[0].1, &out), Some(true));
            if out.key.has(FlowKey::IPV4) {
                let ip = Ipv4::new(&sent[0].1[18..]).unwrap();
                prop_assert!(ip.checksum_ok() && ip.ttl() == ttl - 1);
            }
        }
        rig.check_conservation();
    }
}
