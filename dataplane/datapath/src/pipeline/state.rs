// SPDX-License-Identifier: Apache-2.0
//! State of one worker: its ports, its mempools, its flow cache, its rings to other workers. Nothing
//! in it is shared but counters.

use std::sync::Arc;

use sluice_firewall::{Direction, Hit, PolicyIndex, PolicySet};
use sluice_mem::{Burst, Mbuf, Pools};
use sluice_packet::FlowKey;
use sluice_ring::Producer;

use super::attachment::Attachment;
use super::clock::Clock;
use super::connections::Connections;
use super::event::{RawRecord, WorkerEvent};
use super::groups::Groups;
use super::handoff_ring::{FromWorker, ToWorker};
use super::learn::AgeCursor;
use super::outbox::Outbox;
use super::tables::Tables;
use super::tx_shares::TxShare;
use crate::counters::{UplinkCounts, WorkerCounts};
use crate::drops::{DropCounts, DropReason};
use crate::flows::FlowCache;
use crate::frame::FrameInfo;
use crate::frame::origin_tag::Origin;
use crate::ids::{AttachmentId, MAX_ATTACHMENTS, MAX_UPLINKS, UplinkId, WorkerId};
use crate::ports::seam::{PortFault, Uplink};

/// Places in the ring of events that log records leave to faults.
const FAULT_EVENTS: usize = 256;

/// Uplink as the worker that polls it has it.
pub(crate) struct UplinkState {
    pub(crate) port: Box<dyn Uplink>,
    pub(crate) counts: Arc<UplinkCounts>,
    /// Frames that will go out of it at the end of the round.
    pub(crate) out: Burst,
    /// Worker whose credits come first in the next round.
    pub(crate) credit_turn: usize,
    /// Time since which it has had no room for a frame.
    pub(crate) full_since_ms: Option<u64>,
    /// Whether its device said that it has no link.
    pub(crate) is_down: bool,
}

impl UplinkState {
    /// Makes the state of an uplink that nothing is sent to yet.
    pub(crate) fn new(port: Box<dyn Uplink>, counts: Arc<UplinkCounts>) -> UplinkState {
        UplinkState {
            port,
            counts,
            out: Burst::new(),
            credit_turn: 0,
            full_since_ms: None,
            is_down: false,
        }
    }
}

/// State of one worker.
pub(crate) struct WorkerState {
    pub(crate) id: WorkerId,
    pub(crate) pools: Pools,
    pub(crate) flows: FlowCache,
    /// Connections of its attachments.
    pub(crate) connections: Connections,
    /// Uplinks that this worker polls, by number.
    pub(crate) uplinks: Vec<Option<Box<UplinkState>>>,
    /// Attachments that this worker owns, by slot.
    pub(crate) attachments: Vec<Option<Box<Attachment>>>,
    /// Slots of the attachments that got frames since their last flush.
    pub(crate) dirty: Vec<usize>,
    /// Handoff rings to other workers, by worker.
    pub(crate) to_workers: Vec<Option<ToWorker>>,
    /// Handoff rings from other workers, by worker.
    pub(crate) from_workers: Vec<Option<FromWorker>>,
    /// Workers, by bit, whose ring for pods' frames may not have room for a burst of every pod.
    pub(crate) crowded: u64,
    /// Room at each uplink, by number.
    pub(crate) tx: Vec<TxShare>,
    /// Uplinks that this worker polls or that its pods send to.
    pub(crate) tx_uplinks: Vec<UplinkId>,
    /// Whether another worker waits for credits: then this one must not sleep.
    pub(crate) owes_credits: bool,
    /// Whether a pod was held back in this round.
    pub(crate) holds_back: bool,
    /// Places in the ring of events that each attachment's log records may have.
    pub(crate) record_share: usize,
    pub(crate) events: Producer<WorkerEvent>,
    /// The engine's own answers, which leave at the end of the round.
    pub(crate) outbox: Outbox,
    /// Multicast groups and their members.
    pub(crate) groups: Groups,
    /// Place at which the search for old MAC addresses goes on.
    pub(crate) age_cursor: AgeCursor,
    /// Ports that broke the protocol and that control has not got yet.
    pub(crate) quarantined: Vec<WorkerEvent>,
    /// Whether a port was quarantined since the worker last posted the faults.
    pub(crate) has_faults: bool,
    /// Workers to wake, by bit: frames were handed off to them since they were last woken.
    pub(crate) to_wake: u64,
    pub(crate) counts: Arc<WorkerCounts>,
    /// Copies that other workers make of frames that were flooded here. They count them, so that this
    /// is no part of the balance.
    pub(crate) copies_elsewhere: u64,
    /// Milliseconds of a monotonic clock, read once per loop.
    pub(crate) now_ms: u64,
    /// Clock that `now_ms` is read from, and by which token buckets go.
    pub(crate) clock: Clock,
}

impl WorkerState {
    /// Makes the state of a worker without ports and without other workers. Its lists have memory for all
    /// that there may be, so that the worker allocates none when tables change.
    pub(crate) fn new(
        id: WorkerId,
        pools: Pools,
        flows: FlowCache,
        connections: Connections,
        events: Producer<WorkerEvent>,
        counts: Arc<WorkerCounts>,
    ) -> WorkerState {
        WorkerState {
            id,
            pools,
            flows,
            connections,
            uplinks: Vec::with_capacity(MAX_UPLINKS),
            attachments: Vec::with_capacity(MAX_ATTACHMENTS),
            dirty: Vec::with_capacity(MAX_ATTACHMENTS),
            to_workers: Vec::new(),
            from_workers: Vec::new(),
            crowded: 0,
            tx: Vec::with_capacity(MAX_UPLINKS),
            tx_uplinks: Vec::with_capacity(MAX_UPLINKS),
            owes_credits: false,
            holds_back: false,
            record_share: 1,
            events,
            outbox: Outbox::new(),
            groups: Groups::new(id, 0),
            age_cursor: AgeCursor::default(),
            quarantined: Vec::with_capacity(MAX_ATTACHMENTS),
            has_faults: false,
            to_wake: 0,
            counts,
            copies_elsewhere: 0,
            now_ms: 0,
            clock: Clock::new(),
        }
    }

    /// Divides the places for log records among the attachments.
    pub(crate) fn share_records(&mut self) {
        let places = self.events.capacity().saturating_sub(FAULT_EVENTS);
        let attachments = self.attachments.iter().flatten().count();
        self.record_share = (places / attachments.max(1)).max(1);
    }

    /// Returns an attachment, if this worker owns it and it is still there.
    pub(crate) fn attachment(&mut self, id: AttachmentId) -> Option<&mut Attachment> {
        self.attachments
            .get_mut(id.slot())?
            .as_deref_mut()
            .filter(|found| found.id == id)
    }

    /// Returns an uplink, if this worker polls it.
    pub(crate) fn uplink(&mut self, id: UplinkId) -> Option<&mut UplinkState> {
        self.uplinks.get_mut(id.index())?.as_deref_mut()
    }

    /// Returns the copies of all frames that were flooded here, those that other workers make included.
    #[inline]
    pub(crate) fn copies_caused(&self) -> u64 {
        self.counts.copies.get().wrapping_add(self.copies_elsewhere)
    }

    /// Drops a frame at the worker: no attachment and no uplink is to blame.
    pub(crate) fn drop_frame(&mut self, mbuf: Mbuf, reason: DropReason) {
        self.counts.drops.add(reason, 1);
        self.pools.free(mbuf);
    }

    /// Drops all frames of a burst at the worker.
    pub(crate) fn drop_burst(&mut self, burst: &mut Burst, reason: DropReason) {
        self.counts.drops.add(reason, burst.len() as u64);
        self.pools.free_burst(burst);
    }

    /// Drops a frame on its way from its sender (`Egress`) or to its receiver (`Ingress`).
    pub(crate) fn drop_at(&mut self, direction: Direction, mbuf: Mbuf, reason: DropReason) {
        match self.drops_at(direction, &mbuf) {
            Some(drops) => {
                drops.add(reason, 1);
                self.pools.free(mbuf);
            }
            None => self.drop_frame(mbuf, reason),
        }
    }

    /// Returns where a frame is counted that is dropped on its way from its sender or to its
    /// receiver, if that is an attachment of this worker.
    pub(crate) fn drops_at(&mut self, direction: Direction, mbuf: &Mbuf) -> Option<&DropCounts> {
        let id = FrameInfo::of(mbuf).judged_at(direction)?;
        let counts = &self.attachment(id)?.counts;
        Some(match direction {
            Direction::Ingress => &counts.ingress_drops,
            Direction::Egress => &counts.egress_drops,
        })
    }

    /// Drops a frame at the attachment or the uplink that it came from.
    pub(crate) fn drop_at_origin(&mut self, mbuf: Mbuf, reason: DropReason) {
        match FrameInfo::of(&mbuf).origin() {
            Origin::Attachment(_) => self.drop_at(Direction::Egress, mbuf, reason),
            Origin::Uplink(id) => match self.uplink(id) {
                Some(uplink) => {
                    uplink.counts.drops.add(reason, 1);
                    self.pools.free(mbuf);
                }
                None => self.drop_frame(mbuf, reason),
            },
        }
    }

    /// Takes a port out of service, for control to close it.
    pub(crate) fn quarantine(&mut self, id: AttachmentId, fault: PortFault) {
        let Some(attachment) = self.attachment(id) else {
            return;
        };
        let Some(port) = attachment.port.take() else {
            return;
        };
        self.quarantined.push(WorkerEvent::PortFault {
            attachment: id,
            fault,
            port,
        });
        self.has_faults = true;
    }

    /// Posts a decision for the log, unless the attachment or the rule had too many lately.
    pub(crate) fn record(
        &mut self,
        attachment: AttachmentId,
        policy: PolicyIndex,
        direction: Direction,
        hit: Hit,
        key: &FlowKey,
        tables: &Tables,
    ) {
        let set_version = PolicySet::version(&tables.policies);
        let compiled = tables.policies.policy(policy);
        let slot = compiled.slot_base(direction) + hit.rule as usize;
        let now_ns = self.clock.now_ns();
        let (taken, share) = (self.counts.events_taken.get(), self.record_share);
        let may_post = self.events.slots() > FAULT_EVENTS
            && self
                .attachment(attachment)
                .is_some_and(|found| found.records.take(slot, now_ns, taken, share));
        let record = RawRecord {
            attachment,
            policy,
            direction,
            hit,
            key: *key,
            set_version,
        };
        let is_posted = may_post && self.events.push(WorkerEvent::Log(record)).is_ok();
        if !is_posted {
            if let Some(found) = self.attachment(attachment) {
                found.counts.lost_records.add(1);
                let rule = slot as u64 & 0xffff_ffff | set_version << 32;
                found.counts.lost_rule.set(rule);
            }
            self.counts.lost_records.add(1);
        }
    }
}
