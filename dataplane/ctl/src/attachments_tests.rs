// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use serde_json::{Value, json};

fn attachment(with: Value) -> AttachmentStatus {
    let mut status = json!({
        "id": 1,
        "request": {
            "container_id": "0123456789abcdef0123456789abcdef", "ifname": "net1",
            "netns": {"path": "/run/netns/x", "dev": 4, "ino": 7},
            "pod": {"namespace": "telephony", "name": "media-gateway-7f9c4d"},
            "uplink": "wire0", "vlan": {"mode": "access", "vid": 210},
            "backend": {"type": "memif"}},
        "mac": "02:00:00:00:00:01", "mtu": 1500, "socket": "@sluicegate/net1", "worker": 0,
        "link": "up",
        "counters": {"port": {"rx_frames": 1_234_567, "rx_bytes": 1, "tx_frames": 7_654_321, "tx_bytes": 1},
                     "ingress_drops": {}, "egress_drops": {}}
    });
    for (key, value) in with.as_object().unwrap() {
        status[key] = value.clone();
    }
    serde_json::from_value(status).unwrap()
}

#[test]
fn a_line_fits_a_narrow_terminal_and_needs_no_notice() {
    let text = table(&[attachment(json!({}))], false, Style::plain());
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(text.contains("media-gateway-7f9c4d"), "{text}");
}

#[test]
fn what_to_look_at_is_told_without_being_asked_for() {
    let status = attachment(json!({
        "connections": {"made": 1, "broken": 2, "refused": 300, "pauses": 290,
                        "last_refusal": "pid 7 was refused: Incorrect secret", "last_refused_ago": 4},
        "counters": {"port": {"rx_frames": 1, "rx_bytes": 1, "tx_frames": 1, "tx_bytes": 1},
                     "ingress_drops": {"denied": 5},
                     "egress_drops": {"spoofed_nd": 9, "denied": 7},
                     "late_visits": 3, "longest_visit_ns": 1_200_000}
    }));
    let text = table(std::slice::from_ref(&status), false, Style::plain());
    for part in [
        "telephony/media-gateway-7f9c4d net1: dropped from it: spoofed_nd 9\n",
        "3 visits over the time budget, the longest took 1200 us",
        "1 made, 2 broken, 300 refused, 290 pauses, the last refused 4 s ago",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("denied"), "a policy's work: {text}");
    let text = table(&[status], true, Style::plain());
    for part in [
        "denied 7",
        "Incorrect secret",
        "02:00:00:00:00:01",
        "wire0, worker 0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn reasons_to_look_at_are_reasons() {
    let documented = include_str!("../../../docs/drop-reasons.md");
    for reason in NOTABLE {
        assert!(documented.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

#[test]
fn link_local_addresses_are_shown_one_a_line() {
    let status = attachment(json!({
        "link_locals": {
            "0": ["fe80::1"],
            "4094": ["fe80::1234:5678:9abc:def0", "fe80::fedc:ba98:7654:3210"]}
    }));
    let text = table(std::slice::from_ref(&status), true, Style::plain());
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap();
    assert!(
        line("fe80::1 in untagged").contains("link-locals"),
        "{text}"
    );
    for address in ["fe80::1234:5678:9abc:def0", "fe80::fedc:ba98:7654:3210"] {
        let line = line(&format!("{address} in VLAN 4094"));
        assert!(line.len() <= 80, "{text}");
    }
}

#[test]
fn what_a_pod_may_pose_as_and_what_it_was_not_let_send() {
    let mut status = attachment(json!({
        "learned": {"210": ["02:00:00:00:00:77"]},
        "counters": {"port": {"rx_frames": 1, "rx_bytes": 1, "tx_frames": 1, "tx_bytes": 1},
                     "ingress_drops": {}, "egress_drops": {"spoofed_mac": 3}, "mac_moves": 5},
        "spoofed": [{"reason": "spoofed_mac", "vid": 210, "mac": "02:00:00:00:00:99",
                     "sent": "sends from MAC address 02:00:00:00:00:99 in VLAN 210",
                     "advice": "Its own is 02:00:00:00:00:01."}]
    }));
    status.request.anti_spoof = sluice_api::AntiSpoof::Mac;
    status.request.promiscuous = true;
    status.request.roles = vec![sluice_api::Role::Router];
    status.request.allowed_address_pairs = vec![sluice_api::AddressPair {
        mac: None,
        ip: Some("10.0.0.1/32".parse().unwrap()),
    }];
    let text = table(std::slice::from_ref(&status), false, Style::plain());
    let notice =
        "net1: sends from MAC address 02:00:00:00:00:99 in VLAN 210: dropped as spoofed_mac\n";
    assert!(text.contains(notice), "{text}");
    let text = table(&[status], true, Style::plain());
    for part in [
        "mac, promiscuous, router",
        "own=10.0.0.1/32",
        "02:00:00:00:00:77 in VLAN 210",
        "Its own is 02:00:00:00:00:01.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
