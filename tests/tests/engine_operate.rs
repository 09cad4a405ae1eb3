// SPDX-License-Identifier: Apache-2.0
//! Operating the engine: draining, reading the configuration again, stopping, its log as JSON.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;

use engine_rig::pod::PodMemif;
use engine_rig::{Node, PATIENCE, pod, text};
use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_api::client::ClientError;
use sluice_api::{ErrorCode, LinkState};
use sluice_tests::{root_or_skip, wait_for};

/// Replaces part of the node's configuration file.
fn configure(node: &Node, old: &str, new: &str) {
    let file = node.path("sluiced.yaml");
    let config = fs::read_to_string(&file).unwrap();
    assert!(config.contains(old), "{old:?} is not in\n{config}");
    fs::write(file, config.replace(old, new)).unwrap();
}

fn refused(node: &Node, pod: &sluice_tests::Netns, ifname: &str) -> sluice_api::ApiError {
    let request = node.request(pod, ifname, json!({}));
    match node.client().attach(&request) {
        Err(ClientError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_drained_engine_adds_nothing_and_serves_what_it_has() {
    if !root_or_skip("a_drained_engine_adds_nothing_and_serves_what_it_has") {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    let (old, new) = (pod(), pod());
    let first = node.attach(&old, "net1", json!({}));
    let peer = PodMemif::client(&old, "net1");
    node.wait_for_link(&old, "net1", LinkState::Up);

    let drained = node.ctl(&["drain"]);
    assert!(drained.status.success(), "{}", text(&drained));
    let health = node.client().health().unwrap();
    assert!(health.draining && !health.ready && !health.degraded);
    assert!(health.problems[0].contains("drained"), "{health:?}");
    let error = refused(&node, &new, "net1");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("drain --undo"), "{error}");
    // The same request again, of an attachment that is there.
    assert_eq!(node.attach(&old, "net1", json!({})), first);
    assert_eq!(node.attachment(&old, "net1").link, LinkState::Up);
    assert!(text(&node.ctl(&["status"])).contains("drained"));
    let policies = node.path("policies").display().to_string();
    let applied = node.ctl(&["policies", "apply", &policies]);
    assert!(applied.status.success(), "{}", text(&applied));

    // It is drained after a restart too, and the attachment is served again.
    drop(peer);
    assert_eq!(engine.terminate(PATIENCE).unwrap(), Some(0));
    drop(engine);
    let log = node.path("log");
    let mut engine = node.start_when(|health| health.draining);
    assert_eq!(refused(&node, &new, "net1").code, ErrorCode::Unavailable);
    assert_eq!(node.client().attachments().unwrap().len(), 1);
    node.client().detach(old.name(), "net1").unwrap();
    let waited = node.ctl(&["drain", "--wait", "--json"]);
    let waited: Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert_eq!(waited, json!({"draining": true, "attachments": 0}));

    let undone = node.ctl(&["drain", "--undo"]);
    assert!(undone.status.success(), "{}", text(&undone));
    node.attach(&new, "net1", json!({}));
    assert!(node.client().health().unwrap().ready, "{}", log.display());

    // A preStop hook's way to end it.
    let stopped = node.ctl(&["stop", "--timeout", "30"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    assert!(!engine.alive());
    node.says("SIGTERM: stopping", 2);
}

#[test]
fn a_reload_changes_what_can_change_and_names_the_rest() {
    if !root_or_skip("a_reload_changes_what_can_change_and_names_the_rest") {
        return;
    }
    let node = Node::new();
    node.wire.veth("wire1", &node.netns, "up1").unwrap();
    let engine = node.start();
    let report = node.client().reload().unwrap();
    assert!(
        report.changed.is_empty() && report.kept.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.policies, 1);

    // A wrong key: nothing changes, the policies neither.
    configure(&node, "log: debug", "log: info\nidle: {pause_after: x}");
    node.write_policy("more.yaml", "name: more\nvlans: [300]\n");
    let wrong = node.ctl(&["reload"]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong);
    assert!(
        said.contains("idle.pause_after") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(node.client().policies().unwrap().len(), 1);
    assert!(node.client().health().unwrap().degraded);
    // So it is with a wrong policy.
    configure(&node, "pause_after: x", "pause_after: 7");
    node.write_policy("bad.yaml", "name: bad\nvlans: [x]\n");
    let wrong = node.client().reload().unwrap();
    assert!(wrong.problems[0].contains("bad.yaml"), "{wrong:?}");
    assert!(wrong.changed.is_empty(), "{wrong:?}");
    fs::remove_file(node.path("policies/bad.yaml")).unwrap();

    // By SIGHUP, what can change does.
    configure(
        &node,
        "uplinks: [{name: wire0, device: up0}]",
        "uplinks: [{name: wire0, device: up0, posing: {loosest: strict}}, {name: wire1, device: up1}]",
    );
    configure(
        &node,
        "huge_pages: off",
        "huge_pages: off, flow_cache: 1024",
    );
    engine.signal(Signal::HUP).unwrap();
    let is_there = || {
        let status = node.client().status().ok()?;
        status
            .uplinks
            .iter()
            .any(|one| one.name == "wire1")
            .then_some(status)
    };
    wait_for("the new uplink", PATIENCE, is_there).unwrap();
    node.says("idle.pause_after is 7 now, was 64", 1);
    node.says("log is info now, was debug", 1);
    node.says(
        "memory.flow_cache stays 131072, and the configuration has 1024",
        1,
    );
    assert_eq!(node.client().policies().unwrap().len(), 2);
    assert!(node.client().health().unwrap().problems.is_empty());
    let pod = pod();
    let mac = node.request(&pod, "net1", json!({"anti_spoof": "mac"}));
    let refused = node.client().attach(&mac).unwrap_err().to_string();
    assert!(refused.contains("loosest: strict"), "{refused}");

    // An uplink with an attachment stays; without one it goes, and the host has its netdev back.
    node.attach(&pod, "net1", json!({"uplink": "wire1"}));
    configure(&node, ", {name: wire1, device: up1}", "");
    let report = node.client().reload().unwrap();
    let kept: Vec<_> = report.kept.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(kept, ["memory.flow_cache", "uplinks.wire1"], "{report:?}");
    assert!(report.kept[1].why.contains("1 attachments"), "{report:?}");
    node.client().detach(pod.name(), "net1").unwrap();
    let report = node.client().reload().unwrap();
    assert_eq!(report.changed[0].key, "uplinks.wire1", "{report:?}");
    let rules = node.netns.command("nft").args(["list", "ruleset"]).output();
    let rules = text(&rules.unwrap());
    assert!(rules.contains("up0") && !rules.contains("up1"), "{rules}");
}

#[test]
fn the_log_as_json_names_attachments_by_fields() {
    if !root_or_skip("the_log_as_json_names_attachments_by_fields") {
        return;
    }
    let node = Node::new();
    configure(&node, "log: debug", "log: debug\nlog_format: json");
    let engine = node.start();
    let pod = pod();
    let of_pod = json!({"pod": {"namespace": "shop", "name": "till"}});
    let reply = node.attach(&pod, "net1", of_pod);
    let _peer = PodMemif::client(&pod, "net1");
    node.wait_for_link(&pod, "net1", LinkState::Up);
    node.client().detach(pod.name(), "net1").unwrap();
    node.says(": detached", 1);
    drop(engine);
    let mut about = Vec::new();
    for line in node.log().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("{error}: {line}");
        });
        assert!(
            event["timestamp"].is_string() && event["level"].is_string(),
            "{line}"
        );
        if event.get("container_id").is_some() {
            about.push(event);
        }
    }
    for word in ["attached to wire0", "connection 1 with", ": detached"] {
        let found = about.iter().find(|event| {
            event["message"]
                .as_str()
                .is_some_and(|text| text.contains(word))
        });
        let found = found.unwrap_or_else(|| panic!("{word}: {about:#?}"));
        assert_eq!(found["container_id"], pod.name());
        assert_eq!(found["interface"], "net1");
        assert_eq!(found["attachment"], reply.id);
        assert_eq!(
            (&found["namespace"], &found["pod"]),
            (&json!("shop"), &json!("till"))
        );
        assert_eq!(
            (&found["uplink"], &found["vlan"]),
            (&json!("wire0"), &json!("210"))
        );
    }
}

#[test]
fn workers_say_how_busy_they_were_and_how_large_their_bursts() {
    if !root_or_skip("workers_say_how_busy_they_were_and_how_large_their_bursts") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    // Broadcasts from the wire.
    node.wire
        .ip(&["addr", "add", "10.21.0.1/24", "dev", "wire0"])
        .unwrap();
    let mut ping = node.wire.command("ping");
    let _ = ping
        .args(["-c", "3", "-i", "0.2", "-w", "2", "10.21.0.9"])
        .output();
    let counted = wait_for("a burst", PATIENCE, || {
        let workers = node.client().status().ok()?.workers;
        let bursts: u64 = workers.iter().flat_map(|worker| &worker.burst_frames).sum();
        (bursts > 0 && workers.iter().any(|worker| worker.busy_cycles > 0)).then_some(workers)
    });
    let workers = counted.unwrap();
    for worker in &workers {
        assert_eq!(worker.burst_frames.len(), 7, "{worker:?}");
        assert!(
            worker.idle_cycles > 0 && worker.cycles_per_ms > 0,
            "{worker:?}"
        );
        let least: u64 = (0..7)
            .map(|class| worker.burst_frames[class] << class)
            .sum();
        assert!(worker.burst_frames_sum >= least, "{worker:?}");
    }
}
