// SPDX-License-Identifier: Apache-2.0
//! Read-only views of sysfs for what gives VFs out: links of netdevs, VFs with their PFs, device files of VFIO.

use std::path::{Path, PathBuf};

use crate::sysfs::{Function, Sysfs};
use crate::{Error, PciAddr};

/// Type of a netdev's link, as Linux numbers it (`ARPHRD_ETHER`, linux/if_arp.h).
pub const ARPHRD_ETHER: u32 = 1;
/// Type of an InfiniBand link (`ARPHRD_INFINIBAND`, linux/if_arp.h).
pub const ARPHRD_INFINIBAND: u32 = 32;

/// VF with its PF, as sysfs shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfView {
    /// The VF.
    pub vf: Function,
    /// PF of the VF.
    pub pf: PciAddr,
    /// Index of the VF on its PF.
    pub index: u32,
    /// Netdevs of the PF.
    pub pf_netdevs: Vec<String>,
    /// Index that the firmware gives the function (`acpi_index`), if it does.
    pub acpi_index: Option<String>,
}

/// Device file of a VFIO group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfioGroup {
    /// Path on the host.
    pub host: String,
    /// Path that programs expect, which differs without an IOMMU.
    pub container: String,
}

impl Sysfs {
    /// Lists the VFs of all PFs, PF by PF in order of their indices. A PF or VF that goes meanwhile is left out.
    ///
    /// # Errors
    /// [`Error::File`]: sysfs cannot be read.
    pub fn vf_views(&self) -> Result<Vec<VfView>, Error> {
        let mut views = Vec::new();
        for pf in self.pfs()? {
            for (index, addr) in (0u32..).zip(self.vfs(pf.addr)?) {
                let Ok(vf) = self.function(addr) else {
                    continue;
                };
                views.push(VfView {
                    acpi_index: text(&self.folder(addr).join("acpi_index")),
                    vf,
                    pf: pf.addr,
                    index,
                    pf_netdevs: pf.netdevs.clone(),
                });
            }
        }
        Ok(views)
    }

    /// Whether a netdev is set up and has a carrier; `None` if there is no such netdev.
    pub fn carrier(&self, netdev: &str) -> Option<bool> {
        let dir = self.netdev(netdev)?;
        // Reading the carrier of a netdev that is not set up fails (EINVAL).
        Some(text(&dir.join("carrier")).as_deref() == Some("1"))
    }

    /// Type of a netdev's link; `None` if there is no such netdev.
    pub fn link_type(&self, netdev: &str) -> Option<u32> {
        text(&self.netdev(netdev)?.join("type"))?.parse().ok()
    }

    /// NUMA node of the device below a netdev, if the kernel says.
    pub fn numa_node_of_netdev(&self, netdev: &str) -> Option<u32> {
        text(&self.netdev(netdev)?.join("device/numa_node"))?
            .parse()
            .ok()
    }

    /// Device file of a function's VFIO group; `None` if the function has no IOMMU group.
    pub fn vfio_group(&self, addr: PciAddr) -> Option<VfioGroup> {
        let group = self.function(addr).ok()?.iommu_group?;
        let name = text(&self.folder(addr).join("iommu_group/name"));
        let noiommu = name.as_deref() == Some("vfio-noiommu");
        let container = format!("/dev/vfio/{group}");
        let host = if noiommu {
            format!("/dev/vfio/noiommu-{group}")
        } else {
            container.clone()
        };
        Some(VfioGroup { host, container })
    }

    fn netdev(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        let dir = self.root().join("class/net").join(name);
        dir.is_dir().then_some(dir)
    }
}

fn text(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::sysfs::tests::tree;
    use std::fs;

    #[test]
    fn vfs_are_seen_with_their_pf_and_its_link() {
        let (dir, sysfs) = tree();
        let views = sysfs.vf_views().unwrap();
        let seen: Vec<_> = views
            .iter()
            .map(|one| (one.vf.addr.to_string(), one.index))
            .collect();
        assert_eq!(
            seen,
            [
                ("0000:01:10.0".to_owned(), 0),
                ("0000:01:10.2".to_owned(), 1)
            ]
        );
        assert_eq!(views[0].pf_netdevs, ["enp1s0"]);
        let net = dir.path().join("class/net/enp1s0");
        assert_eq!(sysfs.carrier("enp1s0"), Some(false));
        fs::write(net.join("carrier"), "1\n").unwrap();
        fs::write(net.join("type"), "1\n").unwrap();
        assert_eq!(sysfs.carrier("enp1s0"), Some(true));
        assert_eq!(sysfs.link_type("enp1s0"), Some(ARPHRD_ETHER));
        assert_eq!(
            sysfs.numa_node_of_netdev("enp1s0"),
            None,
            "-1: it is not said"
        );
        for name in ["eth9", "", "..", "a/b"] {
            assert_eq!(sysfs.carrier(name), None, "{name}");
        }
        let group = sysfs.vfio_group("0000:01:10.0".parse().unwrap()).unwrap();
        assert_eq!(group.host, "/dev/vfio/7");
        assert_eq!(sysfs.vfio_group("0000:01:00.0".parse().unwrap()), None);
    }
}
