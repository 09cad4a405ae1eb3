// SPDX-License-Identifier: Apache-2.0
//! Programs that a test runs: finding, starting, awaiting them, and ending them by pid.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Finds a binary of this workspace: in `SLUICE_BIN_DIR` if that is set, else in the target folder that this
/// test was built into, release before debug.
///
/// # Panics
/// It was not built; the message says how.
pub fn bin(name: &str) -> PathBuf {
    let mut folders = Vec::new();
    if let Some(dir) = std::env::var_os("SLUICE_BIN_DIR") {
        folders.push(PathBuf::from(&dir));
        folders.push(PathBuf::from(dir).join("examples"));
    } else if let Ok(exe) = std::env::current_exe() {
        // target/<profile>/deps/<test>, and target/<profile>/<program> for the SR-IOV cases.
        let up = if exe.parent().is_some_and(|dir| dir.ends_with("deps")) {
            3
        } else {
            2
        };
        if let Some(target) = exe.ancestors().nth(up) {
            folders.push(target.join("release"));
            folders.push(target.join("debug"));
            folders.push(target.join("release/examples"));
            folders.push(target.join("debug/examples"));
        }
    }
    if let Some(found) = folders
        .iter()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
    {
        return found;
    }
    panic!("{name} is not in any of {folders:?}: build it with `cargo build --release` first");
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// It could not be started or did not exit with 0; the error holds its standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until `check` returns something, for `limit` at most.
///
/// # Errors
/// It did not within the limit; the error says what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Process that is killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a process.
    ///
    /// # Errors
    /// The program could not be started.
    pub fn start(command: &mut Command) -> Result<Process> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Process { child })
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {pid:?}"))
    }

    /// Whether the process still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM and waits for the end. Returns the exit code, or `None` if a signal ended the process.
    ///
    /// # Errors
    /// It did not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        let status = wait_for("the process to end on SIGTERM", limit, || {
            self.child.try_wait().ok().flatten()
        })?;
        Ok(status.code())
    }

    /// Kills the process with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
