// SPDX-License-Identifier: Apache-2.0
//! Sysfs of an SR-IOV card, laid out in a folder: for programs that take the root of sysfs from their configuration.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// PCI address of the card's PF, whose netdev is `enp1s0`.
const PF: &str = "0000:01:00.0";

/// VF of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardVf {
    /// PCI address.
    pub address: &'static str,
    /// Driver it is bound to.
    pub driver: &'static str,
    /// IOMMU group, if it has one.
    pub iommu_group: Option<u32>,
}

/// Lays out a PF of the 82576 with VFs, on NUMA node 0, whose link is up.
///
/// # Errors
/// A file cannot be made.
pub fn lay_out_card(sys: &Path, vfs: &[CardVf]) -> io::Result<()> {
    let put = |path: &str, text: &str| {
        let path = sys.join(path);
        fs::create_dir_all(path.parent().unwrap_or(sys))?;
        fs::write(path, text)
    };
    let function = |address: &str, device: &str, driver: &str| {
        let folder = format!("bus/pci/devices/{address}");
        put(&format!("{folder}/vendor"), "0x8086\n")?;
        put(&format!("{folder}/device"), device)?;
        put(&format!("{folder}/numa_node"), "0\n")?;
        let driver = sys.join("bus/pci/drivers").join(driver);
        fs::create_dir_all(&driver)?;
        symlink(driver, sys.join(folder).join("driver"))
    };
    function(PF, "0x10c9\n", "igb")?;
    let pf = format!("bus/pci/devices/{PF}");
    put(&format!("{pf}/sriov_totalvfs"), "7\n")?;
    put(&format!("{pf}/sriov_numvfs"), &format!("{}\n", vfs.len()))?;
    put(&format!("{pf}/net/enp1s0/address"), "\n")?;
    put("class/net/enp1s0/carrier", "1\n")?;
    put("class/net/enp1s0/type", "1\n")?;
    for (index, vf) in vfs.iter().enumerate() {
        function(vf.address, "0x10ca\n", vf.driver)?;
        let folder = sys.join("bus/pci/devices").join(vf.address);
        let link = sys.join(&pf).join(format!("virtfn{index}"));
        symlink(format!("../{}", vf.address), link)?;
        symlink(format!("../{PF}"), folder.join("physfn"))?;
        if let Some(group) = vf.iommu_group {
            let group = sys.join("kernel/iommu_groups").join(group.to_string());
            fs::create_dir_all(&group)?;
            symlink(group, folder.join("iommu_group"))?;
        }
    }
    Ok(())
}
