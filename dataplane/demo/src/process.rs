// SPDX-License-Identifier: Apache-2.0
//! Programs that the demo runs: to their end, or in the background until it ends them by pid.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::failure::Failure;
use super::namespace::Namespace;

/// A program in the background. On drop it is asked to end, then made to.
#[derive(Debug)]
pub(super) struct Daemon {
    name: String,
    child: Child,
    grace: Duration,
}

impl Daemon {
    /// Starts it in a namespace, its output going to the file `log`. It gets `grace` to end in when
    /// it is asked to.
    pub(super) fn start(
        namespace: &Namespace,
        command: &mut Command,
        log: &Path,
        grace: Duration,
    ) -> Result<Daemon, Failure> {
        let program = Path::new(command.get_program());
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let to_log = || {
            let file = File::options().create(true).append(true).open(log);
            file.map_err(Failure::broken(format!("open {}", log.display())))
        };
        command
            .stdin(Stdio::null())
            .stdout(to_log()?)
            .stderr(to_log()?);
        // Ctrl-C goes to the demo alone, which ends the others in their order.
        command.process_group(0);
        let child = namespace.start(command)?;
        Ok(Daemon { name, child, grace })
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended.
    pub(super) fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::unexpected(
                format!("the program {}", self.name),
                "it runs",
                format!("it ended with {status}; see the end of its log"),
            )),
            Err(error) => Err(Failure::broken(format!("look at {}", self.name))(error)),
        }
    }

    /// Sends SIGTERM and waits for its end. Fails unless it ends in time and with exit code 0.
    pub(super) fn end(mut self) -> Result<Duration, Failure> {
        self.check_alive()?;
        let start = Instant::now();
        let status = self.terminate();
        let expected = format!("it ends with exit code 0 within {} s", self.grace.as_secs());
        let what = format!("{} after SIGTERM", self.name);
        match status {
            Some(status) if status.success() => Ok(start.elapsed()),
            Some(status) => Err(Failure::unexpected(what, expected, status.to_string())),
            None => Err(Failure::unexpected(what, expected, "it had to be killed")),
        }
    }

    /// Sends SIGTERM; returns the exit status if that was enough.
    fn terminate(&mut self) -> Option<std::process::ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let end = Instant::now() + self.grace;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// Runs a program to its end, with `input` on its standard input. One that takes longer than `limit`
/// is killed with everything it started.
pub(super) fn run(
    namespace: &Namespace,
    command: &mut Command,
    input: &str,
    limit: Duration,
) -> Result<Output, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0);
    let mut child = namespace.start(command)?;
    let group = Pid::from_child(&child);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why by its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let (done, is_done) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _ = done.send(child.wait_with_output());
    });
    let output = is_done.recv_timeout(limit);
    if output.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = waiter.join();
    match output {
        Ok(output) => output.map_err(Failure::broken(format!("run {name}"))),
        Err(_) => Err(Failure::unexpected(
            name,
            format!("it ends within {} s", limit.as_secs()),
            "it was killed",
        )),
    }
}

/// Output of a failed program: standard error, else standard output.
pub(super) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (error, out) = (text(&output.stderr), text(&output.stdout));
    let said = if error.is_empty() { out } else { error };
    format!("{}: {said}", output.status)
}

/// Whether a program that was started in the background has ended, reaped or not (proc(5), state).
pub(super) fn has_ended(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // `pid (name) state ...`, and the name may hold anything.
    let state = stat
        .rsplit_once(") ")
        .map(|(_, behind)| behind.starts_with(['Z', 'X']));
    state.unwrap_or(true)
}
