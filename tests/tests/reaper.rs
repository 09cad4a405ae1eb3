// SPDX-License-Identifier: Apache-2.0
//! Reaper of the agent, from mounts that are not the host's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sluice_tests::cni::{Plugins, Sandbox};
use sluice_tests::{Netns, Process, bin, root_or_skip, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a configuration of the agent and opens its log.
fn configure(dir: &Path, more: &str) -> (PathBuf, fs::File) {
    let text = format!(
        "node: node\nengine_socket: {0}/run/control/sluiced.sock\nrun_dir: {0}/run\nlog: \
         debug,h2=info,hyper=info,tower=info,rustls=info\nreaper: {{every: 1s, grace: 2s, cni_dir: {0}/cni, {more}}}\n",
        dir.display()
    );
    let path = dir.join("agent.yaml");
    fs::write(&path, text).unwrap();
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("agent.log"))
        .unwrap();
    (path, log)
}

/// Agent in a PID namespace of its own, whose first process has the host's mounts and the agent others, in which neither
/// the records nor the namespaces nor the plugins are: as in a container with hostPID.
#[test]
fn the_reaper_works_in_the_mounts_of_the_first_process() {
    let case = "the_reaper_works_in_the_mounts_of_the_first_process";
    if !root_or_skip(case) {
        return;
    }
    let dir = tempfile::TempDir::with_prefix("sg-reap-").unwrap();
    let plugins = Plugins::install(&dir.path().join("bin")).unwrap();
    let host = Netns::new("host").unwrap();
    let add = |container: &str, netns: &Netns| {
        let ipam = json!({"type": "host-local", "dataDir": dir.path().join("ipam"),
            "ranges": [[{"subnet": "10.88.0.0/24"}]]});
        let ptp = json!({"name": "pod-net", "cniVersion": "1.0.0", "type": "ptp", "ipam": ipam});
        let conf = json!({"cniVersion": "1.0.0", "name": "node-net", "type": "sluicegate",
            "cniDir": dir.path().join("cni"), "confDir": dir.path().join("nets"), "delegates": [ptp]});
        let sandbox = Sandbox::new(container, netns, "eth0");
        host.enter(|| plugins.add(&sandbox, &conf)).unwrap();
    };
    let lives = Netns::new("pod").unwrap();
    add("lives", &lives);
    let gone = Netns::new("pod").unwrap();
    add("gone", &gone);
    drop(gone);
    let (config, log) = configure(dir.path(), "host_mounts: true");
    // The agent's own mounts: nothing is below the folders of records, plugins and namespaces.
    let script = r#"cd "$0"
unshare --mount --propagation private sh -ec 'for at in "$0/cni" "$0/bin" /run/netns; do mount -t tmpfs none "$at"; done
exec "$1" --config "$2"' "$0" "$1" "$2" &
wait"#;
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", host.path().display()))
        .args([
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "slave",
        ])
        .args(["sh", "-c", script])
        .args([dir.path(), &bin("sluice-agent"), &config])
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let mut agent = Process::start(&mut command).unwrap();
    let log = || fs::read_to_string(dir.path().join("agent.log")).unwrap();
    let released = wait_for("the record to be released", PATIENCE, || {
        log()
            .contains("released pod record gone/eth0")
            .then_some(())
    });
    if released.is_err() {
        panic!("{}", log());
    }
    agent.kill();
    let records = fs::read_dir(dir.path().join("cni/sluicegate"))
        .unwrap()
        .flatten();
    let names = records.map(|entry| entry.file_name().into_string().unwrap());
    let names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    assert_eq!(names, ["lives@eth0.json"]);
    let reserved = fs::read_dir(dir.path().join("ipam/pod-net"))
        .unwrap()
        .flatten();
    let reserved = reserved.filter(|entry| entry.file_name().to_string_lossy().starts_with("10."));
    assert_eq!(reserved.count(), 1);
}
