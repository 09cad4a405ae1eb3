// SPDX-License-Identifier: Apache-2.0
//! The end of a claim: given up by its owner, noted as such, or found to be nobody's.

use std::time::Instant;

use super::host::{Change, Host};
use super::journal::Entry;
use super::record::{Phase, Record};
use super::{Node, put_back};
use crate::{Error, PciAddr};

impl<H: Host> Node<H> {
    /// Puts back every VF of a container's interface. That it has none is fine.
    ///
    /// # Errors
    /// [`Error::Busy`]: a process has it open; others as they come. What is not put back stays on
    /// record.
    pub fn release(
        &self,
        container_id: &str,
        ifname: &str,
        deadline: Instant,
    ) -> Result<Vec<PciAddr>, Error> {
        let mut done = Vec::new();
        let mut errors = Vec::new();
        for vf in self.of(container_id, ifname)? {
            match self.release_one(vf, container_id, ifname, deadline) {
                Ok(true) => done.push(vf),
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        Error::collect(errors).map(|()| done)
    }

    fn release_one(
        &self,
        vf: PciAddr,
        container_id: &str,
        ifname: &str,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let _lock = self.journal.lock(vf, deadline)?;
        match self.journal.read(vf)? {
            Entry::Whole(record) if record.is_of(container_id, ifname) => {
                put_back::run(&self.host, &record, deadline).map(|()| true)
            }
            // Whose it is now, if anybody's, has it by right.
            _ => Ok(false),
        }
    }

    /// Notes that the owner of a VF is gone while another process has it open. It is not given out
    /// again before it has been put back.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::File`].
    pub fn mark_released(
        &self,
        container_id: &str,
        ifname: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        for vf in self.of(container_id, ifname)? {
            let _lock = self.journal.lock(vf, deadline)?;
            if let Entry::Whole(mut record) = self.journal.read(vf)?
                && record.is_of(container_id, ifname)
            {
                record.phase = Phase::Released;
                self.host.apply(&Change::Write(&record))?;
            }
        }
        Ok(())
    }

    /// Puts back what nobody needs any more: VFs marked released, VFs of a claim whose process died,
    /// and those of owners for whom `alive` says no. VFs that somebody works on are passed over.
    ///
    /// # Errors
    /// As [`Node::release`], of all VFs together.
    pub fn recover(
        &self,
        alive: impl Fn(&Record) -> bool,
        deadline: Instant,
    ) -> Result<Vec<Record>, Error> {
        let mut done = Vec::new();
        let mut errors = Vec::new();
        for vf in self.journal.vfs()? {
            match self.recover_one(vf, &alive, deadline) {
                Ok(Some(record)) => done.push(*record),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        Error::collect(errors).map(|()| done)
    }

    fn recover_one(
        &self,
        vf: PciAddr,
        alive: &impl Fn(&Record) -> bool,
        deadline: Instant,
    ) -> Result<Option<Box<Record>>, Error> {
        let Some(_lock) = self.journal.try_lock(vf)? else {
            return Ok(None);
        };
        let record = match self.journal.read(vf)? {
            Entry::Whole(record) => record,
            Entry::Torn(why) => return Err(Error::TornRecord { device: vf, why }),
            Entry::Absent => return Ok(None),
        };
        let stays = record.phase == Phase::Held && alive(&record);
        if stays && record.boot_id == self.host.boot_id()? {
            return Ok(None);
        }
        put_back::run(&self.host, &record, deadline).map(|()| Some(record))
    }
}
