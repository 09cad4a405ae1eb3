// SPDX-License-Identifier: Apache-2.0
//! The plugins' state: small JSON files below `cniDir`, readable by an operator.
//!
//! Files are renamed into place and not fsynced: after a power failure the pods they speak of are
//! gone too, and a torn file counts as absent and is reported.

pub mod lock;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_host::store::{self, Durability, Stored};

use crate::Error;
use crate::spec::log::Log;

/// Default folder of CNI state, changed by the key `cniDir`. Files of these plugins lie in
/// `sluicegate` below it, so that they never mix with another plugin's.
pub const DEFAULT_CNI_DIR: &str = "/var/lib/cni";

/// Mode of state files, less the umask; the folder keeps all but root out.
const MODE: u32 = 0o644;

/// Suffix of records.
const SUFFIX: &str = ".json";

/// Returns the state folder for a configuration's `cniDir`.
pub fn state_dir(cni_dir: Option<&str>) -> PathBuf {
    Path::new(cni_dir.unwrap_or(DEFAULT_CNI_DIR)).join("sluicegate")
}

/// Returns the name of the record of one interface of a container. A container id holds no `@`, so
/// no two pairs share a name.
pub fn file_name(container_id: &str, ifname: &str) -> String {
    format!("{container_id}@{ifname}{SUFFIX}")
}

/// Makes a folder that only root may look into, with its parents.
///
/// # Errors
/// [`Error::File`].
pub fn make_dir(path: &Path) -> Result<(), Error> {
    Ok(store::make_dir(path, 0o700)?)
}

/// Writes `value` as JSON, whole or not at all.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    Ok(store::write_json(path, value, MODE, Durability::Renamed)?)
}

/// Writes `bytes`, whole or not at all.
///
/// # Errors
/// [`Error::File`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    Ok(store::write(path, bytes, MODE, Durability::Renamed)?)
}

/// Reads a record that [`write()`] wrote; `None` if there is none. A torn one counts as absent and
/// is reported.
///
/// # Errors
/// [`Error::File`]: it is there and cannot be read.
pub fn load<T: DeserializeOwned>(path: &Path, log: &Log) -> Result<Option<T>, Error> {
    match store::read_json(path)? {
        Stored::Whole(record) => Ok(Some(record)),
        Stored::Absent => Ok(None),
        Stored::Torn(why) => {
            log.error(format_args!(
                "the record {} is torn ({why}) and counts as absent",
                path.display()
            ));
            Ok(None)
        }
    }
}

/// Removes a file, and what a killed writer left beside it. Success if there is none.
///
/// # Errors
/// [`Error::File`].
pub fn remove(path: &Path) -> Result<(), Error> {
    store::remove(path, Durability::Renamed)?;
    Ok(())
}

/// Lists the interfaces that have a record in `dir`: (container id, interface name), in order of
/// file name.
///
/// # Errors
/// [`Error::File`]: the folder is there and cannot be read.
pub fn list(dir: &Path) -> Result<Vec<(String, String)>, Error> {
    let paths = store::list(dir, SUFFIX)?;
    let pair = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        let (container, ifname) = name.split_once('@')?;
        Some((container.to_owned(), ifname.to_owned()))
    };
    Ok(paths.iter().filter_map(pair).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_record_is_written_read_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::stderr();
        let path = dir.path().join(file_name("c-1", "eth0"));
        assert_eq!(load::<Vec<u8>>(&path, &log).unwrap(), None);
        write(&path, &vec![1u8, 2]).unwrap();
        assert_eq!(load::<Vec<u8>>(&path, &log).unwrap(), Some(vec![1, 2]));
        assert_eq!(
            list(dir.path()).unwrap(),
            [("c-1".to_owned(), "eth0".to_owned())]
        );
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_record_counts_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x@y.json");
        fs::write(&path, "[1, 2").unwrap();
        assert_eq!(load::<Vec<u8>>(&path, &Log::stderr()).unwrap(), None);
    }

    #[test]
    fn a_folder_that_is_not_there_lists_nothing() {
        assert!(list(Path::new("/nonexistent/state")).unwrap().is_empty());
    }
}
