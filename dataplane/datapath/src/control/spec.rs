// SPDX-License-Identifier: Apache-2.0
//! Specifications that control gives the engine, and the snapshots and events that it gets.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use sluice_firewall::{Direction, Verdict};
use sluice_mem::{Backing, Conservation};
use sluice_packet::{FlowKey, Mac, Vid};
use sluice_stats::Traffic;

use crate::drops::DropReason;
use crate::ids::{AttachmentId, UplinkId};
use crate::ports::seam::{PortFault, Uplink, UplinkReport};

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
    /// Idle ladder of the workers.
    pub idle: IdleConfig,
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

/// Event that a worker posted.
#[derive(Debug)]
pub enum Event {
    /// A pod broke the protocol: its port is out of service, and the link is down.
    PortFault {
        /// The attachment.
        attachment: AttachmentId,
        /// Violation by the peer.
        fault: PortFault,
    },
    /// A rule with `log` decided on a frame.
    Log(LogRecord),
}

/// A decision of a rule with `log`.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// Attachment whose policies judged.
    pub attachment: AttachmentId,
    /// Direction that was judged.
    pub direction: Direction,
    /// The policy's name.
    pub policy: String,
    /// The rule, as [`sluice_firewall::RuleInfo`] shows it.
    pub rule: String,
    /// Verdict of the rule.
    pub verdict: Verdict,
    /// Fields that the rule matched on.
    pub key: FlowKey,
}

/// Counts by drop reason; reasons that did not occur are absent.
pub type Drops = BTreeMap<&'static str, u64>;

/// A reading of all counters, each exact, not all at the same moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Figures of each worker.
    pub workers: Vec<WorkerSnapshot>,
    /// Figures of each uplink.
    pub uplinks: Vec<UplinkSnapshot>,
    /// Segments that have attachments.
    pub segments: Vec<SegmentSnapshot>,
    /// Figures of each attachment.
    pub attachments: Vec<AttachmentSnapshot>,
    /// Figures of each rule and default of the current policy set.
    pub rules: Vec<RuleSnapshot>,
    /// The version of that set.
    pub policy_version: u64,
}

/// Figures of one worker.
#[derive(Debug, Clone, Default)]
pub struct WorkerSnapshot {
    /// Core that the worker is pinned to.
    pub core: Option<usize>,
    /// Loops taken.
    pub loops: u64,
    /// Loops without a frame.
    pub empty_loops: u64,
    /// Sleeps.
    pub sleeps: u64,
    /// Frames that hit in the flow cache.
    pub flow_hits: u64,
    /// Flows inserted into the flow cache.
    pub flow_inserts: u64,
    /// Frames that ended between two workers.
    pub drops: Drops,
    /// Log records that were over the limit.
    pub lost_log_records: u64,
}

/// The mempools' state.
#[derive(Debug, Clone, Copy)]
pub struct MemorySnapshot {
    /// The pool of 2 KiB mbufs.
    pub small: Conservation,
    /// The pool of 10 KiB mbufs.
    pub large: Conservation,
    /// Pages that the pools lie on.
    pub backing: Backing,
}

/// Figures of one uplink.
#[derive(Debug, Clone)]
pub struct UplinkSnapshot {
    /// Number of the uplink.
    pub id: UplinkId,
    /// Name of the uplink.
    pub name: String,
    /// The network that its policies are of.
    pub network: String,
    /// Name of the driver.
    pub driver: &'static str,
    /// Netdev, PCI address or file of the port.
    pub device: String,
    /// Link state, and the NIC's own counters.
    pub report: UplinkReport,
    /// MTU in bytes.
    pub mtu: u32,
    /// Number of the worker that polls it.
    pub worker: usize,
    /// Frames and bytes.
    pub traffic: Traffic,
    /// Frames that ended here.
    pub drops: Drops,
}

/// Segment that has attachments.
#[derive(Debug, Clone)]
pub struct SegmentSnapshot {
    /// Network of the segment's uplink.
    pub uplink: String,
    /// VID of the segment.
    pub vid: Vid,
    /// Name of the VLAN policy; `None`: nothing passes.
    pub policy: Option<String>,
    /// Attachments in it.
    pub attachments: usize,
}

/// Figures of one attachment.
#[derive(Debug, Clone)]
pub struct AttachmentSnapshot {
    /// Number of the attachment.
    pub id: AttachmentId,
    /// Name of the attachment.
    pub name: String,
    /// Number of the worker that owns it.
    pub worker: usize,
    /// Whether a port is connected.
    pub connected: bool,
    /// Frames and bytes; `rx` is what came from the pod.
    pub traffic: Traffic,
    /// Frames that ended on the way to the pod.
    pub ingress_drops: Drops,
    /// Frames that ended on the way from the pod.
    pub egress_drops: Drops,
}

/// Figures of one rule.
#[derive(Debug, Clone)]
pub struct RuleSnapshot {
    /// The policy's name.
    pub policy: String,
    /// Direction in which the rule judges.
    pub direction: Direction,
    /// The rule, as [`sluice_firewall::RuleInfo`] shows it, or `default`.
    pub rule: String,
    /// Line of the rule in its file, 0 for the default.
    pub line: usize,
    /// Verdict of the rule.
    pub verdict: Verdict,
    /// Frames it decided.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
}

/// The names of counts, for those that need a [`Drops`].
pub(crate) fn drops_of(counts: &crate::drops::DropCounts) -> Drops {
    counts
        .nonzero()
        .map(|(reason, count): (DropReason, u64)| (reason.name(), count))
        .collect()
}
