// SPDX-License-Identifier: Apache-2.0
//! Disk, namespaces, files and folders that change under a running engine: it says so once, and mends what it can.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use engine_rig::{Node, PATIENCE, pod};
use serde_json::json;
use sluice_api::{ErrorCode, LinkState};
use sluice_tests::{root_or_skip, run, wait_for};

/// Waits until a problem that contains `what` is in health, or is not any more.
fn wait_for_problem(node: &Node, what: &str, there: bool) {
    let reached = wait_for("health to change", PATIENCE, || {
        let health = node.client().health().ok()?;
        let told = health.problems.iter().any(|told| told.contains(what));
        assert!(health.ready);
        (told == there && health.degraded != health.problems.is_empty()).then_some(())
    });
    assert!(reached.is_ok(), "{what}: {}", node.log());
}

#[test]
fn a_control_socket_and_a_lock_that_are_removed_are_made_again() {
    if !root_or_skip("a_control_socket_and_a_lock_that_are_removed_are_made_again") {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    for round in 1..=2 {
        if round == 1 {
            fs::remove_file(node.socket()).unwrap();
        } else {
            fs::remove_dir_all(node.path("run")).unwrap();
        }
        let again = wait_for("the engine to answer", PATIENCE, || {
            let answers = node.client().health().is_ok_and(|health| health.ready);
            (answers && node.path("run/engine.lock").exists()).then_some(())
        });
        assert!(again.is_ok(), "{}", node.log());
        node.says("somebody removed the control socket", round);
    }
    node.says("somebody removed the engine's lock file", 1);
    let pod = pod();
    node.attach(&pod, "net1", json!({}));
    assert_eq!(
        engine.terminate(PATIENCE).unwrap(),
        Some(0),
        "{}",
        node.log()
    );
    assert!(!node.socket().exists());
}

#[test]
fn a_state_folder_that_is_removed_is_made_again_and_the_next_engine_serves_what_this_one_did() {
    let name =
        "a_state_folder_that_is_removed_is_made_again_and_the_next_engine_serves_what_this_one_did";
    if !root_or_skip(name) {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    let pods = [pod(), pod()];
    node.attach(&pods[0], "net1", json!({"backend": {"type": "tap"}}));
    node.attach(&pods[1], "net1", json!({}));
    let mode = |path: &str| fs::metadata(node.path(path)).unwrap().permissions().mode() & 0o777;
    let kept = |node: &Node| {
        let kept = ["state/attachments", "state/uplinks"].map(|dir| {
            let files = node.files(dir).into_iter();
            files
                .map(|file| (fs::read(node.path(dir).join(&file)).unwrap(), file))
                .collect::<Vec<_>>()
        });
        (
            kept,
            ["state", "state/attachments", "state/uplinks"].map(mode),
        )
    };
    let before = kept(&node);
    assert_eq!((before.0[0].len(), before.0[1].len()), (2, 1));
    assert_eq!(before.1, [0o700; 3]);
    // The whole of it, a part of it, and another one in its place.
    for round in 1..=3 {
        match round {
            1 => fs::remove_dir_all(node.path("state")).unwrap(),
            2 => fs::remove_dir_all(node.path("state/attachments")).unwrap(),
            _ => {
                fs::rename(node.path("state"), node.path("elsewhere")).unwrap();
                fs::create_dir(node.path("state")).unwrap();
                fs::set_permissions(node.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
            }
        }
        node.says("somebody removed the state folder", round);
        assert_eq!(kept(&node), before, "round {round}");
    }
    // What is detached meanwhile does not come back.
    let late = pod();
    node.attach(&late, "net1", json!({}));
    node.client().detach(late.name(), "net1").unwrap();
    engine.kill();
    drop(engine);
    let _next = node.start();
    let served: Vec<_> = node.client().attachments().unwrap();
    assert_eq!(served.len(), 2, "{}", node.log());
    for pod in &pods {
        assert!(node.client().detach(pod.name(), "net1").unwrap().existed);
    }
    assert!(node.files("state/attachments").is_empty());
}

#[test]
fn a_folder_of_policies_that_is_removed_is_a_problem_until_it_is_back() {
    if !root_or_skip("a_folder_of_policies_that_is_removed_is_a_problem_until_it_is_back") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    fs::rename(node.path("policies"), node.path("elsewhere")).unwrap();
    wait_for_problem(&node, "the folder of policies", true);
    assert_eq!(node.client().policies().unwrap().len(), 1, "in force");
    fs::rename(node.path("elsewhere"), node.path("policies")).unwrap();
    wait_for_problem(&node, "the folder of policies", false);
    node.says("the folder of policies", 2);
}

#[test]
fn a_namespace_that_dies_without_a_del_is_said() {
    if !root_or_skip("a_namespace_that_dies_without_a_del_is_said") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let (stays, dies) = (pod(), pod());
    for pod in [&stays, &dies] {
        node.attach(pod, "net1", json!({"backend": {"type": "tap"}}));
    }
    let name = dies.name().to_owned();
    drop(dies);
    wait_for_problem(&node, &format!("{name}/net1"), true);
    let status = node.client().attachment(&name, "net1").unwrap();
    assert_eq!(status.link, LinkState::Down);
    assert!(status.last_down.unwrap().contains("namespace is gone"));
    assert_eq!(node.attachment(&stays, "net1").link, LinkState::Up);
    // The record is there for the DEL.
    assert_eq!(node.files("state/attachments").len(), 2);
    assert!(node.client().detach(&name, "net1").unwrap().existed);
    wait_for_problem(&node, &name, false);
    // Told, and over.
    node.says("the network namespace is gone", 2);
}

#[test]
fn a_disk_that_is_full_is_said_before_an_attach_fails_and_mends() {
    if !root_or_skip("a_disk_that_is_full_is_said_before_an_attach_fails_and_mends") {
        return;
    }
    let node = Node::new();
    let state = node.path("state");
    fs::create_dir_all(&state).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=256k,mode=700", "sluice-test"]);
    run(mount.arg(&state)).unwrap();
    let _engine = node.start();
    let filler = state.join("filler");
    // A write that does not fit leaves what did.
    let _ = fs::write(&filler, vec![7; 1 << 20]);
    wait_for_problem(&node, "is full", true);
    let late = pod();
    let request = node.request(&late, "net1", json!({}));
    let error = match node.client().attach(&request).unwrap_err() {
        sluice_api::client::ClientError::Refused(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(error.code, ErrorCode::Unavailable, "{error}");
    assert!(error.message.contains("No space left"), "{error}");
    assert!(node.client().attachments().unwrap().is_empty());
    fs::remove_file(&filler).unwrap();
    wait_for_problem(&node, "is full", false);
    node.client().attach(&request).unwrap();

    let mut remount = Command::new("mount");
    run(remount.args(["-o", "remount,ro"]).arg(&state)).unwrap();
    wait_for_problem(&node, "is read-only", true);
    let other = pod();
    let error = node
        .client()
        .attach(&node.request(&other, "net1", json!({})));
    assert!(error.unwrap_err().to_string().contains("Read-only"));
    let mut remount = Command::new("mount");
    run(remount.args(["-o", "remount,rw"]).arg(&state)).unwrap();
    wait_for_problem(&node, "is read-only", false);
    let _ = run(Command::new("umount").arg("-l").arg(&state));
}
