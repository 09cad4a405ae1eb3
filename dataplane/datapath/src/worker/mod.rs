//! The worker: one pinned thread, and the loop it runs.

pub(crate) mod commands;
pub(crate) mod idle;

use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use sluice_ring::{Consumer, Producer};

use crate::ids::{AttachmentId, UplinkId, WorkerId};
use crate::pipeline::dispatch::{flush, take_over};
use crate::pipeline::egress::egress;
use crate::pipeline::ingress::ingress;
use crate::pipeline::state::{HANDOVER_FRAMES, State};
use crate::pipeline::tables::Tables;
use crate::ports::seam::{PodPort, PortContext, Wake};
use crate::worker::commands::{Answer, Change, Command, Numbered, Removed};
use crate::worker::idle::{Doorbell, Idle, Slept};

/// Milliseconds between two rounds of the uplinks' housekeeping.
const TEND_EVERY_MS: u64 = 10;

/// All that runs on a worker's thread.
pub(crate) struct Worker {
    pub(crate) tables: Arc<Tables>,
    pub(crate) state: State,
    pub(crate) idle: Idle,
    pub(crate) commands: Consumer<Numbered<Command>>,
    pub(crate) answers: Producer<Numbered<Answer>>,
    /// By worker: rung when something was handed over.
    pub(crate) bells: Vec<Arc<Doorbell>>,
    /// Slots of attachments with a port.
    pub(crate) polled: Vec<usize>,
    /// Numbers of the uplinks this worker polls.
    pub(crate) uplinks: Vec<UplinkId>,
    /// When the uplinks were last tended, by the clock of [`State::now_ms`].
    pub(crate) tended_ms: u64,
}

impl Worker {
    /// The loop.
    pub(crate) fn run(mut self) {
        loop {
            let frames = self.round();
            if self.obey() {
                return;
            }
            if self.idle.tired(frames) {
                self.sleep();
            }
        }
    }

    /// Once round: at most one burst of each port, so that no port waits for another. Returns the
    /// number of frames received.
    pub(crate) fn round(&mut self) -> usize {
        self.state.now_ms = now_ms();
        if self.state.now_ms.wrapping_sub(self.tended_ms) >= TEND_EVERY_MS {
            self.tend();
        }
        let mut frames = take_over(&self.tables, &mut self.state);
        for &uplink in &self.uplinks {
            frames += ingress(&self.tables, &mut self.state, uplink);
        }
        for &slot in &self.polled {
            frames += egress(&self.tables, &mut self.state, slot);
        }
        flush(&mut self.state);
        self.wake_others();
        self.count(frames);
        frames
    }

    /// The uplinks' housekeeping, and what it shows.
    fn tend(&mut self) {
        let State {
            uplinks,
            pools,
            now_ms,
            ..
        } = &mut self.state;
        self.tended_ms = *now_ms;
        for uplink in uplinks.iter_mut().flatten() {
            let mut context = PortContext {
                pools,
                drops: &uplink.counts.drops,
            };
            uplink.port.tend(&mut context, *now_ms);
            uplink.counts.report.write(uplink.port.report());
        }
    }

    fn count(&self, frames: usize) {
        self.state.counts.loops.add(1);
        if frames == 0 {
            self.state.counts.empty_loops.add(1);
        }
    }

    fn wake_others(&mut self) {
        let mut rang = std::mem::take(&mut self.state.handed_over);
        while rang != 0 {
            let worker = rang.trailing_zeros() as usize;
            rang &= rang - 1;
            if let Some(bell) = self.bells.get(worker) {
                bell.ring();
            }
        }
    }

    /// Asks every port for a wake-up and sleeps, unless one of them has frames already. When a sleep
    /// ends by its time alone, only the ports are looked at: once round the loop would cost more
    /// than the look, a thousand times a second.
    fn sleep(&mut self) {
        loop {
            let mut quiet = true;
            let mut capped = false;
            self.each_port(|port| {
                quiet &= port.arm();
                capped |= port.may_miss_wakeups();
            });
            if !quiet {
                // What came meanwhile may have come without a wake-up: the next sleeps are short.
                self.idle.unsettle();
                break;
            }
            let (commands, state) = (&mut self.commands, &mut self.state);
            let slept = self.idle.sleep(capped, || {
                commands.is_empty()
                    && state
                        .from_workers
                        .iter_mut()
                        .flatten()
                        .all(|ring| ring.is_empty())
            });
            if slept != Slept::Not {
                self.state.counts.sleeps.add(1);
            }
            if slept != Slept::Out {
                break;
            }
            self.count(0);
            self.state.now_ms = now_ms();
            if self.state.now_ms.wrapping_sub(self.tended_ms) >= TEND_EVERY_MS {
                self.tend();
            }
        }
        self.each_port(|port| port.disarm());
    }

    fn each_port(&mut self, mut visit: impl FnMut(&mut dyn Wake)) {
        for uplink in self.state.uplinks.iter_mut().flatten() {
            visit(&mut *uplink.port);
        }
        for &slot in &self.polled {
            if let Some(Some(attachment)) = self.state.attachments.get_mut(slot)
                && let Some(port) = &mut attachment.port
            {
                visit(&mut **port);
            }
        }
    }

    /// Does one of control's commands, if there is one. True if it was the last.
    pub(crate) fn obey(&mut self) -> bool {
        self.report_condemned();
        let Some(Numbered { number, what }) = self.commands.pop() else {
            return false;
        };
        let stop = matches!(what, Command::Stop);
        let answer = match what {
            Command::Install { tables, change } => self.install(tables, change),
            Command::Connect { id, port } => self.connect(id, port),
            Command::Disconnect { id } => self.disconnect(id),
            Command::Stop => self.let_go(),
        };
        // The ring of answers is as large as that of commands, and control waits for each.
        let _ = self.answers.push(Numbered {
            number,
            what: answer,
        });
        stop
    }

    /// A port that broke the protocol was taken out in the middle of a flow: stop watching it, and
    /// tell control if it could not be told then.
    fn report_condemned(&mut self) {
        if !self.state.faulted {
            return;
        }
        self.state.faulted = false;
        while let Some(event) = self.state.condemned.pop() {
            event.port_fds(|fd| self.idle.unwatch(fd));
            if let Err(event) = self.state.events.push(event) {
                self.state.condemned.push(event);
                self.state.faulted = true;
                break;
            }
        }
        self.list_polled();
    }

    fn install(&mut self, tables: Arc<Tables>, change: Change) -> Answer {
        // What others handed over by the old tables is finished by the old tables, a ring's
        // capacity at most: nothing that comes later can be for what is now removed.
        let mut limit = 4 * HANDOVER_FRAMES / sluice_mem::BURST;
        while limit > 0 && take_over(&self.tables, &mut self.state) > 0 {
            limit -= 1;
        }
        flush(&mut self.state);
        self.wake_others();
        let old = std::mem::replace(&mut self.tables, tables);
        self.state.flows.forget();
        let removed = match change {
            Change::None => Removed::None,
            Change::AddUplink(id, uplink) => {
                uplink.port.wake_fds(&mut |fd| self.idle.watch(fd));
                self.uplinks.push(id);
                if self.state.uplinks.len() <= id.index() {
                    self.state.uplinks.resize_with(id.index() + 1, || None);
                }
                self.state.uplinks[id.index()] = Some(uplink);
                Removed::None
            }
            Change::RemoveUplink(id) => {
                self.uplinks.retain(|&other| other != id);
                match self
                    .state
                    .uplinks
                    .get_mut(id.index())
                    .and_then(Option::take)
                {
                    Some(mut uplink) => {
                        uplink.port.wake_fds(&mut |fd| self.idle.unwatch(fd));
                        self.state.pools.free_burst(&mut uplink.out);
                        Removed::Uplink(uplink)
                    }
                    None => Removed::None,
                }
            }
            Change::AddAttachment(attachment) => {
                let slot = attachment.id.slot();
                if self.state.attachments.len() <= slot {
                    self.state.attachments.resize_with(slot + 1, || None);
                    // A flow may mark every one of them without allocating.
                    self.state.dirty.reserve(slot + 1);
                    self.state.condemned.reserve(slot + 1);
                }
                self.state.attachments[slot] = Some(attachment);
                Removed::None
            }
            Change::RemoveAttachment(id) => {
                // The port stays in the attachment, to end on control's thread.
                if let Some(port) = self.state.attachment(id).and_then(|own| own.port.as_ref()) {
                    port.wake_fds(&mut |fd| self.idle.unwatch(fd));
                }
                match self.state.attachments.get_mut(id.slot()) {
                    Some(place) if place.as_ref().is_some_and(|found| found.id == id) => place
                        .take()
                        .map_or(Removed::None, |attachment| Removed::Attachment {
                            _attachment: attachment,
                        }),
                    _ => Removed::None,
                }
            }
        };
        self.list_polled();
        Answer::Installed { _old: old, removed }
    }

    fn connect(&mut self, id: AttachmentId, mut port: Box<dyn PodPort>) -> Answer {
        let mut old = self.take_port(id);
        let known = match self.state.attachment(id) {
            Some(attachment) => {
                port.wake_fds(&mut |fd| self.idle.watch(fd));
                port.disarm();
                attachment.port = Some(port);
                true
            }
            None => {
                old = Some(port);
                false
            }
        };
        self.list_polled();
        Answer::Port { old, known }
    }

    fn disconnect(&mut self, id: AttachmentId) -> Answer {
        let old = self.take_port(id);
        let known = self.state.attachment(id).is_some();
        self.list_polled();
        Answer::Port { old, known }
    }

    fn take_port(&mut self, id: AttachmentId) -> Option<Box<dyn PodPort>> {
        let port = self.state.attachment(id)?.port.take()?;
        port.wake_fds(&mut |fd| self.idle.unwatch(fd));
        Some(port)
    }

    fn let_go(&mut self) -> Answer {
        flush(&mut self.state);
        for ring in self.state.from_workers.iter_mut().flatten() {
            while let Some(mbuf) = ring.pop() {
                self.state.pools.free(mbuf);
            }
        }
        let attachments = std::mem::take(&mut self.state.attachments);
        let ports = attachments
            .into_iter()
            .flatten()
            .filter_map(|mut a| a.port.take())
            .collect();
        let mut uplinks = std::mem::take(&mut self.state.uplinks);
        for uplink in uplinks.iter_mut().flatten() {
            self.state.pools.free_burst(&mut uplink.out);
        }
        Answer::Stopped {
            _ports: ports,
            _uplinks: uplinks,
        }
    }

    fn list_polled(&mut self) {
        self.polled.clear();
        let slots = self.state.attachments.iter().enumerate();
        self.polled.extend(slots.filter_map(|(slot, attachment)| {
            attachment
                .as_ref()
                .and_then(|attachment| attachment.port.as_ref())
                .map(|_| slot)
        }));
    }

    /// Its number, for the thread's name.
    pub(crate) fn id(&self) -> WorkerId {
        self.state.id
    }
}

/// A clock that only goes forward, at the kernel's tick: a read costs a few nanoseconds and no
/// system call, and nothing here needs it finer.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1000 + nanos / 1_000_000
}
