// SPDX-License-Identifier: Apache-2.0
//! [`HostTree`]: sysfs, device nodes and processes of the host, read before a device is opened through
//! VFIO: its IOMMU group, the drivers in that group, and the processes that hold a node open.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, PciAddr};

/// Roots of sysfs, the device nodes and procfs: `/sys`, `/dev` and `/proc`; folders in tests.
#[derive(Debug, Clone)]
pub struct HostTree {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
    pub(crate) proc: PathBuf,
}

impl Default for HostTree {
    fn default() -> HostTree {
        HostTree {
            sys: "/sys".into(),
            dev: "/dev".into(),
            proc: "/proc".into(),
        }
    }
}

/// Device that makes its IOMMU group unusable for VFIO, with its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Name on its bus; a PCI address as a rule.
    pub device: String,
    /// Driver of the kernel that has it.
    pub driver: String,
}

impl HostTree {
    fn device(&self, addr: PciAddr) -> PathBuf {
        self.sys.join("bus/pci/devices").join(addr.to_string())
    }

    /// Number of the IOMMU group of a device that is bound to VFIO.
    pub(crate) fn group(&self, addr: PciAddr) -> Result<u32, Error> {
        let device = self.device(addr);
        if !device.exists() {
            return Err(Error::NoDevice { device: addr });
        }
        let group = link_name(&device.join("iommu_group")).and_then(|name| name.parse().ok());
        let Some(group) = group else {
            return Err(Error::NoIommu { device: addr });
        };
        if self.is_noiommu(group) {
            return Err(Error::UnsafeNoIommu { device: addr });
        }
        match link_name(&device.join("driver")) {
            Some(driver) if is_vfio(&driver) => Ok(group),
            _ if !self.sys.join("bus/pci/drivers/vfio-pci").exists() => {
                Err(Error::VfioNotLoaded { module: "vfio-pci" })
            }
            driver => Err(Error::NotBound {
                device: addr,
                driver,
            }),
        }
    }

    /// Whether VFIO made the group for a device without an IOMMU.
    pub fn is_noiommu(&self, group: u32) -> bool {
        let name = fs::read_to_string(self.group_folder(group).join("name"));
        name.is_ok_and(|name| name.trim() == "vfio-noiommu")
    }

    fn group_folder(&self, group: u32) -> PathBuf {
        self.sys.join(format!("kernel/iommu_groups/{group}"))
    }

    /// Path of an IOMMU group's node, `/dev/vfio/N`.
    pub fn group_node(&self, group: u32) -> PathBuf {
        self.dev.join(format!("vfio/{group}"))
    }

    /// Path of a device's own node, where the kernel has one (Linux 6.6, VFIO_DEVICE_CDEV).
    pub fn device_node(&self, addr: PciAddr) -> Option<PathBuf> {
        let mut entries = fs::read_dir(self.device(addr).join("vfio-dev")).ok()?;
        let name = entries.find_map(|entry| entry.ok()?.file_name().into_string().ok())?;
        Some(self.dev.join("vfio/devices").join(name))
    }

    /// Devices that make the group unusable for VFIO: those with a driver that may do DMA. The drivers
    /// of bridges and pci-stub do none.
    pub(crate) fn blockers(&self, group: u32) -> Vec<Blocker> {
        let entries = fs::read_dir(self.group_folder(group).join("devices"));
        let mut blockers: Vec<Blocker> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let driver = link_name(&entry.path().join("driver"))?;
                let harmless = is_vfio(&driver) || driver == "pci-stub" || driver == "pcieport";
                (!harmless).then_some(Blocker {
                    device: entry.file_name().into_string().ok()?,
                    driver,
                })
            })
            .collect();
        blockers.sort_by(|a, b| a.device.cmp(&b.device));
        blockers
    }

    /// Processes that have `node` open, as "program (pid 17)", as far as this process may look.
    pub fn holders(&self, node: &Path) -> Vec<String> {
        let mut holders = Vec::new();
        for entry in fs::read_dir(&self.proc).into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|s| s.parse::<u32>().ok())
            else {
                continue;
            };
            let fds = fs::read_dir(entry.path().join("fd"));
            let holds = fds
                .into_iter()
                .flatten()
                .flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == node));
            if holds {
                let program = fs::read_to_string(entry.path().join("comm"));
                let program = program.as_deref().unwrap_or("?").trim();
                holders.push(format!("{program} (pid {pid})"));
            }
        }
        holders
    }
}

/// Whether a driver gives its devices to VFIO: vfio-pci and its kin for one make of device
/// (mlx5_vfio_pci and the like).
fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}

/// Last component of a symbolic link's target.
fn link_name(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}
