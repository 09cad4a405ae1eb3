// SPDX-License-Identifier: Apache-2.0
//! Engine and agent beside the node's containerd.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_api::client::Client;

use super::Node;
use super::kube::logged;
use crate::{Process, bin, wait_for};

impl Node {
    /// Creates a command that runs `program` in the node's network namespace and in containerd's mounts: only there are
    /// the namespaces of its pods.
    ///
    /// # Errors
    /// Another process has started containerd.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let (containerd, _) = self
            .owned
            .as_ref()
            .context("containerd is another process's")?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", containerd.pid()))
            .arg(format!("--net={}", self.netns.path().display()))
            .arg(program)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Returns the path of the engine's control socket.
    pub fn engine_socket(&self) -> PathBuf {
        self.dir().join("run/control/sluiced.sock")
    }

    /// Returns a client of the engine.
    pub fn engine_client(&self) -> Client {
        Client::new(self.engine_socket()).timeout(Duration::from_secs(10))
    }

    /// Starts the engine and waits until it takes attachments. It has the uplink `wire0`, over the netdev of that name,
    /// and lets everything pass in VLAN 210 and untagged. Its files are in `run`, `state` and `policies` of the node's
    /// folder.
    ///
    /// # Errors
    /// It does not start, or is not ready in time.
    ///
    /// # Panics
    /// It was not built.
    pub fn engine(&self) -> Result<Process> {
        let dir = self.dir();
        let policies = dir.join("policies");
        fs::create_dir_all(&policies)?;
        let policy = "name: open\nvlans: [0, 210]\ndefault: {ingress: accept, egress: accept}\n";
        fs::write(policies.join("open.yaml"), policy)?;
        let config = format!(
            "uplinks: [{{name: wire0, device: wire0}}]\nworkers: {{count: 1, pin: false}}\n\
             memory: {{small_mbufs: 4096, large_mbufs: 256, huge_pages: off}}\n\
             policies: {0}/policies\nstate_dir: {0}/state\nrun_dir: {0}/run\nlog: info\n",
            dir.display()
        );
        let file = dir.join("sluiced.yaml");
        fs::write(&file, config)?;
        let mut command = self.command(bin("sluiced"))?;
        command.arg("--config").arg(file);
        let process = Process::start(logged(&mut command, &dir.join("sluiced.log"))?)?;
        let client = self.engine_client();
        let ready = || client.health().ok()?.ready.then_some(());
        wait_for("the engine to be ready", self.patience, ready)
            .with_context(|| self.log("sluiced.log"))?;
        Ok(process)
    }

    /// Starts an agent with these sections of its configuration. It logs into `agent.log` of the node's folder.
    ///
    /// # Errors
    /// It does not start.
    ///
    /// # Panics
    /// It was not built.
    pub fn agent(&self, sections: &str) -> Result<Process> {
        let dir = self.dir();
        let config = format!(
            "engine_socket: {}\nrun_dir: {}/run\nlog: debug,h2=info,hyper=info,tower=info,rustls=info\n{sections}",
            self.engine_socket().display(),
            dir.display()
        );
        let file = dir.join("agent.yaml");
        fs::write(&file, config)?;
        let mut command = self.command(bin("sluice-agent"))?;
        command.arg("--config").arg(file).env_remove("NODE_NAME");
        Process::start(logged(&mut command, &dir.join("agent.log"))?)
    }
}
