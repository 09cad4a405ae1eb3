// SPDX-License-Identifier: Apache-2.0
//! Containers with the security settings, mounts and namespaces that the kubelet gives them by a pod's manifest.
//! Fields are numbered as in `runtime/v1/api.proto` of Kubernetes.

use std::path::PathBuf;

use anyhow::Result;
use prost::Message;

use super::{ContainerMetadata, Cri, Empty, Id, Metadata, Pod};

/// Namespace of the node (`NamespaceMode`).
const NODE: i32 = 2;
/// Paths that the kubelet has masked and made read-only in containers without `privileged`.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Mount of a container, at the path that it has on the host.
#[derive(Debug, Clone)]
pub struct HostPath {
    /// Path on the host and in the container.
    pub path: PathBuf,
    /// Whether mounts that the host makes there later come through.
    pub host_to_container: bool,
}

/// Container of the node: host network, read-only root, the seccomp profile RuntimeDefault, no new privileges.
#[derive(Debug, Clone)]
pub struct NodeContainer {
    /// Name of its pod, and of its log in the node's folder `logs`.
    pub name: String,
    /// Image, which the runtime has.
    pub image: String,
    /// Command to run.
    pub command: Vec<String>,
    /// Capabilities, without `CAP_`; all others are dropped.
    pub capabilities: Vec<String>,
    /// Mounts.
    pub mounts: Vec<HostPath>,
    /// Whether it is in the host's pid namespace.
    pub host_pid: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

/// Security profile; type 0 is the runtime's default.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(int32, tag = "1")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
    #[prost(message, optional, tag = "9")]
    seccomp: Option<Profile>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxLinux {
    #[prost(message, optional, tag = "2")]
    security: Option<SandboxSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, optional, tag = "8")]
    linux: Option<SandboxLinux>,
}

#[derive(Clone, PartialEq, Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Capabilities {
    #[prost(string, repeated, tag = "1")]
    add: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    drop: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    capabilities: Option<Capabilities>,
    #[prost(message, optional, tag = "3")]
    namespaces: Option<Namespaces>,
    #[prost(bool, tag = "7")]
    read_only_root: bool,
    #[prost(bool, tag = "11")]
    no_new_privileges: bool,
    #[prost(string, repeated, tag = "13")]
    masked: Vec<String>,
    #[prost(string, repeated, tag = "14")]
    read_only: Vec<String>,
    #[prost(message, optional, tag = "15")]
    seccomp: Option<Profile>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerLinux {
    #[prost(message, optional, tag = "2")]
    security: Option<Security>,
}

#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
    #[prost(int32, tag = "5")]
    propagation: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(message, optional, tag = "15")]
    linux: Option<ContainerLinux>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateRequest {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

impl Cri {
    /// Starts a container of the node, in a sandbox of its own.
    ///
    /// # Errors
    /// The runtime refuses; the error holds its message.
    pub fn node_container(&self, asked: &NodeContainer) -> Result<Pod> {
        let namespaces = Namespaces {
            network: NODE,
            pid: if asked.host_pid { NODE } else { 0 },
        };
        let sandbox_config = SandboxConfig {
            metadata: Some(Metadata {
                name: asked.name.clone(),
                uid: format!("uid-{}", asked.name),
                namespace: "ns".to_owned(),
            }),
            log_directory: self.logs.display().to_string(),
            linux: Some(SandboxLinux {
                security: Some(SandboxSecurity {
                    namespaces: Some(namespaces.clone()),
                    seccomp: Some(Profile { kind: 0 }),
                }),
            }),
        };
        let config = Some(sandbox_config.clone());
        let sandbox = self
            .ask::<_, Id>("RunPodSandbox", RunRequest { config })?
            .id;
        let mounts = asked.mounts.iter().map(|mount| Mount {
            container_path: mount.path.display().to_string(),
            host_path: mount.path.display().to_string(),
            propagation: mount.host_to_container.into(),
        });
        let create = CreateRequest {
            sandbox: sandbox.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: "c".to_owned(),
                }),
                image: Some(Id {
                    id: asked.image.clone(),
                }),
                command: asked.command.clone(),
                mounts: mounts.collect(),
                log_path: format!("{}.log", asked.name),
                linux: Some(ContainerLinux {
                    security: Some(Security {
                        capabilities: Some(Capabilities {
                            add: asked.capabilities.clone(),
                            drop: vec!["ALL".to_owned()],
                        }),
                        namespaces: Some(namespaces),
                        read_only_root: true,
                        no_new_privileges: true,
                        masked: MASKED.map(str::to_owned).to_vec(),
                        read_only: READ_ONLY.map(str::to_owned).to_vec(),
                        seccomp: Some(Profile { kind: 0 }),
                    }),
                }),
            }),
            sandbox_config: Some(sandbox_config),
        };
        let container = self.ask::<_, Id>("CreateContainer", create)?.id;
        let start = Id {
            id: container.clone(),
        };
        self.ask::<_, Empty>("StartContainer", start)?;
        Ok(Pod { sandbox, container })
    }
}
