// SPDX-License-Identifier: Apache-2.0
//! [`ContainerLock`]: one call at a time per container, even when the runtime kills a plugin in the
//! middle.
//!
//! Every plugin that a call runs inherits the open lock file, so the lock is held until the call *and
//! everything it started* has ended: a DEL that comes after a killed ADD waits for what that ADD left
//! running. Direct children die with the call anyway (see [`crate::spec::exec`]); what they in turn
//! started is waited for and, if it does not end, killed: it belongs to a call that is no more.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sluice_host::FileLock;
use sluice_host::lock::noted_pid;

use crate::Error;
use crate::spec::budget::Budget;
use crate::spec::log::Log;
use crate::state;

/// Interval at which a held lock is tried again.
const POLL: Duration = Duration::from_millis(10);

/// Mode of lock files, less the umask.
const MODE: u32 = 0o644;

/// Lock of one container, held until this value and every plugin started meanwhile is gone.
#[derive(Debug)]
pub struct ContainerLock {
    file: FileLock,
}

impl ContainerLock {
    /// Takes the lock named `name` in `dir`, waiting for a call that holds it and for what a
    /// killed call left running.
    ///
    /// # Errors
    /// [`Error::TryAgain`] if a living call still holds it when `budget` is used up;
    /// [`Error::File`].
    pub fn take(dir: &Path, name: &str, budget: Budget, log: &Log) -> Result<ContainerLock, Error> {
        let path = dir.join(name);
        let mut waiting = false;
        let mut killed = false;
        loop {
            if let Some(lock) = ContainerLock::try_take(dir, name)? {
                return Ok(lock);
            }
            if !waiting {
                log.verbose(format_args!("waiting for another call on this container"));
                waiting = true;
            }
            if budget.left().is_zero() {
                let owner = noted_pid(&path);
                if killed || owner.is_some_and(is_plugin) {
                    return Err(Error::TryAgain(format!(
                        "another call on this container still runs (process {}): try again when \
                         it has ended",
                        owner.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
                    )));
                }
                kill_holders(&path, log)?;
                killed = true;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn try_take(dir: &Path, name: &str) -> Result<Option<ContainerLock>, Error> {
        state::make_dir(dir)?;
        let Some(file) = FileLock::try_take(&dir.join(name), MODE)? else {
            return Ok(None);
        };
        // For people only; on a full disk it fails.
        let _ = file.note_pid();
        file.pass_to_children()?;
        Ok(Some(ContainerLock { file }))
    }

    /// Removes the lock file: nothing of the container is left. The lock is held until dropped.
    pub fn remove(&self) {
        // What stays is an empty file, which the next call on the container removes.
        let _ = self.file.remove_file();
    }
}

/// Programs that hold such locks, by the names that they are built under.
const PROGRAMS: [&str; 3] = ["sluicegate", "sluicegate-vf", "sluicectl"];

/// Whether `pid` runs the same program as this process does, or another that takes such locks.
fn is_plugin(pid: u32) -> bool {
    let name = |path: PathBuf| {
        let link = fs::read_link(path).ok()?;
        let name = link.file_name()?.to_str()?.to_owned();
        Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
    };
    let ours = name(PathBuf::from("/proc/self/exe"));
    let theirs = name(PathBuf::from(format!("/proc/{pid}/exe")));
    theirs
        .is_some_and(|theirs| Some(&theirs) == ours.as_ref() || PROGRAMS.contains(&theirs.as_str()))
}

/// Kills every process that has the file at `path` open, calls like this one excepted.
fn kill_holders(path: &Path, log: &Log) -> Result<(), Error> {
    let ours = std::process::id();
    let wanted = fs::metadata(path).map_err(Error::file("look at", path))?;
    let processes = fs::read_dir("/proc").map_err(Error::file("list", "/proc"))?;
    for entry in processes.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let holds = fs::read_dir(entry.path().join("fd")).is_ok_and(|mut fds| {
            fds.any(|fd| {
                fd.and_then(|fd| fs::metadata(fd.path()))
                    .is_ok_and(|meta| meta.ino() == wanted.ino() && meta.dev() == wanted.dev())
            })
        });
        // A call that waits for the lock as this one does has the file open now and then.
        if !holds || u32::try_from(pid).is_ok_and(|pid| pid == ours || is_plugin(pid)) {
            continue;
        }
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        log.error(format_args!(
            "killing process {pid} ({}): a call on this container left it running",
            program.display()
        ));
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};
    use std::time::Instant;

    /// Mutex that keeps these tests apart: a child that one starts would inherit the locks of the others.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn a_second_call_is_kept_out_until_the_first_is_gone() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let first = ContainerLock::try_take(dir.path(), "c").unwrap().unwrap();
        assert!(ContainerLock::try_take(dir.path(), "c").unwrap().is_none());
        assert!(ContainerLock::try_take(dir.path(), "d").unwrap().is_some());
        drop(first);
        assert!(ContainerLock::try_take(dir.path(), "c").unwrap().is_some());
    }

    #[test]
    fn a_living_call_is_not_robbed() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let _first = ContainerLock::try_take(dir.path(), "c").unwrap().unwrap();
        let budget = Budget::of(Duration::from_millis(50));
        let error = ContainerLock::take(dir.path(), "c", budget, &Log::stderr()).unwrap_err();
        assert_eq!(error.code(), 11);
    }

    #[test]
    fn what_a_dead_call_left_running_is_killed() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let lock = ContainerLock::try_take(dir.path(), "c").unwrap().unwrap();
        let mut orphan = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        // A pid that is certainly not a plugin's.
        fs::write(dir.path().join("c"), "1\n").unwrap();
        drop(lock);
        let start = Instant::now();
        let budget = Budget::of(Duration::from_millis(50));
        let taken = ContainerLock::take(dir.path(), "c", budget, &Log::stderr());
        let _ = orphan.kill();
        let ended = orphan.wait().unwrap();
        assert!(taken.is_ok(), "{taken:?}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(!ended.success());
    }
}
