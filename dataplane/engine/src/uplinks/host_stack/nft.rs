// SPDX-License-Identifier: Apache-2.0
//! nftables table that stands between a device and the host's stack.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use sluice_datapath::ports::af_packet::SKB_MARK;

use super::HostStackError;

/// Drops what comes in on `device` and, if `sending` says so, what leaves by it without the mark.
/// Replaces the table that may be there, in one transaction.
pub(super) fn block(device: &str, sending: bool) -> Result<(), HostStackError> {
    // Before any chain that others have there: the lowest priority runs first.
    let hook = |name| format!("type filter hook {name} device \"{device}\" priority -500");
    let ingress = format!("chain in {{ {}; policy drop; }}", hook("ingress"));
    let egress = if sending {
        let mark = format!("meta mark {SKB_MARK:#x} accept");
        format!("chain out {{ {}; policy drop; {mark}; }}", hook("egress"))
    } else {
        String::new()
    };
    let table = table(device);
    let script = format!(
        "{}table netdev {table} {{\n{ingress}\n{egress}\n}}\n",
        removal(device)
    );
    run("keep the host's stack off", device, &script)
}

/// Whether the table is there with its hook on the device.
pub(super) fn is_blocked(device: &str) -> Result<bool, HostStackError> {
    let listed = Command::new("nft")
        .args(["list", "table", "netdev", &table(device)])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match listed {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(output.status.success() && text.contains("hook ingress"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HostStackError::NoNft {
            device: device.to_owned(),
        }),
        // For want of a process or of memory: what was there is there.
        Err(_) => Ok(true),
    }
}

/// Removes the table, if it is there.
pub(super) fn unblock(device: &str) -> Result<(), HostStackError> {
    run("give the host's stack back to", device, &removal(device))
}

fn table(device: &str) -> String {
    format!("sluicegate_{device}")
}

/// Adding before deleting makes the deletion right whether the table was there or not.
fn removal(device: &str) -> String {
    let table = table(device);
    format!("add table netdev {table}\ndelete table netdev {table}\n")
}

fn run(what: &'static str, device: &str, script: &str) -> Result<(), HostStackError> {
    let failed = |said: String| HostStackError::Nft {
        what,
        device: device.to_owned(),
        said,
    };
    let started = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => HostStackError::NoNft {
            device: device.to_owned(),
        },
        _ => failed(error.to_string()),
    })?;
    // A child that dies early shows in its status, not in this pipe.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(script.as_bytes()));
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        said.lines()
            .next()
            .unwrap_or("it gave no reason")
            .to_owned(),
    ))
}
