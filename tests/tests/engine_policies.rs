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
fn apply_shows_what_changed_and_nothing_else() {
    if !root_or_skip("apply_shows_what_changed_and_nothing_else") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let (data, more) = (node.path("data.yaml"), node.path("more.yaml"));
    fs::write(&data, policy("data", 220)).unwrap();
    fs::write(&more, policy("more", 230)).unwrap();
    let apply = |more: &[&str]| {
        let data = data.to_string_lossy();
        let output = node.ctl(&[&["policies", "apply", &data][..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    let shown = apply(&[]);
    assert!(
        shown.contains("added") && shown.contains("data.yaml"),
        "{shown}"
    );
    assert!(!shown.contains("voice"), "{shown}");
    assert!(shown.contains("2 policies in force"), "{shown}");
    let shown = apply(&[]);
    assert!(shown.starts_with("nothing changed"), "{shown}");
    fs::write(&data, policy("data", 221)).unwrap();
    let shown = apply(&[&more.to_string_lossy()]);
    assert!(shown.contains("changed  data"), "{shown}");
    assert!(shown.contains("added    more"), "{shown}");
    // What was changed on disk by hand comes into force too, and is told.
    node.write_policy("voice.yaml", &policy("voice", 211));
    let shown = apply(&[]);
    assert!(shown.contains("changed  voice"), "{shown}");
    let shown = apply(&["--replace-all", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let changes = report["changes"].as_array().unwrap();
    let removed: Vec<_> = changes.iter().map(|change| &change["policy"]).collect();
    assert_eq!(removed, ["more", "voice"]);
    assert!(changes.iter().all(|change| change["kind"] == "removed"));
    assert_eq!(report["policies"].as_array().unwrap().len(), 1);
}

#[test]
fn a_policy_is_removed_unless_it_is_in_use() {
    if !root_or_skip("a_policy_is_removed_unless_it_is_in_use") {
        return;
    }
    let node = Node::new();
    node.write_policy("own.yaml", "name: own\ndefault: {ingress: accept}\n");
    node.write_policy("data.yaml", &policy("data", 220));
    let mut engine = node.start();
    let remove = |args: &[&str], code: i32| {
        let output = node.ctl(&[&["policies", "remove"][..], args].concat());
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        text(&output)
    };
    let shown = remove(&["nothing"], 1);
    assert!(shown.contains("there is no policy `nothing`"), "{shown}");
    let shown = remove(&["data"], 0);
    assert!(shown.contains("removed  data"), "{shown}");
    assert_eq!(in_force(&node), ["own", "voice"]);
    assert_eq!(node.files("policies"), ["own.yaml", "voice.yaml"]);

    let pod = pod();
    let name = format!("{}/net1", pod.name());
    node.attach(&pod, "net1", json!({"firewall": "own"}));
    // Its own policy: not even by force.
    for args in [&["own"][..], &["own", "--force"]] {
        let shown = remove(args, 1);
        assert!(shown.contains(&name), "{shown}");
    }
    // That of its VLAN: by force alone, and then the VLAN carries nothing.
    let shown = remove(&["voice"], 1);
    assert!(
        shown.contains(&name) && shown.contains("--force"),
        "{shown}"
    );
    // Neither does a change of the folder that is not in force yet free it.
    node.write_policy("voice.yaml", &policy("voice", 999));
    let shown = remove(&["voice"], 1);
    assert!(shown.contains(&name), "{shown}");
    assert_eq!(in_force(&node), ["own", "voice"]);
    remove(&["voice", "--force"], 0);
    assert_eq!(in_force(&node), ["own"]);
    let problems = node.client().health().unwrap().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("VLAN 210")),
        "{problems:?}"
    );
    // It stays away.
    engine.kill();
    let _engine = node.start();
    assert_eq!(in_force(&node), ["own"]);
    node.client().detach(pod.name(), "net1").unwrap();
    remove(&["own"], 0);
    assert_eq!(node.files("policies"), [""; 0]);
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
