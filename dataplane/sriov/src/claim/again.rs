// SPDX-License-Identifier: Apache-2.0
//! VFs that were away: their PF's driver was reloaded, or its number of VFs changed. What is back at the
//! address is a VF with a driver and settings of its own, and is made again what its record says.

use std::time::Instant;

use super::journal::Entry;
use super::record::Phase;
use super::{Host, Mode, Node, put_back, take};
use crate::{Error, PciAddr};

impl<H: Host> Node<H> {
    /// Binds a VF of the engine anew, and lays its settings down anew, as its record says. A VF without a
    /// record is left as it is.
    ///
    /// # Errors
    /// [`Error::NoDevice`]: it is still away; [`Error::Locked`], [`Error::Busy`]: somebody has it;
    /// [`Error::NotTheSame`]; others as of a claim. It can be repeated.
    pub fn take_again(&self, vf: PciAddr, deadline: Instant) -> Result<(), Error> {
        let Some(_lock) = self.journal.try_lock(vf)? else {
            return Err(Error::Locked {
                what: vf.to_string(),
            });
        };
        let record = match self.journal.read(vf)? {
            Entry::Absent => return self.host.function(vf).map(drop),
            Entry::Torn(why) => return Err(Error::TornRecord { device: vf, why }),
            Entry::Whole(record) => record,
        };
        let is_held = record.phase == Phase::Held && record.mode == Mode::Engine;
        if !is_held || record.boot_id != self.host.boot_id()? {
            return Err(Error::Busy {
                device: vf,
                holder: record.holder(),
            });
        }
        let now = self.host.function(vf)?;
        if !put_back::is_it(&self.host, &record, &now)? {
            return Err(Error::NotTheSame { device: vf });
        }
        // The PF's netdev may have another name by now.
        let mut record = *record;
        record.pf_netdev = put_back::pf_netdev(&self.host, &record)?;
        take::run(&self.host, &record, None, deadline)
    }
}
