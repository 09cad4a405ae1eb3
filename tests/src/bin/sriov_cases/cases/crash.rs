// SPDX-License-Identifier: Apache-2.0
//! The process that changes a VF dies, after every single change in turn.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use sluice_tests::{Netns, bin, run};

use super::{Case, case};
use crate::rig::Rig;

pub(crate) const CASES: &[Case] = &[
    case(
        "crash-points-kernel",
        "kernel mode: killed after each change in turn, what comes next puts the VF back bit by bit",
        400,
        |rig| points(rig, "kernel"),
    ),
    case(
        "crash-points-vfio",
        "vfio and engine mode: the same",
        400,
        |rig| points(rig, "vfio"),
    ),
];

fn points(rig: &Rig, mode: &str) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    vf.set(&["mac", "02:00:00:00:be:0c"])?;
    vf.set(&["vlan", "33", "qos", "2"])?;
    if rig.vm {
        vf.bind("igbvf")?;
    }
    let before = vf.snapshot()?;
    let pod = Netns::new("pod")?;
    let example = bin("examples/vf_crash");
    let state = rig.path("state");
    for changes in 0.. {
        ensure!(changes < 60, "no run completes");
        let output = Command::new(&example)
            .arg("run")
            .arg(&state)
            .args([&rig.pf, "0", mode])
            .arg(pod.path())
            .arg(changes.to_string())
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            vf.expect(&before)?;
            ensure!(rig.journal().is_empty(), "a record is left");
            rig.note(format!("{changes} changes, a crash after each"));
            return Ok(());
        }
        if output.status.signal() != Some(9) {
            bail!("the run with {changes} changes was not killed: {text}");
        }
        run(Command::new(&example).arg("recover").arg(&state))?;
        let same = vf.expect(&before);
        if let Err(error) = same {
            bail!("after a crash at change {changes}: {error}");
        }
        ensure!(
            rig.journal().is_empty(),
            "a record is left after a crash at change {changes}"
        );
    }
    Ok(())
}
