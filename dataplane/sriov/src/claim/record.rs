//! What is written down of a VF before it is taken: one record in the VF journal.

use serde::{Deserialize, Serialize};

use super::plan::{Mode, Owner};
use crate::PciAddr;
use crate::settings::VfSettings;

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is being made, or was when its process died.
    Begun,
    /// It is made.
    Held,
    /// Its owner is gone, and nobody has put the VF back yet.
    Released,
}

/// Which NIC it is, so that another one at the same address is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// PCI address of its PF.
    pub pf: PciAddr,
    /// Its index there.
    pub index: u32,
}

/// The VF's netdev as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetdevState {
    /// Its name.
    pub name: String,
    /// Its MAC address, as text.
    pub mac: Option<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it was set up.
    pub up: bool,
}

/// One VF that is somebody's: all that is needed to put it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where the VF is.
    pub vf: PciAddr,
    /// Which boot of the node this is of (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// How far it has come.
    pub phase: Phase,
    /// Whose it is.
    pub owner: Owner,
    /// What for.
    pub mode: Mode,
    /// Which NIC.
    pub identity: Identity,
    /// Name of the PF's netdev.
    pub pf_netdev: String,
    /// Its driver before.
    pub driver: Option<String>,
    /// The one driver it was allowed to have before, if there was one.
    pub driver_override: Option<String>,
    /// Its netdev before.
    pub netdev: Option<NetdevState>,
    /// What the PF laid down for it before.
    pub before: VfSettings,
    /// What was asked for.
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
