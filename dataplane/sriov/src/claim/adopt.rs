// SPDX-License-Identifier: Apache-2.0
//! VFs that another plugin took: written into the journal as it wrote them down, so that they are given
//! back as ours are.

use std::time::Instant;

use super::Node;
use super::host::{Change, Host};
use super::journal::Entry;
use super::plan::{Mode, Owner};
use super::record::{Identity, NetdevState, Phase, Record};
use crate::settings::VfSettings;
use crate::{Error, PciAddr};

/// Record of a VF in another plugin's words.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// Container and interface that hold the VF.
    pub owner: Owner,
    /// PCI address of the VF.
    pub vf: PciAddr,
    /// Mode it was attached in.
    pub mode: Mode,
    /// Driver before the attachment; absent: the one that it has now.
    pub driver: Option<String>,
    /// Netdev before the attachment.
    pub netdev: Option<NetdevState>,
    /// Settings of the VF before the attachment.
    pub before: VfSettings,
    /// Settings that the plugin changed.
    pub asked: VfSettings,
}

impl<H: Host> Node<H> {
    /// Takes a VF over from another plugin. `false`: there is no such VF, or it is on record here,
    /// which means that it has been given out anew since.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::File`].
    pub fn adopt(&self, foreign: Foreign, deadline: Instant) -> Result<bool, Error> {
        let Foreign { vf, .. } = foreign;
        let _lock = self.journal.lock(vf, deadline)?;
        let boot_id = self.host.boot_id()?;
        match self.journal.read(vf)? {
            Entry::Whole(record) if record.boot_id != boot_id => {}
            Entry::Absent => {}
            Entry::Whole(_) | Entry::Torn(_) => return Ok(false),
        }
        let function = match self.host.function(vf) {
            Ok(function) => function,
            Err(Error::NoDevice { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(pf) = function.physfn else {
            return Ok(false);
        };
        let vfs = self.host.vfs(pf)?;
        let index = vfs.iter().position(|there| *there == vf);
        let index = index.and_then(|index| u32::try_from(index).ok());
        let pf_netdev = self.host.function(pf)?.netdevs.into_iter().next();
        let (Some(index), Some(pf_netdev)) = (index, pf_netdev) else {
            return Ok(false);
        };
        let record = Record {
            vf,
            boot_id,
            phase: Phase::Held,
            owner: foreign.owner,
            mode: foreign.mode,
            identity: Identity {
                vendor: function.vendor,
                device: function.device,
                pf,
                index,
            },
            pf_netdev,
            driver: foreign.driver.or(function.driver.clone()),
            driver_override: None,
            netdev: foreign.netdev,
            before: foreign.before,
            asked: foreign.asked,
            bound_to: (foreign.mode != Mode::Kernel)
                .then_some(function.driver)
                .flatten(),
            pod_ifname: None,
        };
        self.host.apply(&Change::Write(&record)).map(|()| true)
    }
}
