// SPDX-License-Identifier: Apache-2.0
//! [`InstallError`]: which file, why, and what to do.

use std::io::ErrorKind;
use std::path::PathBuf;

use sluice_host::FileError;

/// Failure of a step. What was done before stays, and the step may be done again.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file system refuses.
    #[error("{}{}", .0, advice(.0))]
    File(#[from] FileError),
    /// A folder of the container runtime is not there.
    #[error(
        "there is no folder {}: the container runtime of this node has another {what}; name that one (kubeadm: \
         /opt/cni/bin, /etc/cni/net.d; k3s: /var/lib/rancher/k3s/data/cni, /var/lib/rancher/k3s/agent/etc/cni/net.d), or \
         make the folder if the runtime is yet to be installed",
        path.display()
    )]
    NoFolder {
        /// Folder.
        path: PathBuf,
        /// Name of the value.
        what: &'static str,
    },
    /// A program is not in its source folder.
    #[error("there is no program {name} in {}: name the folder that has the plugins", folder.display())]
    NoProgram {
        /// Source folder.
        folder: PathBuf,
        /// Plugin.
        name: &'static str,
    },
    /// No network for the pods is configured.
    #[error(
        "{} has no configuration of a primary network yet: install one (flannel, Calico, ...), or name a file of one",
        dir.display()
    )]
    NoPrimary {
        /// Folder of configurations.
        dir: PathBuf,
    },
    /// The configuration of the primary network cannot be used.
    #[error("{} cannot be the primary network: {why}", path.display())]
    Primary {
        /// File.
        path: PathBuf,
        /// Reason why not.
        why: String,
    },
    /// Pods would lose their networks.
    #[error(
        "{} of this node have networks of ours, which only our plugins take away again: {}; drain the node first \
         (`kubectl drain`), or use --force",
        count(pods),
        pods.join(", ")
    )]
    PodsLive {
        /// `namespace/name` of each, or a container's id.
        pods: Vec<String>,
    },
    /// Somebody else installs at this moment.
    #[error("another installer holds {}: wait until it has ended", path.display())]
    Busy {
        /// Lock.
        path: PathBuf,
    },
    /// The record cannot be read.
    #[error(
        "the record {} is torn ({why}): remove it, and install again; files that were there before are in `replaced` beside \
         it",
        path.display()
    )]
    Record {
        /// File.
        path: PathBuf,
        /// Reason why not.
        why: String,
    },
}

fn count(pods: &[String]) -> String {
    match pods.len() {
        1 => "1 pod".to_owned(),
        many => format!("{many} pods"),
    }
}

fn advice(error: &FileError) -> &'static str {
    match error.source.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            ": that file system is read-only; name a folder that can be written (`bin_dir`, `conf_dir`), or mount it \
             read-write"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ": free some space; nothing was replaced, and the step may be done again"
        }
        ErrorKind::PermissionDenied => {
            ": this needs root, and under SELinux or AppArmor a profile that lets it write there"
        }
        ErrorKind::NotFound => ": make the folder, or name another",
        ErrorKind::NotADirectory => ": something else than a folder is in the way",
        ErrorKind::IsADirectory => ": a folder is in the way",
        _ => "",
    }
}
