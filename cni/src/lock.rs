//! One call at a time per container, even when the runtime kills a plugin in the middle.
//!
//! The lock is a `flock` on a file of the container's. Every plugin that a call runs inherits the
//! open file, so the lock is held until the call *and everything it started* has ended: a DEL
//! that comes after a killed ADD waits for what that ADD left running. Direct children die with
//! the call anyway (see [`crate::exec`]); what they in turn started is waited for and, if it does
//! not end, killed: it belongs to a call that is no more.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::budget::Budget;
use crate::log::Log;
use crate::store;

const POLL: Duration = Duration::from_millis(10);

/// The lock of one container, held until this value and every plugin started meanwhile is gone.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock named `name` in `dir`, waiting for a call that holds it and for what a
    /// killed call left running.
    ///
    /// # Errors
    /// [`Error::TryAgain`] if a living call still holds it when `budget` is used up;
    /// [`Error::Io`].
    pub fn take(dir: &Path, name: &str, budget: Budget, log: &Log) -> Result<Lock, Error> {
        store::make_dir(dir)?;
        let path = dir.join(name);
        let mut said = false;
        let mut killed = false;
        loop {
            let file = open(&path)?;
            if let Some(lock) = Lock::held(file, &path)? {
                return Ok(lock);
            }
            if !said {
                log.verbose(format_args!("waiting for another call on this container"));
                said = true;
            }
            if budget.left().is_zero() {
                let owner = owner(&path);
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
    /// [`Error::Io`].
    pub fn try_take(dir: &Path, name: &str) -> Result<Option<Lock>, Error> {
        store::make_dir(dir)?;
        let path = dir.join(name);
        Lock::held(open(&path)?, &path)
    }

    fn held(mut file: File, path: &Path) -> Result<Option<Lock>, Error> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(Error::io("lock", path)(error.into())),
        }
        // A DEL removes the file it holds; a lock on a removed file keeps nobody out.
        let ours = file.metadata().map_err(Error::io("look at", path))?;
        if !fs::metadata(path).is_ok_and(|there| there.ino() == ours.ino()) {
            return Ok(None);
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(pid.as_bytes()))
            .map_err(Error::io("write", path))?;
        // From here on children inherit it.
        fcntl_setfd(&file, FdFlags::empty())
            .map_err(|error| Error::io("pass on", path)(error.into()))?;
        Ok(Some(Lock {
            _file: file,
            path: path.to_owned(),
        }))
    }

    /// Removes the file: nothing of the container is left. Still held until dropped.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io("open", path))
}

/// The call that took the lock last.
fn owner(path: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(32)
        .read_to_string(&mut text)
        .ok()?;
    text.trim().parse().ok()
}

/// Whether `pid` runs the same program as this process does.
fn is_plugin(pid: u32) -> bool {
    let name = |path: PathBuf| {
        let link = fs::read_link(path).ok()?;
        let name = link.file_name()?.to_str()?.to_owned();
        Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
    };
    let ours = name(PathBuf::from("/proc/self/exe"));
    ours.is_some() && name(PathBuf::from(format!("/proc/{pid}/exe"))) == ours
}

/// Kills every process that has the file at `path` open, calls like this one excepted.
fn kill_holders(path: &Path, log: &Log) -> Result<(), Error> {
    let ours = std::process::id();
    let wanted = fs::metadata(path).map_err(Error::io("look at", path))?;
    let processes = fs::read_dir("/proc").map_err(Error::io("list", "/proc"))?;
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

    /// One test at a time: a child that one starts would inherit the locks of the others.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn a_second_call_is_kept_out_until_the_first_is_gone() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::try_take(dir.path(), "c").unwrap().unwrap();
        assert!(Lock::try_take(dir.path(), "c").unwrap().is_none());
        assert!(Lock::try_take(dir.path(), "d").unwrap().is_some());
        drop(first);
        assert!(Lock::try_take(dir.path(), "c").unwrap().is_some());
    }

    #[test]
    fn a_living_call_is_not_robbed() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let _first = Lock::try_take(dir.path(), "c").unwrap().unwrap();
        let budget = Budget::of(Duration::from_millis(50));
        let error = Lock::take(dir.path(), "c", budget, &Log::stderr()).unwrap_err();
        assert_eq!(error.code(), 11);
    }

    #[test]
    fn a_waiter_does_not_take_a_file_that_was_removed() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::try_take(dir.path(), "c").unwrap().unwrap();
        let stale = open(&dir.path().join("c")).unwrap();
        first.remove();
        drop(first);
        assert!(Lock::held(stale, &dir.path().join("c")).unwrap().is_none());
    }

    #[test]
    fn what_a_dead_call_left_running_is_killed() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::try_take(dir.path(), "c").unwrap().unwrap();
        let mut orphan = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        // A pid that is certainly not a plugin's.
        fs::write(dir.path().join("c"), "1\n").unwrap();
        drop(lock);
        let start = Instant::now();
        let budget = Budget::of(Duration::from_millis(50));
        let taken = Lock::take(dir.path(), "c", budget, &Log::stderr());
        let _ = orphan.kill();
        let ended = orphan.wait().unwrap();
        assert!(taken.is_ok(), "{taken:?}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(!ended.success());
    }
}
