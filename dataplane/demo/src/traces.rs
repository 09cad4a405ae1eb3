// SPDX-License-Identifier: Apache-2.0
//! Traces of this demo on the machine: everything that it makes bears its mark, or runs a program of
//! this build that was started with the mark.
//!
//! Nothing else is looked at. Machines are in use: namespaces, links and huge pages of others come and
//! go while the demo runs. Huge pages of the demo's own are mapped by its processes, and are free once
//! those have ended.

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

/// Lists what bears `mark`: namespaces, links, files, sockets, processes and nftables tables.
pub(super) fn of(mark: &str, programs: &Programs) -> Vec<String> {
    let mut files = names_in_all(&std::env::temp_dir(), 1);
    files.retain(|path| path.contains(MARK));
    for folder in FOLDERS {
        files.extend(names_in_all(Path::new(folder), 8));
    }
    let kinds = [
        ("namespace", names_in(namespace::FOLDER)),
        ("link", read_links()),
        ("file", files),
        ("socket", unix_sockets::names(&read("/proc/net/unix"))),
        ("process", processes()),
        ("nftables table", tables(programs)),
    ];
    let mut found: Vec<String> = kinds
        .into_iter()
        .flat_map(|(kind, names)| names.into_iter().map(move |name| format!("{kind}: {name}")))
        .filter(|thing| bears(thing, mark))
        .collect();
    found.sort();
    found.dedup();
    found
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

/// Processes of this build's programs, this one excepted: pid and command line.
fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for pid in names_in("/proc") {
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let folder = Path::new("/proc").join(&pid);
        if is_ours(&folder) {
            let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("{pid}: {}", line.trim()));
        }
    }
    found
}

/// Whether a process (a folder of `/proc`) runs a program of this build.
pub(super) fn is_ours(process: &Path) -> bool {
    let Ok(exe) = std::fs::read_link(process.join("exe")) else {
        return false;
    };
    let name = exe.file_name().unwrap_or_default().to_string_lossy();
    OURS.contains(&name.trim_end_matches(" (deleted)"))
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
        assert!(bears("namespace: sgd1-wire", "sgd1") && bears("file: /tmp/sgd1", "sgd1"));
        for others in ["namespace: sgd12-wire", "namespace: cni-1", "link: eth0"] {
            assert!(!bears(others, "sgd1"), "{others}");
        }
    }
}
