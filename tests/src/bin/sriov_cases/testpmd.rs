// SPDX-License-Identifier: Apache-2.0
//! DPDK's testpmd on a VF: the independent peer.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use sluice_tests::{Process, wait_for};

use crate::rig::{PATIENCE, Rig};

/// A running testpmd that sends every frame back with the MAC addresses changed over.
pub(crate) struct Testpmd {
    process: Process,
    log: PathBuf,
}

impl Testpmd {
    /// Starts it on the VFs at `addresses`, in forwarding mode `mode`, and waits until it forwards.
    pub(crate) fn start(rig: &Rig, addresses: &[&str], mode: &str) -> Result<Testpmd> {
        let log = rig.path("testpmd.log");
        let out = fs::File::create(&log)?;
        // Its words are looked for while it runs, so they must not stay in its buffer.
        let mut command = Command::new("stdbuf");
        command.args([
            "-oL",
            "dpdk-testpmd",
            "-l",
            "0,1",
            "-n",
            "1",
            "--in-memory",
            "-m",
            "96",
            "--no-telemetry",
        ]);
        for address in addresses {
            command.args(["-a", address]);
        }
        command.args(["--", "--total-num-mbufs=4096", "--auto-start"]);
        command.arg(format!("--forward-mode={mode}"));
        // It ends when its standard input does, and must not see ours.
        command
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut process = Process::start(&mut command)?;
        let text = || fs::read_to_string(&log).unwrap_or_default();
        let started = wait_for("testpmd to forward", PATIENCE, || {
            if !process.alive() {
                return Some(false);
            }
            text().contains("Press enter to exit").then_some(true)
        });
        match started {
            Ok(true) => Ok(Testpmd { process, log }),
            Ok(false) => bail!("testpmd ended: {}", text()),
            Err(error) => bail!("{error}: {}", text()),
        }
    }

    /// Ends it, and waits until it let go of its VFs; what it said.
    pub(crate) fn end(mut self) -> Result<String> {
        drop(self.process.child().stdin.take());
        if wait_for("testpmd to end", PATIENCE, || {
            (!self.process.alive()).then_some(())
        })
        .is_err()
        {
            self.process.kill();
        }
        Ok(fs::read_to_string(&self.log)?)
    }
}
