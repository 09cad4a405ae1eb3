// SPDX-License-Identifier: Apache-2.0
//! Engine under test: the built `sluiced`, in the network namespace of this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluice_api::client::Client;
use sluice_api::{AttachmentStatus, LinkState};

use crate::{Process, bin, wait_for};

/// Limit for the engine to be ready or a link to come up, on a busy and emulated machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Checks that every frame is accounted for, by the balance of the engine's counters. An engine that does not
/// answer is not checked: tests stop some, and take sockets and files from others.
///
/// # Panics
/// Frames are missing, or were counted twice.
pub fn assert_conserved(client: &Client) {
    let mut last = None;
    let checked = wait_for("the counters to balance", Duration::from_secs(10), || {
        let Ok(balance) = client.balance() else {
            return Some(());
        };
        let balanced = balance.balanced;
        last = Some(balance);
        balanced.then_some(())
    });
    if checked.is_err() {
        panic!("{last:#?}\n{:#?}", client.counters());
    }
}

/// Running engine; checked by [`assert_conserved`] and killed on drop.
#[derive(Debug)]
pub struct Sluiced {
    process: Process,
    config: PathBuf,
    log: PathBuf,
    socket: PathBuf,
}

impl Sluiced {
    /// Starts an engine with the configuration file `config`, whose control socket is `socket`, and waits until
    /// it takes attachments. Its log is appended to `log`.
    ///
    /// # Errors
    /// It cannot be started, ended, or was not ready in time; the error holds its log.
    ///
    /// # Panics
    /// `sluiced` was not built.
    pub fn start(config: &Path, socket: &Path, log: &Path) -> Result<Sluiced> {
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = Command::new(bin("sluiced"));
        command.arg("--config").arg(config).env("NO_COLOR", "1");
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut engine = Sluiced {
            process: Process::start(&mut command)?,
            config: config.to_owned(),
            log: log.to_owned(),
            socket: socket.to_owned(),
        };
        engine.wait_ready()?;
        Ok(engine)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let client = self.client();
        let process = &mut self.process;
        let ready = wait_for("the engine to take attachments", PATIENCE, || {
            let alive = process.alive();
            let ready = client.health().is_ok_and(|health| health.ready);
            (ready || !alive).then_some(ready)
        });
        if !matches!(ready, Ok(true)) {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            bail!("the engine is not ready ({ready:?}): {text}");
        }
        Ok(())
    }

    /// Kills the engine with SIGKILL and starts it again.
    ///
    /// # Errors
    /// As [`Sluiced::start`].
    pub fn kill_and_restart(mut self) -> Result<Sluiced> {
        assert_conserved(&self.client());
        self.process.kill();
        Sluiced::start(&self.config, &self.socket, &self.log)
    }

    /// Returns the engine's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Makes a client of the engine's control socket.
    pub fn client(&self) -> Client {
        Client::new(self.socket.clone()).timeout(Duration::from_secs(10))
    }

    /// Waits until the pod has opened its memif.
    ///
    /// # Errors
    /// There is no such attachment, or it stays down.
    pub fn wait_link(&self, container: &str, ifname: &str) -> Result<AttachmentStatus> {
        wait_for("the pod to open its memif", PATIENCE, || {
            let status = self.client().attachment(container, ifname).ok()?;
            (status.link == LinkState::Up).then_some(status)
        })
    }

    /// Returns the number of frames that the policy's rules of this name decided.
    ///
    /// # Errors
    /// The engine does not answer, or has no such rule.
    pub fn rule(&self, policy: &str, direction: &str, rule: &str) -> Result<u64> {
        let counters = self.client().counters()?;
        let found = counters
            .rules
            .iter()
            .find(|one| one.policy == policy && one.direction == direction && one.rule == rule);
        let found =
            found.with_context(|| format!("no rule {rule} of policy {policy}, {direction}"))?;
        Ok(found.frames)
    }
}

impl Drop for Sluiced {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.process.alive() {
            assert_conserved(&self.client());
        }
    }
}
