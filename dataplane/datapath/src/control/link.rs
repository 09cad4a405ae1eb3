// SPDX-License-Identifier: Apache-2.0
//! Starting workers, and control's end of the rings to each of them.
#![allow(
    clippy::disallowed_methods,
    reason = "this is control's side of the rings: it waits so that workers need not"
)]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_mem::Pools;
use sluice_ring::{Consumer, Producer, spsc};

use crate::control::memory::RingSizes;
use crate::counters::WorkerCounts;
use crate::error::Error;
use crate::flows::FlowCache;
use crate::ids::{MAX_ATTACHMENTS, WorkerId};
use crate::limits::Limits;
use crate::pipeline::connections::Connections;
use crate::pipeline::event::WorkerEvent;
use crate::pipeline::groups::Groups;
use crate::pipeline::groups::group_room::GroupRoom;
use crate::pipeline::groups::notices::{NOTICES, Notice};
use crate::pipeline::handoff_ring::{FromWorker, ToWorker, shared_ring};
use crate::pipeline::state::WorkerState;
use crate::pipeline::tables::Tables;
use crate::spec::IdleConfig;
use crate::worker::Worker;
use crate::worker::commands::{Answer, Command, Numbered};
use crate::worker::idle::{Doorbell, Idle};

/// Time that control waits for a worker. A worker answers between two bursts, so within
/// microseconds, unless its core is taken from it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Commands that may wait; control sends one at a time.
const COMMANDS: usize = 8;
/// Log records and faults that may wait for control: enough for one of every attachment and more.
pub(crate) const EVENTS: usize = 8192;

/// Parts that a worker is made of.
pub(crate) struct WorkerParts {
    pub(crate) core: Option<usize>,
    pub(crate) pools: Pools,
    pub(crate) flows: FlowCache,
}

/// Control's ends of a worker's rings.
pub(crate) struct WorkerLink {
    pub(crate) id: WorkerId,
    pub(crate) core: Option<usize>,
    pub(crate) counts: Arc<WorkerCounts>,
    pub(crate) events: Consumer<WorkerEvent>,
    commands: Producer<Numbered<Command>>,
    answers: Consumer<Numbered<Answer>>,
    bell: Arc<Doorbell>,
    last: u64,
    thread: Option<JoinHandle<()>>,
}

/// Makes the rings between all workers and starts them.
pub(crate) fn start_workers(
    parts: Vec<WorkerParts>,
    idle: IdleConfig,
    rings: RingSizes,
    tables: Arc<Tables>,
    limits: &Limits,
) -> Result<Vec<WorkerLink>, Error> {
    let count = parts.len();
    let bells = (0..count)
        .map(|_| Doorbell::new().map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let (senders, receivers) = rings_between(count, rings);
    let mut notices_to: Vec<Vec<Option<Producer<Notice>>>> = no_rings(count);
    let mut notices_from: Vec<Vec<Option<Consumer<Notice>>>> = no_rings(count);
    for from in 0..count {
        for to in (0..count).filter(|&to| to != from) {
            let (producer, consumer) = spsc(NOTICES);
            notices_to[from][to] = Some(producer);
            notices_from[to][from] = Some(consumer);
        }
    }
    let mut notices = notices_to.into_iter().zip(notices_from);
    let mut links = Vec::with_capacity(count);
    let ends = senders.into_iter().zip(receivers);
    for (number, (part, (to_workers, from_workers))) in parts.into_iter().zip(ends).enumerate() {
        let id = WorkerId(u8::try_from(number).unwrap_or(0));
        let (command_sender, commands) = spsc(COMMANDS);
        let (answers, answer_receiver) = spsc(COMMANDS);
        let (events, event_receiver) = spsc(EVENTS);
        let counts = Arc::new(WorkerCounts::default());
        let mut state = WorkerState::new(
            id,
            part.pools,
            part.flows,
            Connections::new(MAX_ATTACHMENTS, limits.connections)?,
            events,
            counts.clone(),
        );
        state.to_workers = to_workers;
        state.from_workers = from_workers;
        state.groups = Groups::new(id, limits.groups.into());
        if let Some((to, from)) = notices.next() {
            state.groups.peers.connect(to, from);
        }
        let idle = Idle::new(idle, bells[number].clone())?;
        let worker = Worker::new(
            tables.clone(),
            state,
            idle,
            commands,
            answers,
            bells.clone(),
        );
        let thread = start(worker, part.core)?;
        links.push(WorkerLink {
            id,
            core: part.core,
            counts,
            events: event_receiver,
            commands: command_sender,
            answers: answer_receiver,
            bell: bells[number].clone(),
            last: 0,
            thread: Some(thread),
        });
    }
    Ok(links)
}

/// Makes the rings between each two of `count` workers: to the others and from the others, by worker.
#[allow(clippy::type_complexity, reason = "a table of either end")]
pub(crate) fn rings_between(
    count: usize,
    sizes: RingSizes,
) -> (Vec<Vec<Option<ToWorker>>>, Vec<Vec<Option<FromWorker>>>) {
    let (mut senders, mut receivers) = (no_rings(count), no_rings(count));
    for from in 0..count {
        for to in (0..count).filter(|&to| to != from) {
            let (pods, from_pods) = shared_ring(sizes.pods, sizes.large);
            let (others, from_others) = shared_ring(sizes.others, sizes.large);
            senders[from][to] = Some(ToWorker { pods, others });
            receivers[to][from] = Some(FromWorker {
                pods: from_pods,
                others: from_others,
            });
        }
    }
    (senders, receivers)
}

fn no_rings<T>(count: usize) -> Vec<Vec<Option<T>>> {
    (0..count)
        .map(|_| (0..count).map(|_| None).collect())
        .collect()
}

fn start(worker: Worker, core: Option<usize>) -> Result<JoinHandle<()>, Error> {
    let number = worker.id().index();
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            if let Some(id) = core {
                // Control has checked that the core is in the process's cpuset; if it was taken
                // away in between, the worker runs where the kernel lets it.
                let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            worker.run();
        })
        .map_err(|source| Error::Thread {
            worker: number,
            source,
        })
}

impl WorkerLink {
    /// Makes the room that the worker lacks for the memberships of the attachments of `tables`, each of
    /// which may join `limit` groups.
    pub(crate) fn room_for(&self, tables: &Tables, limit: u16) -> Option<Box<GroupRoom>> {
        let there = usize::try_from(self.counts.group_chunks.get()).unwrap_or(0);
        GroupRoom::for_tables(tables, limit.into(), there)
    }

    /// Has the worker do something, and waits until it has.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Answer, Error> {
        let silent = Error::WorkerSilent {
            worker: self.id.index(),
            seconds: PATIENCE.as_secs(),
        };
        self.last += 1;
        if self
            .commands
            .push(Numbered {
                number: self.last,
                what: command,
            })
            .is_err()
        {
            return Err(silent);
        }
        self.bell.ring();
        let start = Instant::now();
        loop {
            match self.answers.pop() {
                Some(answer) if answer.number == self.last => return Ok(answer.what),
                // An answer that was waited for in vain: what it holds ends here.
                Some(_) => {}
                None if start.elapsed() > PATIENCE => return Err(silent),
                None if start.elapsed() < Duration::from_millis(1) => std::thread::yield_now(),
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    /// Waits for the thread's end, after [`Command::Stop`].
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
