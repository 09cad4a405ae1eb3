//! What one worker owns: its ports, its mempools, its rings to other workers. Nothing here is
//! shared but counters.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use sluice_firewall::{Direction, Hit, PolicyIndex, PolicySet};
use sluice_mem::{Burst, Mbuf, Pools};
use sluice_packet::FlowKey;
use sluice_ring::{Consumer, Producer};

use crate::counters::{UplinkCounts, WorkerCounts};
use crate::drops::DropReason;
use crate::flows::FlowCache;
use crate::ids::{AttachmentId, UplinkId, WorkerId};
use crate::pipeline::attachment::Attachment;
use crate::pipeline::tables::Tables;
use crate::pipeline::token_bucket::TokenBucket;
use crate::ports::seam::{PodPort, PortFault, Uplink};

/// Frames that may wait between each two workers.
pub(crate) const HANDOVER_FRAMES: usize = 1024;
/// Log records a second and worker, and how many at once: a log is for people.
const RECORDS_PER_SECOND: u64 = 100;
const RECORDS_BURST: u64 = 50;

/// An uplink as the worker that polls it sees it.
pub(crate) struct UplinkState {
    pub(crate) port: Box<dyn Uplink>,
    pub(crate) counts: Arc<UplinkCounts>,
    /// Frames of this flow that will go out of it.
    pub(crate) out: Burst,
}

/// What a worker tells control without being asked.
pub(crate) enum WorkerEvent {
    /// A pod broke the protocol; the port is for control to let go of.
    PortFault {
        attachment: AttachmentId,
        fault: PortFault,
        port: Box<dyn PodPort>,
    },
    /// A rule with `log` decided.
    Log(RawRecord),
}

impl WorkerEvent {
    /// Names the fds of the port in it, if there is one.
    pub(crate) fn port_fds(&self, mut visit: impl FnMut(BorrowedFd<'_>)) {
        if let WorkerEvent::PortFault { port, .. } = self {
            port.wake_fds(&mut visit);
        }
    }
}

/// A log record before control has given it names.
pub(crate) struct RawRecord {
    pub(crate) attachment: AttachmentId,
    pub(crate) policy: PolicyIndex,
    pub(crate) direction: Direction,
    pub(crate) hit: Hit,
    pub(crate) key: FlowKey,
    /// The set that `policy` is of.
    pub(crate) set_version: u64,
}

/// A worker's own things.
pub(crate) struct State {
    pub(crate) id: WorkerId,
    pub(crate) pools: Pools,
    pub(crate) flows: FlowCache,
    /// By number; those that this worker polls.
    pub(crate) uplinks: Vec<Option<Box<UplinkState>>>,
    /// By slot; those that this worker owns.
    pub(crate) attachments: Vec<Option<Box<Attachment>>>,
    /// Slots whose attachment got frames since its last flush.
    pub(crate) dirty: Vec<usize>,
    /// By worker: frames for what it owns.
    pub(crate) to_workers: Vec<Option<Producer<Mbuf>>>,
    /// By worker: frames for what this one owns.
    pub(crate) from_workers: Vec<Option<Consumer<Mbuf>>>,
    pub(crate) events: Producer<WorkerEvent>,
    /// Ports that broke the protocol since the worker last told control.
    pub(crate) condemned: Vec<WorkerEvent>,
    /// There are such.
    pub(crate) faulted: bool,
    /// Bit n: something was handed over to worker n since it was last woken.
    pub(crate) handed_over: u64,
    pub(crate) counts: Arc<WorkerCounts>,
    pub(crate) records: TokenBucket,
    /// Milliseconds of a clock that only goes forward, read once per loop.
    pub(crate) now_ms: u64,
}

impl State {
    /// A worker's things before it has any port, alone.
    pub(crate) fn new(
        id: WorkerId,
        pools: Pools,
        flows: FlowCache,
        events: Producer<WorkerEvent>,
        counts: Arc<WorkerCounts>,
    ) -> State {
        State {
            id,
            pools,
            flows,
            uplinks: Vec::new(),
            attachments: Vec::new(),
            dirty: Vec::new(),
            to_workers: Vec::new(),
            from_workers: Vec::new(),
            events,
            condemned: Vec::new(),
            faulted: false,
            handed_over: 0,
            counts,
            records: TokenBucket::new(RECORDS_PER_SECOND, RECORDS_BURST),
            now_ms: 0,
        }
    }

    /// The attachment, if this worker owns it and it is still there.
    pub(crate) fn attachment(&mut self, id: AttachmentId) -> Option<&mut Attachment> {
        self.attachments
            .get_mut(id.slot())?
            .as_deref_mut()
            .filter(|found| found.id == id)
    }

    /// The uplink, if this worker polls it.
    pub(crate) fn uplink(&mut self, id: UplinkId) -> Option<&mut UplinkState> {
        self.uplinks.get_mut(id.index())?.as_deref_mut()
    }

    /// Ends a frame for which nobody but the worker can be blamed.
    pub(crate) fn drop_frame(&mut self, mbuf: Mbuf, reason: DropReason) {
        self.counts.drops.add(reason, 1);
        self.pools.free(mbuf);
    }

    /// Ends a frame on its way to (`Ingress`) or from (`Egress`) an attachment.
    pub(crate) fn drop_at(
        &mut self,
        id: AttachmentId,
        direction: Direction,
        mbuf: Mbuf,
        reason: DropReason,
    ) {
        match self.attachment(id) {
            Some(attachment) => {
                let counts = match direction {
                    Direction::Ingress => &attachment.counts.ingress_drops,
                    Direction::Egress => &attachment.counts.egress_drops,
                };
                counts.add(reason, 1);
                self.pools.free(mbuf);
            }
            None => self.drop_frame(mbuf, reason),
        }
    }

    /// Takes a port out of service and has control let go of it.
    pub(crate) fn condemn(&mut self, id: AttachmentId, fault: PortFault) {
        let Some(attachment) = self.attachment(id) else {
            return;
        };
        let Some(port) = attachment.port.take() else {
            return;
        };
        self.condemned.push(WorkerEvent::PortFault {
            attachment: id,
            fault,
            port,
        });
        self.faulted = true;
    }

    /// Notes a decision for the log, unless there were too many lately.
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
        let record = RawRecord {
            attachment,
            policy,
            direction,
            hit,
            key: *key,
            set_version,
        };
        let kept =
            self.records.take(self.now_ms) && self.events.push(WorkerEvent::Log(record)).is_ok();
        if !kept {
            self.counts.lost_records.add(1);
        }
    }
}
