// SPDX-License-Identifier: Apache-2.0
//! The engine: the program `sluiced`, started as an operator would, and asked through its socket.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sluice_api::AttachmentStatus;
use sluice_api::client::{Client, ClientError};

use super::Scene;
use super::failure::Failure;
use super::interrupt::Poll;
use super::namespace::Namespace;
use super::process::{Daemon, run, said};

/// Longest time to become ready, and to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A running engine; ended on drop.
#[derive(Debug)]
pub(super) struct Engine<'a> {
    scene: &'a Scene,
    node: Arc<Namespace>,
    daemon: Daemon,
    client: Client,
}

impl<'a> Engine<'a> {
    /// Starts it in the node's namespace with the configuration file `config`, and waits until it
    /// takes attachments.
    pub(super) fn start(
        scene: &'a Scene,
        node: &Arc<Namespace>,
        config: &std::path::Path,
    ) -> Result<Engine<'a>, Failure> {
        let mut command = Command::new(&scene.programs.sluiced);
        command
            .arg("--config")
            .arg(config)
            .env("PATH", &scene.programs.path)
            .env("NO_COLOR", "1");
        let daemon = Daemon::start(node, &mut command, &scene.home.log("sluiced"), LIMIT)?;
        let mut engine = Engine {
            scene,
            node: Arc::clone(node),
            daemon,
            client: Client::new(scene.home.path("run/control/sluiced.sock")),
        };
        scene
            .interrupt
            .wait_for("the engine to be ready", LIMIT, || {
                engine.daemon.check_alive()?;
                Ok(match engine.client.health() {
                    Ok(health) if health.ready => Poll::Found(()),
                    Ok(health) => Poll::NotYet(health.problems.join("; ")),
                    Err(error) => Poll::NotYet(error.to_string()),
                })
            })?;
        Ok(engine)
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Asks it something; a failure says what.
    pub(super) fn ask<T>(
        &self,
        what: &str,
        question: impl FnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        question(&self.client).map_err(Failure::broken(format!("ask the engine for {what}")))
    }

    /// Returns the status of one attachment.
    pub(super) fn attachment(
        &self,
        container: &str,
        ifname: &str,
    ) -> Result<AttachmentStatus, Failure> {
        self.ask(&format!("attachment {ifname} of {container}"), |client| {
            client.attachment(container, ifname)
        })
    }

    /// Puts one policy file into force with `sluicectl policies apply`.
    pub(super) fn apply(&self, policy: &std::path::Path) -> Result<(), Failure> {
        let mut command = Command::new(&self.scene.programs.sluicectl);
        command
            .arg("--socket")
            .arg(self.client.socket())
            .args(["policies", "apply"])
            .arg(policy)
            .env("NO_COLOR", "1");
        let output = run(&self.node, &mut command, "", LIMIT)?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::unexpected(
            format!("sluicectl policies apply {}", policy.display()),
            "exit code 0",
            said(&output),
        ))
    }

    /// Fails if it has ended.
    pub(super) fn check_alive(&mut self) -> Result<(), Failure> {
        self.daemon.check_alive()
    }

    /// Sends SIGTERM and waits for a clean end; how long that took.
    pub(super) fn end(self) -> Result<Duration, Failure> {
        self.daemon.end()
    }
}
