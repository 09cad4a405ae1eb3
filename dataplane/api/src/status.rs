// SPDX-License-Identifier: Apache-2.0
//! Answers about the engine: health, status, counters, policies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sluice_stats::{LinkState, NicCounters, Traffic};

use crate::{AttachRequest, Backend, Connections, Mac, VlanRequest};

/// Answer of `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether new attachments are taken.
    pub ready: bool,
    /// Whether something that was asked for does not work although the engine is ready: an uplink
    /// without link, an attachment that is not served; `problems` says what.
    #[serde(default)]
    pub degraded: bool,
    /// Whether the engine drains: it takes no new attachments, and goes on serving those it has.
    #[serde(default)]
    pub draining: bool,
    /// Reasons why not, and problems that an operator should look at.
    pub problems: Vec<String>,
    /// The engine's version.
    pub version: String,
    /// The engine's process id.
    pub pid: u32,
}

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// As `GET /v1/health`.
    pub health: Health,
    /// Seconds since the engine started.
    pub uptime_seconds: u64,
    /// The polling threads.
    pub workers: Vec<WorkerStatus>,
    /// The mempools, which all workers share.
    pub memory: MemoryStatus,
    /// The uplinks.
    pub uplinks: Vec<UplinkStatus>,
    /// Every segment that has an attachment or a policy.
    pub segments: Vec<SegmentStatus>,
    /// Number of attachments.
    pub attachments: usize,
    /// Version of the policy set the workers judge by; 0 before the first is loaded.
    pub policy_version: u64,
    /// Requests on the control socket.
    #[serde(default)]
    pub requests: RequestStatus,
}

/// Requests on the control socket since the engine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestStatus {
    /// Requests that were answered, well or with an error.
    pub answered: u64,
    /// Requests of peers that may not ask.
    pub refused: u64,
    /// Connections closed because there were too many.
    pub turned_away: u64,
    /// Connections closed because the peer sent or read too slowly.
    pub timed_out: u64,
    /// Log lines about these that were left out, because there were too many.
    pub lines_left_out: u64,
}

/// Connections of a worker's attachments, as far as their policies are stateful.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerConnections {
    /// Connections that there are.
    #[serde(default)]
    pub now: u64,
    /// Connections that began.
    #[serde(default)]
    pub opened: u64,
    /// Connections that made room for others of the same attachment.
    #[serde(default)]
    pub evicted: u64,
    /// Connections that were not kept, by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// Frames that are of no connection and open none, or not possible in theirs, by cause.
    #[serde(default)]
    pub invalid: BTreeMap<String, u64>,
}

/// Status and counters of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// 0, 1, ...
    pub id: usize,
    /// The core it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<usize>,
    /// Loops taken.
    pub loops: u64,
    /// Loops that found no frame.
    pub empty_loops: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// NUMA node of its core; absent where it is not pinned, or the machine has no nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
    /// Time of the loops that found frames, in units of the CPU's time stamp counter.
    #[serde(default)]
    pub busy_cycles: u64,
    /// Time of the loops that found none, and of sleeps, in the same units.
    #[serde(default)]
    pub idle_cycles: u64,
    /// Units of that counter in a millisecond, as the worker has measured them; 0 before.
    #[serde(default)]
    pub cycles_per_ms: u64,
    /// Bursts that it received from uplinks and pods, by size: of 1 frame, 2 to 3, 4 to 7, 8 to 15, 16 to
    /// 31, 32 to 63, 64. Empty ones are in `empty_loops` alone. No entry: an engine that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub burst_frames: Vec<u64>,
    /// Frames in all these bursts.
    #[serde(default)]
    pub burst_frames_sum: u64,
    /// Frames that went by what the flow cache knew.
    #[serde(default)]
    pub known: u64,
    /// Flows that it learned.
    #[serde(default)]
    pub learned: u64,
    /// Connections of stateful policies.
    #[serde(default)]
    pub connections: WorkerConnections,
    /// Frames that ended at the worker itself, where no port is to blame, by drop reason.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// Records of rules with `log` that were lost: over the limit, or not taken in time.
    #[serde(default)]
    pub lost_log_records: u64,
    /// Copies that flooding made.
    #[serde(default)]
    pub copies: u64,
    /// Frames that ended by being flooded: their copies went on in their place.
    #[serde(default)]
    pub flooded: u64,
    /// Answers that it made to rejected frames.
    #[serde(default)]
    pub answers: u64,
    /// Frames that it handed to other workers.
    #[serde(default)]
    pub handed_off: u64,
    /// Frames that it took over from other workers.
    #[serde(default)]
    pub taken_over: u64,
    /// Frames and bytes of ports that it had and that are gone.
    #[serde(default)]
    pub gone_traffic: Traffic,
    /// Drops of ports that it had and that are gone.
    #[serde(default)]
    pub gone_drops: BTreeMap<String, u64>,
}

/// The mempools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Mbufs of 2 KiB.
    pub small: MbufCounts,
    /// Mbufs of 10 KiB.
    pub large: MbufCounts,
    /// Kind of memory they lie on: `hugetlb` or `ordinary pages`.
    pub backing: String,
}

/// The mbufs of one mempool: all = free + in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MbufCounts {
    /// Number of mbufs.
    pub all: u64,
    /// Free ones.
    pub free: u64,
    /// Mbufs that hold a frame.
    pub in_flight: u64,
}

/// Status and counters of one uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// Name in the configuration; of an attachment's own VF: the VF's PCI address.
    pub name: String,
    /// The network that its policies are of: its own name, or the PF's netdev.
    #[serde(default)]
    pub network: String,
    /// Owner, where it is one attachment's own: `container/ifname`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// State of the link.
    #[serde(default)]
    pub link: LinkState,
    /// Seconds for which the link has been in that state; absent where nobody watches it (capture
    /// files).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_seconds: Option<u64>,
    /// Reason why the link is not up, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_reason: Option<String>,
    /// Counters of the NIC itself, where the engine drives the NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<NicCounters>,
    /// Driver: `af_packet`, `dpdk`, ...
    pub driver: String,
    /// Reason for which it is this driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_reason: Option<String>,
    /// The netdev or file it stands on.
    pub device: String,
    /// NUMA node of the NIC; absent where it has none or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
    /// The worker that polls it.
    pub worker: usize,
    /// MTU in bytes.
    pub mtu: u32,
    /// Frames and bytes.
    pub counters: Traffic,
    /// Frames that ended here, by drop reason.
    pub drops: BTreeMap<String, u64>,
}

/// Status of one VLAN of one uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// The uplink.
    pub uplink: String,
    /// The VID; 0 is untagged.
    pub vid: u16,
    /// The VLAN policy; absent: the segment carries nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Attachments in it.
    pub attachments: usize,
    /// Multicast groups that attachments in it have joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupStatus>,
}

/// Multicast group in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Address of the group.
    pub address: IpAddr,
    /// Attachments that are in it, `container_id/ifname`.
    pub members: Vec<String>,
}

/// Status and counters of one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentStatus {
    /// Number, for this life of the engine.
    pub id: u32,
    /// The request as it was made.
    pub request: AttachRequest,
    /// MAC address.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// The memif's control socket, `@name` for an abstract one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The worker that owns it.
    pub worker: usize,
    /// Whether the pod's side is there.
    pub link: LinkState,
    /// Reason why the link went down last, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_down: Option<String>,
    /// Name and program that the peer sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Link-local IPv6 addresses that the pod took by using them, by VID; without the one made of
    /// the MAC address and those of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub link_locals: BTreeMap<u16, Vec<Ipv6Addr>>,
    /// MAC addresses besides its own that the pod sends from now, by VID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub learned: BTreeMap<u16, Vec<Mac>>,
    /// First frame of each drop reason that the pod sent from addresses it may not use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spoofed: Vec<SpoofedFrame>,
    /// Connections of the pod, made and refused; absent for a tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// Multicast groups that it is a member of.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Log lines about its link that were left out, because there were too many.
    #[serde(default)]
    pub lines_left_out: u64,
    /// Counters of the attachment.
    pub counters: AttachmentCounters,
}

/// Frame of a pod that was dropped for the addresses it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoofedFrame {
    /// The drop reason that it was counted under.
    pub reason: String,
    /// The VID; 0 is untagged.
    pub vid: u16,
    /// Source MAC address; of ARP and neighbour discovery, the one that they announce.
    pub mac: Mac,
    /// Source IP address; of ARP and neighbour discovery, the one that they announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Sentence that says what was sent.
    pub sent: String,
    /// Sentences that say what the pod may send, and what would allow this frame.
    pub advice: String,
}

/// Multicast group that an attachment is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The VID in which it is a member; 0 is untagged.
    pub vid: u16,
    /// Address of the group.
    pub address: IpAddr,
}

impl AttachmentStatus {
    /// The VLANs, as the request had them.
    pub fn vlan(&self) -> &VlanRequest {
        &self.request.vlan
    }

    /// The backend, as the request had it.
    pub fn backend(&self) -> &Backend {
        &self.request.backend
    }
}

/// Counters of an attachment. `rx` is what the engine received from the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentCounters {
    /// Frames and bytes.
    pub port: Traffic,
    /// Frames that ended here, by drop reason, towards the pod.
    pub ingress_drops: BTreeMap<String, u64>,
    /// Frames that ended here, by drop reason, from the pod.
    pub egress_drops: BTreeMap<String, u64>,
    /// Log records of its rules that were left out of the log.
    #[serde(default)]
    pub lost_log_records: u64,
    /// Visits of its port that were put off because its share of a ring, of the wire or of the worker's
    /// time was used up: its frames waited in the pod's own ring.
    #[serde(default)]
    pub held_back: u64,
    /// Visits of its port that took the worker longer than the budget of one.
    #[serde(default)]
    pub late_visits: u64,
    /// The longest visit in nanoseconds.
    #[serde(default)]
    pub longest_visit_ns: u64,
    /// Multicast groups that it reported and was not let into: one too many, or too fast.
    #[serde(default)]
    pub refused_groups: u64,
    /// Moves of MAC addresses besides its own to it or away from it: to another attachment, or to the wire.
    #[serde(default)]
    pub mac_moves: u64,
}

/// Answer of `GET /v1/counters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Per uplink name.
    pub uplinks: BTreeMap<String, UplinkStatus>,
    /// Per attachment, keyed `container_id/ifname`.
    pub attachments: BTreeMap<String, AttachmentCounters>,
    /// Per worker, in order of their numbers.
    #[serde(default)]
    pub workers: Vec<WorkerStatus>,
    /// Per rule.
    pub rules: Vec<RuleCounter>,
}

/// Counters of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounter {
    /// The policy.
    pub policy: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// The rule's name, or its number from 1 as `#n`, or `default`.
    pub rule: String,
    /// Line in the policy file; 0 for the default.
    pub line: usize,
    /// `accept`, `drop` or `reject`.
    pub verdict: String,
    /// Frames it decided.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
}
