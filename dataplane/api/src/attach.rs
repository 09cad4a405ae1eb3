// SPDX-License-Identifier: Apache-2.0
//! Attaching a pod's interface to the engine, and detaching it.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
pub use sluice_host::NetnsRef;
use sluice_packet::pose::{AddressPair, AntiSpoof, Pose};
use sluice_packet::role::Role;
use sluice_packet::{Mac, Vid};

/// Asks the engine for one attachment. Its identity is (`container_id`, `ifname`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The runtime's container id.
    pub container_id: String,
    /// The interface name the pod knows the attachment by (1 to 15 characters).
    pub ifname: String,
    /// The pod's network namespace.
    pub netns: NetnsRef,
    /// The pod, where the runtime told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// The uplink's name in the engine's configuration; with `vf`, the name of the network, which
    /// is the PF's netdev.
    pub uplink: String,
    /// A VF that is this attachment's alone, bound to vfio-pci: the engine opens it, and lets go of
    /// it before it answers the detach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vf: Option<VfRequest>,
    /// VLANs of the attachment, and how the pod sees them.
    pub vlan: VlanRequest,
    /// The MAC address (`02:00:5e:10:00:01`); absent: derived from container id and interface. With
    /// `vf` it is there, and is the VF's administrative one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The interface's own addresses with their prefix lengths. Not empty: the only IP sources
    /// (and ARP and ND senders) that the pod may use.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Gateways of the pod's routes, for `interface.json`; the engine itself does not route.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Multicast groups that it is in whether or not it reports them; absent in what older plugins
    /// send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub multicast_groups: Vec<IpAddr>,
    /// Roles that the pod may have besides that of a host; none by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// Check of the pod's sender addresses; `strict` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub anti_spoof: AntiSpoof,
    /// Addresses that it may use besides its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Whether it is given what is for a MAC address that nobody in its VLAN is known to have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub promiscuous: bool,
    /// Treatment of the priority (PCP, DEI) of the tags that the pod sends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: PriorityRequest,
    /// A policy of its own, by name, judged besides the VLAN's. An unknown name is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<String>,
    /// The largest IP packet in bytes; absent: the uplink's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Back end by which the pod reaches the attachment.
    pub backend: Backend,
}

impl AttachRequest {
    /// Returns whom the pod may send as, in the datapath's form.
    #[must_use]
    pub fn pose(&self) -> Pose {
        Pose {
            anti_spoof: self.anti_spoof,
            pairs: self.allowed_address_pairs.clone(),
            promiscuous: self.promiscuous,
        }
    }
}

/// The VF of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfRequest {
    /// PCI address, as in `0000:01:10.0`.
    pub address: String,
    /// The port VLAN that its PF puts on and takes off, 1 to 4094; the attachment is an access one
    /// of that VLAN. Absent: none, so the attachment is untagged or a trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_vlan: Option<Vid>,
}

/// The pod an attachment belongs to, for people: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodRef {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// The VLANs of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub enum VlanRequest {
    /// Single segment, untagged towards the pod. `vid` 0 is the uplink's untagged segment.
    Access {
        /// 0 to 4094.
        vid: Vid,
        /// Whether the pod may send and get one inner tag.
        #[serde(default)]
        qinq: bool,
    },
    /// Several segments, tagged towards the pod.
    Trunk {
        /// The VIDs allowed, each 1 to 4094, at least one.
        vids: Vec<Vid>,
        /// The segment of untagged frames (0 to 4094); absent: untagged frames are dropped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        native: Option<Vid>,
        /// Whether the pod may send and get one inner tag.
        #[serde(default)]
        qinq: bool,
    },
}

/// Priority of the tags that a pod sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PriorityRequest {
    /// Rewritten to 0 on the wire.
    #[default]
    Clear,
    /// Kept as the pod wrote it.
    Keep,
}

/// Whether a field may be left out of a message.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Back end by which a pod reaches its attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Backend {
    /// A memif.
    Memif(MemifRequest),
    /// A vhost-user socket, for virtio-user pods and virtual machines.
    #[serde(rename = "vhost-user")]
    VhostUser(VhostUserRequest),
    /// A tap device named `ifname` in the pod's network namespace, with the attachment's MAC, MTU
    /// and addresses.
    Tap {},
}

/// The memif of an attachment. Absent fields take the defaults named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemifRequest {
    /// The *engine's* role; default server, since client is every peer's default.
    pub role: MemifRole,
    /// Queue pairs the engine offers or asks for, 1 to 16; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rings: Option<u16>,
    /// Descriptors per ring, a power of two, 2 to 16384; default 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_size: Option<u16>,
    /// Bytes per buffer where the engine is client, 256 to 16384; default 2048.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_size: Option<u32>,
    /// At most 24 bytes; a peer that does not send the same is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The memif id both sides use on this socket; default 0.
    pub id: u32,
    /// Control socket; default the abstract name `sluicegate/<ifname>` in the pod's netns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<MemifSocket>,
    /// Accepts a peer's memory that cannot be sealed against shrinking (DPDK zero-copy clients).
    /// Only for trusted pods.
    pub allow_unsealed: bool,
}

/// The vhost-user socket of an attachment. Absent fields take the defaults named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VhostUserRequest {
    /// The *engine's* role on the socket; default server. The pod owns the memory in either.
    #[serde(default)]
    pub role: MemifRole,
    /// Queue pairs the engine offers, 1 to 16; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Most memory in MiB that the pod may share, 1 to 1048576; default 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_mib: Option<u32>,
    /// Absolute path on the host of the socket: front ends know no abstract names.
    pub socket: PathBuf,
}

/// Role of the engine on the socket of an attachment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemifRole {
    /// The engine listens, the pod connects and owns the memory.
    #[default]
    Server,
    /// The engine connects, allocates and seals the memory; the pod listens.
    Client,
}

/// Address of a memif's control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemifSocket {
    /// An abstract name (without the leading NUL) in the pod's network namespace.
    Abstract(String),
    /// An absolute path on the host.
    Path(PathBuf),
}

/// Answer of `POST /v1/attachments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachReply {
    /// The attachment's number, for this life of the engine.
    pub id: u32,
    /// The MAC address it has.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// The control socket of the memif or vhost-user: `@name` for an abstract one, else a path; absent
    /// for a tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The role the *pod* plays on the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_role: Option<MemifRole>,
    /// Warnings for the caller, e.g. that a segment has no policy and so carries nothing.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Answer of `DELETE /v1/attachments/...`. Detaching what is not there is success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachReply {
    /// Whether there was such an attachment.
    pub existed: bool,
}
