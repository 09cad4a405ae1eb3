// SPDX-License-Identifier: Apache-2.0
//! VFs of the node, as sysfs and the kernel tell of them.

use sluice_api::Traffic;
use sluice_sriov::links::vf_traffic;
use sluice_sriov::sysfs::Sysfs;
use sluice_sriov::{Error, PciAddr};

/// VF of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vf {
    /// PCI address.
    pub(super) address: PciAddr,
    /// Netdev of its PF, or the PF's PCI address where it has none.
    pub(super) pf: String,
    /// Number among the VFs of the PF.
    pub(super) index: usize,
    /// NUMA node, where the firmware reports one.
    pub(super) numa_node: Option<u32>,
    /// Driver that it is bound to.
    pub(super) driver: Option<String>,
    /// Counts of the PF, where its driver reports them.
    pub(super) traffic: Option<Traffic>,
}

/// Lists the VFs of the node. A PF that cannot be read is left out: it may go at any moment.
pub(super) fn list(sysfs: &Sysfs) -> Vec<Vf> {
    let pfs = sysfs.pfs().unwrap_or_else(|error| {
        tracing::debug!("the PFs cannot be listed: {error}");
        Vec::new()
    });
    let mut all = Vec::new();
    for pf in pfs {
        match of_pf(sysfs, pf.addr, pf.netdevs.first()) {
            Ok(vfs) => all.extend(vfs),
            Err(error) => tracing::debug!("the VFs of {} cannot be listed: {error}", pf.addr),
        }
    }
    all
}

fn of_pf(sysfs: &Sysfs, pf: PciAddr, netdev: Option<&String>) -> Result<Vec<Vf>, Error> {
    let addresses = sysfs.vfs(pf)?;
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    // A driver that does not tell keeps nobody from seeing the rest.
    let counts = netdev.and_then(|netdev| vf_traffic(netdev).ok());
    let one = |(index, address)| {
        let function = sysfs.function(address)?;
        let count = counts.as_ref().and_then(|counts| {
            let number = u32::try_from(index).ok()?;
            counts.iter().find(|(vf, _)| *vf == number)
        });
        Ok(Vf {
            address,
            pf: netdev.cloned().unwrap_or_else(|| pf.to_string()),
            index,
            numa_node: function.numa_node,
            driver: function.driver,
            traffic: count.map(|(_, traffic)| *traffic),
        })
    };
    addresses.into_iter().enumerate().map(one).collect()
}
