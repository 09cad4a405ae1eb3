// SPDX-License-Identifier: Apache-2.0
//! [`FileLock`]: exclusive locks on files (flock(2), through [`File::try_lock`]).
//!
//! The kernel gives a lock back when the last process that has the open file ends, however it ends.
//! A lock file may hold the pid of the process that took it last; that is for people and for
//! finding leftovers, and decides nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{major, minor};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::FileError;

/// Interval at which a held lock is tried again.
const POLL: Duration = Duration::from_millis(10);

/// Exclusive lock on a file or folder, held until dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock on the file at `path`, which is made with `mode` less the umask; `None` if
    /// somebody holds it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn try_take(path: &Path, mode: u32) -> Result<Option<FileLock>, FileError> {
        loop {
            match FileLock::lock(open(path, mode)?, path)? {
                Locked::Taken(lock) => return Ok(Some(lock)),
                Locked::Held => return Ok(None),
                // Its last holder removed it after it was opened here: there is another one now.
                Locked::Stale => {}
            }
        }
    }

    /// Takes the lock on the file at `path` as [`FileLock::try_take`] does, waiting for its holder
    /// until `deadline`; `None` if it is still held then.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn take_until(
        path: &Path,
        mode: u32,
        deadline: Instant,
    ) -> Result<Option<FileLock>, FileError> {
        loop {
            if let Some(lock) = FileLock::try_take(path, mode)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes the lock on a folder that is there; `None` if somebody holds it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn try_take_dir(path: &Path) -> Result<Option<FileLock>, FileError> {
        let dir = File::open(path).map_err(FileError::at("open", path))?;
        Ok(match FileLock::lock(dir, path)? {
            Locked::Taken(lock) => Some(lock),
            Locked::Held | Locked::Stale => None,
        })
    }

    fn lock(file: File, path: &Path) -> Result<Locked, FileError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Locked::Held),
            Err(TryLockError::Error(error)) => return Err(FileError::at("lock", path)(error)),
        }
        let ours = file.metadata().map_err(FileError::at("look at", path))?;
        let is_there = fs::metadata(path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        Ok(if is_there {
            Locked::Taken(FileLock {
                file,
                path: path.to_owned(),
            })
        } else {
            Locked::Stale
        })
    }

    /// Whether the locked file is still the one at its path.
    pub fn is_there(&self) -> bool {
        let ours = self.file.metadata();
        let there = fs::metadata(&self.path);
        matches!((ours, there), (Ok(ours), Ok(there))
            if (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    }

    /// Path of the locked file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Pid in the file: of the process that took the lock last.
    pub fn noted_pid(&self) -> Option<u32> {
        read_pid(&self.file)
    }

    /// Writes this process's pid into the file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn note_pid(&self) -> Result<(), FileError> {
        let mut file = &self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(FileError::at("write", &self.path))
    }

    /// Lets the programs that this process executes from now on inherit the open file, so that the
    /// lock is held until they have ended too.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn pass_to_children(&self) -> Result<(), FileError> {
        fcntl_setfd(&self.file, FdFlags::empty())
            .map_err(|errno| FileError::at("pass on", &self.path)(errno.into()))
    }

    /// Removes the file. The lock is held until dropped, and who waits for it starts over.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove_file(&self) -> Result<(), FileError> {
        fs::remove_file(&self.path).map_err(FileError::at("remove", &self.path))
    }
}

/// Result of one attempt on an open file.
enum Locked {
    /// Lock is this process's.
    Taken(FileLock),
    /// Somebody holds it.
    Held,
    /// File is no longer the one at its path: a lock on it keeps nobody out.
    Stale,
}

/// Returns the pid in the lock file at `path`: of the process that took the lock last.
pub fn noted_pid(path: &Path) -> Option<u32> {
    read_pid(&File::open(path).ok()?)
}

/// Whether some process holds the lock on the file at `path`. The kernel's list is read, since
/// trying the lock could keep out who takes it just now.
pub fn is_held(path: &Path) -> bool {
    let Ok(meta) = fs::metadata(path) else {
        return false;
    };
    let Ok(held) = fs::read_to_string("/proc/locks") else {
        // Unknown: whoever asks must not take the holder for dead.
        return true;
    };
    let pid = noted_pid(path);
    held.lines()
        .any(|line| is_flock_on(line, meta.dev(), meta.ino(), pid))
}

/// Whether a line of `/proc/locks` (`1: FLOCK  ADVISORY  WRITE 421 00:18:523 0 EOF`) is a flock on
/// that file. Some file systems (btrfs, overlayfs) show another device there than stat(2) does: the
/// pid that the file names counts as well.
fn is_flock_on(line: &str, dev: u64, ino: u64, noted_pid: Option<u32>) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, file, ..] = words[..] else {
        return false;
    };
    let mut parts = file.split(':');
    let mut part = |radix| {
        parts
            .next()
            .and_then(|text| u64::from_str_radix(text, radix).ok())
    };
    let (major_number, minor_number, inode) = (part(16), part(16), part(10));
    let same_device =
        major_number == Some(major(dev).into()) && minor_number == Some(minor(dev).into());
    let same_pid = noted_pid.is_some() && pid.parse().ok() == noted_pid;
    inode == Some(ino) && (same_device || same_pid)
}

fn open(path: &Path, mode: u32) -> Result<File, FileError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(path)
        .map_err(FileError::at("open", path))
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    let mut file = file;
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let first = FileLock::try_take(&path, 0o600).unwrap().unwrap();
        assert!(FileLock::try_take(&path, 0o600).unwrap().is_none());
        let soon = Instant::now() + Duration::from_millis(30);
        assert!(FileLock::take_until(&path, 0o600, soon).unwrap().is_none());
        assert!(Instant::now() >= soon);
        assert!(is_held(&path));
        drop(first);
        assert!(!is_held(&path));
        assert!(FileLock::take_until(&path, 0o600, soon).unwrap().is_some());
    }

    #[test]
    fn a_folder_can_be_locked() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileLock::try_take_dir(dir.path()).unwrap().unwrap();
        assert_eq!(first.path(), dir.path());
        assert!(FileLock::try_take_dir(dir.path()).unwrap().is_none());
    }

    #[test]
    fn the_pid_of_the_last_holder_is_read_and_garbage_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        fs::write(&path, "4711\n").unwrap();
        let lock = FileLock::try_take(&path, 0o600).unwrap().unwrap();
        assert_eq!(lock.noted_pid(), Some(4711));
        lock.note_pid().unwrap();
        assert_eq!(noted_pid(&path), Some(std::process::id()));
        fs::write(&path, "garbage \u{1F980}").unwrap();
        assert_eq!(lock.noted_pid(), None);
    }

    #[test]
    fn a_lock_on_a_removed_file_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let first = FileLock::try_take(&path, 0o600).unwrap().unwrap();
        let waiting = open(&path, 0o600).unwrap();
        first.remove_file().unwrap();
        drop(first);
        let stale = FileLock::lock(waiting, &path).unwrap();
        assert!(matches!(stale, Locked::Stale));
        assert!(FileLock::try_take(&path, 0o600).unwrap().is_some());
    }

    #[test]
    fn lines_of_the_kernels_list_are_understood() {
        let line = "12: FLOCK  ADVISORY  WRITE 421 00:18:523 0 EOF";
        let dev = rustix::fs::makedev(0, 0x18);
        let other = rustix::fs::makedev(8, 1);
        assert!(is_flock_on(line, dev, 523, None));
        assert!(is_flock_on(line, other, 523, Some(421)));
        assert!(!is_flock_on(line, other, 523, Some(42)));
        assert!(!is_flock_on(line, dev, 524, Some(421)));
        let posix = "1: POSIX ADVISORY WRITE 421 00:18:523 0 EOF";
        assert!(!is_flock_on(posix, dev, 523, None));
        assert!(!is_flock_on("", dev, 0, None));
    }
}
