// SPDX-License-Identifier: Apache-2.0
//! Policies: checked, applied as a whole or not at all, reloaded, and never taken from under an
//! attachment.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::process::{Command, Stdio};

use engine_rig::{Node, PATIENCE, pod, text};
use rustix::process::Signal;
use serde_json::json;
use sluice_api::{PolicyFile, PolicyFiles};
use sluice_tests::{bin, root_or_skip, wait_for};

fn policy(name: &str, vlan: u16) -> String {
    format!("name: {name}\nvlans: [{vlan}]\ndefault: {{ingress: accept, egress: accept}}\n")
}

fn change(files: &[(&str, &str)], replace_all: bool) -> PolicyFiles {
    let files = files
        .iter()
        .map(|(name, yaml)| PolicyFile {
            name: (*name).into(),
            yaml: (*yaml).into(),
        })
        .collect();
    PolicyFiles { files, replace_all }
}

/// Names of the policies in force.
fn in_force(node: &Node) -> Vec<String> {
    let policies = node.client().policies().unwrap();
    policies.into_iter().map(|policy| policy.name).collect()
}

#[test]
fn sluicectl_checks_policies_without_an_engine() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.yaml");
    let bad = dir.path().join("bad.yaml");
    let check = |args: &[&std::path::Path]| {
        let mut command = Command::new(bin("sluicectl"));
        command
            .args(["--socket", "/nowhere/s", "policies", "check"])
            .args(args);
        command.stdin(Stdio::null()).output().unwrap()
    };
    fs::write(&good, policy("voice", 210)).unwrap();
    let output = check(&[&good]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("voice"), "{}", text(&output));

    fs::write(&bad, "name: bad\nvlans: [5000]\nrulez: []\n").unwrap();
    let output = check(&[dir.path()]);
    assert_eq!(output.status.code(), Some(1));
    let lines = text(&output);
    for place in ["bad.yaml:2:", "bad.yaml:3:"] {
        assert!(
            lines.contains(&format!("{}/{place}", dir.path().display())),
            "{lines}"
        );
    }
    // Each good, and not together.
    fs::write(&bad, policy("other", 210)).unwrap();
    let output = check(&[&good, &bad]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("VLAN 210"), "{}", text(&output));
    let output = check(&[&dir.path().join("none.yaml")]);
    assert_eq!(output.status.code(), Some(1));
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn policies_are_applied_as_a_whole_or_not_at_all() {
    if !root_or_skip("policies_are_applied_as_a_whole_or_not_at_all") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let (data, media) = (policy("data", 220), policy("media", 230));

    let bad = change(
        &[
            ("data.yaml", &data),
            ("media.yaml", "name: media\nvlans: [231]\nx: 1\n"),
        ],
        false,
    );
    let report = node.client().apply_policies(&bad).unwrap();
    assert_eq!(
        (report.problems[0].file.as_str(), report.problems[0].line),
        ("media.yaml", 3)
    );
    assert_eq!(report.version, 1);
    // With what stays, too: VLAN 210 is voice's.
    let clash = change(
        &[("data.yaml", &data), ("more.yaml", &policy("more", 210))],
        false,
    );
    let report = node.client().apply_policies(&clash).unwrap();
    assert!(
        report.problems[0].message.contains("VLAN 210"),
        "{report:?}"
    );
    let outside = change(&[("../data.yaml", &data)], false);
    assert_eq!(
        node.client()
            .apply_policies(&outside)
            .unwrap()
            .problems
            .len(),
        1
    );
    assert_eq!(in_force(&node), ["voice"]);
    assert_eq!(node.files("policies"), ["voice.yaml"]);

    let both = change(&[("data.yaml", &data), ("media.yaml", &media)], false);
    let checked = node.client().check_policies(&both).unwrap();
    assert!(checked.problems.is_empty() && checked.policies.len() == 3);
    assert_eq!(in_force(&node), ["voice"], "checking changes nothing");
    let report = node.client().apply_policies(&both).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!(report.version, 2);
    assert_eq!(in_force(&node), ["data", "media", "voice"]);
    assert_eq!(
        node.files("policies"),
        ["data.yaml", "media.yaml", "voice.yaml"]
    );

    let report = node
        .client()
        .apply_policies(&change(&[("data.yaml", &data)], true))
        .unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!(in_force(&node), ["data"]);
    assert_eq!(node.files("policies"), ["data.yaml"]);
    assert_eq!(node.client().status().unwrap().policy_version, 3);
}

#[test]
fn policies_survive_the_engine() {
    if !root_or_skip("policies_survive_the_engine") {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    let file = node.path("data.yaml");
    fs::write(&file, policy("data", 220)).unwrap();
    let output = node.ctl(&["policies", "apply", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    engine.kill();
    let _engine = node.start();
    assert_eq!(in_force(&node), ["data", "voice"]);
}

#[test]
fn an_attachments_own_policy_stays() {
    if !root_or_skip("an_attachments_own_policy_stays") {
        return;
    }
    let node = Node::new();
    node.write_policy(
        "own.yaml",
        "name: own\ndefault: {ingress: accept, egress: drop}\n",
    );
    let _engine = node.start();
    let pod = pod();
    node.attach(&pod, "net1", json!({"firewall": "own"}));
    let without = change(&[("voice.yaml", engine_rig::VOICE)], true);
    let report = node.client().apply_policies(&without).unwrap();
    let message = &report.problems[0].message;
    assert!(
        message.contains("`own`") && message.contains(pod.name()),
        "{message}"
    );
    assert_eq!(in_force(&node), ["own", "voice"]);
    node.client().detach(pod.name(), "net1").unwrap();
    assert!(
        node.client()
            .apply_policies(&without)
            .unwrap()
            .problems
            .is_empty()
    );
    assert_eq!(in_force(&node), ["voice"]);
}

#[test]
fn sighup_reads_the_folder_again() {
    if !root_or_skip("sighup_reads_the_folder_again") {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let reloaded = |what: &str, check: &dyn Fn() -> bool| {
        engine.signal(Signal::HUP).unwrap();
        let reached = wait_for(what, PATIENCE, || check().then_some(()));
        assert!(
            reached.is_ok(),
            "{what}: log of the engine:\n{}",
            node.log()
        );
    };
    node.write_policy("data.yaml", &policy("data", 220));
    reloaded("the new policy", &|| in_force(&node) == ["data", "voice"]);
    node.write_policy("data.yaml", "name: data\nvlans: [none]\n");
    let complains = || {
        let problems = node.client().health().unwrap().problems;
        problems
            .iter()
            .any(|problem| problem.contains("data.yaml:2:"))
    };
    reloaded("a complaint", &complains);
    assert_eq!(
        in_force(&node),
        ["data", "voice"],
        "what was in force stays"
    );
    fs::remove_file(node.path("policies/data.yaml")).unwrap();
    reloaded("the policy to be gone", &|| {
        in_force(&node) == ["voice"] && !complains()
    });
}
