// SPDX-License-Identifier: Apache-2.0
//! Poses: whom a pod may send as in each mode of anti-spoofing, in IP, in ARP and in neighbour discovery.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use std::net::{Ipv4Addr, Ipv6Addr};

use lab::{Lab, Pod, tagged, vid};
use sluice_datapath::{DropReason, Event, VlanSet};
use sluice_packet::build::{ArpFields, FrameBuilder};
use sluice_packet::pose::{AddressPair, AntiSpoof, parse_prefix};
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const ALL: Mac = Mac([0xff; 6]);
/// A VRRP router's virtual MAC address.
const VIRTUAL: Mac = Mac([0, 0, 0x5e, 0, 1, 0x33]);
const FOREIGN: Mac = Mac([2, 9, 9, 9, 9, 9]);

/// Address in both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Own,
    /// In a pair with the attachment's own MAC address.
    Behind,
    /// In a pair with the virtual MAC address.
    Virtual,
    Foreign,
    /// Given to another attachment.
    Other,
}

impl Of {
    const ALL: [Of; 5] = [Of::Own, Of::Behind, Of::Virtual, Of::Foreign, Of::Other];

    fn v4(self) -> Ipv4Addr {
        let text = match self {
            Of::Own => "10.0.0.1",
            Of::Behind => "10.1.2.3",
            Of::Virtual => "10.0.0.100",
            Of::Foreign => "10.9.9.9",
            Of::Other => "10.0.0.2",
        };
        text.parse().unwrap()
    }

    fn v6(self) -> Ipv6Addr {
        let text = match self {
            Of::Own => "fd00::1",
            Of::Behind => "fd01::3",
            Of::Virtual => "fd00::100",
            Of::Foreign => "fd09::9",
            Of::Other => "fd00::2",
        };
        text.parse().unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V4,
    V6,
    Arp,
    Nd,
}

/// An unsolicited neighbour advertisement of `target` at `mac`.
fn advertisement(from: Mac, source: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    body.extend([2, 1]);
    body.extend(mac.0);
    FrameBuilder::new(Mac([0x33, 0x33, 0, 0, 0, 1]), from)
        .ipv6(source, "ff02::1".parse().unwrap())
        .ttl(255)
        .icmp(136, 0, [0x20, 0, 0, 0])
        .payload(&body)
        .build()
}

fn announcement(from: Mac, sender: Mac, ip: Ipv4Addr) -> Vec<u8> {
    let fields = ArpFields {
        operation: 1,
        sender_mac: sender,
        sender_ip: ip,
        target_mac: Mac([0; 6]),
        target_ip: ip,
    };
    FrameBuilder::new(ALL, from).arp(fields).build()
}

/// Frame of a kind from a MAC address. A neighbour advertisement comes from `source` and is of `ip`.
fn frame(kind: Kind, mac: Mac, source: Of, ip: Of) -> Vec<u8> {
    match kind {
        Kind::V4 => FrameBuilder::new(HOST, mac)
            .ipv4(ip.v4(), [10, 0, 0, 9].into())
            .udp(1, 2)
            .build(),
        Kind::V6 => FrameBuilder::new(HOST, mac)
            .ipv6(ip.v6(), "fd00::9".parse().unwrap())
            .udp(1, 2)
            .build(),
        Kind::Arp => announcement(mac, mac, ip.v4()),
        Kind::Nd => advertisement(mac, source.v6(), ip.v6(), mac),
    }
}

fn pair(mac: Option<Mac>, ip: &str) -> AddressPair {
    let ip = Some(parse_prefix(ip).unwrap());
    AddressPair { mac, ip }
}

fn in_vlan(number: u16, frame: &[u8]) -> Vec<u8> {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: number,
    };
    tagged(frame, Some(tag))
}

/// A pod of VLANs 210 and 220 with addresses and pairs, and a neighbour in VLAN 210 alone.
fn scene(mode: AntiSpoof) -> (Lab, Pod, Pod) {
    let mut lab = Lab::new(1);
    lab.allow("210, 220");
    let mut spec = lab.spec(VlanSet::Trunk {
        vids: vec![vid(210), vid(220)],
        native: None,
    });
    spec.addresses = vec![Of::Own.v4().into(), Of::Own.v6().into()];
    spec.pose.anti_spoof = mode;
    spec.pose.pairs = vec![
        pair(Some(VIRTUAL), "10.0.0.100"),
        pair(Some(VIRTUAL), "fd00::100"),
        pair(None, "10.1.0.0/16"),
        pair(None, "fd01::/64"),
    ];
    let pod = lab.attach(spec);
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.addresses = vec![Of::Other.v4().into(), Of::Other.v6().into()];
    let neighbour = lab.attach(spec);
    (lab, pod, neighbour)
}

/// Drop reason that the rules of the documentation give.
fn expected(mode: AntiSpoof, mac: Of, ip: Of, kind: Kind, vlan: u16) -> Option<&'static str> {
    let is_neighbours = vlan == 210;
    let may_use = match mac {
        Of::Own | Of::Virtual => true,
        Of::Other if is_neighbours => false,
        _ => mode == AntiSpoof::Off,
    };
    if !may_use {
        return Some("spoofed_mac");
    }
    let may_have = match (mac, ip) {
        (Of::Own, Of::Own | Of::Behind) | (Of::Virtual, Of::Virtual) => true,
        _ => mode != AntiSpoof::Strict,
    };
    let announces = matches!(kind, Kind::Arp | Kind::Nd);
    match kind {
        Kind::V4 | Kind::V6 if !may_have => Some("spoofed_ip"),
        Kind::Arp if !may_have => Some("spoofed_arp"),
        Kind::Nd if !may_have => Some("spoofed_nd"),
        _ if announces && ip == Of::Other && is_neighbours => Some("address_taken"),
        _ => None,
    }
}

#[test]
fn each_mode_lets_pass_what_its_row_says() {
    for mode in AntiSpoof::ALL {
        let (lab, pod, neighbour) = scene(mode);
        let macs = [
            (Of::Own, pod.mac),
            (Of::Virtual, VIRTUAL),
            (Of::Foreign, FOREIGN),
            (Of::Other, neighbour.mac),
        ];
        for (whose, mac) in macs {
            for ip in Of::ALL {
                for kind in [Kind::V4, Kind::V6, Kind::Arp, Kind::Nd] {
                    for vlan in [210, 220] {
                        // What it is from is fine; what it says may not be.
                        let source = if whose == Of::Other { Of::Own } else { whose };
                        let sent = in_vlan(vlan, &frame(kind, mac, source, ip));
                        assert_eq!(
                            lab.pod_sends(&pod, sent),
                            expected(mode, whose, ip, kind, vlan),
                            "{mode}: {kind:?} from {whose:?} {mac}, {ip:?} in VLAN {vlan}"
                        );
                    }
                }
            }
        }
        lab.end();
    }
}

#[test]
fn announcements_are_of_mac_addresses_that_the_pod_may_use() {
    for (mode, foreign) in [
        (AntiSpoof::Strict, Some("spoofed_arp")),
        (AntiSpoof::Mac, Some("spoofed_arp")),
        (AntiSpoof::Off, None),
    ] {
        let (lab, pod, neighbour) = scene(mode);
        let says = |mac, ip: Of| {
            let frame = announcement(pod.mac, mac, ip.v4());
            lab.pod_sends(&pod, in_vlan(210, &frame))
        };
        assert_eq!(says(VIRTUAL, Of::Virtual), None, "{mode}");
        assert_eq!(says(FOREIGN, Of::Own), foreign, "{mode}");
        assert_eq!(says(neighbour.mac, Of::Own), Some("spoofed_arp"), "{mode}");
        let says = |mac, ip: Of| {
            let frame = advertisement(pod.mac, Of::Own.v6(), ip.v6(), mac);
            lab.pod_sends(&pod, in_vlan(210, &frame))
        };
        assert_eq!(says(VIRTUAL, Of::Virtual), None, "{mode}");
        assert_eq!(says(neighbour.mac, Of::Own), Some("spoofed_nd"), "{mode}");
        lab.end();
    }
}

#[test]
fn an_address_that_another_was_given_is_announced_only_by_whom_a_pair_names_it() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.addresses = vec![Of::Other.v4().into(), Of::Other.v6().into()];
    let owner = lab.attach(spec);
    // Without addresses of its own a strict pod may send from any, but not take this one over.
    let plain = lab.access(210);
    for (pairs, taken) in [
        (
            vec![pair(None, "10.0.0.0/24"), pair(None, "fd00::/64")],
            true,
        ),
        (vec![pair(None, "10.0.0.2"), pair(None, "fd00::2")], false),
        (vec![pair(Some(VIRTUAL), "10.0.0.2")], true),
    ] {
        let mut spec = lab.spec(VlanSet::Access(vid(210)));
        spec.pose.pairs = pairs;
        let pod = lab.attach(spec);
        let taken = taken.then_some("address_taken");
        for kind in [Kind::Arp, Kind::Nd] {
            let sent = frame(kind, pod.mac, Of::Foreign, Of::Other);
            assert_eq!(lab.pod_sends(&pod, sent), taken, "{kind:?}");
        }
        lab.engine.detach(pod.id).unwrap();
    }
    for kind in [Kind::Arp, Kind::Nd] {
        let sent = frame(kind, plain.mac, Of::Foreign, Of::Other);
        assert_eq!(lab.pod_sends(&plain, sent), Some("address_taken"));
        let sent = frame(kind, owner.mac, Of::Other, Of::Other);
        assert_eq!(lab.pod_sends(&owner, sent), None);
        let sent = frame(kind, plain.mac, Of::Foreign, Of::Foreign);
        assert_eq!(lab.pod_sends(&plain, sent), None);
    }
    // A router forwards packets of whoever is behind it.
    let sent = frame(Kind::V4, plain.mac, Of::Other, Of::Other);
    assert_eq!(lab.pod_sends(&plain, sent), None);
    lab.end();
}

#[test]
fn no_mode_lets_a_source_pass_that_no_host_can_have() {
    for mode in AntiSpoof::ALL {
        let (lab, pod, _) = scene(mode);
        for source in ["224.0.0.1", "255.255.255.255", "127.0.0.1"] {
            let sent = FrameBuilder::new(HOST, pod.mac)
                .ipv4(source.parse().unwrap(), [10, 0, 0, 9].into())
                .udp(1, 2)
                .build();
            let reason = lab.pod_sends(&pod, in_vlan(210, &sent));
            assert_eq!(reason, Some("spoofed_ip"), "{mode} {source}");
        }
        for source in [ALL, Mac([0; 6]), Mac([1, 0, 0x5e, 0, 0, 1])] {
            let sent = frame(Kind::V4, source, Of::Own, Of::Own);
            let reason = lab.pod_sends(&pod, in_vlan(210, &sent));
            assert_eq!(reason, Some("spoofed_mac"), "{mode} {source}");
        }
        lab.end();
    }
}

#[test]
fn roles_are_asked_for_by_name_in_every_mode() {
    for mode in AntiSpoof::ALL {
        let (lab, pod, _) = scene(mode);
        let mut advert = vec![0; 8];
        advert.extend([1, 1]);
        advert.extend(pod.mac.0);
        let link_local = "fe80::ff:fe00:1".parse().unwrap();
        let sent = FrameBuilder::new(Mac([0x33, 0x33, 0, 0, 0, 1]), pod.mac)
            .ipv6(link_local, "ff02::1".parse().unwrap())
            .ttl(255)
            .icmp(134, 0, [64, 0, 0, 0])
            .payload(&advert)
            .build();
        let reason = lab.pod_sends(&pod, in_vlan(210, &sent));
        assert_eq!(reason, Some("not_router"), "{mode}");
        lab.end();
    }
}

#[test]
fn a_router_and_a_bridge_may_have_more_link_local_addresses_than_a_host() {
    for (mode, fifth) in [
        (AntiSpoof::Strict, Some("link_local_limited")),
        (AntiSpoof::Mac, None),
        (AntiSpoof::Off, None),
    ] {
        let (lab, pod, neighbour) = scene(mode);
        let from = |mac, source: &str| {
            FrameBuilder::new(HOST, mac)
                .ipv6(source.parse().unwrap(), "fe80::99".parse().unwrap())
                .udp(1, 2)
                .build()
        };
        for number in 1..6 {
            let sent = in_vlan(210, &from(pod.mac, &format!("fe80::{number}")));
            let reason = lab.pod_sends(&pod, sent);
            assert_eq!(reason, if number == 5 { fifth } else { None }, "{mode}");
        }
        // They took the first ones: nobody else has them.
        let reason = lab.pod_sends(&neighbour, from(neighbour.mac, "fe80::1"));
        assert_eq!(reason, Some("link_local_taken"), "{mode}");
        // The one made of the neighbour's MAC address is the neighbour's.
        let target = "fe80::ff:fe00:2".parse().unwrap();
        let sent = advertisement(pod.mac, Of::Own.v6(), target, pod.mac);
        let reason = lab.pod_sends(&pod, in_vlan(210, &sent)).unwrap();
        let strict = mode == AntiSpoof::Strict;
        let expected = if strict {
            "link_local_limited"
        } else {
            "address_taken"
        };
        assert_eq!(reason, expected, "{mode}");
        lab.end();
    }
}

#[test]
fn link_local_addresses_of_a_pair_are_not_taken_by_use() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    // Masters of one virtual router share what is behind its MAC address.
    let master = |lab: &mut Lab| {
        let mut spec = lab.spec(VlanSet::Access(vid(210)));
        spec.pose.pairs = vec![
            AddressPair {
                mac: Some(VIRTUAL),
                ip: None,
            },
            pair(None, "fe80::/64"),
        ];
        lab.attach(spec)
    };
    let masters = [master(&mut lab), master(&mut lab)];
    let neighbour = lab.access(210);
    for one in &masters {
        for number in 1..8 {
            let source: Ipv6Addr = format!("fe80::{number}").parse().unwrap();
            for mac in [VIRTUAL, one.mac] {
                let sent = advertisement(mac, source, source, mac);
                assert_eq!(lab.pod_sends(one, sent), None, "{source} at {mac}");
            }
        }
        // Not one that another was given.
        let target = "fe80::ff:fe00:3".parse().unwrap();
        let sent = advertisement(one.mac, "fe80::1".parse().unwrap(), target, one.mac);
        assert_eq!(lab.pod_sends(one, sent), Some("address_taken"));
    }
    let sent = advertisement(
        neighbour.mac,
        "fe80::1".parse().unwrap(),
        "fe80::1".parse().unwrap(),
        neighbour.mac,
    );
    assert_eq!(lab.pod_sends(&neighbour, sent), None, "nobody took it");
    lab.end();
}

#[test]
fn the_first_spoofed_frame_of_each_reason_is_told_with_its_addresses() {
    let (lab, pod, _) = scene(AntiSpoof::Strict);
    let sends = |kind, mac, source, ip| {
        let sent = in_vlan(210, &frame(kind, mac, source, ip));
        assert!(lab.pod_sends(&pod, sent).is_some());
    };
    for _ in 0..3 {
        sends(Kind::V4, FOREIGN, Of::Own, Of::Own);
        sends(Kind::V4, pod.mac, Of::Own, Of::Foreign);
        sends(Kind::Arp, pod.mac, Of::Own, Of::Virtual);
        sends(Kind::Nd, pod.mac, Of::Own, Of::Foreign);
    }
    let events = lab.engine.take_events();
    let told: Vec<_> = events
        .into_iter()
        .map(|event| match event {
            Event::Spoofed(told) => {
                assert_eq!((told.attachment, told.vid), (pod.id, vid(210)));
                (told.reason, told.mac, told.ip.unwrap().to_string())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (DropReason::SpoofedMac, FOREIGN, "10.0.0.1"),
        (DropReason::SpoofedIp, pod.mac, "10.9.9.9"),
        (DropReason::SpoofedArp, pod.mac, "10.0.0.100"),
        (DropReason::SpoofedNd, pod.mac, "fd09::9"),
    ];
    assert_eq!(
        told,
        expected.map(|(reason, mac, ip)| (reason, mac, ip.to_owned()))
    );
    lab.end();
}
