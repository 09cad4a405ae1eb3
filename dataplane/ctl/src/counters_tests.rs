// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use serde_json::json;

fn counters(frames: u64) -> Counters {
    serde_json::from_value(json!({
        "uplinks": {"wire0": {"name": "wire0", "driver": "af_packet", "device": "eth1",
            "worker": 0, "mtu": 1500,
            "counters": {"rx_frames": frames, "rx_bytes": frames * 64, "tx_frames": 0, "tx_bytes": 0},
            "drops": {}}},
        "attachments": {"0123456789abcdef/net1": {
            "port": {"rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4},
            "ingress_drops": {"denied": 9}, "egress_drops": {}}},
        "rules": [
            {"policy": "voice", "direction": "ingress", "rule": "allow-sip", "line": 7,
             "verdict": "accept", "frames": frames, "bytes": 1},
            {"policy": "voice", "direction": "egress", "rule": "default", "line": 0,
             "verdict": "drop", "frames": 0, "bytes": 0}]
    }))
    .unwrap()
}

#[test]
fn silent_rules_are_counted_not_shown() {
    let text = table(&counters(5), None, false, false, Style::plain());
    assert!(
        text.contains("allow-sip") && !text.contains("default"),
        "{text}"
    );
    assert!(text.contains("1 rules decided on nothing yet"), "{text}");
    assert!(text.contains("to 0123456789ab/net1"), "{text}");
    assert!(text.contains("denied 9"), "{text}");
    assert!(!text.contains("/S"), "{text}");
    let text = table(&counters(5), None, false, true, Style::plain());
    assert!(text.contains("default"), "{text}");
}

#[test]
fn rates_come_from_two_readings() {
    let before = counters(1000);
    let rates = Rates {
        before: &before,
        seconds: 2.0,
    };
    let text = table(&counters(31_000), Some(&rates), true, false, Style::plain());
    // 30,000 frames and 1,920,000 bytes in 2 s.
    assert!(text.contains("15.0k") && text.contains("7.68M"), "{text}");
    // An engine that started anew counts from 0.
    let text = table(&counters(10), Some(&rates), true, false, Style::plain());
    let wire = text.lines().find(|line| line.contains("wire0")).unwrap();
    assert!(wire.contains(" - "), "{text}");
}

#[test]
fn rates_in_three_digits() {
    for (rate, text) in [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (14_880, "14.9k"),
        (999_600, "1.00M"),
        (14_880_952, "14.9M"),
        (250_000_000, "250M"),
        (10_000_000_000, "10.0G"),
    ] {
        assert_eq!(per_second(rate, 1.0), text);
    }
}
