// SPDX-License-Identifier: Apache-2.0
//! [`Plan`]: the request of a claim.

use serde::{Deserialize, Serialize};
use sluice_host::NetnsRef;

use crate::PciAddr;
use crate::settings::VfSettings;

/// Container and interface that hold a VF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the network that the pod's interface is of.
    pub network: String,
    /// The container: who owns the VF.
    pub container_id: String,
    /// The interface as the runtime calls it.
    pub ifname: String,
    /// The pod's network namespace.
    pub netns: NetnsRef,
}

impl Owner {
    /// For people.
    pub fn name(&self) -> String {
        format!("{} of container {}", self.ifname, self.container_id)
    }
}

/// Mode in which a pod gets a VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Netdev moves into the pod.
    Kernel,
    /// VF is bound to a userspace driver for a program of the pod.
    Vfio,
    /// VF is bound to vfio-pci for the engine.
    Engine,
}

/// Choice of a VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The one with this index on the plan's PF.
    Index(u32),
    /// The one at this address.
    Address(PciAddr),
    /// The first of the plan's PF that nobody has.
    FirstFree {
        /// VFs that a device plugin gives out.
        avoid: Vec<PciAddr>,
    },
}

/// A claim.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For whom.
    pub owner: Owner,
    /// For what.
    pub mode: Mode,
    /// Netdev of the PF; not needed with [`Pick::Address`].
    pub pf: Option<String>,
    /// Choice of a VF.
    pub pick: Pick,
    /// Settings to be applied; absent ones stay as they are.
    pub settings: VfSettings,
    /// In the modes of userspace: the driver. One that is not loaded gives way to vfio-pci.
    pub driver: String,
    /// The kernel's driver of the VF, where it has none now.
    pub kernel_driver: Option<String>,
    /// In vfio mode: whether VFIO may have the VF without an IOMMU. The pod can reach all memory of the
    /// node through it then.
    pub allow_unsafe_noiommu: bool,
    /// In kernel mode: the netdev's name in the pod.
    pub pod_ifname: String,
}
