// SPDX-License-Identifier: Apache-2.0
//! Files written whole or not at all.
//!
//! A file is written under another name in the same folder (`.NAME.tmp`) and renamed into place, so
//! a reader sees the old content or the new. With [`Durability::Synced`] both the content and the
//! name are on disk before the writer goes on; with [`Durability::Renamed`] a power failure may
//! leave a torn file, which readers report and count as absent.
//!
//! Two writers of one path must hold a lock: the unfinished name is always the same, so that the
//! next writer replaces what a killed one left.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FileError;

/// Suffix of an unfinished file; such a file is never a record.
const UNFINISHED: &str = ".tmp";
/// Suffix of an unfinished file of the plugins of version 0.1.
const UNFINISHED_0_1: &str = ".new";

/// Result of reading a stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored<T> {
    /// File is there and complete.
    Whole(T),
    /// No such file.
    Absent,
    /// File is there and cannot be parsed, for this reason.
    Torn(String),
}

/// Guarantee that a write or a removal gives before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Content and name have reached the disk (fsync of file and folder).
    Synced,
    /// Name is in place for every process; a power failure may undo or tear it.
    Renamed,
}

/// New content of a file, written beside it and not yet in place. Dropping it discards the content.
#[derive(Debug)]
pub struct Staged {
    unfinished: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// Puts the content in place of what was there, by a rename. The name reaches the disk with the
    /// next [`sync_dir`].
    ///
    /// # Errors
    /// [`FileError`]; the old content is still there.
    pub fn commit(self) -> Result<(), FileError> {
        fs::rename(&self.unfinished, &self.path)
            .map_err(FileError::at("rename into place", &self.path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is nothing under this name.
        let _ = fs::remove_file(&self.unfinished);
    }
}

/// Makes a folder and those above it, each with `mode` less the umask.
///
/// # Errors
/// [`FileError`].
pub fn make_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(FileError::at("make the folder", path))
}

/// Writes `content` beside `path`, as a new file with `mode` less the umask. Its blocks are on
/// disk when this returns if `durability` is [`Durability::Synced`].
///
/// No link is followed: a folder that a pod can write to cannot lead the content elsewhere.
///
/// # Errors
/// [`FileError`]; nothing is left beside `path`.
pub fn stage(
    path: &Path,
    content: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<Staged, FileError> {
    let staged = Staged {
        unfinished: unfinished(path),
        path: path.to_owned(),
    };
    // Left by a writer that was killed.
    let _ = fs::remove_file(&staged.unfinished);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&staged.unfinished)
        .and_then(|mut file| {
            file.write_all(content)?;
            match durability {
                Durability::Synced => file.sync_all(),
                Durability::Renamed => Ok(()),
            }
        })
        .map_err(FileError::at("write", path))?;
    Ok(staged)
}

/// Writes `content` to `path`, whole or not at all.
///
/// # Errors
/// [`FileError`]; the old content is still there.
pub fn write(
    path: &Path,
    content: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), FileError> {
    stage(path, content, mode, durability)?.commit()?;
    sync_parent(path, durability)
}

/// Writes `value` to `path` as indented JSON, whole or not at all.
///
/// # Errors
/// [`FileError`]; the old content is still there.
pub fn write_json(
    path: &Path,
    value: &impl Serialize,
    mode: u32,
    durability: Durability,
) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| FileError::at("write", path)(io::Error::other(error)))?;
    text.push(b'\n');
    write(path, &text, mode, durability)
}

/// Reads JSON that [`write_json`] wrote.
///
/// # Errors
/// [`FileError`]: the file is there and cannot be read.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Stored<T>, FileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Stored::Absent),
        Err(error) => return Err(FileError::at("read", path)(error)),
    };
    Ok(match serde_json::from_slice(&text) {
        Ok(value) => Stored::Whole(value),
        Err(error) => Stored::Torn(error.to_string()),
    })
}

/// Removes a file, and what a killed writer left beside it. Returns whether the file was there.
///
/// # Errors
/// [`FileError`]: it is there and cannot be removed.
pub fn remove(path: &Path, durability: Durability) -> Result<bool, FileError> {
    let _ = fs::remove_file(unfinished(path));
    let mut unfinished_0_1 = path.as_os_str().to_owned();
    unfinished_0_1.push(UNFINISHED_0_1);
    let _ = fs::remove_file(unfinished_0_1);
    match fs::remove_file(path) {
        Ok(()) => {
            sync_parent(path, durability)?;
            Ok(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(FileError::at("remove", path)(error)),
    }
}

/// Lists the files of a folder whose names end in `suffix`, in order of their paths, unfinished
/// ones excepted. A folder that is not there has none.
///
/// # Errors
/// [`FileError`]: the folder is there and cannot be read.
pub fn list(dir: &Path, suffix: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = entries(dir)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.ends_with(suffix.as_bytes()) && !name.ends_with(UNFINISHED.as_bytes())
    });
    paths.sort();
    Ok(paths)
}

/// Removes the files that killed writers left in a folder, and returns their paths.
///
/// # Errors
/// [`FileError`]: the folder cannot be read, or a file cannot be removed.
pub fn remove_unfinished(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = entries(dir)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(b".") && name.ends_with(UNFINISHED.as_bytes())
    });
    for path in &paths {
        fs::remove_file(path).map_err(FileError::at("remove", path))?;
    }
    Ok(paths)
}

/// Brings the names in a folder to disk.
///
/// # Errors
/// [`FileError`].
pub fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(FileError::at("sync", dir))
}

fn sync_parent(path: &Path, durability: Durability) -> Result<(), FileError> {
    match (durability, path.parent()) {
        (Durability::Synced, Some(dir)) => sync_dir(dir),
        _ => Ok(()),
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    path.with_file_name(name)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::at("list", dir)(error)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(FileError::at("list", dir))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const BOTH: [Durability; 2] = [Durability::Synced, Durability::Renamed];

    #[test]
    fn a_written_value_is_read_listed_replaced_and_removed() {
        for durability in BOTH {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("c-1@eth0.json");
            assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Stored::Absent);
            write_json(&path, &[1u8, 2], 0o600, durability).unwrap();
            write_json(&path, &[3u8], 0o600, durability).unwrap();
            assert_eq!(read_json(&path).unwrap(), Stored::Whole(vec![3u8]));
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            assert_eq!(
                list(dir.path(), ".json").unwrap(),
                std::slice::from_ref(&path)
            );
            assert!(remove(&path, durability).unwrap());
            assert!(!remove(&path, durability).unwrap());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn every_torn_file_is_reported_as_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        let text = serde_json::to_vec_pretty(&("täst", [1, 2])).unwrap();
        for end in 0..text.len() {
            fs::write(&path, &text[..end]).unwrap();
            let read = read_json::<(String, [u8; 2])>(&path).unwrap();
            assert!(matches!(read, Stored::Torn(_)), "{end} bytes were taken");
        }
    }

    #[test]
    fn a_failed_write_changes_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_json(&path, &1u8, 0o600, Durability::Synced).unwrap();
        fs::create_dir(dir.path().join(".a.json.tmp")).unwrap();
        let error = write_json(&path, &2u8, 0o600, Durability::Synced).unwrap_err();
        assert_eq!(error.path, path);
        assert_eq!(read_json(&path).unwrap(), Stored::Whole(1u8));
        drop(stage(&dir.path().join("b.json"), b"x", 0o600, Durability::Renamed).unwrap());
        assert_eq!(list(dir.path(), ".json").unwrap().len(), 1);
        assert!(!dir.path().join(".b.json.tmp").exists());
    }

    #[test]
    fn what_a_killed_writer_left_is_replaced_or_removed_and_never_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let left = dir.path().join(".a.json.tmp");
        fs::write(&left, "{").unwrap();
        assert!(list(dir.path(), ".json").unwrap().is_empty());
        write_json(&path, &1u8, 0o600, Durability::Renamed).unwrap();
        assert!(!left.exists());
        fs::write(&left, "{").unwrap();
        fs::write(dir.path().join("a.json.new"), "{").unwrap();
        remove(&path, Durability::Renamed).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(&left, "{").unwrap();
        assert_eq!(
            remove_unfinished(dir.path()).unwrap(),
            std::slice::from_ref(&left)
        );
        assert!(!left.exists());
    }

    #[test]
    fn a_link_in_the_way_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "x").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join(".a.json.tmp")).unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("a.json")).unwrap();
        write_json(&dir.path().join("a.json"), &1u8, 0o600, Durability::Renamed).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "x");
    }

    #[test]
    fn a_folder_that_is_not_there_lists_nothing() {
        let none = Path::new("/nonexistent/state");
        assert!(list(none, ".json").unwrap().is_empty());
        assert!(remove_unfinished(none).unwrap().is_empty());
    }
}
