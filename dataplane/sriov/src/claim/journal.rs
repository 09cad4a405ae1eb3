// SPDX-License-Identifier: Apache-2.0
//! [`Journal`]: a folder with one small file per VF that somebody holds, and the locks under which VFs
//! are claimed and given back.
//!
//! A VF's first record is on the disk, with the folder that names it, before the VF is touched.
//! Later ones replace it by a rename and need no more: at worst the older one is found, and what it
//! says is enough to put the VF back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sluice_host::{Durability, FileLock, Stored, engine, store};

use super::record::Record;
use crate::{Error, PciAddr};

/// Mode of the journal's folder.
const DIR_MODE: u32 = 0o700;

/// Mode of records and lock files.
const FILE_MODE: u32 = 0o600;

/// Name of the lock under which free VFs are chosen.
const ALLOCATION: &str = "allocation";

/// VF journal: a folder with one record per VF that somebody holds.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
}

/// Entry of a VF in the journal.
#[derive(Debug)]
pub enum Entry {
    /// No record: nobody holds the VF.
    Absent,
    /// Record of the claim that holds the VF.
    Whole(Box<Record>),
    /// Record that cannot be parsed, and why: nobody can claim the VF before an operator has looked.
    Torn(String),
}

impl Journal {
    /// The journal below the engine's state directory (`/var/lib/sluicegate`).
    pub fn below(state_dir: &Path) -> Journal {
        Journal {
            dir: engine::vfs_dir(state_dir),
        }
    }

    fn path(&self, vf: PciAddr) -> PathBuf {
        self.dir.join(format!("{vf}.json"))
    }

    fn make_dir(&self) -> Result<(), Error> {
        Ok(store::make_dir(&self.dir, DIR_MODE)?)
    }

    /// Reads the entry of a VF.
    ///
    /// # Errors
    /// [`Error::File`]: the record is there and cannot be read.
    pub fn read(&self, vf: PciAddr) -> Result<Entry, Error> {
        Ok(match store::read_json::<Record>(&self.path(vf))? {
            Stored::Whole(record) if record.vf == vf => Entry::Whole(Box::new(record)),
            Stored::Whole(record) => Entry::Torn(format!("it is of {}", record.vf)),
            Stored::Absent => Entry::Absent,
            Stored::Torn(why) => Entry::Torn(why),
        })
    }

    /// Lists the VFs that have an entry, in order of their addresses.
    ///
    /// # Errors
    /// [`Error::File`]: the folder is there and cannot be read.
    pub fn vfs(&self) -> Result<Vec<PciAddr>, Error> {
        let paths = store::list(&self.dir, ".json")?;
        let mut vfs: Vec<PciAddr> = paths
            .iter()
            .filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
            .collect();
        vfs.sort_unstable();
        Ok(vfs)
    }

    /// Writes a record. The first one of a VF, and its name, are on disk when this returns.
    ///
    /// # Errors
    /// [`Error::File`]; the old record is still there.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Error> {
        self.make_dir()?;
        let path = self.path(record.vf);
        let durability = if path.exists() {
            Durability::Renamed
        } else {
            Durability::Synced
        };
        Ok(store::write_json(&path, record, FILE_MODE, durability)?)
    }

    /// Removes the record of a VF, if there is one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn remove(&self, vf: PciAddr) -> Result<(), Error> {
        store::remove(&self.path(vf), Durability::Renamed)?;
        Ok(())
    }

    /// Takes a VF's lock, waiting for its holder until `deadline`.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::File`].
    pub(super) fn lock(&self, vf: PciAddr, deadline: Instant) -> Result<FileLock, Error> {
        self.wait(&vf.to_string(), deadline)
    }

    /// Takes a VF's lock; `None` if it is held.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn try_lock(&self, vf: PciAddr) -> Result<Option<FileLock>, Error> {
        let path = self.lock_path(&vf.to_string())?;
        Ok(FileLock::try_take(&path, FILE_MODE)?)
    }

    /// Takes the lock under which free VFs are chosen.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::File`].
    pub(crate) fn lock_allocation(&self, deadline: Instant) -> Result<FileLock, Error> {
        self.wait(ALLOCATION, deadline)
    }

    fn wait(&self, name: &str, deadline: Instant) -> Result<FileLock, Error> {
        let path = self.lock_path(name)?;
        let lock = FileLock::take_until(&path, FILE_MODE, deadline)?;
        lock.ok_or_else(|| Error::Locked {
            what: name.to_owned(),
        })
    }

    /// Path of a lock file, in a folder that is there. Lock files are never removed.
    fn lock_path(&self, name: &str) -> Result<PathBuf, Error> {
        self.make_dir()?;
        Ok(self.dir.join(format!("{name}.lock")))
    }
}
