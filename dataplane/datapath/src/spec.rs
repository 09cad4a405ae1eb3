// SPDX-License-Identifier: Apache-2.0
//! Specifications of the engine, its uplinks and its attachments, which control hands in.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use sluice_packet::pose::Pose;
use sluice_packet::role::Roles;
use sluice_packet::{Mac, Vid};

use crate::ids::UplinkId;
use crate::limits::Limits;
use crate::ports::seam::Uplink;

/// Workers, memory and idling.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Workers: at least one, at most 64.
    pub workers: Vec<WorkerConfig>,
    /// Mbufs with 2 KiB of data, over all workers.
    pub small_mbufs: u32,
    /// Mbufs with 10 KiB of data, over all workers.
    pub large_mbufs: u32,
    /// Flows that each worker's flow cache remembers at least; 0: none.
    pub flow_cache: usize,
    /// Whether the mempools may use huge pages.
    pub huge_pages: sluice_mem::HugePages,
    /// NUMA node of the mempools; `None`: wherever the kernel puts them.
    pub numa_node: Option<u32>,
    /// Idle ladder of the workers.
    pub idle: IdleConfig,
    /// Limits of what one source may cause others to receive.
    pub limits: Limits,
}

/// Configuration of one worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerConfig {
    /// The core it is pinned to; `None`: wherever the kernel puts it.
    pub core: Option<usize>,
}

/// The idle ladder: busy polling, then polling with pauses, then sleep until a port wakes it.
#[derive(Debug, Clone, Copy)]
pub struct IdleConfig {
    /// Empty loops before the worker starts to pause between loops.
    pub pause_after: u32,
    /// Empty loops before it sleeps; `None`: it never sleeps.
    pub sleep_after: Option<u32>,
    /// The longest sleep while a port is installed whose wake-ups can be lost; four times that
    /// once nothing has come for 64 such sleeps.
    pub sleep_cap: Duration,
}

impl Default for IdleConfig {
    fn default() -> IdleConfig {
        IdleConfig {
            pause_after: 64,
            sleep_after: Some(2048),
            sleep_cap: Duration::from_millis(1),
        }
    }
}

/// An uplink to be added.
pub struct UplinkSpec {
    /// Name by which policies and attachments refer to the uplink.
    pub name: String,
    /// The port.
    pub port: Box<dyn Uplink>,
    /// The worker that polls it; `None`: the one with the fewest ports.
    pub worker: Option<usize>,
    /// TPIDs that make an outermost tag here; the first is put on frames sent. Not empty.
    pub tpids: Vec<u16>,
    /// The segment of untagged frames; `None`: the untagged segment (VID 0).
    pub native: Option<Vid>,
    /// The network that its policies are of; `None`: one of its own, which bears its name. All VFs
    /// of a PF are of one network.
    pub network: Option<String>,
    /// Whether `native` is a port VLAN that the NIC puts on and takes off: then no frame of another
    /// VLAN comes or goes here, and a tag among a frame's bytes is a second one.
    pub port_vlan: bool,
}

impl fmt::Debug for UplinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UplinkSpec")
            .field("name", &self.name)
            .field("driver", &self.port.driver())
            .field("worker", &self.worker)
            .field("native", &self.native)
            .field("port_vlan", &self.port_vlan)
            .finish_non_exhaustive()
    }
}

/// An attachment to be made.
#[derive(Debug, Clone)]
pub struct AttachmentSpec {
    /// For people and counters: `container/ifname`.
    pub name: String,
    /// Uplink of the attachment.
    pub uplink: UplinkId,
    /// Segments of the attachment.
    pub vlans: VlanSet,
    /// Whether one inner tag is allowed.
    pub qinq: bool,
    /// MAC address, unique in each of the attachment's segments.
    pub mac: Mac,
    /// Not empty: the only addresses it may send from.
    pub addresses: Vec<IpAddr>,
    /// Multicast groups that it is in whether or not it reports them.
    pub groups: Vec<IpAddr>,
    /// Roles that the attachment may have besides that of a host.
    pub roles: Roles,
    /// Pose: whom it may send as, and whose frames it may be given.
    pub pose: Pose,
    /// Whether the priority of its tags is kept on the wire; else it is 0.
    pub keeps_priority: bool,
    /// Name of the attachment's own policy.
    pub policy: Option<String>,
    /// The largest IP packet in bytes.
    pub mtu: u32,
    /// The worker that owns it; `None`: the one with the fewest attachments.
    pub worker: Option<usize>,
}

/// The segments of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VlanSet {
    /// Access: one segment, untagged towards the pod.
    Access(Vid),
    /// Several, tagged towards the pod.
    Trunk {
        /// The tagged ones.
        vids: Vec<Vid>,
        /// The untagged one.
        native: Option<Vid>,
    },
}

impl VlanSet {
    /// Every VID in it, once.
    pub fn vids(&self) -> Vec<Vid> {
        let mut vids = match self {
            VlanSet::Access(vid) => vec![*vid],
            VlanSet::Trunk { vids, native } => vids.iter().copied().chain(*native).collect(),
        };
        vids.sort_unstable();
        vids.dedup();
        vids
    }
}
