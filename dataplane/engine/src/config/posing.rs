// SPDX-License-Identifier: Apache-2.0
//! Limits of the node's owner for what networks may let their pods pose as.

use std::collections::BTreeMap;

use sluice_packet::pose::AntiSpoof;

/// Limits of one uplink, or of the VFs of one PF.
///
/// The default is what the author of a network can have by other keys anyway: who writes a network's
/// configuration chooses MAC and IP addresses by `mac` and `ipam`, so that a pod with any IP address behind
/// its own MAC address, or with a second MAC address that is named, is nothing new. A pod that makes up
/// MAC addresses as it goes, or sees what is for others, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosingLimits {
    /// Loosest check of sender addresses that may be asked for. [`AntiSpoof::Strict`] excludes address
    /// pairs too, as they loosen it.
    pub loosest: AntiSpoof,
    /// Whether an attachment may be promiscuous.
    pub promiscuous: bool,
}

impl Default for PosingLimits {
    fn default() -> PosingLimits {
        PosingLimits {
            loosest: AntiSpoof::Mac,
            promiscuous: false,
        }
    }
}

/// Section `posing`: limits of VFs, and of uplinks that have none of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PosingConfig {
    /// Limits unless an uplink or PF has others.
    pub all: PosingLimits,
    /// Limits of the VFs of a PF, by its netdev.
    pub pfs: BTreeMap<String, PosingLimits>,
}
