//! One engine at a time: a lock on `RUN_DIR/engine.lock` and one on the state folder, both held for
//! life. The kernel gives them back when the engine dies, however it dies, so who finds them free
//! may take over everything that lies there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The name of the lock file in the run folder.
pub const LOCK_FILE: &str = "engine.lock";

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another engine lives.
    #[error(
        "another engine{} holds {}: stop it first, or give this one a `run_dir` and a `state_dir` \
         of its own", pid.map_or(String::new(), |pid| format!(" (pid {pid})")), path.display()
    )]
    Held {
        /// What is locked.
        path: PathBuf,
        /// Who holds it, as far as known.
        pid: Option<u32>,
    },
    /// The file system said no.
    #[error("{what} {}: {source}; the engine runs as root and needs this folder writable", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// The right to be the engine here. Given back on drop, or by [`Lock::remove`] without a trace.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
    // Held for its lock alone.
    _state_dir: File,
    took_over: Option<u32>,
    owns_run_dir: bool,
}

impl Lock {
    /// Takes the lock. Both folders are made if they are not there.
    ///
    /// # Errors
    /// Another engine lives, or the folders cannot be written.
    pub fn take(run_dir: &Path, state_dir: &Path) -> Result<Lock, LockError> {
        let made_run_dir = !run_dir.exists();
        make_dir(run_dir, 0o755)?;
        make_dir(state_dir, 0o700)?;
        let path = run_dir.join(LOCK_FILE);
        let file = lock_file(&path)?;
        let took_over = read_pid(&file);
        let state = File::open(state_dir)
            .map_err(system("cannot open", state_dir))
            .and_then(|state| lock(&state, state_dir, None).map(|()| state))
            .inspect_err(|_| {
                if took_over.is_none() {
                    let _ = std::fs::remove_file(&path);
                }
            })?;
        let lock = Lock {
            path,
            file,
            _state_dir: state,
            took_over,
            // A dead engine's is this one's now.
            owns_run_dir: made_run_dir || took_over.is_some(),
        };
        lock.write_pid()?;
        Ok(lock)
    }

    /// The pid that an engine left in the lock file when it died.
    pub fn took_over(&self) -> Option<u32> {
        self.took_over
    }

    /// Removes the lock file, and the run folder if an engine made it and it is empty.
    pub fn remove(self) {
        // While the lock is still held: who opened the file before finds it gone and starts over.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
        if self.owns_run_dir
            && let Some(dir) = self.path.parent()
        {
            // Not empty is somebody else's business.
            let _ = std::fs::remove_dir(dir);
        }
    }

    fn write_pid(&self) -> Result<(), LockError> {
        let mut file = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(system("cannot write", &self.path))
    }
}

/// Opens and locks the file, again if it was removed in between.
fn lock_file(path: &Path) -> Result<File, LockError> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(system("cannot open", path))?;
        lock(&file, path, read_pid(&file))?;
        let ours = file.metadata().map_err(system("cannot look at", path))?;
        match std::fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            // Its last owner removed it after we had opened it.
            _ => {}
        }
    }
}

fn lock(file: &File, path: &Path, pid: Option<u32>) -> Result<(), LockError> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => LockError::Held {
            path: path.to_owned(),
            pid,
        },
        _ => system("cannot lock", path)(errno.into()),
    })
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    let mut file = file;
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Makes a folder and those above it.
fn make_dir(path: &Path, mode: u32) -> Result<(), LockError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(system("cannot make the folder", path))
}

fn system(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::System {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (run, state) = (dir.path().join("run"), dir.path().join("state"));
        let first = Lock::take(&run, &state).unwrap();
        assert_eq!(first.took_over(), None);
        let held = Lock::take(&run, &state).unwrap_err();
        let ours = std::process::id();
        assert!(
            matches!(held, LockError::Held { pid: Some(pid), .. } if pid == ours),
            "{held}"
        );
        first.remove();
        assert!(!run.exists());
        Lock::take(&run, &state).unwrap();
    }

    #[test]
    fn the_state_folder_is_locked_too() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let _first = Lock::take(&dir.path().join("run1"), &state).unwrap();
        let held = Lock::take(&dir.path().join("run2"), &state).unwrap_err();
        assert!(held.to_string().contains("state"), "{held}");
    }

    #[test]
    fn a_dead_engines_lock_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join(LOCK_FILE), "4711\n").unwrap();
        let lock = Lock::take(&run, &dir.path().join("state")).unwrap();
        assert_eq!(lock.took_over(), Some(4711));
        // Dropped without `remove`: the file stays, the lock does not.
        drop(lock);
        std::fs::write(run.join(LOCK_FILE), "garbage \u{1F980}").unwrap();
        assert_eq!(
            Lock::take(&run, &dir.path().join("state"))
                .unwrap()
                .took_over(),
            None
        );
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = Lock::take(&dir.path().join("file/run"), dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("cannot make the folder"),
            "{error}"
        );
    }
}
