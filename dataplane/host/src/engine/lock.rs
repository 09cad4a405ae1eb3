// SPDX-License-Identifier: Apache-2.0
//! [`EngineLock`]: one engine at a time.
//!
//! The engine locks `RUN_DIR/engine.lock` and its state folder, both for life. The kernel gives the
//! locks back when the engine dies, however it dies, so whoever finds them free may take over
//! everything that lies there.

use std::path::{Path, PathBuf};

use super::LOCK_FILE;
use crate::lock::{self, FileLock};
use crate::{FileError, store};

/// Reason why the engine's lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum EngineLockError {
    /// Lock is held by an engine that runs.
    #[error(
        "another engine{} holds {}: stop it first, or give this one a `run_dir` and a `state_dir` \
         of its own", pid.map_or(String::new(), |pid| format!(" (pid {pid})")), path.display()
    )]
    Held {
        /// Locked file or folder.
        path: PathBuf,
        /// Pid of the holder, as far as known.
        pid: Option<u32>,
    },
    /// File system failed.
    #[error("{0}; the engine runs as root and needs this folder writable")]
    File(#[from] FileError),
}

/// Right to be the engine of a run folder and a state folder. Given back on drop, or by
/// [`EngineLock::remove`] without a trace.
#[derive(Debug)]
pub struct EngineLock {
    file: FileLock,
    state_dir: FileLock,
    took_over: Option<u32>,
    owns_run_dir: bool,
}

impl EngineLock {
    /// Takes the lock. Both folders are made if they are not there.
    ///
    /// # Errors
    /// [`EngineLockError`]: another engine runs, or the folders cannot be written.
    pub fn take(run_dir: &Path, state_dir: &Path) -> Result<EngineLock, EngineLockError> {
        let made_run_dir = !run_dir.exists();
        store::make_dir(run_dir, 0o755)?;
        let path = run_dir.join(LOCK_FILE);
        let held = || EngineLockError::Held {
            pid: lock::noted_pid(&path),
            path: path.clone(),
        };
        let file = FileLock::try_take(&path, 0o644)?.ok_or_else(held)?;
        let took_over = file.noted_pid();
        let state = lock_state_dir(state_dir).inspect_err(|_| {
            if took_over.is_none() {
                let _ = file.remove_file();
            }
        })?;
        file.note_pid()?;
        Ok(EngineLock {
            file,
            state_dir: state,
            took_over,
            // A dead engine's is this one's now.
            owns_run_dir: made_run_dir || took_over.is_some(),
        })
    }

    /// Whether an engine holds the lock of this run folder. Nothing is locked to find out.
    pub fn is_held(run_dir: &Path) -> bool {
        lock::is_held(&run_dir.join(LOCK_FILE))
    }

    /// Pid that an engine left in the lock file when it died.
    pub fn took_over(&self) -> Option<u32> {
        self.took_over
    }

    /// Makes the lock file again if somebody removed it. Returns whether it was gone.
    ///
    /// # Errors
    /// [`EngineLockError`]: another engine has taken it meanwhile, or the folder cannot be written.
    pub fn renew(&mut self) -> Result<bool, EngineLockError> {
        if self.file.is_there() {
            return Ok(false);
        }
        let path = self.file.path().to_owned();
        if let Some(dir) = path.parent() {
            store::make_dir(dir, 0o755)?;
        }
        let Some(file) = FileLock::try_take(&path, 0o644)? else {
            let pid = lock::noted_pid(&path);
            return Err(EngineLockError::Held { path, pid });
        };
        file.note_pid()?;
        self.file = file;
        Ok(true)
    }

    /// Makes and locks the state folder again if somebody removed it or put another one in its place. Returns
    /// whether that was so.
    ///
    /// # Errors
    /// [`EngineLockError`]: another engine has that folder, or it cannot be made.
    pub fn renew_state_dir(&mut self) -> Result<bool, EngineLockError> {
        if self.state_dir.is_there() {
            return Ok(false);
        }
        self.state_dir = lock_state_dir(self.state_dir.path())?;
        Ok(true)
    }

    /// Removes the lock file, and the run folder if an engine made it and it is empty.
    ///
    /// # Errors
    /// [`FileError`]: the lock file could not be removed; the lock is given back nevertheless.
    pub fn remove(self) -> Result<(), FileError> {
        // While the lock is still held: who opened the file before finds it gone and starts over.
        let removed = self.file.remove_file();
        if self.owns_run_dir
            && let Some(dir) = self.file.path().parent()
        {
            // Not empty is somebody else's business.
            let _ = std::fs::remove_dir(dir);
        }
        removed
    }
}

/// Locks a state folder, which is made if it is not there.
fn lock_state_dir(state_dir: &Path) -> Result<FileLock, EngineLockError> {
    store::make_dir(state_dir, 0o700)?;
    FileLock::try_take_dir(state_dir)?.ok_or_else(|| EngineLockError::Held {
        path: state_dir.to_owned(),
        pid: None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (run, state) = (dir.path().join("run"), dir.path().join("state"));
        assert!(!EngineLock::is_held(&run));
        let first = EngineLock::take(&run, &state).unwrap();
        assert!(EngineLock::is_held(&run));
        assert_eq!(first.took_over(), None);
        let held = EngineLock::take(&run, &state).unwrap_err();
        let ours = std::process::id();
        assert!(
            matches!(held, EngineLockError::Held { pid: Some(pid), .. } if pid == ours),
            "{held}"
        );
        first.remove().unwrap();
        assert!(!run.exists());
        EngineLock::take(&run, &state).unwrap();
    }

    #[test]
    fn a_lock_file_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (run, state) = (dir.path().join("run"), dir.path().join("state"));
        let mut lock = EngineLock::take(&run, &state).unwrap();
        assert!(!lock.renew().unwrap());
        std::fs::remove_dir_all(&run).unwrap();
        assert!(!EngineLock::is_held(&run));
        assert!(lock.renew().unwrap());
        assert!(EngineLock::is_held(&run));
        assert!(!lock.renew().unwrap());
        lock.remove().unwrap();
        assert!(!run.exists());
    }

    #[test]
    fn the_state_folder_is_locked_too() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let _first = EngineLock::take(&dir.path().join("run1"), &state).unwrap();
        let held = EngineLock::take(&dir.path().join("run2"), &state).unwrap_err();
        assert!(held.to_string().contains("state"), "{held}");
    }

    #[test]
    fn a_state_folder_that_was_removed_is_made_and_locked_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut first = EngineLock::take(&dir.path().join("run1"), &state).unwrap();
        assert!(!first.renew_state_dir().unwrap());
        std::fs::remove_dir(&state).unwrap();
        assert!(first.renew_state_dir().unwrap());
        assert!(!first.renew_state_dir().unwrap());
        let other = dir.path().join("run2");
        EngineLock::take(&other, &state).unwrap_err();
        // One that another engine took meanwhile is its own.
        std::fs::remove_dir(&state).unwrap();
        let _second = EngineLock::take(&other, &state).unwrap();
        let held = first.renew_state_dir().unwrap_err();
        assert!(held.to_string().contains("another engine"), "{held}");
    }

    #[test]
    fn a_dead_engines_lock_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join(LOCK_FILE), "4711\n").unwrap();
        let lock = EngineLock::take(&run, &dir.path().join("state")).unwrap();
        assert_eq!(lock.took_over(), Some(4711));
        // Dropped without `remove`: the file stays, the lock does not.
        drop(lock);
        std::fs::write(run.join(LOCK_FILE), "garbage \u{1F980}").unwrap();
        assert_eq!(
            EngineLock::take(&run, &dir.path().join("state"))
                .unwrap()
                .took_over(),
            None
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = EngineLock::take(&dir.path().join("file/run"), dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("cannot make the folder"),
            "{error}"
        );
    }
}
