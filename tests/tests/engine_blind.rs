// SPDX-License-Identifier: Apache-2.0
//! Engine that does not see all that is on the host, as in a container whose mounts are wrong: namespaces come to
//! it as file descriptors, and `/proc/sys` is read-only.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use engine_rig::pod::PodMemif;
use engine_rig::{Node, PATIENCE, pod, text};
use serde_json::json;
use sluice_api::LinkState;
use sluice_api::client::Client;
use sluice_tests::{bin, program_or_skip, root_or_skip, wait_for};

/// Command that starts the engine in a mount namespace of its own, after `prepare` has changed it.
fn after(prepare: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{prepare} && exec {} \"$@\"", bin("sluiced").display());
    command.args([
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-ec",
        &script,
        "sh",
    ]);
    command
}

const BLIND: &str = "mount -t tmpfs none /run/netns";
const READ_ONLY: &str = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";

#[test]
fn a_namespace_that_came_with_the_request_needs_no_path() {
    let case = "a_namespace_that_came_with_the_request_needs_no_path";
    if !root_or_skip(case) || !program_or_skip(case, "unshare") {
        return;
    }
    let node = Node::new();
    let mut engine = node.start_as(after(BLIND));
    let (pod, other) = (pod(), pod());
    let request = node.request(&pod, "net1", json!({}));
    // A plugin of before sends the path alone.
    let error = node.client().attach(&request).unwrap_err().to_string();
    assert!(error.contains("HostToContainer"), "{error}");
    // Another pod's namespace, and a file that is none.
    let attach = |file: &File| node.client().attach_in(&request, file.as_fd());
    let foreign = attach(&File::open(other.path()).unwrap()).unwrap_err();
    assert!(foreign.to_string().contains("was replaced"), "{foreign}");
    let none = attach(&File::open("/etc/hostname").unwrap()).unwrap_err();
    assert!(
        none.to_string().contains("not a network namespace"),
        "{none}"
    );

    let reply = attach(&File::open(pod.path()).unwrap()).unwrap();
    let warning = reply
        .warnings
        .iter()
        .find(|text| text.contains("/run/netns"));
    assert!(warning.is_some(), "{reply:?}");
    let peer = PodMemif::client(&pod, "net1");
    node.wait_for_link(&pod, "net1", LinkState::Up);
    let health = node.client().health().unwrap();
    assert!(health.problems.is_empty(), "{health:?}");

    // An engine that does not see it either keeps the record and says so; one that does serves it.
    drop(peer);
    engine.kill();
    let mut engine = node.start_as(after(BLIND));
    assert!(node.client().attachments().unwrap().is_empty());
    let problems = node.client().health().unwrap().problems.join("\n");
    assert!(
        problems.contains("attached by a file descriptor"),
        "{problems}"
    );
    engine.kill();
    let mut engine = node.start();
    assert_eq!(node.client().attachments().unwrap().len(), 1);
    let _peer = PodMemif::client(&pod, "net1");
    node.wait_for_link(&pod, "net1", LinkState::Up);
    // From now on the path is known.
    node.client().detach(pod.name(), "net1").unwrap();
    let reply = attach(&File::open(pod.path()).unwrap()).unwrap();
    assert!(reply.warnings.is_empty(), "{reply:?}");
    engine.kill();
}

#[test]
fn files_sent_to_the_socket_are_closed() {
    if !root_or_skip("files_sent_to_the_socket_are_closed") {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let pod = pod();
    let open = || {
        let folder = format!("/proc/{}/fd", engine.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    let request = node.request(&pod, "net1", json!({"uplink": "none"}));
    let netns = File::open(pod.path()).unwrap();
    let client: Client = node.client();
    client.health().unwrap();
    let before = open();
    for _ in 0..50 {
        client.attach_in(&request, netns.as_fd()).unwrap_err();
    }
    let after = wait_for("the files to be closed", PATIENCE, || {
        (open() <= before).then_some(())
    });
    assert!(after.is_ok(), "{} open, {before} before", open());
}

#[test]
fn a_read_only_proc_sys_is_written_by_a_procfs_of_ones_own() {
    let case = "a_read_only_proc_sys_is_written_by_a_procfs_of_ones_own";
    if !root_or_skip(case) || !program_or_skip(case, "unshare") {
        return;
    }
    let node = Node::new();
    let before = node.uplink_state();
    let mut engine = node.start_as(after(READ_ONLY));
    let setting = "/proc/sys/net/ipv6/conf/up0/disable_ipv6";
    let value = || text(&node.netns.command("cat").arg(setting).output().unwrap());
    assert_eq!(value().trim(), "1");
    // A tap has settings in its pod.
    let pod = pod();
    let tap = json!({"backend": {"type": "tap"}, "addresses": ["10.21.0.5/24"]});
    node.attach(&pod, "net1", tap);
    let tap = "/proc/sys/net/ipv6/conf/net1/disable_ipv6";
    let inside = text(&pod.command("cat").arg(tap).output().unwrap());
    assert_eq!(inside.trim(), "1");
    assert_eq!(engine.terminate(PATIENCE).unwrap(), Some(0));
    assert_eq!(node.uplink_state(), before);

    // Without CAP_SYS_ADMIN there is none, and the message says what is missing.
    let mut weak = after(&format!(
        "{READ_ONLY} && exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin -- sh -ec 'exec {} \"$@\"' sh \"$@\"",
        bin("sluiced").display()
    ));
    weak.arg("--config").arg(node.path("sluiced.yaml"));
    let output = node.netns.enter(move || Ok(weak.output()?)).unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("read-only") && said.contains("CAP_SYS_ADMIN"),
        "{said}"
    );
}
