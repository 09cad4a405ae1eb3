// SPDX-License-Identifier: Apache-2.0
//! The pod's primary interface: the kernel's business alone.

use std::process::Command;
use std::time::Duration;

use super::pod::Pod;
use super::testbed::Testbed;
use crate::Scene;
use crate::failure::Failure;
use crate::process::{run, said};
use crate::report::Findings;

/// Echo requests.
const PINGS: usize = 3;

pub(crate) fn show(
    scene: &Scene,
    testbed: &Testbed<'_>,
    pod: &Pod<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let address = pod.eth0.addr().to_string();
    let mut command = Command::new(&scene.programs.ping);
    command
        .args([
            "-n",
            "-c",
            &PINGS.to_string(),
            "-i",
            "0.2",
            "-W",
            "5",
            &address,
        ])
        .env("LC_ALL", "C");
    let output = run(&testbed.node, &mut command, "", Duration::from_secs(30))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "3 packets transmitted, 3 received, ..." of iputils, "3 packets received" of busybox.
    let all = [
        format!("{PINGS} received"),
        format!("{PINGS} packets received"),
    ];
    if !output.status.success() || !all.iter().any(|all| text.contains(all)) {
        let what = format!("ping from the node to eth0 of the pod, {address}");
        return Err(Failure::unexpected(
            what,
            format!("{PINGS} answers"),
            said(&output),
        ));
    }
    findings.line(format!(
        "{PINGS} of {PINGS} pings from the node's bridge to {address} answered"
    ));
    findings.fact("pings", PINGS);
    findings.proven(
        "the primary network works as before",
        format!("{PINGS} pings through bridge and veth"),
    );
    Ok(())
}
