// SPDX-License-Identifier: Apache-2.0
//! Rotation of the log file: `logOptions` as Multus has them. Every call is a process of its own, so it is
//! looked at when the file is opened, under a lock of the file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock};

use crate::Error;
use crate::spec::fields::Fields;

/// Limits by which log files are rotated: size, age, number of backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rotation {
    /// `maxSize`, in MB.
    max_size: u64,
    /// `maxAge`, in days; 0: they do not age.
    max_age: u64,
    /// `maxBackups`; 0: all are kept.
    max_backups: usize,
    /// `compress`.
    compress: bool,
}

impl Default for Rotation {
    /// Multus's own defaults.
    fn default() -> Rotation {
        Rotation {
            max_size: 100,
            max_age: 5,
            max_backups: 5,
            compress: true,
        }
    }
}

impl Rotation {
    /// From `logOptions`; what is absent has its default.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(super) fn read(fields: &Fields<'_>) -> Result<Rotation, Error> {
        let usual = Rotation::default();
        let Some(options) = fields.object("logOptions")? else {
            return Ok(usual);
        };
        Ok(Rotation {
            max_size: options
                .integer("maxSize", 1, 1 << 20)?
                .unwrap_or(usual.max_size),
            max_age: options
                .integer("maxAge", 0, 36_500)?
                .unwrap_or(usual.max_age),
            max_backups: options
                .integer("maxBackups", 0, 100_000)?
                .unwrap_or(usual.max_backups),
            compress: options.boolean("compress")?.unwrap_or(usual.compress),
        })
    }

    /// Opens the file at `path` for appending, setting it aside first if it has grown too large.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        let append = || OpenOptions::new().create(true).append(true).open(path);
        let file = append()?;
        if file.metadata()?.len() < self.max_size * 1_000_000 {
            return Ok(file);
        }
        flock(&file, FlockOperation::LockExclusive)?;
        // Another call may have set it aside while this one waited for the lock.
        let ours = file.metadata()?.ino();
        if fs::metadata(path).is_ok_and(|there| there.ino() == ours) {
            self.set_aside(path)?;
        }
        append()
    }

    fn set_aside(&self, path: &Path) -> io::Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let stamp = super::timestamp(now.as_secs(), now.subsec_millis()).replace(':', "-");
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{stamp}"));
        let aside = PathBuf::from(aside);
        fs::rename(path, &aside)?;
        if self.compress {
            let mut packed = aside.clone().into_os_string();
            packed.push(".gz");
            let mut into = GzEncoder::new(File::create(&packed)?, Compression::fast());
            io::copy(&mut File::open(&aside)?, &mut into)?;
            into.finish()?;
            fs::remove_file(&aside)?;
        }
        self.forget_old(path)
    }

    /// Removes files set aside that are too old or too many.
    fn forget_old(&self, path: &Path) -> io::Result<()> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let start = format!("{}.2", name.to_string_lossy());
        let mut aside: Vec<PathBuf> = fs::read_dir(folder)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&start))
            .map(|entry| entry.path())
            .collect();
        // Their names begin with the time.
        aside.sort();
        aside.reverse();
        let age = Duration::from_secs(self.max_age * 86_400);
        for (index, path) in aside.iter().enumerate() {
            let written = fs::metadata(path).and_then(|meta| meta.modified())?;
            let is_old = self.max_age > 0 && written.elapsed().is_ok_and(|since| since > age);
            if is_old || self.max_backups > 0 && index >= self.max_backups {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_large_file_is_set_aside_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let rotation = Rotation {
            max_size: 1,
            max_age: 1,
            max_backups: 2,
            compress: true,
        };
        fs::write(dir.path().join("a.log.txt"), "another's").unwrap();
        let aged = dir.path().join("a.log.2020-01-01T00-00-00.000Z.gz");
        let file = File::create(&aged).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_577_836_800))
            .unwrap();
        for _ in 0..4 {
            fs::write(&path, vec![b'x'; 1_000_001]).unwrap();
            rotation.open(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), 0);
            std::thread::sleep(Duration::from_millis(3));
        }
        let names = names(dir.path());
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names[1].ends_with(".gz") && !aged.exists(), "{names:?}");
        fs::write(&path, "small").unwrap();
        rotation.open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 5);
    }

    #[test]
    fn options_and_their_defaults() {
        let read = |options: serde_json::Value| {
            let conf = json!({"logOptions": options});
            Rotation::read(&Fields::new(conf.as_object().unwrap()))
        };
        assert_eq!(read(json!(null)).unwrap(), Rotation::default());
        let some = read(json!({"maxsize": 7, "compress": false})).unwrap();
        assert_eq!((some.max_size, some.compress, some.max_age), (7, false, 5));
        assert!(read(json!({"maxSize": 0})).is_err());
    }
}
