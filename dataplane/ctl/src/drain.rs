// SPDX-License-Identifier: Apache-2.0
//! `sluicectl drain` and `sluicectl stop`: no new attachments, and the end of the engine.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::Serialize;
use sluice_api::DrainReply;
use sluice_api::client::Client;

use super::Failure;
use super::output::{Output, Style};

/// Interval at which is looked whether it is over.
const INTERVAL: Duration = Duration::from_millis(200);

/// Drains the engine, or ends that; with `wait`, until nothing is attached.
pub(super) fn run(
    client: &Client,
    undo: bool,
    wait: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut reply = if undo {
        client.undo_drain()?
    } else {
        client.drain()?
    };
    while wait && reply.attachments > 0 {
        std::thread::sleep(INTERVAL);
        reply.attachments = client.status()?.attachments;
    }
    Ok(output.show(&reply, text)?)
}

fn text(reply: &DrainReply, _: Style) -> String {
    let count = reply.attachments;
    if reply.draining {
        format!(
            "drained: no new attachments; {count} are still served (`sluicectl drain --undo` ends it)\n"
        )
    } else {
        format!("not drained: attachments are taken; {count} are served\n")
    }
}

/// Answer of `sluicectl stop`.
#[derive(Debug, Serialize)]
struct Stopped {
    pid: u32,
}

/// Sends the engine SIGTERM and waits for its end, `limit` at most.
pub(super) fn stop(client: &Client, limit: Duration, output: &mut Output) -> Result<(), Failure> {
    let pid = client.health()?.pid;
    // Of another pid namespace it is another process, or none.
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(process) = process.filter(|_| name.trim() == "sluiced") else {
        return Err(Failure::Stop(format!(
            "process {pid} is not the engine in this pid namespace: run this in the engine's container, \
             or with `hostPID: true`"
        )));
    };
    kill_process(process, Signal::TERM).map_err(|errno| {
        Failure::Stop(format!("the engine (pid {pid}) cannot be told: {errno}"))
    })?;
    let begun = Instant::now();
    while test_kill_process(process).is_ok() && !is_zombie(pid) {
        if begun.elapsed() > limit {
            return Err(Failure::Stop(format!(
                "the engine (pid {pid}) has not ended within {limit:?}: its log says what it waits for"
            )));
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(output.show(&Stopped { pid }, |stopped, _| {
        format!("the engine (pid {}) has ended\n", stopped.pid)
    })?)
}

/// Whether a process has ended and nobody has reaped it yet.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|state| state.starts_with('Z'))
}
