// SPDX-License-Identifier: Apache-2.0
//! Topology of the machine as sysfs shows it: NUMA nodes, and cores that are threads of one physical core.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folder of the machine's CPUs and nodes in sysfs.
const SYSTEM: &str = "/sys/devices/system";
/// Highest CPU number that a list may name: Linux supports no more.
const MAX_CPU: usize = 8192;

/// Topology of one machine.
#[derive(Debug, Clone)]
pub struct Topology {
    system: PathBuf,
}

impl Default for Topology {
    fn default() -> Topology {
        Topology::at(SYSTEM)
    }
}

impl Topology {
    /// Topology of another folder in the form of `/sys/devices/system`, for tests.
    pub fn at(system: impl Into<PathBuf>) -> Topology {
        Topology {
            system: system.into(),
        }
    }

    /// Returns the NUMA node of a core; `None` where the kernel knows of no nodes.
    pub fn node_of(&self, core: usize) -> Option<u32> {
        self.nodes().into_iter().find(|node| {
            let list = self.system.join(format!("node/node{node}/cpulist"));
            read_list(&list).contains(&core)
        })
    }

    /// Returns the machine's NUMA nodes in ascending order; none where the kernel knows of none.
    pub fn nodes(&self) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir(self.system.join("node")) else {
            return Vec::new();
        };
        let mut nodes: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_prefix("node")?.parse().ok()
            })
            .collect();
        nodes.sort_unstable();
        nodes
    }

    /// Returns the cores that are threads of one physical core with `core`, itself among them.
    pub fn siblings(&self, core: usize) -> BTreeSet<usize> {
        let folder = self.system.join(format!("cpu/cpu{core}/topology"));
        let mut siblings = read_list(&folder.join("thread_siblings_list"));
        siblings.insert(core);
        siblings
    }
}

/// Returns the NUMA node of a PCI device or of a netdev on one; `None` for devices without a node.
pub fn node_of_device(device: &str) -> Option<u32> {
    [
        format!("/sys/bus/pci/devices/{device}/numa_node"),
        format!("/sys/class/net/{device}/device/numa_node"),
    ]
    .into_iter()
    // Of a name with a slash, another file would be read.
    .filter(|_| !device.contains('/'))
    .find_map(|path| std::fs::read_to_string(path).ok())
    // -1 stands for none.
    .and_then(|text| text.trim().parse().ok())
}

fn read_list(path: &Path) -> BTreeSet<usize> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    parse_list(&text)
}

/// Parses a list as the kernel writes it, `0-3,8`. Parts that are none are left out.
pub fn parse_list(text: &str) -> BTreeSet<usize> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (last < MAX_CPU).then_some(first..=last)
    });
    parts.flatten().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_with_hyperthreads() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("node/node0/cpulist", "0-3,8-11\n");
        write("node/node1/cpulist", "4-7,12-15\n");
        write("node/possible", "0-1\n");
        write("cpu/cpu4/topology/thread_siblings_list", "4,12\n");
        let topology = Topology::at(folder.path());
        assert_eq!(topology.nodes(), [0, 1]);
        assert_eq!(topology.node_of(12), Some(1));
        assert_eq!(topology.node_of(99), None);
        assert_eq!(topology.siblings(4), BTreeSet::from([4, 12]));
        assert_eq!(topology.siblings(5), BTreeSet::from([5]), "unknown: alone");
    }

    #[test]
    fn lists_of_the_kernel() {
        assert_eq!(parse_list("0-2,7\n"), BTreeSet::from([0, 1, 2, 7]));
        assert!(parse_list("\n").is_empty());
        assert!(parse_list("0-99999999999").is_empty(), "bounded");
    }

    #[test]
    fn a_device_without_a_node_has_none() {
        assert_eq!(node_of_device("lo"), None);
        assert_eq!(node_of_device("../../kernel"), None);
    }
}
