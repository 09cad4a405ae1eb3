// SPDX-License-Identifier: Apache-2.0
//! Pools as configured: one resource each.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::selectors::Selector;

/// Pool: a resource of the node, and what its devices are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Name of the resource: `sluicegate.io/voice`.
    pub resource: String,
    /// Whether the kubelet is told the devices' NUMA nodes.
    pub topology: bool,
    /// Devices of the pool.
    pub kind: PoolKind,
}

/// Kind of a pool's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolKind {
    /// VFs; ids are PCI addresses.
    Vfs {
        /// Use that pods make of them.
        mode: VfMode,
        /// Selectors; a VF is in the pool if one of them admits it.
        selectors: Vec<Selector>,
        /// Further facts that containers are told: by PCI address, or `*` for all.
        additional_info: BTreeMap<String, Map<String, Value>>,
    },
    /// Attachments to the engine; ids are `PREFIX-0`, `PREFIX-1`, ...
    Engine {
        /// Number of ids.
        count: u32,
        /// First part of the ids.
        prefix: String,
        /// Uplinks that must be up; empty: at least one of the engine's.
        uplinks: Vec<String>,
        /// Whether containers may write into their folder, as pods that serve their memif must.
        writable: bool,
    },
}

/// Use that a pod makes of a VF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VfMode {
    /// Use that follows from the driver that the VF has at Allocate: `vfio-pci` as [`VfMode::Vfio`], else as
    /// [`VfMode::Kernel`]. The SR-IOV network device plugin does so.
    #[default]
    Auto,
    /// Netdev, moved into the pod at ADD.
    Kernel,
    /// VFIO device of a program in the pod.
    Vfio,
    /// VF that the engine drives for the pod, which gets a memif.
    Engine,
}

/// Returns the part of the environment variables' names that stands for a resource.
pub(super) fn env_name(resource: &str) -> String {
    resource
        .chars()
        .map(|one| {
            if one.is_ascii_alphanumeric() {
                one.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// Returns a file name that stands for a resource, without a suffix.
pub(super) fn file_name(resource: &str) -> String {
    format!("sluicegate-{}", resource.replace('/', "_"))
}

/// Checks the name of a resource: a domain of ours or yours, a slash, a name.
///
/// # Errors
/// What is wrong with it.
pub fn check_resource(resource: &str) -> Result<(), String> {
    let Some((domain, name)) = resource.split_once('/') else {
        return Err(
            "a resource has a domain before its name, as in sluicegate.io/voice".to_owned(),
        );
    };
    let fine = |text: &str, others: &str, longest: usize| {
        let ends = |one: Option<char>| one.is_some_and(|one| one.is_ascii_alphanumeric());
        text.len() <= longest
            && ends(text.chars().next())
            && ends(text.chars().last())
            && text
                .chars()
                .all(|one| one.is_ascii_alphanumeric() || others.contains(one))
    };
    if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") {
        return Err("domains of kubernetes.io are the cluster's own: use another".to_owned());
    }
    if !fine(domain, "-.", 253) {
        return Err(format!("{domain:?} is not a domain's name"));
    }
    if !fine(name, "-_.", 63) {
        return Err(format!(
            "{name:?} is not a resource's name: letters, digits, -, _ and ., 63 at most"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_resource() {
        assert_eq!(env_name("sluicegate.io/voice-1"), "SLUICEGATE_IO_VOICE_1");
        assert_eq!(
            file_name("intel.com/sriov_a"),
            "sluicegate-intel.com_sriov_a"
        );
        assert!(check_resource("intel.com/sriov_net_A").is_ok());
        for bad in [
            "att",
            "/att",
            "a b/c",
            "a.io/",
            "a.io/-x",
            "a.io/b/c",
            "kubernetes.io/x",
        ] {
            assert!(check_resource(bad).is_err(), "{bad}");
        }
    }
}
