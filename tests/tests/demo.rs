// SPDX-License-Identifier: Apache-2.0
//! The demo, as a person would run it: it proves the whole path or explains why not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use serde_json::Value;
use sluice_tests::{Netns, bin, program_or_skip, root_or_skip, run, skip, wait_for};

/// Whether the demo can run here; else the skip is reported.
fn possible(name: &str) -> bool {
    if !root_or_skip(name) || !program_or_skip(name, "nft") {
        return false;
    }
    if !std::path::Path::new("/usr/lib/cni/bridge").exists() {
        skip(
            name,
            "needs the reference plugins in /usr/lib/cni (containernetworking-plugins)",
        );
        return false;
    }
    true
}

/// Makes and unmakes namespaces, links, huge pages, tables and files, until told to stop.
fn others_come_and_go(stop: &AtomicBool) {
    let pages = "/proc/sys/vm/nr_hugepages";
    let before: u64 = std::fs::read_to_string(pages)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let netns = Netns::new("guest").unwrap();
        netns
            .ip(&[
                "link", "add", "veth9", "type", "veth", "peer", "name", "veth10",
            ])
            .unwrap();
        let link = format!("sgo{round}");
        let host = [
            "link", "add", &link, "type", "veth", "peer", "name", "veth11", "netns",
        ];
        run(Command::new("ip").args(host).arg(netns.name())).unwrap();
        std::fs::write(pages, (before + round % 3).to_string()).unwrap();
        // They stay to the end, as what is started beside the demo does.
        if round < 4 {
            std::mem::forget(netns);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    std::fs::write(pages, before.to_string()).unwrap();
    let own = format!("sg-guest-{}-", std::process::id());
    for entry in std::fs::read_dir("/run/netns").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(&own) {
            run(Command::new("ip").args(["netns", "del", &name])).unwrap();
        }
    }
}

#[test]
fn the_demo_proves_the_whole_path() {
    if !possible("the_demo_proves_the_whole_path") {
        return;
    }
    let stop = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| others_come_and_go(&stop));
        let output = Command::new(bin("sluicectl"))
            .args(["demo", "--json"])
            .output();
        stop.store(true, Ordering::Relaxed);
        output.unwrap()
    });
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["ok"], true, "{said}");
}

/// Demo that waits to be looked at, unmounted and killed on drop.
struct Kept {
    child: Child,
    dir: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.dir]).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let folder = self.dir.trim_end_matches("/log");
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[test]
fn a_clean_up_that_fails_is_told_and_waits_for_nobody() {
    if !possible("a_clean_up_that_fails_is_told_and_waits_for_nobody") {
        return;
    }
    let child = Command::new(bin("sluicectl"))
        .args(["demo", "--keep", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let dir = format!("{}/sgd{}/log", std::env::temp_dir().display(), child.id());
    let mut kept = Kept { child, dir };
    let mut lines = BufReader::new(kept.child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let mut stands = 0;
    while let Some(Ok(line)) = lines.next() {
        said.push_str(&line);
        said.push('\n');
        if line.contains("stands") {
            stands += 1;
            assert_eq!(stands, 1, "{said}");
            // Its folder cannot be removed.
            run(Command::new("mount").args(["--bind", &kept.dir, &kept.dir])).unwrap();
            kill_process(Pid::from_child(&kept.child), Signal::INT).unwrap();
        }
    }
    assert_eq!(stands, 1, "{said}");
    let status = wait_for("the demo to end", Duration::from_secs(60), || {
        kept.child.try_wait().ok().flatten()
    })
    .unwrap();
    assert!(!status.success(), "{said}");
    assert!(said.contains("left behind: file: "), "{said}");
}
