// SPDX-License-Identifier: Apache-2.0
//! Snapshot of the machine's links, files, processes and settings, before and after the demo.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::home::MARK;
use super::namespace;
use super::programs::{OURS, Programs};
use super::unix_sockets;

/// Folders in which the engine, the plugins and their kind keep things.
const FOLDERS: [&str; 7] = [
    "/run/sluicegate",
    "/var/lib/sluicegate",
    "/var/lib/cni",
    "/etc/sluicegate",
    "/run/k8s.cni.cncf.io",
    "/dev/shm",
    "/dev/hugepages",
];

/// Settings of the whole machine that networking software changes.
const SETTINGS: [&str; 3] = [
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
    "/proc/sys/vm/nr_hugepages",
];

/// Names of everything that the demo could leave behind, and settings of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    things: BTreeSet<String>,
    counts: Vec<(&'static str, usize)>,
    settings: BTreeSet<String>,
}

/// Differences between two snapshots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Things and settings of the demo's own.
    pub(super) ours: Vec<String>,
    /// Things that something else on this machine made meanwhile.
    pub(super) others: Vec<String>,
}

impl Snapshot {
    /// Looks at everything.
    pub(super) fn take(programs: &Programs) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.add("links", read_links());
        snapshot.add("namespaces", names_in(namespace::FOLDER));
        let mut files = names_in_all(&std::env::temp_dir(), 1);
        // Everybody's things come and go there; the demo's bear its mark.
        files.retain(|path| path.contains(MARK));
        for folder in FOLDERS {
            files.extend(names_in_all(Path::new(folder), 8));
        }
        snapshot.add("files", files);
        snapshot.add("sockets", unix_sockets::names(&read("/proc/net/unix")));
        snapshot.add("processes", processes());
        snapshot.add("nftables tables", tables(programs));
        snapshot.settings.extend(huge_pages(&read("/proc/meminfo")));
        for path in SETTINGS {
            snapshot
                .settings
                .insert(format!("{path} = {}", read(path).trim()));
        }
        snapshot
    }

    fn add(&mut self, kind: &'static str, names: Vec<String>) {
        self.counts.push((kind, names.len()));
        self.things
            .extend(names.into_iter().map(|name| format!("{kind}: {name}")));
    }

    /// Number of things of each kind, as text.
    pub(super) fn counts(&self) -> String {
        let kinds: Vec<_> = self
            .counts
            .iter()
            .map(|(kind, n)| format!("{n} {kind}"))
            .collect();
        kinds.join(", ")
    }

    /// Compares with an earlier snapshot. Everything that the demo makes bears its `mark`, or is
    /// a process whose program is this build's; settings and huge pages are everybody's.
    pub(super) fn left(&self, before: &Snapshot, mark: &str) -> Left {
        let new = self.things.difference(&before.things).cloned();
        let ours = |thing: &String| bears(thing, mark);
        let (mut left, others): (Vec<_>, Vec<_>) = new.partition(ours);
        for setting in self.settings.difference(&before.settings) {
            left.push(format!("{setting}, which is not what it was"));
        }
        Left { ours: left, others }
    }
}

/// Whether a mark is in a thing's name; that of another process may begin with it.
fn bears(thing: &str, mark: &str) -> bool {
    let mut places = thing.match_indices(mark);
    places.any(|(at, _)| {
        let behind = thing.as_bytes().get(at + mark.len());
        !behind.is_some_and(u8::is_ascii_digit)
    })
}

/// Links in this process's namespace.
fn read_links() -> Vec<String> {
    let text = read("/proc/net/dev");
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

/// Processes of this build's programs, with the namespaces' mark if they were given a path with it.
fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for pid in names_in("/proc") {
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let folder = Path::new("/proc").join(&pid);
        let Ok(exe) = std::fs::read_link(folder.join("exe")) else {
            continue;
        };
        let name = exe
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if OURS.contains(&name.trim_end_matches(" (deleted)")) {
            let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("{pid}: {}", line.trim()));
        }
    }
    found
}

/// nftables' tables of this process's namespace.
fn tables(programs: &Programs) -> Vec<String> {
    let listed = Command::new(&programs.nft)
        .args(["list", "tables"])
        .output();
    let text = listed.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn huge_pages(meminfo: &str) -> Vec<String> {
    let lines = meminfo
        .lines()
        .filter(|line| line.starts_with("HugePages_"));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Everything in a folder, and `depth` folders deep.
fn names_in_all(folder: &Path, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(names_in_all(&entry.path(), depth - 1));
        }
    }
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bears_the_mark_is_ours() {
        let mut before = Snapshot::default();
        before.add("link", vec!["eth0".into(), "veth1".into()]);
        before.settings.insert("HugePages_Free: 8".into());
        let mut after = before.clone();
        assert_eq!(after.left(&before, "sgd1"), Left::default());
        after.add("namespace", vec!["sgd1-wire".into(), "somebodys".into()]);
        after.settings = BTreeSet::from(["HugePages_Free: 7".into()]);
        let left = after.left(&before, "sgd1");
        assert_eq!(left.ours.len(), 2, "{left:?}");
        assert_eq!(left.ours[0], "namespace: sgd1-wire");
        assert_eq!(left.others, ["namespace: somebodys"]);
        assert!(!bears("namespace sgd12-wire", "sgd1") && bears("file /tmp/sgd1", "sgd1"));
    }
}
