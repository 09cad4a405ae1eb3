// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use serde_json::json;
use sluice_api::Vid;

fn status_of(ready: bool) -> Status {
    serde_json::from_value(json!({
        "health": {"ready": ready, "problems": ["VLAN 9 has no policy"], "version": "0.1.0", "pid": 42},
        "uptime_seconds": 3725,
        "workers": [{"id": 0, "core": 3, "loops": 200, "empty_loops": 150, "sleeps": 7,
                     "numa": 1, "busy_cycles": 300, "idle_cycles": 700, "known": 900, "learned": 12, "drops": {"no_mbuf": 4}}],
        "memory": {"small": {"all": 16384, "free": 16380, "in_flight": 4},
                   "large": {"all": 1024, "free": 1024, "in_flight": 0}, "backing": "hugetlb"},
        "uplinks": [{"name": "wire0", "network": "wire0", "driver": "af_packet", "device": "eth1", "worker": 0,
                     "mtu": 1500, "counters": {"rx_frames": 10, "rx_bytes": 640, "tx_frames": 5,
                     "tx_bytes": 320}, "drops": {"not_ours": 2, "denied": 1}}],
        "segments": [{"uplink": "wire0", "vid": 0, "policy": "voice", "attachments": 1},
                     {"uplink": "wire0", "vid": 9, "attachments": 2}],
        "attachments": 3,
        "policy_version": 4,
        "requests": {"answered": 7, "timed_out": 2}
    }))
    .unwrap()
}

#[test]
fn a_status_in_tables() {
    let text = status(&status_of(true), Style::plain());
    let expected = "\
engine      ready
version     0.1.0 (pid 42)
up for      1h 2m
attachments 3
policies    version 4
problem: VLAN 9 has no policy
notice: 2 control connections were closed, as their peers were too slow

WORKER CORE NUMA BUSY LOOPS EMPTY SLEEPS KNOWN LEARNED DROPPED
     0    3    1  30%   200   75%      7   900      12       4

MBUFS  ALL   FREE  IN FLIGHT ON
2 KiB  16384 16380         4 hugetlb
10 KiB  1024  1024         0 hugetlb

UPLINK NETWORK DRIVER    DEVICE LINK WORKER MTU  RX TX DROPPED
wire0  wire0   af_packet eth1   up        0 1500 10  5       3

SEGMENT VLAN     ATTACHMENTS POLICY
wire0   untagged           1 voice
wire0   9                  2 none: carries nothing
";
    assert_eq!(squeeze(&text), squeeze(expected), "{text}");
    assert!(text.lines().all(|line| line == line.trim_end()), "{text:?}");
    assert!(text.starts_with("engine"), "{text:?}");
    assert!(status(&status_of(false), Style::plain()).contains("not ready"));
}

/// Runs of blanks as one: widths are the table maker's business.
fn squeeze(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn colours_are_never_in_plain_text() {
    let text = status(&status_of(true), Style::plain());
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn vlans_in_words() {
    let access = VlanRequest::Access {
        vid: Vid::UNTAGGED,
        qinq: false,
    };
    assert_eq!(vlan(&access), "untagged");
    let trunk = VlanRequest::Trunk {
        vids: [7, 5, 6, 9].into_iter().filter_map(Vid::new).collect(),
        native: Vid::new(1),
        qinq: true,
    };
    assert_eq!(vlan(&trunk), "trunk 5-7,9 native 1 qinq");
    assert_eq!(ranges(&[0, 1, 2, 4094]), "untagged,1-2,4094");
}

#[test]
fn a_report_names_places() {
    let problem = |line| PolicyProblem {
        file: "a.yaml".into(),
        line,
        column: 3,
        message: "is wrong".into(),
    };
    let report_of = |problems| PolicyReport {
        problems,
        warnings: vec![problem(1)],
        changes: Vec::new(),
        policies: Vec::new(),
        version: 0,
    };
    let text = report(&report_of(vec![problem(7), problem(0)]), Style::plain());
    assert_eq!(
        text,
        "a.yaml:7:3: is wrong\na.yaml: is wrong\nwarning: a.yaml:1:3: is wrong\n"
    );
    let text = report(&report_of(vec![]), Style::plain());
    assert!(text.ends_with("no policies: nothing passes\n"), "{text}");
}

#[test]
fn a_policy_that_is_only_tried_is_marked() {
    let list = [false, true].map(|audit| -> PolicyStatus {
        serde_json::from_value(json!({
            "name": "a", "file": "a.yaml", "vids": [7], "rules": 1, "audit": audit,
            "default_ingress": if audit { "audit" } else { "drop" }, "default_egress": "accept"
        }))
        .unwrap()
    });
    let text = squeeze(&policies(&list, Style::plain()));
    let (_, rows) = text.split_once('\n').unwrap();
    assert_eq!(
        rows,
        "a every 7 1 drop accept a.yaml\na (audit) every 7 1 audit accept a.yaml"
    );
}

#[test]
fn what_changed_is_shown_and_nothing_else() {
    let mut applied: PolicyReport = serde_json::from_value(json!({
        "problems": [],
        "warnings": [{"file": "a.yaml", "line": 1, "column": 1, "message": "is odd"},
                     {"file": "z.yaml", "line": 1, "column": 1, "message": "is old"}],
        "changes": [{"policy": "a", "file": "a.yaml", "kind": "changed"},
                    {"policy": "b", "file": "b.yaml", "kind": "removed"}],
        "policies": [{"name": "a", "file": "a.yaml", "vids": [], "rules": 0,
                      "default_ingress": "drop", "default_egress": "drop"},
                     {"name": "z", "file": "z.yaml", "vids": [], "rules": 0,
                      "default_ingress": "drop", "default_egress": "drop"}],
        "version": 9
    }))
    .unwrap();
    let text = changes(&applied, Style::plain());
    assert_eq!(
        squeeze(&text),
        "warning: a.yaml:1:1: is odd\nchanged a a.yaml\nremoved b b.yaml\n2 policies in force, version 9"
    );
    applied.changes.clear();
    let text = changes(&applied, Style::plain());
    assert_eq!(text, "nothing changed: 2 policies in force, version 9\n");
}

#[test]
fn large_counts_are_short_in_narrow_tables() {
    for (count, text) in [
        (9_999_999, "9999999"),
        (12_345_678, "12.3M"),
        (123_456_789_012, "123G"),
        (5_000_000_000_000, "5.0T"),
    ] {
        assert_eq!(short(count), text);
    }
}

#[test]
fn times_in_words() {
    for (seconds, words) in [(0, "0s"), (61, "1m 1s"), (7200, "2h 0m"), (90_000, "1d 1h")] {
        assert_eq!(duration(seconds), words);
    }
    assert_eq!(share(1, 0), "-");
}
