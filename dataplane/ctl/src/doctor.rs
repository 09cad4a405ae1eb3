// SPDX-License-Identifier: Apache-2.0
//! `sluicectl doctor`: whether this node has what VFs and pods' memifs need, each with the command
//! that mends it. It looks and changes nothing. A running engine is asked for its workers and uplinks.

mod process;

use std::path::Path;

use comfy_table::Cell;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use sluice_api::client::Client;
use sluice_sriov::create;
use sluice_sriov::sysfs::Sysfs;

use super::Failure;
use super::output::{Output, Style, render};

/// Grade of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Requirement is met.
    Good,
    /// Requirement is not met; everything works without it, but slower or less safely.
    Weak,
    /// VFs cannot be used.
    Bad,
}

/// Result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
    /// Command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<&'static str>,
}

/// Machine that is examined; tests lay out a tree of their own.
struct Node<'a> {
    root: &'a Path,
    /// Bytes of memory that may be locked; `None`: any.
    memlock: Option<u64>,
}

/// Shows what was found; fails if VFs cannot be used here.
pub(super) fn run(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let node = Node {
        root: Path::new("/"),
        memlock: getrlimit(Resource::Memlock).current,
    };
    let mut findings = node.examine();
    let process = process::Process {
        root: Path::new("/"),
        cmk: std::env::var("CMK_CPUS_ASSIGNED")
            .ok()
            .filter(|value| !value.trim().is_empty()),
        // An engine that does not run is no fault of the node.
        status: client.status().ok(),
    };
    findings.extend(process.examine());
    output.show(&findings, |findings, style| table(findings, style))?;
    if findings.iter().any(|finding| finding.state == State::Bad) {
        return Err(Failure::Shown);
    }
    Ok(())
}

fn finding(
    what: &'static str,
    state: State,
    found: impl Into<String>,
    mend: &'static str,
) -> Finding {
    Finding {
        what,
        state,
        found: found.into(),
        mend: (state != State::Good).then_some(mend),
    }
}

impl Node<'_> {
    fn examine(&self) -> Vec<Finding> {
        [
            self.iommu(),
            self.vfio_pci(),
            self.sriov(),
            self.huge_pages(),
            self.memlock(),
            self.isolated_cores(),
            self.cni_folder("opt/cni/bin", "CNI plugins"),
            self.cni_folder("etc/cni/net.d", "CNI configuration"),
        ]
        .into_iter()
        .chain(self.vfs_asked_for())
        .collect()
    }

    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn count(&self, path: &str) -> usize {
        std::fs::read_dir(self.root.join(path)).map_or(0, |entries| entries.flatten().count())
    }

    fn iommu(&self) -> Finding {
        let groups = self.count("sys/kernel/iommu_groups");
        let state = if groups > 0 { State::Good } else { State::Bad };
        finding(
            "IOMMU",
            state,
            format!("{groups} groups"),
            "switch VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on or amd_iommu=on",
        )
    }

    fn vfio_pci(&self) -> Finding {
        let loaded = self.root.join("sys/bus/pci/drivers/vfio-pci").is_dir();
        let unsafe_mode = self
            .read("sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
            .is_some_and(|value| value == "Y");
        match (loaded, unsafe_mode) {
            (true, false) => finding("vfio-pci", State::Good, "loaded", ""),
            (true, true) => finding(
                "vfio-pci",
                State::Weak,
                "loaded, with enable_unsafe_noiommu_mode",
                "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            ),
            (false, _) => finding(
                "vfio-pci",
                State::Bad,
                "not loaded",
                "modprobe vfio-pci; echo vfio-pci > /etc/modules-load.d/vfio-pci.conf",
            ),
        }
    }

    fn sriov(&self) -> Finding {
        let pfs = Sysfs::at(self.root.join("sys")).pfs().unwrap_or_default();
        let vfs: u32 = pfs
            .iter()
            .filter_map(|pf| pf.sriov)
            .map(|(_, now)| now)
            .sum();
        let state = match (pfs.len(), vfs) {
            (0, _) => State::Bad,
            (_, 0) => State::Weak,
            _ => State::Good,
        };
        finding(
            "SR-IOV",
            state,
            format!("{} PFs, {vfs} VFs", pfs.len()),
            "a NIC with SR-IOV, switched on in the firmware; then sluicectl vfs create PF N",
        )
    }

    /// Whether PFs have the VFs that the node's file asks for; `None` without the file.
    fn vfs_asked_for(&self) -> Option<Finding> {
        const WHAT: &str = "VFs asked for";
        let path = self.root.join(create::DEFAULT_FILE.trim_start_matches('/'));
        let text = std::fs::read_to_string(&path).ok()?;
        let asked = match create::parse(Path::new(create::DEFAULT_FILE), &text) {
            Ok(asked) => asked,
            Err(error) => {
                let mend = "correct the file; `sluicectl vfs create --help` shows its form";
                return Some(finding(WHAT, State::Bad, error.to_string(), mend));
            }
        };
        let short = create::shortfalls(&Sysfs::at(self.root.join("sys")), &asked);
        if short.is_empty() {
            let all: u32 = asked.iter().map(|one| one.count).sum();
            return Some(finding(WHAT, State::Good, format!("{all} by vfs.yaml"), ""));
        }
        let short: Vec<String> = short.iter().map(ToString::to_string).collect();
        Some(finding(
            WHAT,
            State::Weak,
            short.join("; "),
            "sluicectl vfs create; systemctl enable sluicegate-vfs for the next boot",
        ))
    }

    fn huge_pages(&self) -> Finding {
        let folder = "sys/kernel/mm/hugepages/hugepages-2048kB";
        let number = |file: &str| {
            self.read(&format!("{folder}/{file}"))
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let (all, free) = (number("nr_hugepages"), number("free_hugepages"));
        let state = if all > 0 { State::Good } else { State::Weak };
        finding(
            "huge pages",
            state,
            format!("{all} of 2 MiB, {free} free"),
            "echo 64 > /proc/sys/vm/nr_hugepages (hugepages=64 on the kernel's command line keeps \
             them); without, mempools lie on ordinary pages",
        )
    }

    fn memlock(&self) -> Finding {
        // The mempools as configured by default, and rings.
        const WANTED: u64 = 64 << 20;
        match self.memlock {
            Some(bytes) if bytes < WANTED => finding(
                "memlock",
                State::Weak,
                format!("{} KiB of this shell", bytes >> 10),
                "LimitMEMLOCK=infinity in the engine's unit (in a pod: CAP_IPC_LOCK); `ulimit -l \
                 unlimited` in a shell",
            ),
            Some(bytes) => finding("memlock", State::Good, format!("{} MiB", bytes >> 20), ""),
            None => finding("memlock", State::Good, "unlimited", ""),
        }
    }

    fn isolated_cores(&self) -> Finding {
        let cores = self.read("sys/devices/system/cpu/isolated");
        match cores.filter(|cores| !cores.is_empty()) {
            Some(cores) => finding("isolated cores", State::Good, cores, ""),
            None => finding(
                "isolated cores",
                State::Weak,
                "none",
                "isolcpus=LIST nohz_full=LIST on the kernel's command line, or the kubelet's static \
                 CPU manager, so that workers have cores of their own",
            ),
        }
    }

    fn cni_folder(&self, path: &str, what: &'static str) -> Finding {
        let entries = self.count(path);
        let state = if entries > 0 {
            State::Good
        } else {
            State::Weak
        };
        finding(
            what,
            state,
            format!("{entries} files in /{path}"),
            "put sluicegate, sluicegate-vf and the reference plugins into /opt/cni/bin, and one \
             configuration into /etc/cni/net.d",
        )
    }
}

fn table(findings: &[Finding], style: Style) -> String {
    let mut rows = style.table(&["", "WHAT", "FOUND"]);
    for finding in findings {
        rows.add_row(vec![
            match finding.state {
                State::Good => style.good("good"),
                State::Weak => Cell::new("weak"),
                State::Bad => style.bad("bad"),
            },
            Cell::new(finding.what),
            Cell::new(&finding.found),
        ]);
    }
    let mut text = render(rows);
    for finding in findings {
        if let Some(mend) = finding.mend {
            text.push_str(&format!("\n{}: {mend}\n", finding.what));
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_empty_node_is_told_all_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node {
            root: dir.path(),
            memlock: Some(8 << 20),
        };
        let findings = node.examine();
        assert!(findings.iter().all(|finding| finding.state != State::Good));
        let bad = findings
            .iter()
            .filter(|finding| finding.state == State::Bad);
        assert_eq!(bad.count(), 3, "IOMMU, vfio-pci, SR-IOV");
        let text = table(&findings, Style::plain());
        assert!(text.contains("intel_iommu=on") && text.contains("modprobe vfio-pci"));
    }

    #[test]
    fn what_is_there_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("sys/kernel/iommu_groups/1/type", "DMA\n");
        put("sys/bus/pci/drivers/vfio-pci/new_id", "");
        put("sys/bus/pci/devices/0000:01:00.0/sriov_totalvfs", "7\n");
        put("sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "2\n");
        put("sys/bus/pci/devices/0000:01:00.0/vendor", "0x8086\n");
        put("sys/bus/pci/devices/0000:01:00.0/device", "0x10c9\n");
        put(
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "64\n",
        );
        put("sys/devices/system/cpu/isolated", "2-5\n");
        put("opt/cni/bin/bridge", "");
        put("etc/cni/net.d/10.conf", "");
        let node = Node {
            root: dir.path(),
            memlock: None,
        };
        for finding in node.examine() {
            assert_eq!(finding.state, State::Good, "{finding:?}");
            assert_eq!(finding.mend, None);
        }
        put(
            "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            "Y\n",
        );
        assert_eq!(node.vfio_pci().state, State::Weak);
        // The file asks for what is there, for more, and for nonsense.
        for (count, state, word) in [
            ("2", State::Good, "2 by vfs.yaml"),
            ("4", State::Weak, "PF 0000:01:00.0 has 2 of 4 VFs"),
            ("x", State::Bad, "/etc/sluicegate/vfs.yaml:1:"),
        ] {
            let text = format!("vfs: [{{pf: '0000:01:00.0', count: {count}}}]\n");
            put("etc/sluicegate/vfs.yaml", &text);
            let finding = node.vfs_asked_for().unwrap();
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.found.contains(word), "{finding:?}");
        }
    }
}
