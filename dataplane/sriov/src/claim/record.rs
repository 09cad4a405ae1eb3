// SPDX-License-Identifier: Apache-2.0
//! [`Record`]: one file of the VF journal, written before the VF is changed.

use serde::{Deserialize, Serialize};

use super::plan::{Mode, Owner};
use crate::PciAddr;
use crate::settings::VfSettings;

/// Progress of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Claim in progress, or interrupted when its process died.
    Begun,
    /// Claim complete.
    Held,
    /// Owner gone, VF not yet restored.
    Released,
}

/// Identity of the NIC, so that another one at the same address is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// PCI address of its PF.
    pub pf: PciAddr,
    /// Index of the VF on its PF.
    pub index: u32,
}

/// The VF's netdev as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetdevState {
    /// Name of the netdev.
    pub name: String,
    /// MAC address, as text.
    pub mac: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it was set up.
    pub up: bool,
}

/// Claimed VF: everything that is needed to restore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// PCI address of the VF.
    pub vf: PciAddr,
    /// UUID of the boot in which the claim was made (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// Progress of the claim.
    pub phase: Phase,
    /// Container and interface that hold the VF.
    pub owner: Owner,
    /// Mode of the claim.
    pub mode: Mode,
    /// Identity of the NIC.
    pub identity: Identity,
    /// Name of the PF's netdev.
    pub pf_netdev: String,
    /// Driver before the claim.
    pub driver: Option<String>,
    /// The one driver it was allowed to have before, if there was one.
    pub driver_override: Option<String>,
    /// Netdev before the claim.
    pub netdev: Option<NetdevState>,
    /// Settings before the claim.
    pub before: VfSettings,
    /// Settings that the claim asked for.
    pub asked: VfSettings,
    /// In the modes of userspace: the driver it is bound to.
    pub bound_to: Option<String>,
    /// In kernel mode: its netdev's name in the pod.
    pub pod_ifname: Option<String>,
}

impl Record {
    /// Whether it is of this container's interface.
    pub fn is_of(&self, container_id: &str, ifname: &str) -> bool {
        self.owner.container_id == container_id && self.owner.ifname == ifname
    }

    /// For people.
    pub fn holder(&self) -> String {
        match self.phase {
            Phase::Begun | Phase::Held => self.owner.name(),
            Phase::Released => format!(
                "{} until it has been put back, which the engine or GC does",
                self.owner.name()
            ),
        }
    }
}
