//! State as small JSON files, readable by an operator.
//!
//! A file is written beside its name and renamed into place, so a reader sees the old content or
//! the new. It is not fsynced: after a power failure the pods it speaks of are gone too, and a
//! torn file counts as absent.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Where CNI state lies; ours in `sluicegate` below it, so that it never mixes with another
/// plugin's in the same place. The key `cniDir` changes it.
pub const DEFAULT_CNI_DIR: &str = "/var/lib/cni";

/// What reading a file came to.
#[derive(Debug)]
pub enum Found<T> {
    /// It was there and whole.
    Whole(T),
    /// There is no such file.
    Absent,
    /// It was there and makes no sense; the text says why.
    Torn(String),
}

/// The state directory for a configuration's `cniDir`.
pub fn state_dir(cni_dir: Option<&str>) -> PathBuf {
    Path::new(cni_dir.unwrap_or(DEFAULT_CNI_DIR)).join("sluicegate")
}

/// The name of the file for one interface of a container. A container id holds no `@`, so no
/// two pairs share a name.
pub fn file_name(container_id: &str, ifname: &str) -> String {
    format!("{container_id}@{ifname}.json")
}

/// Makes a directory that only root may look into, with its parents.
///
/// # Errors
/// [`Error::Io`].
pub fn make_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create directory", path))
}

/// Writes `value` as JSON, whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Internal(format!("cannot write a record as JSON: {error}")))?;
    text.push(b'\n');
    write_bytes(path, &text)
}

/// Writes `bytes`, whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    // The name is the same every time: whoever writes it holds the container's lock, and what a
    // killed writer left is overwritten by the next.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    fs::write(&beside, bytes).map_err(Error::io("write", &beside))?;
    fs::rename(&beside, path).map_err(Error::io("rename into place", path))
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// [`Error::Io`]: it is there and cannot be read.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Found<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Absent),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    Ok(match serde_json::from_slice(&text) {
        Ok(value) => Found::Whole(value),
        Err(error) => Found::Torn(error.to_string()),
    })
}

/// Removes a file, and what a killed writer left beside it. That there is none is fine.
///
/// # Errors
/// [`Error::Io`].
pub fn remove(path: &Path) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let _ = fs::remove_file(&beside);
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(())
        }
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}

/// The interfaces that have a file in `dir`: (container id, interface name), in order of name.
///
/// # Errors
/// [`Error::Io`]: the directory is there and cannot be read.
pub fn list(dir: &Path) -> Result<Vec<(String, String)>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let mut found: Vec<(String, String)> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let (container, ifname) = name.strip_suffix(".json")?.split_once('@')?;
            Some((container.to_owned(), ifname.to_owned()))
        })
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file_name("c-1", "eth0"));
        assert!(matches!(read::<Vec<u8>>(&path).unwrap(), Found::Absent));
        write(&path, &vec![1u8, 2]).unwrap();
        assert!(matches!(read::<Vec<u8>>(&path).unwrap(), Found::Whole(v) if v == [1, 2]));
        assert_eq!(
            list(dir.path()).unwrap(),
            [("c-1".to_owned(), "eth0".to_owned())]
        );
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_file_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x@y.json");
        fs::write(&path, "[1, 2").unwrap();
        assert!(matches!(read::<Vec<u8>>(&path).unwrap(), Found::Torn(_)));
    }

    #[test]
    fn a_directory_that_is_not_there_lists_nothing() {
        assert!(list(Path::new("/nonexistent/state")).unwrap().is_empty());
    }
}
