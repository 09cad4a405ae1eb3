// SPDX-License-Identifier: Apache-2.0
//! Recorded answers of a PF's driver: igb, which refuses 802.1ad, a least rate and a link state, and
//! takes the rest.

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::*;

/// Recorded exchanges: name of the change, request, answer.
fn exchanges() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let bytes = |hex: &str| -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        pairs.map(|pair| byte(pair).unwrap()).collect()
    };
    let lines: Vec<&str> = include_str!("igb.txt").lines().skip(1).collect();
    let exchange = |lines: &[&'static str]| {
        let [what, request, answer] = lines else {
            panic!("{lines:?}");
        };
        (
            what.strip_prefix("# ").unwrap(),
            bytes(request.strip_prefix("> ").unwrap()),
            bytes(answer.strip_prefix("< ").unwrap()),
        )
    };
    lines.chunks(3).map(exchange).collect()
}

fn link(bytes: &[u8]) -> LinkMessage {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    match message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::SetLink(link),
        ) => link,
        other => panic!("{other:?}"),
    }
}

/// The change that a request asks for: as it was written down.
fn change(what: &str) -> VfChange {
    let vlan = |is_8021ad| VfVlan {
        vid: 210,
        qos: 5,
        is_8021ad,
    };
    [
        VfChange::Vlan(vlan(false)),
        VfChange::Vlan(vlan(true)),
        VfChange::Mac([2, 0, 0x5e, 0x10, 0, 1]),
        VfChange::Spoofchk(false),
        VfChange::Trust(true),
        VfChange::Rate { min: 10, max: 100 },
        VfChange::Rate { min: 0, max: 100 },
        VfChange::Link(VfLink::Enable),
    ]
    .into_iter()
    .find(|change| change.to_string() == what)
    .unwrap_or_else(|| panic!("{what}"))
}

#[test]
fn settings_are_read_before_and_after() {
    let exchanges = exchanges();
    let of = |what: &str| {
        let (_, _, answer) = exchanges.iter().find(|(there, ..)| *there == what).unwrap();
        settings_in(&link(answer), 0)
    };
    let before = VfSettings {
        mac: Some([0; 6]),
        vlan: Some(VfVlan::default()),
        spoofchk: Some(true),
        trust: Some(false),
        min_tx_rate: Some(0),
        max_tx_rate: Some(0),
        link_state: Some(VfLink::Auto),
    };
    assert_eq!(of("before"), Ok(before.clone()));
    let after = VfSettings {
        mac: Some([2, 0, 0x5e, 0x10, 0, 1]),
        vlan: Some(VfVlan {
            vid: 210,
            qos: 5,
            is_8021ad: false,
        }),
        spoofchk: Some(false),
        trust: Some(true),
        max_tx_rate: Some(100),
        ..before
    };
    assert_eq!(of("after"), Ok(after));
    let (_, _, answer) = &exchanges[0];
    assert_eq!(settings_in(&link(answer), 1), Err(1), "there is one VF");
}

#[test]
fn the_requests_are_those_that_the_driver_was_seen_to_understand() {
    let mut seen = 0;
    for (what, request, _) in exchanges() {
        if what == "before" || what == "after" {
            continue;
        }
        let index = link(&request).header.index;
        let set = RouteNetlinkMessage::SetLink(setting(index, 0, change(what)));
        let mut message = NetlinkMessage::from(set);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        message.header.sequence_number = 1;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        assert_eq!(bytes, request, "{what}");
        seen += 1;
    }
    assert_eq!(seen, 8, "one of every kind");
}

#[test]
fn what_the_driver_refuses_is_named_with_its_reason() {
    let mut refused = Vec::new();
    for (what, _, answer) in exchanges() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).unwrap();
        let NetlinkPayload::Error(error) = message.payload else {
            continue;
        };
        if error.raw_code() == 0 {
            continue;
        }
        let netdev = Error::Netdev {
            what: "set a VF of",
            netdev: "enp12s0f0".to_owned(),
            why: why(rtnetlink::Error::NetlinkError(error)),
        };
        refused.push(refusal("enp12s0f0", 0, change(what), netdev).to_string());
    }
    let expected = [
        ("proto 802.1ad", "Protocol not supported"),
        ("min_tx_rate 10 max_tx_rate 100", "Invalid argument"),
        ("link_state Enable", "Operation not supported"),
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:?}");
    for (text, (setting, reason)) in refused.iter().zip(expected) {
        for part in ["enp12s0f0", setting, reason] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}

#[test]
fn traffic_of_a_vf_is_seen_from_the_vf() {
    let (_, _, answer) = &exchanges()[0];
    let mut link = link(answer);
    // This driver does not count.
    assert!(vf_traffic::traffic_in(&link).is_empty());
    for attribute in &mut link.attributes {
        let LinkAttribute::VfInfoList(vfs) = attribute else {
            continue;
        };
        for info in vfs.iter_mut().flat_map(|LinkVfInfo(infos)| infos) {
            if let VfInfo::Stats(stats) = info {
                use netlink_packet_route::link::VfStats;
                *stats = vec![
                    VfStats::RxPackets(1),
                    VfStats::TxPackets(2),
                    VfStats::RxBytes(3),
                    VfStats::TxBytes(4),
                    VfStats::Broadcast(5),
                ];
            }
        }
    }
    let expected = sluice_stats::Traffic {
        rx_frames: 1,
        rx_bytes: 3,
        tx_frames: 2,
        tx_bytes: 4,
    };
    assert_eq!(vf_traffic::traffic_in(&link), [(0, expected)]);
}
