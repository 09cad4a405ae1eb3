// SPDX-License-Identifier: Apache-2.0
//! [`StateFolder`]: the folder of records under a running engine. One that is removed is made again, with the
//! records of what is served, so that the next engine serves it too.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;
use sluice_host::engine::{EngineLock, attachments_dir, uplinks_dir};

use super::world::file_identity;
use super::{Control, locked};
use crate::records::{RecordError, Records};

/// Device and inode of each folder of records; `None` of one that is not there.
type Identities = [Option<(u64, u64)>; 2];

/// Folder of records, as it was when the records in it were last known to be whole.
#[derive(Debug)]
pub(super) struct StateFolder {
    dir: PathBuf,
    whole: Identities,
}

impl StateFolder {
    /// Makes the watch of a folder in which all records are.
    pub(super) fn new(dir: PathBuf) -> StateFolder {
        StateFolder {
            whole: identities(&dir),
            dir,
        }
    }

    /// Looks at the folder once, and makes again what was removed. Returns what is a problem of it. `lock` is the
    /// engine's, which the folder is part of; `None` once it was given back.
    pub(super) fn look(
        &mut self,
        control: &Control,
        lock: &Mutex<Option<EngineLock>>,
    ) -> Option<String> {
        let now = identities(&self.dir);
        // Another one in its place counts as removed: a disk that was mounted over it, or taken away.
        if (now != self.whole || now.contains(&None))
            && let Err(why) = self.make_again(control, lock)
        {
            return Some(format!(
                "the state folder {} was removed and cannot be made again ({why}): attachments are refused, and \
                 the next engine will not know those that are served; put it back",
                self.dir.display()
            ));
        }
        disk(&self.dir)
    }

    fn make_again(
        &mut self,
        control: &Control,
        lock: &Mutex<Option<EngineLock>>,
    ) -> Result<(), String> {
        match &mut *locked(lock) {
            Some(lock) => lock.renew_state_dir().map_err(|error| error.to_string())?,
            None => return Ok(()),
        };
        let busy = control.write_records_again(&self.dir);
        // Those that a request works on at this moment: the next look comes back to them.
        if busy.map_err(|error| error.to_string())? == 0 {
            tracing::warn!(
                "somebody removed the state folder {} or what is in it: it is there again, with the records of \
                 all attachments and uplinks",
                self.dir.display()
            );
            self.whole = identities(&self.dir);
        }
        Ok(())
    }
}

fn identities(state_dir: &Path) -> Identities {
    [attachments_dir(state_dir), uplinks_dir(state_dir)].map(|dir| file_identity(&dir))
}

/// Problem of the file system that the records lie on.
fn disk(state_dir: &Path) -> Option<String> {
    let shown = state_dir.display();
    match rustix::fs::statvfs(state_dir) {
        Err(errno) => Some(format!(
            "the state folder {shown} cannot be reached ({errno}): attachments are refused; put it back"
        )),
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => Some(format!(
            "the file system of the state folder {shown} is read-only: attachments are refused; mount \
             it writable"
        )),
        Ok(found) if found.f_bavail == 0 || found.f_files > 0 && found.f_favail == 0 => {
            Some(format!(
                "the file system of the state folder {shown} is full: attachments are refused until there \
             is space or inodes again"
            ))
        }
        Ok(_) => None,
    }
}

impl Control {
    /// Makes the folders of records again and writes the record of each attachment and uplink. Returns the
    /// number of attachments that a request works on at this moment, whose records are not touched.
    ///
    /// # Errors
    /// A folder cannot be made, or a record cannot be written.
    fn write_records_again(&self, state_dir: &Path) -> Result<usize, RecordError> {
        for dir in [attachments_dir(state_dir), uplinks_dir(state_dir)] {
            Records::open(dir)?;
        }
        self.uplinks.write_records_again()?;
        let mut busy = 0;
        for (key, _) in self.attachments.all() {
            // Under the key's lock: a detach that is under way must not find its record back afterwards.
            let Ok(guard) = self.attachments.lock_within(key, Duration::ZERO) else {
                busy += 1;
                continue;
            };
            if let Some(live) = guard.get() {
                self.records.put(&guard.key().record_name(), &live.record)?;
            }
        }
        Ok(busy)
    }
}
