//! What the engine must know again after it died: one small JSON file per attachment and per
//! uplink, written to disk (fsync) before what it tells of is done, under its name by rename, so
//! that a file is there whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sluice_api::AttachRequest;

/// How file names of records end.
const SUFFIX: &str = ".json";
/// How names of files that are being written end. Such a file is never a record.
const UNFINISHED: &str = ".tmp";

/// Why a record could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system said no.
    #[error("cannot {what} {}: {source}; see to the space and the rights of its folder", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Two identities that lead to one file name.
    #[error("{} is the record of another attachment ({other}): detach that one first", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        other: String,
    },
}

/// The record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// The request as it was made.
    pub request: AttachRequest,
    /// The MAC address it was given.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The boot it was made in: network namespaces do not outlive it.
    pub boot_id: String,
}

impl AttachmentRecord {
    /// The file name of an attachment's record.
    pub fn name(container_id: &str, ifname: &str) -> String {
        format!("{container_id}-{ifname}")
    }
}

/// A file that is no readable record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a readable record ({why}): it counts as absent; what it told of must be looked for \
     by hand, then remove the file", path.display()
)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl Unreadable {
    /// The name that the record would have.
    pub fn name(&self) -> String {
        stem(&self.path)
    }
}

/// A folder of records of one kind.
#[derive(Debug, Clone)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records in `dir`, which is made if it is not there. Files that a writer did not finish
    /// are removed.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(dir: PathBuf) -> Result<Records, RecordError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(system("make the folder", &dir))?;
        let records = Records { dir };
        for path in records.files(UNFINISHED)? {
            tracing::warn!(
                "removing {}, whose writer did not finish it",
                path.display()
            );
            std::fs::remove_file(&path).map_err(system("remove", &path))?;
        }
        Ok(records)
    }

    /// Where the record `name` is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }

    /// Writes a record: it is on disk when this returns.
    ///
    /// # Errors
    /// It could not be written; what was there before is there still.
    pub fn put<T: Serialize>(&self, name: &str, record: &T) -> Result<(), RecordError> {
        let path = self.path(name);
        let mut text = serde_json::to_vec_pretty(record)
            .map_err(|error| system("write", &path)(io::Error::other(error)))?;
        text.push(b'\n');
        write_durably(&path, &text, 0o600)
    }

    /// Removes a record; whether it was there.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, RecordError> {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Ok(()) => {
                sync_dir(&self.dir)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(system("remove", &path)(error)),
        }
    }

    /// Reads one record; `None` if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Unreadable> {
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(text) => parse(&path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Unreadable {
                path,
                why: error.to_string(),
            }),
        }
    }

    /// Reads all records, in order of their names, each with its name.
    ///
    /// # Errors
    /// The folder cannot be read. A record that cannot be read is among the results.
    #[allow(clippy::type_complexity, reason = "a pair and its failure, per file")]
    pub fn all<T: DeserializeOwned>(
        &self,
    ) -> Result<Vec<Result<(String, T), Unreadable>>, RecordError> {
        let mut paths = self.files(SUFFIX)?;
        paths.sort();
        let read = |path: PathBuf| {
            let name = stem(&path);
            let text = std::fs::read(&path).map_err(|error| Unreadable {
                path: path.clone(),
                why: error.to_string(),
            })?;
            Ok((name, parse(&path, &text)?))
        };
        Ok(paths.into_iter().map(read).collect())
    }

    fn files(&self, suffix: &str) -> Result<Vec<PathBuf>, RecordError> {
        let entries = std::fs::read_dir(&self.dir).map_err(system("read", &self.dir))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(system("read", &self.dir))?.path();
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().ends_with(suffix))
            {
                paths.push(path);
            }
        }
        Ok(paths)
    }
}

/// Which boot of the machine this is.
///
/// # Errors
/// The kernel does not tell.
pub fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// Puts `text` under `path`, all of it or nothing, on disk when this returns.
///
/// # Errors
/// The file system said no; what was there before is there still.
pub(crate) fn write_durably(path: &Path, text: &[u8], mode: u32) -> Result<(), RecordError> {
    let unfinished = write_beside(path, text, mode)?;
    std::fs::rename(&unfinished, path).map_err(|error| {
        let _ = std::fs::remove_file(&unfinished);
        system("write", path)(error)
    })?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Writes `text` to disk beside `path`, under a name that a rename to `path` makes good.
pub(crate) fn write_beside(path: &Path, text: &[u8], mode: u32) -> Result<PathBuf, RecordError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    let unfinished = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => Ok(unfinished),
        Err(error) => {
            let _ = std::fs::remove_file(&unfinished);
            Err(system("write", path)(error))
        }
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), RecordError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(system("sync", dir))
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(text).map_err(|error| Unreadable {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn system(what: &'static str, path: &Path) -> impl Fn(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::System {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: String,
        number: u32,
    }

    fn sample(number: u32) -> Sample {
        Sample {
            name: "täst".into(),
            number,
        }
    }

    fn records() -> (tempfile::TempDir, Records) {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path().join("deep/attachments")).unwrap();
        (dir, records)
    }

    #[test]
    fn put_get_replace_remove() {
        let (_dir, records) = records();
        assert_eq!(records.get::<Sample>("a-net1"), Ok(None));
        records.put("a-net1", &sample(1)).unwrap();
        records.put("a-net1", &sample(2)).unwrap();
        records.put("0-net1", &sample(3)).unwrap();
        assert_eq!(records.get("a-net1"), Ok(Some(sample(2))));
        let all = records.all::<Sample>().unwrap();
        assert_eq!(
            all,
            [
                Ok(("0-net1".into(), sample(3))),
                Ok(("a-net1".into(), sample(2)))
            ]
        );
        assert!(records.remove("a-net1").unwrap());
        assert!(!records.remove("a-net1").unwrap());
        assert_eq!(std::fs::read_dir(&records.dir).unwrap().count(), 1);
    }

    #[test]
    fn every_torn_record_counts_as_absent_and_is_reported() {
        let (_dir, records) = records();
        records.put("whole", &sample(1)).unwrap();
        let text = std::fs::read(records.path("whole")).unwrap();
        // The last byte is a newline, which nothing depends on.
        for end in 0..text.len() - 2 {
            std::fs::write(records.path("torn"), &text[..end]).unwrap();
            let all = records.all::<Sample>().unwrap();
            let torn = all[0].as_ref().unwrap_err();
            assert_eq!(torn.path, records.path("torn"));
            assert!(all[1].is_ok() && records.get::<Sample>("torn").is_err());
        }
        for garbage in [&b"\0\0\0"[..], b"{}", b"null", b"\xff\xfe", b"[[[[[[[["] {
            std::fs::write(records.path("torn"), garbage).unwrap();
            assert!(
                records.get::<Sample>("torn").is_err(),
                "{garbage:?} was taken"
            );
        }
    }

    #[test]
    fn what_a_dead_writer_left_is_removed() {
        let (dir, records) = records();
        records.put("a", &sample(1)).unwrap();
        let left = records.dir.join(".b.json.tmp");
        std::fs::write(&left, b"{").unwrap();
        assert_eq!(records.all::<Sample>().unwrap().len(), 1);
        Records::open(dir.path().join("deep/attachments")).unwrap();
        assert!(!left.exists());
        assert_eq!(records.get("a"), Ok(Some(sample(1))));
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let (_dir, records) = records();
        records.put("a", &sample(1)).unwrap();
        // A folder in the way of the unfinished file.
        std::fs::create_dir(records.dir.join(".a.json.tmp")).unwrap();
        assert!(records.put("a", &sample(2)).is_err());
        assert_eq!(records.get("a"), Ok(Some(sample(1))));
    }

    #[test]
    fn the_boot_is_known() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
