// SPDX-License-Identifier: Apache-2.0
//! Node for tests of the engine: a network namespace with an uplink, a wire at the uplink's other end, folders
//! of its own, and the built `sluiced` and `sluicectl`.
#![allow(dead_code, reason = "each test binary uses its part of it")]

pub(crate) mod fake_client;
pub(crate) mod pod;

use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_api::client::Client;
use sluice_api::{AttachReply, AttachRequest, AttachmentStatus, Health, LinkState};
use sluice_tests::{Netns, Process, assert_conserved, bin, wait_for};
use tempfile::TempDir;

/// Limit for anything on a busy machine: only what is broken takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Policy of VLAN 210: lets ARP and UDP to ports 1000 to 1999 in, and everything out.
pub(crate) const VOICE: &str = "\
name: voice
vlans: [210]
default: {ingress: drop, egress: accept}
rules:
  - {name: arp, direction: ingress, ethertype: [arp], verdict: accept}
  - {name: calls, direction: ingress, protocol: udp, ports: [1000-1999], verdict: accept}
";

/// Running engine of a node. Before it is killed its counters must balance, also at the end of the test.
pub(crate) struct Engine {
    process: Process,
    client: Client,
}

impl Engine {
    /// Kills the engine with SIGKILL and reaps it.
    pub(crate) fn kill(&mut self) {
        assert_conserved(&self.client);
        self.process.kill();
    }
}

impl Deref for Engine {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.process.alive() {
            assert_conserved(&self.client);
        }
    }
}

/// Node on which an engine can be started.
pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) wire: Netns,
    pub(crate) dir: TempDir,
}

impl Node {
    /// Creates a node whose engine has one uplink, `wire0`, and the policy [`VOICE`].
    pub(crate) fn new() -> Node {
        let [netns, wire] = ["node", "wire"].map(|role| Netns::new(role).unwrap());
        wire.veth("wire0", &netns, "up0").unwrap();
        let dir = TempDir::with_prefix("sluice-engine-").unwrap();
        let node = Node { netns, wire, dir };
        fs::create_dir(node.path("policies")).unwrap();
        node.write_policy("voice.yaml", VOICE);
        let config = format!(
            "uplinks: [{{name: wire0, device: up0}}]\n\
             workers: {{count: 2, pin: false}}\n\
             memory: {{small_mbufs: 4096, large_mbufs: 256, huge_pages: off}}\n\
             policies: {0}/policies\nstate_dir: {0}/state\nrun_dir: {0}/run\nlog: debug\n",
            node.dir.path().display()
        );
        fs::write(node.path("sluiced.yaml"), config).unwrap();
        node
    }

    /// Returns a path in the node's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/control/sluiced.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.socket()).timeout(PATIENCE)
    }

    pub(crate) fn write_policy(&self, name: &str, text: &str) {
        fs::write(self.path("policies").join(name), text).unwrap();
    }

    /// Runs `sluiced` in the node and waits for its end.
    pub(crate) fn sluiced(&self, args: &[&str]) -> Output {
        let mut command = Command::new(bin("sluiced"));
        command
            .arg("--config")
            .arg(self.path("sluiced.yaml"))
            .args(args)
            .stdin(Stdio::null());
        self.netns.enter(move || Ok(command.output()?)).unwrap()
    }

    /// Runs `sluicectl`.
    pub(crate) fn ctl(&self, args: &[&str]) -> Output {
        let mut command = Command::new(bin("sluicectl"));
        command
            .arg("--socket")
            .arg(self.socket())
            .args(args)
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Starts the engine and waits until it takes attachments.
    pub(crate) fn start(&self) -> Engine {
        self.start_as(Command::new(bin("sluiced")))
    }

    /// Starts the engine and waits until its health is as `is_up` says.
    pub(crate) fn start_when(&self, is_up: impl Fn(&Health) -> bool) -> Engine {
        self.start_until(Command::new(bin("sluiced")), is_up)
    }

    /// Starts an engine as [`Node::start`] does, by `command`.
    pub(crate) fn start_as(&self, command: Command) -> Engine {
        self.start_until(command, |health| health.ready)
    }

    fn start_until(&self, mut command: Command, is_up: impl Fn(&Health) -> bool) -> Engine {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        command
            .arg("--config")
            .arg(self.path("sluiced.yaml"))
            .stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let process = self
            .netns
            .enter(move || Process::start(&mut command))
            .unwrap();
        let ready = wait_for("the engine to take attachments", PATIENCE, || {
            self.client().health().ok().filter(|health| is_up(health))
        });
        assert!(ready.is_ok(), "log of the engine:\n{}", self.log());
        Engine {
            process,
            client: self.client(),
        }
    }

    /// Returns the log of this node's engines.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until `count` lines of the log contain `what`, and checks that there are no more. The log tells of a
    /// change a moment after it can be seen.
    pub(crate) fn says(&self, what: &str, count: usize) {
        let lines = || {
            self.log()
                .lines()
                .filter(|line| line.contains(what))
                .count()
        };
        let said = wait_for(what, PATIENCE, || (lines() >= count).then_some(()));
        assert!(said.is_ok() && lines() == count, "{what}: {}", self.log());
    }

    /// Makes a valid request for `pod` on VLAN 210; members of `with` replace others.
    pub(crate) fn request(&self, pod: &Netns, ifname: &str, with: Value) -> AttachRequest {
        let file = fs::metadata(pod.path()).unwrap();
        let mut request = json!({
            "container_id": pod.name(), "ifname": ifname,
            "netns": {"path": pod.path(), "dev": file.dev(), "ino": file.ino()},
            "uplink": "wire0",
            "vlan": {"mode": "access", "vid": 210},
            "backend": {"type": "memif"}
        });
        for (key, value) in with.as_object().unwrap() {
            request[key] = value.clone();
        }
        serde_json::from_value(request).unwrap()
    }

    pub(crate) fn attach(&self, pod: &Netns, ifname: &str, with: Value) -> AttachReply {
        self.client()
            .attach(&self.request(pod, ifname, with))
            .unwrap()
    }

    pub(crate) fn attachment(&self, pod: &Netns, ifname: &str) -> AttachmentStatus {
        self.client().attachment(pod.name(), ifname).unwrap()
    }

    /// Waits until the attachment's link is in state `link`.
    pub(crate) fn wait_for_link(&self, pod: &Netns, ifname: &str, link: LinkState) {
        let reached = wait_for("the link", PATIENCE, || {
            (self.attachment(pod, ifname).link == link).then_some(())
        });
        assert!(
            reached.is_ok(),
            "not {link:?}; log of the engine:\n{}",
            self.log()
        );
    }

    /// Lists the names of the files in a folder of the node, at any depth.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let mut files = Vec::new();
        list(&self.path(folder), &mut files);
        files.sort();
        files
    }

    /// Describes the settings of the host's side of the wire, for comparison.
    pub(crate) fn uplink_state(&self) -> String {
        let link = self
            .netns
            .ip(&["-o", "link", "show", "dev", "up0"])
            .unwrap();
        let addresses = self
            .netns
            .ip(&["-o", "-6", "addr", "show", "dev", "up0"])
            .unwrap();
        let mut nft = self.netns.command("nft");
        let rules = sluice_tests::run(nft.args(["list", "ruleset"])).unwrap();
        let flags = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let addresses: Vec<&str> = addresses
            .lines()
            .filter_map(|line| line.split_whitespace().nth(3))
            .collect();
        format!("{flags} | {addresses:?} | {rules}")
    }
}

fn list(folder: &Path, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), files);
        } else {
            files.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
}

/// Creates a network namespace for a pod.
pub(crate) fn pod() -> Arc<Netns> {
    Arc::new(Netns::new("pod").unwrap())
}

/// Returns standard output and standard error of a program.
pub(crate) fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}
