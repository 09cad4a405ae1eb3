// SPDX-License-Identifier: Apache-2.0
//! Claims: a VF is taken for a pod, and later restored to the state in which it was found.
//!
//! ```text
//! claim    choose (by index, address, or the first that is free) under the VF's lock
//!          write the record ............ nothing of the host has been changed before
//!          take: driver, settings of the PF, driver, netdev into the pod
//!          note in the record that it is done
//! release  put back: driver, reset, settings, driver, netdev
//!          remove the record ........... nothing of the host is left to be changed after
//! ```
//!
//! A VF is its owner's by container id and interface: a late release by an older owner finds no
//! record of its own and changes nothing. What a process that died left behind is put back by the next
//! [`Node::release`] of the same owner, or by [`Node::recover`].
//!
//! A VF that vanished under its owner and is back is taken again as the record says ([`Node::take_again`]).
//!
//! Nobody takes a VF from its driver while another process has it open: the kernel would wait for that
//! process. [`Node::release`] answers [`Error::Busy`] then, and [`Node::mark_released`] keeps the VF
//! out of use until somebody calls [`Node::recover`].

mod adopt;
mod again;
pub(crate) mod binding;
mod choose;
mod end;
#[cfg(test)]
pub(crate) mod fake;
mod host;
mod journal;
mod plan;
mod put_back;
mod record;
mod take;
#[cfg(test)]
mod tests;
pub(crate) mod users;

use std::path::Path;
use std::time::Instant;

pub use adopt::Foreign;
pub use host::{Change, CrashAfter, Host, Iommu, RealHost};
pub use journal::{Entry, Journal};
pub use plan::{Mode, Owner, Pick, Plan};
pub use record::{Identity, NetdevState, Phase, Record};
pub use sluice_host::NetnsRef;

use crate::settings::Mac;
use crate::{Error, PciAddr};
use choose::Chosen;

/// The VFs of a node and the journal that says whose they are.
#[derive(Debug)]
pub struct Node<H = RealHost> {
    pub(crate) host: H,
    pub(crate) journal: Journal,
}

/// A VF that has been claimed.
#[derive(Debug)]
pub struct Claimed {
    /// Record in the journal.
    pub record: Record,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

impl Node<RealHost> {
    /// Opens this node, with the journal below the state directory (`/var/lib/sluicegate`).
    pub fn new(state_dir: &Path) -> Node {
        Node::on(RealHost::new(state_dir), state_dir)
    }
}

impl<H: Host> Node<H> {
    /// On another host.
    pub fn on(host: H, state_dir: &Path) -> Node<H> {
        Node {
            host,
            journal: Journal::below(state_dir),
        }
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Takes a VF. After a failure everything is restored; what could not be is left to
    /// [`Node::release`] by the record, and the error says so.
    ///
    /// # Errors
    /// By [`Error::kind`]: the plan cannot be followed on this node, not now, or the host failed.
    pub fn claim(&self, plan: &Plan, deadline: Instant) -> Result<Claimed, Error> {
        let chosen = self.choose(plan, deadline)?;
        let mut warnings = Vec::new();
        let mut record = self.begin(plan, &chosen, &mut warnings)?;
        self.host.apply(&Change::Write(&record))?;
        drop(chosen.allocation);
        let made = take::run(&self.host, &record, plan.kernel_driver.as_deref(), deadline)
            .and_then(|()| {
                record.phase = Phase::Held;
                self.host.apply(&Change::Write(&record))
            });
        let Err(error) = made else {
            return Ok(Claimed { record, warnings });
        };
        // Undoing has its own time: the deadline may be what went wrong.
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        match put_back::run(&self.host, &record, deadline) {
            Ok(()) => Err(error),
            Err(left) => Err(Error::Several(vec![error, left])),
        }
    }

    fn choose(&self, plan: &Plan, deadline: Instant) -> Result<Chosen, Error> {
        let (host, journal) = (&self.host, &self.journal);
        let pf = plan.pf.as_deref();
        let named = || pf.ok_or_else(|| Error::NoPf(String::new()));
        match &plan.pick {
            Pick::Index(index) => choose::by_index(host, journal, named()?, *index, deadline),
            Pick::Address(vf) => choose::by_address(host, journal, pf, *vf, deadline),
            Pick::FirstFree { avoid } => {
                choose::first_free(host, journal, named()?, avoid, deadline)
            }
        }
    }

    /// Looks at everything that a record tells of; changes nothing.
    fn begin(
        &self,
        plan: &Plan,
        chosen: &Chosen,
        warnings: &mut Vec<String>,
    ) -> Result<Record, Error> {
        let function = &chosen.function;
        let vf = function.addr;
        let boot_id = self.host.boot_id()?;
        match self.journal.read(vf)? {
            Entry::Whole(record) if record.boot_id == boot_id => {
                return Err(Error::Busy {
                    device: vf,
                    holder: record.holder(),
                });
            }
            Entry::Torn(why) => return Err(Error::TornRecord { device: vf, why }),
            // What another boot took this one's kernel has never heard of.
            Entry::Whole(_) => self.host.apply(&Change::Forget(vf))?,
            Entry::Absent => {}
        }
        let pf_netdev = &chosen.pf_netdev;
        let pf = self.host.netdev(pf_netdev)?;
        if !pf.ok_or_else(|| Error::NoPf(pf_netdev.clone()))?.up {
            return Err(Error::PfDown {
                pf: pf_netdev.clone(),
            });
        }
        binding::check_closed(&self.host, function)?;
        let bound_to = match plan.mode {
            Mode::Kernel => None,
            Mode::Vfio | Mode::Engine => Some(self.driver(plan, chosen, warnings)?),
        };
        let own = function.driver.as_deref();
        let own = own.filter(|driver| !binding::is_userspace(driver));
        if let (Some(own), Some(named)) = (own, plan.kernel_driver.as_deref())
            && own != named
        {
            warnings.push(format!(
                "kernel_driver is {named}, but {vf} was with {own}, and will be again"
            ));
        }
        let netdev = match function.netdevs.first() {
            None => None,
            Some(name) => self.host.netdev(name)?.map(|now| NetdevState {
                name: name.clone(),
                mac: now.mac.map(|mac| Mac(mac).to_string()),
                mtu: now.mtu,
                up: now.up,
            }),
        };
        Ok(Record {
            vf,
            boot_id,
            phase: Phase::Begun,
            owner: plan.owner.clone(),
            mode: plan.mode,
            identity: Identity {
                vendor: function.vendor,
                device: function.device,
                pf: chosen.pf,
                index: chosen.index,
            },
            pf_netdev: pf_netdev.clone(),
            driver: function.driver.clone(),
            driver_override: function.driver_override.clone(),
            netdev,
            before: self.host.vf_settings(pf_netdev, chosen.index)?,
            asked: plan.settings.clone(),
            bound_to,
            pod_ifname: (plan.mode == Mode::Kernel).then(|| plan.pod_ifname.clone()),
        })
    }

    /// The userspace driver that the VF will have.
    fn driver(
        &self,
        plan: &Plan,
        chosen: &Chosen,
        warnings: &mut Vec<String>,
    ) -> Result<String, Error> {
        let device = chosen.function.addr;
        let unsafe_allowed = plan.allow_unsafe_noiommu && plan.mode == Mode::Vfio;
        match self.host.iommu(&chosen.function) {
            Iommu::Translates => {}
            Iommu::Off if unsafe_allowed => return Err(Error::NoUnsafeNoIommu { device }),
            Iommu::Off => return Err(sluice_vfio::Error::NoIommu { device }.into()),
            Iommu::OffAndAllowed if unsafe_allowed => warnings.push(format!(
                "{device} has no IOMMU before it: its pod can reach all memory of this node \
                 (allowUnsafeNoIommu)"
            )),
            Iommu::OffAndAllowed => {
                return Err(sluice_vfio::Error::UnsafeNoIommu { device }.into());
            }
        }
        if self.host.has_driver(&plan.driver) {
            return Ok(plan.driver.clone());
        }
        if !self.host.has_driver("vfio-pci") {
            return Err(sluice_vfio::Error::VfioNotLoaded { module: "vfio-pci" }.into());
        }
        warnings.push(format!(
            "driver {} is not loaded: {device} is bound to vfio-pci",
            plan.driver
        ));
        Ok("vfio-pci".to_owned())
    }

    /// In what a container's VF differs from what was claimed, for people.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn check(&self, container_id: &str, ifname: &str) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let vfs = self.of(container_id, ifname)?;
        if vfs.is_empty() {
            found.push(format!("no VF is on record for {ifname}"));
        }
        for vf in vfs {
            let Entry::Whole(record) = self.journal.read(vf)? else {
                continue;
            };
            let now = self.host.function(vf)?;
            if let Some(driver) = &record.bound_to
                && now.driver.as_ref() != Some(driver)
            {
                let is = now.driver.as_deref().unwrap_or("no driver");
                found.push(format!("{vf} is with {is}, not with {driver}"));
            }
            let settings = self
                .host
                .vf_settings(&record.pf_netdev, record.identity.index)?;
            found.extend(record.asked.drift(&settings));
        }
        Ok(found)
    }

    /// The VFs on record for a container's interface.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn of(&self, container_id: &str, ifname: &str) -> Result<Vec<PciAddr>, Error> {
        let mut found = Vec::new();
        for vf in self.journal.vfs()? {
            match self.journal.read(vf)? {
                Entry::Whole(record) if record.is_of(container_id, ifname) => found.push(vf),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Everything on record.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn records(&self) -> Result<Vec<(PciAddr, Entry)>, Error> {
        let vfs = self.journal.vfs()?;
        vfs.into_iter()
            .map(|vf| Ok((vf, self.journal.read(vf)?)))
            .collect()
    }
}
