// SPDX-License-Identifier: Apache-2.0
//! Contents of a scrape, and that the table of the page says the same.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use sluice_api::Traffic;
use sluice_host::operations::{Operation, VERSION};

use super::*;
use crate::config::AgentConfig;
use crate::metrics::families::ALL;

const RESOURCE: &str = "sluicegate.io/voice";

fn attachment(id: u32, namespace: &str, pod: &str, vf: Option<&str>) -> Value {
    json!({
        "id": id, "mac": "02:00:00:00:00:01", "mtu": 1500, "worker": 0, "link": "up",
        "request": {
            "container_id": format!("c{id}"), "ifname": "net1",
            "netns": {"path": "/run/netns/x", "dev": 1, "ino": 2},
            "pod": {"namespace": namespace, "name": pod},
            "uplink": "wire0", "vlan": {"mode": "access", "vid": 210}, "backend": {"type": "memif"},
            "vf": vf.map(|address| json!({"address": address}))
        },
        "connections": {"made": 1, "refused": 2},
        "counters": {
            "port": {"rx_frames": 10, "rx_bytes": 1000, "tx_frames": 20, "tx_bytes": 2000},
            "ingress_drops": {"denied": 3, "ring_full": 0},
            "egress_drops": {"spoofed_ip": 4, "spoofed_arp": 1, "denied": 1},
            "held_back": 5
        }
    })
}

fn state(attachments: &[Value]) -> EngineState {
    let traffic = json!({"rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4});
    let nic = json!({"rx_frames": 5, "rx_bytes": 6, "tx_frames": 7, "tx_bytes": 8, "resets": 1});
    let uplink = |name: &str, nic: Value| {
        json!({"name": name, "network": "wire0", "link": "down", "driver": "af_packet", "device": "eth1",
            "worker": 0, "mtu": 1500, "counters": traffic, "drops": {"not_ours": 9}, "nic": nic})
    };
    let mbufs = json!({"all": 100, "free": 90, "in_flight": 10});
    let status = json!({
        "health": {"ready": true, "degraded": true, "problems": ["wire0 has no link"], "version": "9.9", "pid": 1},
        "uptime_seconds": 60,
        "workers": [{"id": 0, "core": 3, "loops": 10, "empty_loops": 5, "sleeps": 1, "known": 8, "learned": 2,
            "connections": {"now": 5, "opened": 9, "evicted": 1, "refused": {"quota": 2}, "invalid": {"seq_over": 3}},
            "numa": 1, "busy_cycles": 70, "idle_cycles": 30, "cycles_per_ms": 2_000_000,
            "burst_frames": [4, 3, 0, 0, 0, 0, 2], "burst_frames_sum": 140,
            "drops": {"no_mbuf": 1}}],
        "memory": {"small": mbufs, "large": mbufs, "backing": "hugetlb"},
        "uplinks": [uplink("wire0", Value::Null), uplink("0000:01:10.0", nic)],
        "segments": [{"uplink": "wire0", "vid": 210, "policy": "voice", "attachments": 1},
            {"uplink": "wire0", "vid": 0, "attachments": 0}],
        "attachments": attachments.len(), "policy_version": 4
    });
    let rule = json!({"policy": "voice", "direction": "ingress", "rule": "calls", "line": 3, "verdict": "accept",
        "frames": 11, "bytes": 12});
    let sums = json!({"received": 0, "copied": 0, "answered": 0, "sent": 0, "flooded": 0, "dropped": 0,
        "in_flight": 0, "difference": -2});
    let read = |value: Value| serde_json::from_value(value).unwrap();
    EngineState {
        status: serde_json::from_value(status).unwrap(),
        attachments: attachments
            .iter()
            .map(|one| serde_json::from_value(one.clone()).unwrap())
            .collect(),
        rules: vec![read(rule.clone()), read(rule)],
        balance: serde_json::from_value(
            json!({"balanced": false, "total": sums, "workers": [], "drops": {}}),
        )
        .unwrap(),
        took: Duration::from_millis(5),
    }
}

fn config(most: usize) -> MetricsConfig {
    MetricsConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_attachments: most,
        sriov_kubepoddevice: true,
    }
}

fn vf(traffic: Option<Traffic>) -> Vf {
    Vf {
        address: "0000:01:10.0".parse().unwrap(),
        pf: "enp1s0f0".to_owned(),
        index: 0,
        numa_node: Some(1),
        driver: Some("vfio-pci".to_owned()),
        traffic,
    }
}

fn context() -> Context {
    let file = Path::new("agent.yaml");
    let config = AgentConfig::parse(file, "reaper: {}\n", None).unwrap();
    let context = Context::new(config);
    context.health.good("metrics");
    context.health.bad("install", "no API server");
    context.reaper.add(2, 1);
    context.devices.change(RESOURCE, |pool| pool.devices = 4);
    context
}

fn scrape(most: usize, attachments: &[Value]) -> Samples {
    let operations = Operations::default();
    let operation = Operation {
        version: VERSION,
        plugin: "sluicegate-vf".to_owned(),
        command: "ADD".to_owned(),
        code: 11,
        seconds: 0.3,
        delegate: Some("host-local".to_owned()),
    };
    operations.count(&serde_json::to_vec(&operation).unwrap());
    let state = state(attachments);
    collect(
        &context(),
        &config(most),
        &operations,
        Ok(&state),
        &[vf(None)],
    )
}

fn written(samples: Samples) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(samples));
    let mut out = String::new();
    text::encode(&mut out, &registry).unwrap();
    out
}

#[test]
fn every_family_is_served_when_there_is_everything() {
    let samples = scrape(10, &[attachment(1, "default", "a", Some("0000:01:10.0"))]);
    let served: BTreeSet<(&str, &str)> = samples
        .families()
        .iter()
        .map(|f| (f.name, f.unit))
        .collect();
    let known: BTreeSet<(&str, &str)> = ALL.iter().map(|f| (f.name, f.unit)).collect();
    assert_eq!(served, known);
    let text = written(samples);
    let labels = "namespace=\"default\",pod=\"a\",interface=\"net1\"";
    for line in [
        // Seen from the pod.
        &format!(
            "sluicegate_attachment_receive_bytes_total{{{labels},network=\"wire0\",vlan=\"210\"}} 2000"
        ),
        &format!(
            "sluicegate_attachment_transmit_packets_total{{{labels},network=\"wire0\",vlan=\"210\"}} 10"
        ),
        &format!(
            "sluicegate_attachment_drops_total{{{labels},direction=\"ingress\",reason=\"denied\"}} 3"
        ),
        &format!("sluicegate_attachment_spoofed_total{{{labels}}} 5"),
        // Two rules of one name are one series.
        "sluicegate_rule_hits_total{policy=\"voice\",rule=\"calls\",direction=\"ingress\",verdict=\"accept\"} 22",
        "sluicegate_uplink_link{uplink=\"wire0\",state=\"down\"} 1",
        "sluicegate_uplink_link{uplink=\"wire0\",state=\"up\"} 0",
        "sluicegate_vf_receive_bytes_total{pci_address=\"0000:01:10.0\",pf=\"enp1s0f0\",vf=\"0\",numa_node=\"1\"} 6",
        "sriov_kubepoddevice{pciAddr=\"0000:01:10.0\",pod=\"a\",namespace=\"default\",dev_type=\"vfio-pci\"} 1",
        "sluicegate_balance_difference_packets -2.0",
        "sluicegate_worker_info{worker=\"0\",cpu=\"3\",numa=\"1\"} 1",
        "sluicegate_worker_clock_hertz{worker=\"0\"} 2000000000",
        "sluicegate_worker_burst_frames_bucket{le=\"63.0\",worker=\"0\"} 7",
        "sluicegate_worker_burst_frames_bucket{le=\"+Inf\",worker=\"0\"} 9",
        "sluicegate_cni_operation_seconds_bucket{le=\"0.5\",plugin=\"sluicegate-vf\",command=\"ADD\",outcome=\"11\"} 1",
        "sluicegate_cni_delegate_failures_total{delegate=\"host-local\"} 1",
        "sluicegate_agent_part_ready{part=\"install\"} 0",
        "# UNIT sluicegate_attachment_receive_bytes bytes",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|told| told == line),
            "{line} is not in:\n{text}"
        );
    }
    assert!(
        !text.contains("ring_full"),
        "a reason that is 0 has a series"
    );
}

#[test]
fn an_engine_that_is_away_leaves_nothing_stale() {
    let operations = Operations::default();
    let away = "no such socket".to_owned();
    let counted = Traffic {
        rx_frames: 7,
        ..Traffic::default()
    };
    let vfs = [vf(Some(counted))];
    let text = written(collect(
        &context(),
        &config(10),
        &operations,
        Err(&away),
        &vfs,
    ));
    assert!(text.contains("\nsluicegate_up 0\n"), "{text}");
    for absent in [
        "attachment",
        "uplink",
        "worker",
        "rule",
        "engine",
        "mempool",
    ] {
        let absent = format!("\nsluicegate_{absent}");
        assert!(!text.contains(&absent), "{absent} in:\n{text}");
    }
    // The kernel tells of VFs without the engine.
    let line = "sluicegate_vf_receive_packets_total{pci_address=\"0000:01:10.0\",pf=\"enp1s0f0\",vf=\"0\",numa_node=\"1\"} 7";
    assert!(text.contains(line), "{text}");
}

#[test]
fn attachments_beyond_the_limit_are_summed_up() {
    let all: Vec<Value> = (0..5)
        .map(|id| attachment(id, "default", &format!("pod{id}"), None))
        .collect();
    let text = written(scrape(2, &all));
    for line in [
        "sluicegate_attachments 5",
        "sluicegate_series_left_out 3",
        "sluicegate_attachment_receive_bytes_total{namespace=\"\",pod=\"\",interface=\"\",network=\"\",vlan=\"\"} 6000",
        "sluicegate_attachment_drops_total{namespace=\"\",pod=\"\",interface=\"\",direction=\"egress\",reason=\"spoofed_ip\"} 12",
        "sluicegate_attachment_up{namespace=\"\",pod=\"\",interface=\"\",network=\"\",vlan=\"\"} 3",
    ] {
        assert!(
            text.lines().any(|told| told == line),
            "{line} is not in:\n{text}"
        );
    }
    let own = "sluicegate_attachment_receive_bytes_total{namespace=\"default\"";
    assert_eq!(text.matches(own).count(), 2);
}

#[test]
fn hostile_names_stay_inside_their_quotes() {
    let hostile = "a\"} 1\n# EOF\\";
    let two = [
        attachment(1, "default", hostile, None),
        attachment(2, "default", hostile, None),
        attachment(3, &"n".repeat(5000), "b", None),
    ];
    let text = written(scrape(10, &two));
    let line = "sluicegate_attachment_receive_packets_total{namespace=\"default\",pod=\"a\\\"} 1\\n# EOF\\\\\",\
        interface=\"net1\",network=\"wire0\",vlan=\"210\"} 40";
    assert!(text.lines().any(|told| told == line), "{text}");
    assert_eq!(text.matches("\n# EOF").count(), 1);
    assert!(text.lines().all(|line| line.len() < 700));
}

/// Row of the page's table.
fn row(family: &crate::metrics::family::Family) -> String {
    let unit = if family.unit.is_empty() {
        String::new()
    } else {
        format!("_{}", family.unit)
    };
    let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
    format!(
        "| `{}{unit}{}` | {} | {} | {} | {} | {} |",
        family.name,
        family.kind.suffix(),
        family.kind.name(),
        family.unit,
        labels.join(", "),
        family.help,
        family.bound
    )
}

#[test]
fn the_page_has_every_family() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let table: Vec<&str> = text.lines().filter(|l| l.starts_with("| `s")).collect();
    let rows: Vec<String> = ALL.iter().map(|family| row(family)).collect();
    assert!(
        table == rows,
        "the table of docs/metrics.md is to be:\n{}",
        rows.join("\n")
    );
}
