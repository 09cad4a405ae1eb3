// SPDX-License-Identifier: Apache-2.0
//! The host as a claim sees and changes it. Every change goes through [`Host::apply`], one at a time,
//! so that a test can let the process die after any of them.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_host::FileError;
use sluice_vfio::HostTree;

use super::journal::Journal;
use super::record::Record;
use crate::links::{self, Netdev};
use crate::settings::{VfChange, VfSettings};
use crate::sysfs::{Function, Sysfs};
use crate::{Error, PciAddr};

/// Time that a PF's driver may take to make or remove its VFs.
const DRIVER_PATIENCE: Duration = Duration::from_secs(60);
/// Time that udev may take to name new netdevs.
const SETTLE: Duration = Duration::from_secs(20);

/// Change of the host, complete once [`Host::apply`] returns.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    /// Writes a record into the journal.
    Write(&'a Record),
    /// Removes a VF's record.
    Forget(PciAddr),
    /// Lays down the one driver that a function may have, or that it may have any.
    Override(PciAddr, Option<&'a str>),
    /// Takes a function from its driver.
    Unbind(PciAddr),
    /// Lets the kernel find a driver.
    Probe(PciAddr),
    /// Resets a function (FLR).
    Reset(PciAddr),
    /// Changes a setting of a VF of the PF with this netdev.
    SetVf(&'a str, u32, VfChange),
    /// Moves a netdev into the namespace, under another name.
    Move(&'a str, &'a Path, &'a str),
    /// Renames a netdev.
    Rename(&'a str, &'a str),
    /// Gives a netdev that is down an MTU, and if there is one a MAC address, and sets it up or not.
    Netdev(&'a str, u32, Option<[u8; 6]>, bool),
    /// Gives a PF this number of VFs; from another number than 0 to another than 0 the kernel refuses.
    NumVfs(PciAddr, u32),
    /// Has the kernel look for a driver of the VFs that a PF gets from now on, or not.
    Autoprobe(PciAddr, bool),
}

/// State of the IOMMU between a function and the node's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iommu {
    /// An IOMMU that lets through what was mapped.
    Translates,
    /// Nothing; VFIO refuses the function.
    Off,
    /// Nothing; VFIO takes the function, since `enable_unsafe_noiommu_mode` is set.
    OffAndAllowed,
}

/// The host.
pub trait Host {
    /// Returns the UUID of this boot.
    ///
    /// # Errors
    /// [`Error::File`].
    fn boot_id(&self) -> Result<String, Error>;

    /// Reads a function from sysfs.
    ///
    /// # Errors
    /// As [`Sysfs::function`].
    fn function(&self, addr: PciAddr) -> Result<Function, Error>;

    /// The PF that a netdev stands on.
    ///
    /// # Errors
    /// As [`Sysfs::pf_of_netdev`].
    fn pf_of_netdev(&self, netdev: &str) -> Result<PciAddr, Error>;

    /// The VFs of a PF, in order of their indices.
    ///
    /// # Errors
    /// As [`Sysfs::vfs`].
    fn vfs(&self, pf: PciAddr) -> Result<Vec<PciAddr>, Error>;

    /// Whether a PCI driver of that name is loaded.
    fn has_driver(&self, name: &str) -> bool;

    /// State of the IOMMU before a function.
    fn iommu(&self, function: &Function) -> Iommu;

    /// Whether a function can be reset by itself.
    fn can_reset(&self, addr: PciAddr) -> bool;

    /// Names the processes that have a function open through VFIO, for messages.
    fn held_open(&self, function: &Function) -> Option<String>;

    /// A netdev of the host's namespace.
    ///
    /// # Errors
    /// As [`links::netdev`].
    fn netdev(&self, name: &str) -> Result<Option<Netdev>, Error>;

    /// Reads the settings of a VF from the PF with this netdev.
    ///
    /// # Errors
    /// As [`links::vf_settings`].
    fn vf_settings(&self, pf: &str, index: u32) -> Result<VfSettings, Error>;

    /// Makes a change.
    ///
    /// # Errors
    /// What the kernel said; nothing is changed then.
    fn apply(&self, change: &Change<'_>) -> Result<(), Error>;

    /// Waits while the kernel or udev is at work.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Waits until udev has named what is new, if there is an udev.
    fn settle(&self) {}
}

/// The host that this process runs on.
#[derive(Debug, Clone)]
pub struct RealHost {
    sysfs: Sysfs,
    journal: Journal,
}

impl RealHost {
    /// With the journal below this state directory.
    pub fn new(state_dir: &Path) -> RealHost {
        RealHost {
            sysfs: Sysfs::default(),
            journal: Journal::below(state_dir),
        }
    }

    fn of_function(&self, addr: PciAddr, name: &str, text: &str) -> Result<(), Error> {
        write(self.sysfs.folder(addr).join(name), text)
    }
}

impl RealHost {
    /// Writes `sriov_numvfs`. The kernel waits for the PF's driver, and that for whoever has a VF open: the
    /// write has a thread of its own, so that the caller can be told.
    fn num_vfs(&self, pf: PciAddr, count: u32) -> Result<(), Error> {
        let path = self.sysfs.folder(pf).join("sriov_numvfs");
        let (done, written) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = done.send(fs::write(path, count.to_string()));
        });
        match written.recv_timeout(DRIVER_PATIENCE) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::NumVfs {
                pf,
                count,
                why: error.to_string(),
            }),
            Err(_) => Err(Error::NumVfs {
                pf,
                count,
                why: format!(
                    "its driver is not done after {} s; a program may have a VF open, and the kernel \
                     waits for it",
                    DRIVER_PATIENCE.as_secs()
                ),
            }),
        }
    }
}

fn write(path: PathBuf, text: &str) -> Result<(), Error> {
    fs::write(&path, text).map_err(FileError::at("write to", path))?;
    Ok(())
}

impl Host for RealHost {
    fn boot_id(&self) -> Result<String, Error> {
        Ok(sluice_host::boot_id()?)
    }

    fn function(&self, addr: PciAddr) -> Result<Function, Error> {
        self.sysfs.function(addr)
    }

    fn pf_of_netdev(&self, netdev: &str) -> Result<PciAddr, Error> {
        self.sysfs.pf_of_netdev(netdev)
    }

    fn vfs(&self, pf: PciAddr) -> Result<Vec<PciAddr>, Error> {
        self.sysfs.vfs(pf)
    }

    fn has_driver(&self, name: &str) -> bool {
        self.sysfs.has_driver(name)
    }

    fn iommu(&self, function: &Function) -> Iommu {
        let group = function.iommu_group;
        if group.is_some_and(|group| !HostTree::default().is_noiommu(group)) {
            return Iommu::Translates;
        }
        let allowed = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        match fs::read_to_string(allowed).is_ok_and(|text| text.trim() == "Y") {
            true => Iommu::OffAndAllowed,
            false => Iommu::Off,
        }
    }

    fn can_reset(&self, addr: PciAddr) -> bool {
        self.sysfs.folder(addr).join("reset").exists()
    }

    fn held_open(&self, function: &Function) -> Option<String> {
        let roots = HostTree::default();
        let is_open = |node: &Path| {
            // The kernel lets a group be open but once: it knows of processes that we cannot see.
            let busy = fs::OpenOptions::new().read(true).write(true).open(node);
            busy.is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
        };
        let group = function.iommu_group.map(|group| roots.group_node(group));
        let group = group.filter(|node| is_open(node));
        let device = roots.device_node(function.addr);
        let holders: Vec<String> = [&group, &device]
            .into_iter()
            .flatten()
            .flat_map(|node| roots.holders(node))
            .collect();
        if holders.is_empty() {
            return group.map(|_| "a process that cannot be seen from here".to_owned());
        }
        Some(holders.join(", "))
    }

    fn netdev(&self, name: &str) -> Result<Option<Netdev>, Error> {
        links::netdev(name)
    }

    fn vf_settings(&self, pf: &str, index: u32) -> Result<VfSettings, Error> {
        links::vf_settings(pf, index)
    }

    fn apply(&self, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Write(record) => self.journal.write(record),
            Change::Forget(vf) => self.journal.remove(vf),
            // The kernel takes an empty line for none.
            Change::Override(vf, driver) => {
                self.of_function(vf, "driver_override", driver.unwrap_or("\n"))
            }
            Change::Unbind(vf) => self.of_function(vf, "driver/unbind", &vf.to_string()),
            Change::Probe(vf) => write(self.sysfs.drivers_probe(), &vf.to_string()),
            Change::Reset(vf) => self.of_function(vf, "reset", "1"),
            Change::SetVf(pf, index, change) => links::set_vf(pf, index, change),
            Change::Move(from, netns, name) => links::move_to(from, netns, name),
            Change::Rename(from, to) => links::rename(from, to),
            Change::Netdev(name, mtu, mac, up) => links::configure(name, mtu, mac, up),
            Change::NumVfs(pf, count) => self.num_vfs(pf, count),
            Change::Autoprobe(pf, on) => {
                self.of_function(pf, "sriov_drivers_autoprobe", if on { "1" } else { "0" })
            }
        }
    }

    fn settle(&self) {
        let limit = format!("--timeout={}", SETTLE.as_secs());
        // Without udev there is nothing to wait for; netdevs are waited for by the caller.
        let _ = Command::new("udevadm")
            .args(["settle", &limit])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// A host on which the process dies after a number of changes: what is asked of it afterwards fails.
/// Tests raise the number until a run completes, so that no step can be forgotten.
#[derive(Debug)]
pub struct CrashAfter<H> {
    host: H,
    left: Cell<usize>,
    dies: bool,
}

impl<H> CrashAfter<H> {
    /// Refuses every change after the first `changes` ones.
    pub fn new(host: H, changes: usize) -> CrashAfter<H> {
        CrashAfter {
            host,
            left: Cell::new(changes),
            dies: false,
        }
    }

    /// As [`CrashAfter::new`], but ends the process as SIGKILL would: nothing of it runs on.
    pub fn killed(host: H, changes: usize) -> CrashAfter<H> {
        CrashAfter {
            dies: true,
            ..CrashAfter::new(host, changes)
        }
    }

    /// Changes that it would still make.
    pub fn left(&self) -> usize {
        self.left.get()
    }
}

impl<H: Host> Host for CrashAfter<H> {
    fn boot_id(&self) -> Result<String, Error> {
        self.host.boot_id()
    }

    fn function(&self, addr: PciAddr) -> Result<Function, Error> {
        self.host.function(addr)
    }

    fn pf_of_netdev(&self, netdev: &str) -> Result<PciAddr, Error> {
        self.host.pf_of_netdev(netdev)
    }

    fn vfs(&self, pf: PciAddr) -> Result<Vec<PciAddr>, Error> {
        self.host.vfs(pf)
    }

    fn has_driver(&self, name: &str) -> bool {
        self.host.has_driver(name)
    }

    fn iommu(&self, function: &Function) -> Iommu {
        self.host.iommu(function)
    }

    fn can_reset(&self, addr: PciAddr) -> bool {
        self.host.can_reset(addr)
    }

    fn held_open(&self, function: &Function) -> Option<String> {
        self.host.held_open(function)
    }

    fn netdev(&self, name: &str) -> Result<Option<Netdev>, Error> {
        self.host.netdev(name)
    }

    fn vf_settings(&self, pf: &str, index: u32) -> Result<VfSettings, Error> {
        self.host.vf_settings(pf, index)
    }

    fn apply(&self, change: &Change<'_>) -> Result<(), Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None if self.dies => {
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
            }
            None => {
                let dead = std::io::Error::other("the process is dead");
                return Err(FileError::at("go on after", "the crash")(dead).into());
            }
        }
        self.host.apply(change)
    }

    fn pause(&self, time: Duration) {
        self.host.pause(time);
    }

    fn settle(&self) {
        self.host.settle();
    }
}
