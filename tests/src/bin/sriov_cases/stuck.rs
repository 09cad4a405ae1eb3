// SPDX-License-Identifier: Apache-2.0
//! Diagnosis of processes that do not end.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// Describes the processes of `group` (state, command, place in the kernel where they wait), and adds the
/// kernel's last messages.
pub(crate) fn where_they_are(group: Pid) -> String {
    let mut text = "   processes of the case that is not done:\n".to_owned();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let folder = entry.path();
        let Some((state, its_group)) = state(&folder) else {
            continue;
        };
        if its_group != group.as_raw_nonzero().get() {
            continue;
        }
        let command = fs::read_to_string(folder.join("cmdline")).unwrap_or_default();
        let stack = fs::read_to_string(folder.join("stack")).unwrap_or_default();
        let _ = writeln!(
            text,
            "   {} {state} {}\n{stack}",
            entry.file_name().display(),
            command.replace('\0', " ")
        );
    }
    if let Ok(said) = std::process::Command::new("dmesg").output() {
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: Vec<_> = said.lines().collect();
        let last = lines.len().saturating_sub(30);
        let _ = write!(
            text,
            "   the kernel's last lines:\n{}",
            lines[last..].join("\n")
        );
    }
    text
}

/// Reads state and group of a process from `/proc/PID/stat`.
fn state(folder: &Path) -> Option<(String, i32)> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.to_owned();
    let group = fields.nth(1)?.parse().ok()?;
    Some((state, group))
}
