// SPDX-License-Identifier: Apache-2.0
//! Child of the agent that looks at the host's namespaces and runs the plugins, in the host's mount namespace where the
//! agent has one of its own. The agent itself never leaves its own: a process with threads cannot.
//!
//! The request is JSON on standard input, the answer JSON on standard output, one each.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use sluice_host::NetnsRef;
use sluicegate::records::{self, RecordKind};

/// First argument of a child.
const CHILD: &str = "--reap";
/// Mount namespace of the host's first process, where the pod sees the host's processes.
const HOST_MOUNTS: &str = "/proc/1/ns/mnt";

/// Request to a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Asks what is left of pods that are gone.
    Look {
        /// Folder of CNI state.
        cni_dir: PathBuf,
        /// Namespaces of the engine's attachments.
        namespaces: Vec<NetnsRef>,
    },
    /// Asks for the DEL of one record.
    Delete {
        /// Folder of CNI state.
        cni_dir: PathBuf,
        /// Record as it was listed.
        record: Listed,
    },
}

/// Record of the plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Name of its kind.
    pub(super) kind: String,
    /// `CNI_CONTAINERID`.
    pub(super) container_id: String,
    /// `CNI_IFNAME`.
    pub(super) ifname: String,
    /// `namespace/name` of the pod, where the runtime told it.
    pub(super) pod: Option<String>,
    /// Whether its DEL is due.
    pub(super) due: bool,
}

/// Answer of a child that looked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Records of the plugins.
    pub(super) records: Vec<Listed>,
    /// For each namespace of the request, whether it is gone.
    pub(super) gone: Vec<bool>,
}

/// Answer of a child that ran a DEL.
#[derive(Debug, Serialize, Deserialize)]
struct Deleted {
    error: Option<String>,
}

/// Becomes a child of the agent's reaper, if the arguments say so.
pub fn become_child() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != CHILD {
        return None;
    }
    let host_mounts = args.next().is_some_and(|mounts| mounts == "host");
    match serve(host_mounts) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{error:#}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn serve(host_mounts: bool) -> anyhow::Result<()> {
    // Open before the move, as /proc may be another's afterwards.
    let processes = File::open("/proc").context("cannot open /proc")?;
    if host_mounts {
        enter_host_mounts()?;
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let answer = match serde_json::from_str(&text)? {
        Request::Look {
            cni_dir,
            namespaces,
        } => serde_json::to_string(&look(&cni_dir, &namespaces, &processes)?)?,
        Request::Delete { cni_dir, record } => serde_json::to_string(&Deleted {
            error: delete(&cni_dir, &record)
                .err()
                .map(|error| format!("{error:#}")),
        })?,
    };
    std::io::stdout().write_all(answer.as_bytes())?;
    Ok(())
}

fn enter_host_mounts() -> anyhow::Result<()> {
    let hint = "the reaper needs hostPID and the capabilities SYS_ADMIN, SYS_CHROOT and SYS_PTRACE, or `host_mounts: \
                false` where the agent runs on the host itself";
    let mounts =
        File::open(HOST_MOUNTS).with_context(|| format!("cannot open {HOST_MOUNTS}: {hint}"))?;
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))
        .with_context(|| format!("cannot enter {HOST_MOUNTS}: {hint}"))
}

/// Lists the records, and says of namespaces whether they are gone. One that any process is still in is not, wherever
/// its path leads: the number of a dead namespace may be that of a new one, which then keeps the old one's attachment.
fn look(cni_dir: &Path, namespaces: &[NetnsRef], processes: &File) -> anyhow::Result<Seen> {
    let lived_in = lived_in(processes)?;
    let listed = records::list(cni_dir)?;
    let records = listed
        .into_iter()
        .map(|entry| Listed {
            kind: kind_name(entry.kind).to_owned(),
            due: records::is_due(&entry),
            container_id: entry.container_id,
            ifname: entry.ifname,
            pod: entry.pod,
        })
        .collect();
    let gone = |netns: &NetnsRef| {
        let there = NetnsRef::of(&netns.path).is_ok_and(|there| there.is_same(netns));
        !there && !lived_in.contains(&(netns.dev, netns.ino))
    };
    Ok(Seen {
        records,
        gone: namespaces.iter().map(gone).collect(),
    })
}

/// Network namespaces that processes are in.
fn lived_in(processes: &File) -> anyhow::Result<BTreeSet<(u64, u64)>> {
    let mut found = BTreeSet::new();
    let folder = rustix::fs::Dir::read_from(processes).context("cannot list /proc")?;
    for entry in folder {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // A process may end meanwhile, and a kernel thread has no namespaces to look at.
        let path = format!("{name}/ns/net");
        let stat = rustix::fs::statat(processes, path, rustix::fs::AtFlags::empty());
        if let Ok(stat) = stat {
            found.insert((stat.st_dev, stat.st_ino));
        }
    }
    let own = std::fs::metadata("/proc/self/ns/net").ok();
    found.extend(own.map(|own| (own.dev(), own.ino())));
    Ok(found)
}

fn kind_name(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Pod => "pod",
        RecordKind::Interface => "interface",
        RecordKind::Released => "released",
    }
}

/// Runs the DEL of a record, if it is there still and due still.
fn delete(cni_dir: &Path, record: &Listed) -> anyhow::Result<()> {
    let same = |entry: &records::RecordEntry| {
        kind_name(entry.kind) == record.kind
            && entry.container_id == record.container_id
            && entry.ifname == record.ifname
    };
    let listed = records::list(cni_dir)?;
    match listed.iter().find(|entry| same(entry)) {
        // A DEL of its pod has ended it.
        None => Ok(()),
        Some(entry) if records::is_due(entry) => Ok(records::del(cni_dir, entry)?),
        Some(_) => bail!("it is not due any more"),
    }
}

/// Runs a child.
fn ask<T: for<'de> Deserialize<'de>>(host_mounts: bool, request: &Request) -> anyhow::Result<T> {
    // With hostPID this process is not the first one that it sees.
    if host_mounts && std::process::id() == 1 {
        bail!(
            "the reaper does not see the host's processes: give the pod hostPID, or set `host_mounts: false`"
        );
    }
    let mut child = Command::new("/proc/self/exe")
        .arg(CHILD)
        .arg(if host_mounts { "host" } else { "own" })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the reaper's child")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&serde_json::to_vec(request)?)?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    for line in said.lines() {
        tracing::debug!("{line}");
    }
    if !output.status.success() {
        bail!("{}", said.trim());
    }
    serde_json::from_slice(&output.stdout).context("the reaper's child gave no answer")
}

/// Looks for what is left of pods that are gone.
///
/// # Errors
/// Records cannot be listed, or the host's mounts cannot be entered.
pub(super) fn seen(
    host_mounts: bool,
    cni_dir: &Path,
    namespaces: Vec<NetnsRef>,
) -> anyhow::Result<Seen> {
    let cni_dir = cni_dir.to_owned();
    ask(
        host_mounts,
        &Request::Look {
            cni_dir,
            namespaces,
        },
    )
}

/// Runs the DEL of a record.
///
/// # Errors
/// What failed; it can be tried again.
pub(super) fn del(host_mounts: bool, cni_dir: &Path, record: &Listed) -> anyhow::Result<()> {
    let request = Request::Delete {
        cni_dir: cni_dir.to_owned(),
        record: record.clone(),
    };
    let deleted: Deleted = ask(host_mounts, &request)?;
    match deleted.error {
        None => Ok(()),
        Some(error) => bail!(error),
    }
}
