// SPDX-License-Identifier: Apache-2.0
//! Figures that control reads from the workers, and events that these posted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use sluice_firewall::{Direction, Verdict};
use sluice_mem::{Backing, Conservation};
use sluice_packet::{FlowKey, Vid};
use sluice_stats::Traffic;

use crate::counters::BURST_CLASSES;
use crate::drops::DropCounts;
use crate::ids::{AttachmentId, SegmentId, UplinkId};
use crate::pipeline::event::Spoofed;
use crate::ports::seam::{PortFault, UplinkReport};

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
    /// For the first time a frame came from the wire with the attachment's MAC address as source: a
    /// loop in the network, or another host that has the address.
    LocalSource {
        /// The attachment.
        attachment: AttachmentId,
        /// VLAN of the frame.
        vid: Vid,
    },
    /// For the first time a frame of an attachment was dropped for the addresses it came from; once for
    /// each attachment and drop reason.
    Spoofed(Spoofed),
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

/// Log records of an attachment's rules that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRecords {
    /// Attachment whose policies judged.
    pub attachment: AttachmentId,
    /// Records left out since the attachment was made.
    pub total: u64,
    /// The policy's name and the rule of the last of them, if that policy is still there.
    pub rule: Option<(String, String)>,
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

/// Figures of a worker's connections, as of its last housekeeping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFigures {
    /// Connections that there are.
    pub now: u64,
    /// Connections that began.
    pub opened: u64,
    /// Connections that made room for others of the same attachment.
    pub evicted: u64,
    /// Connections that were not kept, by reason; those that are not 0.
    pub refused: Vec<(&'static str, u64)>,
    /// Frames that were invalid, by cause; those that are not 0.
    pub invalid: Vec<(&'static str, u64)>,
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
    /// Time of the loops that found frames, in units of the CPU's counter.
    pub busy_cycles: u64,
    /// Time of the loops that found none, and of sleeps.
    pub idle_cycles: u64,
    /// Units of the CPU's counter in a millisecond; 0 until they are measured.
    pub cycles_per_ms: u64,
    /// Bursts received from ports, of 1, 2 to 3, 4 to 7, ... frames.
    pub bursts: [u64; BURST_CLASSES],
    /// Frames in these bursts.
    pub burst_frames: u64,
    /// Frames that hit in the flow cache.
    pub flow_hits: u64,
    /// Flows inserted into the flow cache.
    pub flow_inserts: u64,
    /// Connections of stateful policies.
    pub connections: ConnectionFigures,
    /// Frames that ended between two workers.
    pub drops: Drops,
    /// Log records that were over the limit.
    pub lost_log_records: u64,
    /// Copies that flooding made.
    pub copies: u64,
    /// Frames that ended by being flooded: their copies went on in their place.
    pub flooded: u64,
    /// Answers that it made to rejected frames.
    pub answers: u64,
    /// Frames that it handed to other workers.
    pub handed_off: u64,
    /// Frames that it took over from other workers.
    pub taken_over: u64,
    /// Frames of uplinks and attachments that it had and that are gone.
    pub gone_traffic: Traffic,
    /// Drops of uplinks and attachments that it had and that are gone.
    pub gone_drops: Drops,
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
    /// Number of the segment.
    pub id: SegmentId,
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
    /// Link-local addresses that the pod took by using them, with their VLANs.
    pub link_locals: Vec<(Vid, Ipv6Addr)>,
    /// Frames and bytes; `rx` is what came from the pod.
    pub traffic: Traffic,
    /// Frames that ended on the way to the pod.
    pub ingress_drops: Drops,
    /// Frames that ended on the way from the pod.
    pub egress_drops: Drops,
    /// Visits of its port that were put off, as its share of a ring between workers, of the wire or of
    /// the worker's time was used up: its frames waited in the pod's own ring.
    pub held_back: u64,
    /// Visits of its port that took the worker longer than the budget of a visit.
    pub late_visits: u64,
    /// The longest visit in nanoseconds.
    pub longest_visit_ns: u64,
    /// Log records of its rules that were left out: over the limit, or not taken in time.
    pub lost_log_records: u64,
    /// Groups that it reported and was not let into: one too many, or too fast.
    pub refused_groups: u64,
    /// MAC addresses besides its own that it sends from now; [`Engine::learned`] lists them.
    ///
    /// [`Engine::learned`]: crate::Engine::learned
    pub learned: usize,
    /// Moves of such addresses to it or away from it: to another attachment, or to the wire.
    pub moves: u64,
}

/// Membership of an attachment in a multicast group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupMembership {
    /// Segment in which it is a member.
    pub segment: SegmentId,
    /// Address of the group.
    pub group: IpAddr,
    /// The member.
    pub attachment: AttachmentId,
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

/// The names of counts, for those that need a [`Drops`]: the sum over several.
pub(crate) fn drops_of(all: &[&DropCounts]) -> Drops {
    let mut drops = Drops::new();
    for (reason, count) in all.iter().flat_map(|counts| counts.nonzero()) {
        *drops.entry(reason.name()).or_default() += count;
    }
    drops
}
