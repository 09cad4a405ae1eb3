// SPDX-License-Identifier: Apache-2.0
//! Findings about the engine's process and the container that this runs in: cores, mounts, NUMA nodes.

use std::collections::BTreeSet;
use std::path::Path;

use sluice_api::Status;
use sluice_host::topology::parse_list;

use super::{Finding, State, finding};

/// Environment variable in which CMK names a container's cores.
const CMK_VARIABLE: &str = "CMK_CPUS_ASSIGNED";

/// Facts about this process and the engine's.
pub(super) struct Process<'a> {
    /// Folder of the machine's files; tests lay out their own.
    pub(super) root: &'a Path,
    /// Value of [`CMK_VARIABLE`] here.
    pub(super) cmk: Option<String>,
    /// Answer of the engine, if it runs.
    pub(super) status: Option<Status>,
}

impl Process<'_> {
    /// Checks everything; what does not apply is left out.
    pub(super) fn examine(&self) -> Vec<Finding> {
        [
            self.proc_sys(),
            self.netns_folder(),
            self.cmk(),
            self.cores(),
            self.huge_pages_by_node(),
            self.workers_by_node(),
            self.uplinks_by_node(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// Mount at a path: its options, and whether mounts of the host come through.
    fn mount(&self, at: &str) -> Option<(String, bool)> {
        let mounts = self.read("proc/self/mountinfo");
        // The last one lies above the others (proc(5)).
        let line = mounts
            .lines()
            .rfind(|line| line.split(' ').nth(4) == Some(at))?;
        let mut fields = line.split(' ').skip(5);
        let options = fields.next()?.to_owned();
        let tags: Vec<&str> = fields.take_while(|tag| *tag != "-").collect();
        let propagates = tags
            .iter()
            .any(|tag| tag.starts_with("shared:") || tag.starts_with("master:"));
        Some((options, propagates))
    }

    fn proc_sys(&self) -> Option<Finding> {
        let (options, _) = self.mount("/proc/sys")?;
        let is_read_only = options.split(',').any(|option| option == "ro");
        is_read_only.then(|| {
            finding(
                "/proc/sys",
                State::Weak,
                "read-only here",
                "nothing, if the engine has CAP_SYS_ADMIN: it writes through a procfs of its own; else run \
                 its container privileged",
            )
        })
    }

    fn netns_folder(&self) -> Option<Finding> {
        let (_, propagates) = self.mount("/run/netns")?;
        let (state, found) = if propagates {
            (State::Good, "pods' namespaces come through")
        } else {
            (State::Weak, "namespaces of pods made later are not seen")
        };
        Some(finding(
            "/run/netns",
            state,
            found,
            "mount it with mountPropagation: HostToContainer, from a host where it is shared (mount \
             --make-rshared /run/netns): an engine that starts again finds its pods by it",
        ))
    }

    fn cmk(&self) -> Option<Finding> {
        let cmk = self.cmk.as_ref()?;
        let status = self.read("proc/self/status");
        let allowed = allowed_of(&status);
        let foreign: Vec<String> = parse_list(cmk)
            .difference(&allowed)
            .map(usize::to_string)
            .collect();
        Some(if foreign.is_empty() {
            finding("CMK", State::Good, format!("cores {cmk}"), "")
        } else {
            finding(
                "CMK",
                State::Bad,
                format!(
                    "{CMK_VARIABLE} is {cmk}, and not {} may be used",
                    foreign.join(",")
                ),
                "let the container run on CMK's cores: no static CPU manager and no other cpuset beside CMK",
            )
        })
    }

    /// Whether control's threads have cores beside the workers'.
    fn cores(&self) -> Option<Finding> {
        let status = self.status.as_ref()?;
        let pinned: BTreeSet<usize> = status
            .workers
            .iter()
            .filter_map(|worker| worker.core)
            .collect();
        // Of another pid namespace it is another process, or none.
        let process = self.read(&format!("proc/{}/status", status.health.pid));
        if pinned.is_empty() || !process.starts_with("Name:\tsluiced") {
            return None;
        }
        let control = allowed_of(&process);
        let shared = control.intersection(&pinned).count();
        let (state, found) = if shared == 0 {
            (
                State::Good,
                "control has cores beside the workers'".to_owned(),
            )
        } else {
            let count = pinned.len();
            (
                State::Weak,
                format!("too few for {count} workers and control"),
            )
        };
        Some(finding(
            "engine's cores",
            state,
            found,
            "give the engine's container one core more than it has workers (with the static CPU manager \
             both `requests` and `limits`), or set workers.count lower; under CMK use --no-affinity",
        ))
    }

    fn huge_pages_by_node(&self) -> Option<Finding> {
        let nodes = self.nodes();
        if nodes.len() < 2 {
            return None;
        }
        let free = |node: &u32| {
            let file = format!(
                "sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages"
            );
            self.read(&file).trim().parse::<u64>().unwrap_or(0)
        };
        let counts: Vec<(u32, u64)> = nodes.iter().map(|node| (*node, free(node))).collect();
        let state = if counts.iter().all(|(_, free)| *free > 0) {
            State::Good
        } else {
            State::Weak
        };
        let found = counts
            .iter()
            .map(|(node, free)| format!("node {node}: {free} free"));
        Some(finding(
            "huge pages by node",
            state,
            found.collect::<Vec<_>>().join(", "),
            "echo 64 > /sys/devices/system/node/nodeN/hugepages/hugepages-2048kB/nr_hugepages for the node of \
             the workers",
        ))
    }

    fn workers_by_node(&self) -> Option<Finding> {
        let status = self.status.as_ref().filter(|_| self.nodes().len() > 1)?;
        let nodes: BTreeSet<Option<u32>> =
            status.workers.iter().map(|worker| worker.numa).collect();
        let names = nodes.iter().map(|node| match node {
            Some(node) => node.to_string(),
            None => "any (not pinned)".to_owned(),
        });
        let names = names.collect::<Vec<_>>().join(", ");
        let state = match (nodes.len(), nodes.contains(&None)) {
            (1, false) => State::Good,
            _ => State::Weak,
        };
        Some(finding(
            "workers by node",
            state,
            format!("node {names}"),
            "name cores of one NUMA node by workers.cores (`lscpu` shows them), the one of the NICs",
        ))
    }

    fn uplinks_by_node(&self) -> Option<Finding> {
        let status = self.status.as_ref().filter(|_| self.nodes().len() > 1)?;
        let far: Vec<String> = status
            .uplinks
            .iter()
            .filter_map(|uplink| {
                let worker = status.workers.get(uplink.worker)?.numa?;
                let node = uplink.numa.filter(|node| *node != worker)?;
                Some(format!(
                    "{} is on node {node}, its worker {} on node {worker}",
                    uplink.name, uplink.worker
                ))
            })
            .collect();
        let (state, found) = if far.is_empty() {
            (State::Good, "with their workers".to_owned())
        } else {
            (State::Weak, far.join("; "))
        };
        Some(finding(
            "uplinks by node",
            state,
            found,
            "give them workers of their node: by workers.cores and by `worker` of the uplink, or use VFs of a PF \
             on the workers' node",
        ))
    }

    fn nodes(&self) -> Vec<u32> {
        sluice_host::topology::Topology::at(self.root.join("sys/devices/system")).nodes()
    }
}

/// Cores that a process may run on, by its status.
fn allowed_of(status: &str) -> BTreeSet<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_list(line.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Status {
        let traffic = json!({"rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0});
        let uplink = |name: &str, numa: u32| {
            json!({"name": name, "driver": "af_packet", "device": name, "worker": 0, "mtu": 1500,
                "numa": numa, "counters": traffic, "drops": {}})
        };
        let pool = json!({"all": 1, "free": 1, "in_flight": 0});
        serde_json::from_value(json!({
            "health": {"ready": true, "problems": [], "version": "0.1.0", "pid": 42},
            "uptime_seconds": 1,
            "workers": [{"id": 0, "core": 4, "numa": 0, "loops": 1, "empty_loops": 1, "sleeps": 0},
                {"id": 1, "core": 12, "numa": 1, "loops": 1, "empty_loops": 1, "sleeps": 0}],
            "memory": {"small": pool, "large": pool, "backing": "hugetlb"},
            "uplinks": [uplink("eth1", 0), uplink("eth2", 1)],
            "segments": [], "attachments": 0, "policy_version": 1
        }))
        .unwrap()
    }

    #[test]
    fn a_container_with_wrong_mounts_cores_and_nodes_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let process = || Process {
            root: dir.path(),
            cmk: Some("4,12".to_owned()),
            status: Some(status()),
        };
        put(
            "proc/self/mountinfo",
            "22 1 0:5 / /proc rw,nosuid - proc proc rw\n\
             23 22 0:5 /sys /proc/sys ro,nosuid - proc proc rw\n\
             24 1 0:9 /netns /run/netns rw - tmpfs tmpfs rw\n",
        );
        put(
            "proc/self/status",
            "Name:\tsluicectl\nCpus_allowed_list:\t0-4\n",
        );
        put(
            "proc/42/status",
            "Name:\tsluiced\nCpus_allowed_list:\t4,12\n",
        );
        for node in ["node0", "node1"] {
            put(&format!("sys/devices/system/node/{node}/cpulist"), "");
        }
        put(
            "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
            "9",
        );
        let found = process().examine();
        let whats: Vec<&str> = found.iter().map(|one| one.what).collect();
        let all = [
            "/proc/sys",
            "/run/netns",
            "CMK",
            "engine's cores",
            "huge pages by node",
            "workers by node",
            "uplinks by node",
        ];
        assert_eq!(whats, all);
        assert!(
            found.iter().all(|one| one.state != State::Good),
            "{found:?}"
        );
        assert!(found[2].found.contains("not 12"), "{found:?}");
        assert!(found[4].found.contains("node 1: 0"), "{found:?}");
        assert!(found[6].found.starts_with("eth2 is on node 1"), "{found:?}");

        put(
            "proc/self/mountinfo",
            "22 1 0:5 / /proc rw,nosuid - proc proc rw\n\
             24 1 0:9 /netns /run/netns rw master:7 - tmpfs tmpfs rw\n",
        );
        put("proc/self/status", "Cpus_allowed_list:\t0-15\n");
        put(
            "proc/42/status",
            "Name:\tsluiced\nCpus_allowed_list:\t0-3\n",
        );
        let found = process().examine();
        let good = |what: &str| {
            found
                .iter()
                .any(|one| one.what == what && one.state == State::Good)
        };
        assert!(
            good("/run/netns") && good("CMK") && good("engine's cores"),
            "{found:?}"
        );
        assert!(!found.iter().any(|one| one.what == "/proc/sys"));
    }
}
