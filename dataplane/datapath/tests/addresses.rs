// SPDX-License-Identifier: Apache-2.0
//! Addresses of attachments: no two in a segment have the same, and link-local ones that hosts make
//! up are taken by using them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test says what it expects, plainly, and is no worker"
)]

mod lab;

use std::net::{IpAddr, Ipv6Addr};

use lab::{Lab, Pod, TestPort, vid};
use sluice_datapath::{Error, UplinkId, UplinkSpec, VlanSet};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A pod of VLAN 210 with these addresses.
fn pod_with(lab: &mut Lab, texts: &[&str]) -> Pod {
    let mut spec = lab.spec(VlanSet::Access(vid(210)));
    spec.addresses = addresses(texts);
    lab.attach(spec)
}

fn sends_from(lab: &Lab, pod: &Pod, source: &str) -> Option<&'static str> {
    let frame = FrameBuilder::new(HOST, pod.mac)
        .ipv6(address(source), address("fe80::99"))
        .udp(1, 2)
        .build();
    lab.pod_sends(pod, frame)
}

/// Duplicate address detection.
fn detects(lab: &Lab, pod: &Pod, target: &str) -> Option<&'static str> {
    let target = address(target);
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let frame = FrameBuilder::new(Mac([0x33, 0x33, 0xff, a, b, c]), pod.mac)
        .ipv6(Ipv6Addr::UNSPECIFIED, group)
        .ttl(255)
        .icmp(135, 0, [0; 4])
        .payload(&target.octets())
        .build();
    lab.pod_sends(pod, frame)
}

fn link_locals(lab: &Lab, pod: &Pod) -> Vec<String> {
    let attachments = lab.engine.snapshot().attachments;
    let found = attachments
        .into_iter()
        .find(|one| one.id == pod.id)
        .unwrap();
    found
        .link_locals
        .iter()
        .map(|(vid, address)| format!("{vid} {address}"))
        .collect()
}

#[test]
fn an_address_that_another_attachment_of_the_vlan_has_is_refused_with_its_name() {
    let mut lab = Lab::new(1);
    let first = pod_with(&mut lab, &["10.0.0.5", "fd00::5", "fe80::77"]);
    let trunk = |native| VlanSet::Trunk {
        vids: vec![vid(220), vid(230)],
        native,
    };
    for (vlans, asked, duplicate) in [
        (VlanSet::Access(vid(210)), "10.0.0.5", true),
        (VlanSet::Access(vid(210)), "::ffff:10.0.0.5", true),
        (VlanSet::Access(vid(210)), "fd00::5", true),
        (VlanSet::Access(vid(210)), "fe80::77", true),
        // Made of the first one's MAC.
        (VlanSet::Access(vid(210)), "fe80::ff:fe00:1", true),
        (
            VlanSet::Trunk {
                vids: vec![vid(200), vid(210)],
                native: None,
            },
            "10.0.0.5",
            true,
        ),
        (trunk(Some(vid(210))), "10.0.0.5", true),
        (trunk(None), "10.0.0.5", false),
        (VlanSet::Access(vid(220)), "10.0.0.5", false),
        (VlanSet::Access(vid(210)), "10.0.0.6", false),
    ] {
        let mut spec = lab.spec(vlans);
        spec.addresses = addresses(&[asked]);
        let shown = format!("{asked} in {:?}", spec.vlans);
        match lab.engine.attach(spec) {
            Ok(attached) => {
                assert!(!duplicate, "{shown}");
                lab.engine.detach(attached.id).unwrap();
            }
            Err(error @ Error::DuplicateAddress { .. }) => {
                assert!(duplicate, "{shown}");
                let text = error.to_string();
                assert!(
                    text.contains(&first.name) && text.contains("VLAN 210"),
                    "{text}"
                );
                assert!(!text.contains("::ffff"), "{text}");
            }
            Err(other) => panic!("{shown}: {other}"),
        }
    }
    // Free again once its holder is gone.
    lab.engine.detach(first.id).unwrap();
    pod_with(&mut lab, &["10.0.0.5", "fd00::5"]);
    lab.end();
}

fn uplink_of(lab: &Lab, name: &str, network: Option<&str>) -> UplinkId {
    let spec = UplinkSpec {
        name: name.to_owned(),
        port: Box::new(TestPort(Default::default())),
        worker: None,
        tpids: vec![0x8100],
        native: None,
        network: network.map(str::to_owned),
        port_vlan: false,
    };
    lab.engine.add_uplink(spec).unwrap()
}

#[test]
fn uplinks_of_one_network_are_one_segment_and_others_are_not() {
    let mut lab = Lab::new(1);
    let [vf0, vf1, other] = [("vf0", Some("pf")), ("vf1", Some("pf")), ("other", None)]
        .map(|(name, network)| uplink_of(&lab, name, network));
    let mut attach = |on| {
        let mut spec = lab.spec(VlanSet::Access(vid(210)));
        spec.uplink = on;
        spec.addresses = addresses(&["10.0.0.5"]);
        lab.engine.attach(spec)
    };
    attach(vf0).unwrap();
    assert!(matches!(attach(vf1), Err(Error::DuplicateAddress { .. })));
    attach(other).unwrap();
    lab.end();
}

#[test]
fn a_link_local_address_has_one_holder_on_all_uplinks_of_a_network() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        lab.allow("210");
        let [vf0, vf1, other] = [("vf0", Some("pf")), ("vf1", Some("pf")), ("other", None)]
            .map(|(name, network)| uplink_of(&lab, name, network));
        let mut attach = |on, text: &str| {
            let mut spec = lab.spec(VlanSet::Access(vid(210)));
            spec.uplink = on;
            spec.addresses = addresses(&[text]);
            lab.attach(spec)
        };
        let holder = attach(vf0, "fe80::77");
        let (beside, elsewhere) = (attach(vf1, "fd00::6"), attach(other, "fd00::7"));
        assert_eq!(detects(&lab, &holder, "fe80::a:1"), None);
        // Made of the holder's MAC, configured, claimed.
        for taken in ["fe80::ff:fe00:1", "fe80::77", "fe80::a:1"] {
            let refused = Some("link_local_taken");
            assert_eq!(sends_from(&lab, &beside, taken), refused, "{taken}");
            assert_eq!(detects(&lab, &beside, taken), refused, "{taken}");
            assert_eq!(sends_from(&lab, &elsewhere, taken), None, "{taken}");
        }
        // Who is given one takes it away, from whichever uplink.
        assert_eq!(sends_from(&lab, &beside, "fe80::88"), None);
        let mut late = lab.spec(VlanSet::Access(vid(210)));
        late.uplink = vf0;
        late.addresses = addresses(&["fe80::88"]);
        lab.attach(late);
        assert!(link_locals(&lab, &beside).is_empty());
        assert_eq!(link_locals(&lab, &elsewhere).len(), 3);
        lab.end();
    }
}

#[test]
fn a_host_takes_link_local_addresses_by_using_them() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let pod = pod_with(&mut lab, &["fd00::5"]);
    assert_eq!(
        sends_from(&lab, &pod, "fe80::ff:fe00:1"),
        None,
        "made of its MAC"
    );
    assert_eq!(detects(&lab, &pod, "fe80::a:1"), None, "RFC 7217, by DAD");
    assert_eq!(sends_from(&lab, &pod, "fe80::a:1"), None);
    for n in 2..=4 {
        assert_eq!(sends_from(&lab, &pod, &format!("fe80::a:{n}")), None);
    }
    let had = [
        "210 fe80::a:1",
        "210 fe80::a:2",
        "210 fe80::a:3",
        "210 fe80::a:4",
    ];
    assert_eq!(link_locals(&lab, &pod), had);
    assert_eq!(
        sends_from(&lab, &pod, "fe80::a:5"),
        Some("link_local_limited")
    );
    assert_eq!(detects(&lab, &pod, "fe80::a:5"), Some("link_local_limited"));
    assert_eq!(sends_from(&lab, &pod, "fe80::a:4"), None);
    // Only addresses of the form that hosts make, and only link-local ones.
    for other in ["fe80::", "fe80:1::1", "febf::1"] {
        assert_eq!(sends_from(&lab, &pod, other), Some("spoofed_ip"), "{other}");
    }
    assert_eq!(detects(&lab, &pod, "fd00::6"), Some("spoofed_nd"));
    assert_eq!(detects(&lab, &pod, "fe80:1::1"), Some("spoofed_nd"));
    assert_eq!(link_locals(&lab, &pod), had);
    lab.end();
}

#[test]
fn a_link_local_address_has_one_holder_in_its_vlan() {
    for workers in [1, 2] {
        let mut lab = Lab::new(workers);
        lab.allow("210, 220");
        let first = pod_with(&mut lab, &["fd00::5", "fe80::77"]);
        let second = pod_with(&mut lab, &["fd00::6"]);
        assert_eq!(detects(&lab, &first, "fe80::a:1"), None);
        for taken in ["fe80::a:1", "fe80::77", "fe80::ff:fe00:1"] {
            assert_eq!(
                sends_from(&lab, &second, taken),
                Some("link_local_taken"),
                "{taken}"
            );
            assert_eq!(
                detects(&lab, &second, taken),
                Some("link_local_taken"),
                "{taken}"
            );
        }
        assert!(link_locals(&lab, &second).is_empty());
        // In another VLAN it is another address.
        let elsewhere = lab.access(220);
        assert_eq!(sends_from(&lab, &elsewhere, "fe80::a:1"), None);
        // A change of the tables forgets nothing, and the end of its holder frees it.
        lab.allow("210, 220, 230");
        assert_eq!(link_locals(&lab, &first), ["210 fe80::a:1"]);
        assert_eq!(
            sends_from(&lab, &second, "fe80::a:1"),
            Some("link_local_taken")
        );
        lab.engine.detach(first.id).unwrap();
        assert_eq!(sends_from(&lab, &second, "fe80::a:1"), None);
        lab.end();
    }
}

#[test]
fn who_was_given_an_address_takes_it_from_who_claimed_it() {
    let mut lab = Lab::new(2);
    lab.allow("210");
    let early = pod_with(&mut lab, &["fd00::5"]);
    // The address that the next but one will have by its MAC, and one that it will be configured with.
    for squatted in ["fe80::ff:fe00:3", "fe80::88", "fe80::a:1"] {
        for _ in 0..2 {
            assert_eq!(sends_from(&lab, &early, squatted), None, "{squatted}");
        }
    }
    pod_with(&mut lab, &["fd00::6"]);
    assert_eq!(link_locals(&lab, &early).len(), 3);
    let late = pod_with(&mut lab, &["fd00::7", "fe80::88"]);
    assert_eq!(link_locals(&lab, &early), ["210 fe80::a:1"]);
    for given in ["fe80::ff:fe00:3", "fe80::88"] {
        assert_eq!(
            sends_from(&lab, &early, given),
            Some("link_local_taken"),
            "{given}"
        );
        assert_eq!(sends_from(&lab, &late, given), None, "{given}");
    }
    lab.end();
}

#[test]
fn who_asks_for_what_others_have_is_slowed_down_alone() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let holder = pod_with(&mut lab, &["fd00::5"]);
    let (greedy, quiet) = (
        pod_with(&mut lab, &["fd00::6"]),
        pod_with(&mut lab, &["fd00::7"]),
    );
    assert_eq!(sends_from(&lab, &holder, "fe80::a:1"), None);
    let frame = FrameBuilder::new(HOST, greedy.mac)
        .ipv6(address("fe80::a:1"), address("fe80::99"))
        .udp(1, 2)
        .build();
    lab.send(&greedy.port, vec![frame; 1000]);
    let drops = lab.all_drops();
    let of = |reason| drops.get(reason).copied().unwrap_or(0);
    assert_eq!(
        of("link_local_taken") + of("link_local_limited"),
        1000,
        "{drops:?}"
    );
    assert!(of("link_local_limited") > 500, "{drops:?}");
    assert_eq!(sends_from(&lab, &quiet, "fe80::a:2"), None);
    lab.end();
}

#[test]
fn two_workers_whose_pods_want_one_address_never_both_get_it() {
    let mut lab = Lab::new(2);
    lab.allow("210");
    let mut both = Vec::new();
    for worker in [0, 1] {
        let mut spec = lab.spec(VlanSet::Access(vid(210)));
        spec.worker = Some(worker);
        spec.addresses = addresses(&[if worker == 0 { "fd00::5" } else { "fd00::6" }]);
        both.push(spec);
    }
    for round in 0..200 {
        let pods: Vec<Pod> = both.iter().map(|spec| lab.attach(spec.clone())).collect();
        let wanted = [1, 2, 3, 4].map(|n| format!("fe80::b:{round}:{n}"));
        // Put in under both locks, so that the workers begin together.
        let mut ports: Vec<_> = pods.iter().map(|pod| pod.port.lock().unwrap()).collect();
        for (port, pod) in ports.iter_mut().zip(&pods) {
            for source in &wanted {
                let frame = FrameBuilder::new(HOST, pod.mac)
                    .ipv6(address(source), address("fe80::99"))
                    .udp(1, 2);
                port.input.push_back((frame.build(), None));
            }
        }
        drop(ports);
        for pod in &pods {
            lab.settle(&pod.port);
        }
        let [a, b] = [0, 1].map(|n| link_locals(&lab, &pods[n]));
        assert!(a.iter().all(|one| !b.contains(one)), "{a:?} and {b:?}");
        for pod in pods {
            lab.engine.detach(pod.id).unwrap();
        }
    }
    lab.end();
}

#[test]
fn only_some_messages_come_from_nobody() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    // With addresses and without.
    for texts in [&["fd00::5"][..], &[]] {
        let pod = pod_with(&mut lab, texts);
        let group = |text: &str, hops: u8| {
            let to = address(text);
            let [.., a, b, c, d] = to.octets();
            FrameBuilder::new(Mac([0x33, 0x33, a, b, c, d]), pod.mac)
                .ipv6(Ipv6Addr::UNSPECIFIED, to)
                .ttl(hops)
        };
        assert_eq!(detects(&lab, &pod, "fe80::ff:fe00:9"), None);
        for allowed in [
            group("ff02::2", 255).icmp(133, 0, [0; 4]),
            group("ff02::16", 1).icmp(143, 0, [0; 4]),
            group("ff02::1:ff00:1", 1)
                .icmp(131, 0, [0; 4])
                .payload(&[0; 16]),
        ] {
            assert_eq!(lab.pod_sends(&pod, allowed.build()), None, "{allowed:?}");
        }
        let own = address("fd00::5").octets();
        for refused in [
            group("ff02::1", 255).icmp(128, 0, [0; 4]),
            group("ff02::1", 255).icmp(136, 0, [0; 4]).payload(&own),
            group("ff02::1", 255).icmp(135, 0, [0; 4]).payload(&own),
            group("ff02::1", 255).icmp(134, 0, [0; 4]).payload(&[0; 8]),
            group("ff02::1", 255).icmp(1, 0, [0; 4]).payload(&[0; 40]),
            group("ff02::1:2", 1).udp(546, 547),
            group("ff02::2", 255)
                .icmp(133, 0, [0; 4])
                .payload(&[1, 1, 2, 0, 0, 0, 0, 1]),
        ] {
            assert_eq!(
                lab.pod_sends(&pod, refused.build()),
                Some("spoofed_ip"),
                "{refused:?}"
            );
        }
        for source in ["ff02::1", "::1"] {
            assert_eq!(
                sends_from(&lab, &pod, source),
                Some("spoofed_ip"),
                "{source}"
            );
        }
        lab.engine.detach(pod.id).unwrap();
    }
    lab.end();
}
