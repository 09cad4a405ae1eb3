// SPDX-License-Identifier: Apache-2.0
//! [`Records`]: a folder of the engine's records of one kind, one small JSON file each, on disk
//! before what it tells of is done.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FileError;
use crate::store::{self, Durability, Stored};

/// Suffix of records' file names.
const SUFFIX: &str = ".json";

/// Reason why a record could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// File system failed.
    #[error("{0}; check the space and the permissions of its folder")]
    File(#[from] FileError),
    /// Two identities lead to one file name.
    #[error("{} is the record of another attachment ({other}): detach that one first", path.display())]
    Taken {
        /// Record's file.
        path: PathBuf,
        /// Attachment that it belongs to.
        other: String,
    },
}

/// File that is not a readable record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a readable record ({why}): it counts as absent; look by hand for what it told of, \
     then remove the file", path.display()
)]
pub struct Unreadable {
    /// Record's file.
    pub path: PathBuf,
    /// Defect of its content, or failure to read it.
    pub why: String,
}

impl Unreadable {
    /// Returns the name that the record would have.
    pub fn name(&self) -> String {
        stem(&self.path)
    }
}

/// Folder of records of one kind.
#[derive(Debug, Clone)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`RecordError::File`].
    pub fn open(dir: PathBuf) -> Result<Records, RecordError> {
        store::make_dir(&dir, 0o700)?;
        Ok(Records { dir })
    }

    /// Removes the files that a killed writer did not finish, and returns their paths.
    ///
    /// # Errors
    /// [`RecordError::File`].
    pub fn remove_unfinished(&self) -> Result<Vec<PathBuf>, RecordError> {
        Ok(store::remove_unfinished(&self.dir)?)
    }

    /// Path of the record `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }

    /// Writes a record: it is on disk when this returns.
    ///
    /// # Errors
    /// [`RecordError::File`]; the old record is still there.
    pub fn put<T: Serialize>(&self, name: &str, record: &T) -> Result<(), RecordError> {
        let path = self.path(name);
        Ok(store::write_json(&path, record, 0o600, Durability::Synced)?)
    }

    /// Removes a record. Returns whether it was there.
    ///
    /// # Errors
    /// [`RecordError::File`]: it is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, RecordError> {
        Ok(store::remove(&self.path(name), Durability::Synced)?)
    }

    /// Reads one record; `None` if there is none.
    ///
    /// # Errors
    /// [`Unreadable`]: it is torn, or cannot be read.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Unreadable> {
        read(&self.path(name))
    }

    /// Reads all records, in order of their file names, each with its name.
    ///
    /// # Errors
    /// [`RecordError::File`]: the folder cannot be read. A record that cannot be read is among the results.
    #[allow(clippy::type_complexity, reason = "a pair and its failure, per file")]
    pub fn all<T: DeserializeOwned>(
        &self,
    ) -> Result<Vec<Result<(String, T), Unreadable>>, RecordError> {
        let paths = store::list(&self.dir, SUFFIX)?;
        let records = paths.iter().filter_map(|path| {
            // One that was removed since the folder was listed is none.
            let record = read(path).transpose()?;
            Some(record.map(|record| (stem(path), record)))
        });
        Ok(records.collect())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Unreadable> {
    let unreadable = |why: String| Unreadable {
        path: path.to_owned(),
        why,
    };
    match store::read_json(path) {
        Ok(Stored::Whole(record)) => Ok(Some(record)),
        Ok(Stored::Absent) => Ok(None),
        Ok(Stored::Torn(why)) => Err(unreadable(why)),
        Err(error) => Err(unreadable(error.source.to_string())),
    }
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use serde::Deserialize;

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
            assert_eq!(torn.name(), "torn");
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
        let (_dir, records) = records();
        records.put("a", &sample(1)).unwrap();
        let left = records.dir.join(".b.json.tmp");
        std::fs::write(&left, b"{").unwrap();
        assert_eq!(records.all::<Sample>().unwrap().len(), 1);
        assert_eq!(
            records.remove_unfinished().unwrap(),
            std::slice::from_ref(&left)
        );
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
}
