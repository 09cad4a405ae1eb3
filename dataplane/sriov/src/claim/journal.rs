//! The VF journal: a folder with one small file per VF that is somebody's, and the locks under which
//! VFs change hands.
//!
//! A VF's first record is on the disk, with the folder that names it, before the VF is touched.
//! Later ones replace it by a rename and need no more: at worst the older one is found, and what it
//! says is enough to put the VF back.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::record::Record;
use crate::error::file;
use crate::{Error, PciAddr};

/// How often a lock that another process has is tried.
const POLL: Duration = Duration::from_millis(10);

/// Name of the lock under which free VFs are chosen.
const ALLOCATION: &str = "allocation";

/// The journal's folder.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
}

/// What the journal says of a VF.
#[derive(Debug)]
pub enum Entry {
    /// Nothing: nobody has it.
    Absent,
    /// Somebody has it.
    Whole(Box<Record>),
    /// Something that makes no sense: nobody can have it before somebody has looked.
    Torn(String),
}

/// A lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Journal {
    /// The journal below the engine's state directory (`/var/lib/sluicegate`).
    pub fn below(state_dir: &Path) -> Journal {
        Journal {
            dir: state_dir.join("vfs"),
        }
    }

    fn path(&self, vf: PciAddr) -> PathBuf {
        self.dir.join(format!("{vf}.json"))
    }

    fn make_dir(&self) -> Result<(), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(file("create", &self.dir))
    }

    /// What it says of a VF.
    ///
    /// # Errors
    /// [`Error::File`]: the record is there and cannot be read.
    pub fn read(&self, vf: PciAddr) -> Result<Entry, Error> {
        let path = self.path(vf);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Entry::Absent),
            Err(error) => return Err(file("read", path)(error)),
        };
        Ok(match serde_json::from_slice::<Record>(&text) {
            Ok(record) if record.vf == vf => Entry::Whole(Box::new(record)),
            Ok(record) => Entry::Torn(format!("it is of {}", record.vf)),
            Err(error) => Entry::Torn(error.to_string()),
        })
    }

    /// The VFs that it says something of, in order of their addresses.
    ///
    /// # Errors
    /// [`Error::File`]: the folder is there and cannot be read.
    pub fn vfs(&self) -> Result<Vec<PciAddr>, Error> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file("read", &self.dir)(error)),
        };
        let mut vfs: Vec<PciAddr> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                name.to_str()?.strip_suffix(".json")?.parse().ok()
            })
            .collect();
        vfs.sort_unstable();
        Ok(vfs)
    }

    /// Writes a record; a VF's first one goes to the disk before this returns.
    ///
    /// # Errors
    /// [`Error::File`]; what was there stays.
    pub(super) fn write(&self, record: &Record) -> Result<(), Error> {
        self.make_dir()?;
        let path = self.path(record.vf);
        let first = !path.exists();
        let beside = self.dir.join(format!("{}.new", record.vf));
        let text = serde_json::to_vec_pretty(record)
            .map_err(|error| file("write", &path)(std::io::Error::other(error)))?;
        let mut out = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(file("write", &beside))?;
        out.write_all(&text)
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| if first { out.sync_all() } else { Ok(()) })
            .map_err(file("write", &beside))?;
        fs::rename(&beside, &path).map_err(file("rename into place", &path))?;
        if first {
            File::open(&self.dir)
                .and_then(|dir| dir.sync_all())
                .map_err(file("sync", &self.dir))?;
        }
        Ok(())
    }

    /// Removes a VF's record. That there is none is fine.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn remove(&self, vf: PciAddr) -> Result<(), Error> {
        let path = self.path(vf);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(file("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// Takes a VF's lock, waiting for whoever has it until `deadline`.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::File`].
    pub(super) fn lock(&self, vf: PciAddr, deadline: Instant) -> Result<Lock, Error> {
        self.wait(&vf.to_string(), deadline)
    }

    /// Takes a VF's lock if nobody has it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn try_lock(&self, vf: PciAddr) -> Result<Option<Lock>, Error> {
        self.take(&vf.to_string())
    }

    /// Takes the lock under which free VFs are chosen.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::File`].
    pub(super) fn lock_allocation(&self, deadline: Instant) -> Result<Lock, Error> {
        self.wait(ALLOCATION, deadline)
    }

    fn wait(&self, name: &str, deadline: Instant) -> Result<Lock, Error> {
        loop {
            if let Some(lock) = self.take(name)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(Error::Locked {
                    what: name.to_owned(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Lock files are never removed: one that is held under a name that is gone keeps nobody out.
    fn take(&self, name: &str) -> Result<Option<Lock>, Error> {
        self.make_dir()?;
        let path = self.dir.join(format!("{name}.lock"));
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(file("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(file("lock", path)(error.into())),
        }
    }
}
