// SPDX-License-Identifier: Apache-2.0
//! PCI functions, PFs and VFs, as sysfs shows them (Documentation/ABI/testing/sysfs-bus-pci).

use std::io;
use std::path::{Path, PathBuf};

use sluice_host::FileError;

use crate::{Error, PciAddr};

/// The sysfs tree. In life it is `/sys`; tests lay one out in a folder.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

/// PCI function as sysfs describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// PCI address.
    pub addr: PciAddr,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// The driver that has it.
    pub driver: Option<String>,
    /// The one driver that may have it, if that was laid down.
    pub driver_override: Option<String>,
    /// IOMMU group; absent without an IOMMU, or when it is off.
    pub iommu_group: Option<u32>,
    /// NUMA node; absent if the firmware does not say or there is but one.
    pub numa_node: Option<u32>,
    /// Netdevs of the function in the network namespace that this sysfs was mounted in.
    pub netdevs: Vec<String>,
    /// Of a VF: its PF.
    pub physfn: Option<PciAddr>,
    /// Of a PF: VFs that it can have and has.
    pub sriov: Option<(u32, u32)>,
}

impl Default for Sysfs {
    fn default() -> Sysfs {
        Sysfs::at("/sys")
    }
}

impl Sysfs {
    /// The tree at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Sysfs {
        Sysfs { root: root.into() }
    }

    /// Root of the tree.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A function's folder.
    pub fn folder(&self, addr: PciAddr) -> PathBuf {
        self.root.join("bus/pci/devices").join(addr.to_string())
    }

    /// The file by which the kernel is made to look for a function's driver.
    pub(crate) fn drivers_probe(&self) -> PathBuf {
        self.root.join("bus/pci/drivers_probe")
    }

    /// Whether a PCI driver of that name is loaded.
    pub fn has_driver(&self, name: &str) -> bool {
        !name.is_empty()
            && !name.contains('/')
            && !name.starts_with('.')
            && self.root.join("bus/pci/drivers").join(name).is_dir()
    }

    /// Reads a function.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; [`Error::File`] if its ids cannot be read.
    pub fn function(&self, addr: PciAddr) -> Result<Function, Error> {
        let dir = self.folder(addr);
        if !dir.exists() {
            return Err(Error::NoDevice { device: addr });
        }
        let total = number(&dir.join("sriov_totalvfs"));
        Ok(Function {
            addr,
            vendor: id(&dir.join("vendor"))?,
            device: id(&dir.join("device"))?,
            driver: link_name(&dir.join("driver")),
            driver_override: text(&dir.join("driver_override")).filter(|name| name != "(null)"),
            iommu_group: link_name(&dir.join("iommu_group")).and_then(|name| name.parse().ok()),
            numa_node: number(&dir.join("numa_node")),
            netdevs: names(&dir.join("net")),
            physfn: link_name(&dir.join("physfn")).and_then(|name| name.parse().ok()),
            sriov: total
                .filter(|&total| total > 0)
                .map(|total| (total, number(&dir.join("sriov_numvfs")).unwrap_or(0))),
        })
    }

    /// All functions that can have VFs, in order of their addresses.
    ///
    /// # Errors
    /// [`Error::File`]: sysfs cannot be read.
    pub fn pfs(&self) -> Result<Vec<Function>, Error> {
        let dir = self.root.join("bus/pci/devices");
        let entries = std::fs::read_dir(&dir).map_err(FileError::at("read", &dir))?;
        let mut addrs: Vec<PciAddr> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&addr| self.folder(addr).join("sriov_totalvfs").exists())
            .collect();
        addrs.sort_unstable();
        let mut pfs = Vec::new();
        for addr in addrs {
            let function = self.function(addr)?;
            if function.sriov.is_some() {
                pfs.push(function);
            }
        }
        Ok(pfs)
    }

    /// The PF that a netdev stands on.
    ///
    /// # Errors
    /// [`Error::NoPf`].
    pub fn pf_of_netdev(&self, netdev: &str) -> Result<PciAddr, Error> {
        let none = || Error::NoPf(netdev.to_owned());
        if netdev.is_empty() || netdev.contains('/') || netdev.starts_with('.') {
            return Err(none());
        }
        let dir = self.root.join("class/net").join(netdev).join("device");
        let real = dir.canonicalize().map_err(|_| none())?;
        let addr: PciAddr = real
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .ok_or_else(none)?;
        match self.function(addr)?.sriov {
            Some(_) => Ok(addr),
            None => Err(none()),
        }
    }

    /// The VFs of a PF, in order of their indices.
    ///
    /// # Errors
    /// [`Error::File`]: the PF's folder cannot be read.
    pub fn vfs(&self, pf: PciAddr) -> Result<Vec<PciAddr>, Error> {
        let dir = self.folder(pf);
        let mut vfs = Vec::new();
        for index in 0u32.. {
            match link_name(&dir.join(format!("virtfn{index}"))).and_then(|name| name.parse().ok())
            {
                Some(addr) => vfs.push(addr),
                None => break,
            }
        }
        Ok(vfs)
    }

    /// The PF of a VF and the VF's index there.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::NotVf`].
    pub fn place_of_vf(&self, vf: PciAddr) -> Result<(PciAddr, u32), Error> {
        let pf = self.function(vf)?.physfn.ok_or(Error::NotVf(vf))?;
        let index = self.vfs(pf)?.iter().position(|&other| other == vf);
        index
            .and_then(|index| u32::try_from(index).ok())
            .map(|index| (pf, index))
            .ok_or(Error::NotVf(vf))
    }
}

fn text(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number; what is no number from 0 on (`numa_node` can be -1) counts as absent.
fn number(path: &Path) -> Option<u32> {
    text(path)?.parse().ok()
}

fn id(path: &Path) -> Result<u16, Error> {
    let text = std::fs::read_to_string(path).map_err(FileError::at("read", path))?;
    let digits = text.trim().trim_start_matches("0x");
    u16::from_str_radix(digits, 16)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        .map_err(FileError::at("read", path))
        .map_err(Error::from)
}

fn link_name(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn addr(text: &str) -> PciAddr {
        text.parse().unwrap()
    }

    /// PF with two VFs, and a device that has none.
    pub(crate) fn tree() -> (tempfile::TempDir, Sysfs) {
        let dir = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::at(dir.path());
        let devices = dir.path().join("bus/pci/devices");
        for (name, id) in [
            ("0000:01:00.0", "0x10c9\n"),
            ("0000:01:10.0", "0x10ca\n"),
            ("0000:01:10.2", "0x10ca\n"),
            ("0000:00:1f.0", "0x2918\n"),
        ] {
            put(devices.join(name).join("vendor"), "0x8086\n");
            put(devices.join(name).join("device"), id);
            put(devices.join(name).join("numa_node"), "-1\n");
            put(devices.join(name).join("driver_override"), "(null)\n");
        }
        let pf = devices.join("0000:01:00.0");
        put(pf.join("sriov_totalvfs"), "7\n");
        put(pf.join("sriov_numvfs"), "2\n");
        put(pf.join("net/enp1s0/address"), "\n");
        put(devices.join("0000:00:1f.0/sriov_totalvfs"), "0\n");
        for (index, vf) in ["0000:01:10.0", "0000:01:10.2"].iter().enumerate() {
            symlink(format!("../{vf}"), pf.join(format!("virtfn{index}"))).unwrap();
            symlink("../0000:01:00.0", devices.join(vf).join("physfn")).unwrap();
            symlink(
                "../../../kernel/iommu_groups/7",
                devices.join(vf).join("iommu_group"),
            )
            .unwrap();
        }
        fs::create_dir_all(dir.path().join("bus/pci/drivers/igbvf")).unwrap();
        symlink("../../drivers/igbvf", devices.join("0000:01:10.2/driver")).unwrap();
        let class = dir.path().join("class/net/enp1s0");
        fs::create_dir_all(&class).unwrap();
        symlink(
            "../../../bus/pci/devices/0000:01:00.0",
            class.join("device"),
        )
        .unwrap();
        (dir, sysfs)
    }

    #[test]
    fn pfs_and_vfs_find_each_other() {
        let (_dir, sysfs) = tree();
        let pfs = sysfs.pfs().unwrap();
        assert_eq!(pfs.len(), 1, "a device that can have none is no PF");
        assert_eq!(pfs[0].sriov, Some((7, 2)));
        assert_eq!(pfs[0].netdevs, ["enp1s0"]);
        assert_eq!(pfs[0].numa_node, None);
        let pf = sysfs.pf_of_netdev("enp1s0").unwrap();
        assert_eq!(
            sysfs.vfs(pf).unwrap(),
            [addr("0000:01:10.0"), addr("0000:01:10.2")]
        );
        assert_eq!(sysfs.place_of_vf(addr("0000:01:10.2")).unwrap(), (pf, 1));
        let vf = sysfs.function(addr("0000:01:10.2")).unwrap();
        assert_eq!(vf.driver.as_deref(), Some("igbvf"));
        assert_eq!((vf.iommu_group, vf.driver_override), (Some(7), None));
        assert!(sysfs.has_driver("igbvf") && !sysfs.has_driver("vfio-pci"));
        assert!(!sysfs.has_driver("") && !sysfs.has_driver(".."));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (_dir, sysfs) = tree();
        assert!(matches!(
            sysfs.function(addr("0000:09:00.0")),
            Err(Error::NoDevice { .. })
        ));
        assert!(matches!(
            sysfs.place_of_vf(addr("0000:01:00.0")),
            Err(Error::NotVf(_))
        ));
        for name in ["eth9", "", "../enp1s0", "."] {
            let error = sysfs.pf_of_netdev(name).unwrap_err();
            assert!(matches!(error, Error::NoPf(_)), "{name}: {error}");
        }
    }
}
