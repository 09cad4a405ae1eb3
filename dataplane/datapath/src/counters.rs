// SPDX-License-Identifier: Apache-2.0
//! Counters that one worker writes and anyone reads: no lock, no atomic read-modify-write.

mod bursts;
mod late;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use sluice_firewall::connections::{Cause, Refusal};
use sluice_stats::{LinkState, NicCounters, Traffic};

use crate::drops::DropCounts;
use crate::ports::seam::UplinkReport;
pub use bursts::BURST_CLASSES;
pub(crate) use bursts::BurstCounts;
pub use late::LateCounts;

/// Counter of one writer: a load and a store lose nothing, and cost less than an atomic add.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// Frames and bytes through one port.
#[derive(Debug, Default)]
pub(crate) struct TrafficCounts {
    rx_frames: Count,
    rx_bytes: Count,
    tx_frames: Count,
    tx_bytes: Count,
}

impl TrafficCounts {
    pub(crate) fn received(&self, frames: usize, bytes: usize) {
        self.rx_frames.add(frames as u64);
        self.rx_bytes.add(bytes as u64);
    }

    pub(crate) fn sent(&self, frames: usize, bytes: usize) {
        self.tx_frames.add(frames as u64);
        self.tx_bytes.add(bytes as u64);
    }

    /// Adds another port's counts.
    pub(crate) fn add(&self, other: &TrafficCounts) {
        let more = other.read();
        self.rx_frames.add(more.rx_frames);
        self.rx_bytes.add(more.rx_bytes);
        self.tx_frames.add(more.tx_frames);
        self.tx_bytes.add(more.tx_bytes);
    }

    pub(crate) fn read(&self) -> Traffic {
        Traffic {
            rx_frames: self.rx_frames.get(),
            rx_bytes: self.rx_bytes.get(),
            tx_frames: self.tx_frames.get(),
            tx_bytes: self.tx_bytes.get(),
        }
    }
}

/// An uplink's counts.
#[derive(Debug, Default)]
pub(crate) struct UplinkCounts {
    pub(crate) traffic: TrafficCounts,
    pub(crate) drops: DropCounts,
    /// Frames that the port dropped as it received them: they are not in `traffic`.
    pub(crate) rx_lost: DropCounts,
    pub(crate) report: ReportCounts,
}

/// Last report of an uplink.
#[derive(Debug, Default)]
pub(crate) struct ReportCounts {
    link: AtomicU8,
    /// Whether `nic` was ever written.
    has_nic: AtomicBool,
    /// In the order of [`NicCounters::values`].
    nic: [AtomicU64; NicCounters::COUNT],
}

impl ReportCounts {
    /// Notes a report: a few stores, by the worker alone.
    pub(crate) fn write(&self, report: UplinkReport) {
        self.link.store(report.link.code(), Ordering::Relaxed);
        let Some(nic) = report.nic else { return };
        for (slot, value) in self.nic.iter().zip(nic.values()) {
            slot.store(value, Ordering::Relaxed);
        }
        self.has_nic.store(true, Ordering::Relaxed);
    }

    /// The last report; its figures need not be of one moment.
    pub(crate) fn read(&self) -> UplinkReport {
        let values = std::array::from_fn(|index| self.nic[index].load(Ordering::Relaxed));
        let has_nic = self.has_nic.load(Ordering::Relaxed);
        UplinkReport {
            link: LinkState::from_code(self.link.load(Ordering::Relaxed)),
            nic: has_nic.then_some(NicCounters::from_values(values)),
        }
    }
}

/// An attachment's counts.
#[derive(Debug, Default)]
pub(crate) struct AttachmentCounts {
    pub(crate) traffic: TrafficCounts,
    pub(crate) ingress_drops: DropCounts,
    pub(crate) egress_drops: DropCounts,
    /// Log records that were over a limit, or that control did not take in time.
    pub(crate) lost_records: Count,
    /// Rule of the last of them: its slot, above it the lower half of the policy set's version.
    pub(crate) lost_rule: Count,
    /// Groups that it reported and was not let into: one too many, or too fast.
    pub(crate) refused_groups: Count,
    /// MAC addresses besides its own that moved to it or away from it.
    pub(crate) mac_moves: SharedCount,
    /// Frames that the port dropped as it received them: they are not in `traffic`.
    pub(crate) rx_lost: DropCounts,
    /// Frames for it that another worker dropped, as its share of the ring between was used up.
    pub(crate) handoff_full: SharedCount,
    /// Visits of its port that were put off, as its share of a ring, a wire or the worker was used up.
    pub(crate) held_back: Count,
    /// Visits of its port that took longer than the budget.
    pub(crate) late_visits: Count,
    /// The longest visit, in units of [`sluice_mem::cycles`].
    pub(crate) longest_visit: Count,
    /// Ends of the frames that its ports took as pending.
    pub(crate) late: Arc<LateCounts>,
}

impl AttachmentCounts {
    /// Frames and bytes, those that a port's own thread sent among them.
    pub(crate) fn all_traffic(&self) -> Traffic {
        let (mut traffic, late) = (self.traffic.read(), self.late.traffic());
        traffic.tx_frames = traffic.tx_frames.wrapping_add(late.tx_frames);
        traffic.tx_bytes = traffic.tx_bytes.wrapping_add(late.tx_bytes);
        traffic
    }

    /// Notes a visit of the port that took `cycles`, of a budget of `budget`.
    #[inline]
    pub(crate) fn visited(&self, cycles: u64, budget: u64) {
        if cycles > self.longest_visit.get() {
            self.longest_visit.set(cycles);
        }
        if cycles > budget {
            self.late_visits.add(1);
        }
    }
}

/// Counter that every worker may write: for what is seldom counted.
#[derive(Debug, Default)]
pub(crate) struct SharedCount(AtomicU64);

impl SharedCount {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sums over the ports that a worker had and has no more.
#[derive(Debug, Default)]
pub(crate) struct GoneCounts {
    pub(crate) traffic: TrafficCounts,
    pub(crate) drops: DropCounts,
    pub(crate) rx_lost: DropCounts,
}

impl GoneCounts {
    /// Adds an uplink that was taken out.
    pub(crate) fn add_uplink(&self, counts: &UplinkCounts) {
        self.traffic.add(&counts.traffic);
        self.drops.add_all(&counts.drops);
        self.rx_lost.add_all(&counts.rx_lost);
    }

    /// Adds an attachment that was taken out.
    pub(crate) fn add_attachment(&self, counts: &AttachmentCounts) {
        self.traffic.add(&counts.traffic);
        self.drops.add_all(&counts.ingress_drops);
        self.drops.add_all(&counts.egress_drops);
        self.rx_lost.add_all(&counts.rx_lost);
    }
}

/// A worker's own figures.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounts {
    pub(crate) loops: Count,
    pub(crate) empty_loops: Count,
    pub(crate) sleeps: Count,
    /// Time of the loops that found frames and of those that found none, sleeps included, in units of
    /// [`sluice_mem::cycles`].
    pub(crate) busy_cycles: Count,
    pub(crate) idle_cycles: Count,
    /// Bursts received from uplinks and pods.
    pub(crate) bursts: BurstCounts,
    /// Frames that hit in the flow cache.
    pub(crate) flow_hits: Count,
    /// Flows inserted into the flow cache.
    pub(crate) flow_inserts: Count,
    /// Connections of stateful policies.
    pub(crate) connections: ConnectionCounts,
    /// Frames that ended between two workers, where no attachment or uplink can be blamed.
    pub(crate) drops: DropCounts,
    /// Log records that control did not take in time.
    pub(crate) lost_records: Count,
    /// Times that control has emptied the ring of events: control alone writes it.
    pub(crate) events_taken: Count,
    /// Copies that flooding made, and frames that ended by being flooded.
    pub(crate) copies: Count,
    pub(crate) flooded: Count,
    /// Answers to rejected frames.
    pub(crate) answers: Count,
    /// Frames put into and taken out of the rings between workers.
    pub(crate) handed_off: Count,
    pub(crate) taken_over: Count,
    /// Frames that this worker dropped and that are counted at another worker's attachment.
    pub(crate) drops_elsewhere: Count,
    /// Units of [`sluice_mem::cycles`] in a millisecond, as this worker has measured them.
    pub(crate) cycles_per_ms: Count,
    /// Frames that ports took as pending, and what became of them; ports that are gone included.
    pub(crate) pending: Count,
    pub(crate) late: Arc<LateCounts>,
    /// Chunks of memory of its table of memberships: control sends more where they do not suffice.
    pub(crate) group_chunks: Count,
    /// Ports that this worker had before.
    pub(crate) gone: GoneCounts,
}

/// Figures of a worker's connections, as of its last housekeeping.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    pub(crate) now: Count,
    pub(crate) opened: Count,
    pub(crate) evicted: Count,
    /// Connections that were not kept, by [`Refusal`].
    pub(crate) refused: [Count; Refusal::COUNT],
    /// Frames that were invalid, by [`Cause`].
    pub(crate) invalid: [Count; Cause::ALL.len()],
}

/// Per rule slot of a policy set, one worker's decisions.
#[derive(Debug)]
pub(crate) struct RuleCounts {
    slots: Box<[(Count, Count)]>,
}

impl RuleCounts {
    pub(crate) fn new(slots: usize) -> RuleCounts {
        RuleCounts {
            slots: (0..slots).map(|_| Default::default()).collect(),
        }
    }

    /// Counts one frame for a slot.
    pub(crate) fn hit(&self, slot: usize, bytes: usize) {
        self.slots().hit(slot, bytes);
    }

    /// The slots, for a loop: through this one their place is looked up once and not for each frame.
    #[inline(always)]
    pub(crate) fn slots(&self) -> RuleSlots<'_> {
        RuleSlots(&self.slots)
    }

    /// Frames and bytes of a slot.
    pub(crate) fn get(&self, slot: usize) -> (u64, u64) {
        self.slots
            .get(slot)
            .map_or((0, 0), |(frames, bytes)| (frames.get(), bytes.get()))
    }
}

/// The slots of [`RuleCounts`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleSlots<'c>(&'c [(Count, Count)]);

impl RuleSlots<'_> {
    /// Counts one frame for a slot; for a number that is none's, nothing.
    #[inline(always)]
    pub(crate) fn hit(self, slot: usize, bytes: usize) {
        if let Some((frames, total)) = self.0.get(slot) {
            frames.add(1);
            total.add(bytes as u64);
        }
    }
}
