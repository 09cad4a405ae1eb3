// SPDX-License-Identifier: Apache-2.0
//! Engine without threads: several workers that the caller's thread steps, one round at a time. What
//! frames wait for is counted in rounds, so that tests of shares need no clock.

use std::fmt;
use std::sync::Arc;

use sluice_firewall::PolicySet;
use sluice_mem::{Mempool, Pools};
use sluice_ring::{Consumer, Producer, spsc};

use crate::control::balance::Balance;
use crate::control::engine::flow_cache;
use crate::control::figures::Snapshot;
use crate::control::link::{EVENTS, rings_between};
use crate::control::memory::{CACHE_MBUFS, RingSizes};
use crate::control::snapshot;
use crate::control::topology::Topology;
use crate::counters::WorkerCounts;
use crate::error::Error;
use crate::ids::{AttachmentId, MAX_ATTACHMENTS, UplinkId, WorkerId};
use crate::limits::Limits;
use crate::pipeline::attachment::Attachment;
use crate::pipeline::connections::Connections;
use crate::pipeline::event::WorkerEvent;
use crate::pipeline::groups::Groups;
use crate::pipeline::groups::group_room::GroupRoom;
use crate::pipeline::state::{UplinkState, WorkerState};
use crate::ports::seam::PodPort;
use crate::spec::{AttachmentSpec, IdleConfig, UplinkSpec};
use crate::worker::Worker;
use crate::worker::commands::{Answer, Change, Command, Numbered};
use crate::worker::idle::{Doorbell, Idle};

/// Workers that the caller steps, with their tables and ports.
pub struct SteppedEngine {
    pub(super) topology: Topology,
    workers: Vec<Stepped>,
}

/// Worker of the engine, with control's ends of its rings.
struct Stepped {
    worker: Worker,
    counts: Arc<WorkerCounts>,
    commands: Producer<Numbered<Command>>,
    answers: Consumer<Numbered<Answer>>,
    events: Consumer<WorkerEvent>,
}

impl fmt::Debug for SteppedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppedEngine").finish_non_exhaustive()
    }
}

impl SteppedEngine {
    /// Makes `workers` workers over two mempools that judge by `policies`, with flow caches of at
    /// least `flows` entries.
    ///
    /// # Errors
    /// [`Error::System`]: no more file descriptors.
    pub fn new(
        workers: usize,
        pools: [Mempool; 2],
        policies: Arc<PolicySet>,
        flows: usize,
    ) -> Result<SteppedEngine, Error> {
        SteppedEngine::with_limits(workers, pools, policies, flows, Limits::default())
    }

    /// Makes workers as [`SteppedEngine::new`] does whose sources have these limits.
    ///
    /// # Errors
    /// As [`SteppedEngine::new`].
    pub fn with_limits(
        workers: usize,
        [small, large]: [Mempool; 2],
        policies: Arc<PolicySet>,
        flows: usize,
        limits: Limits,
    ) -> Result<SteppedEngine, Error> {
        let buffers = |pool: Mempool| pool.config().buffers;
        let sizes = RingSizes::for_pools(workers, buffers(small), buffers(large));
        let pools = || Pools::new(small, large, CACHE_MBUFS);
        let pools = (0..workers).map(|_| pools()).collect();
        SteppedEngine::over(pools, sizes, policies, flows, limits)
    }

    /// Makes a worker over each of `pools`, with rings of `sizes` between them, whose sources have these `limits`.
    pub(super) fn over(
        pools: Vec<Pools>,
        sizes: RingSizes,
        policies: Arc<PolicySet>,
        flows: usize,
        limits: Limits,
    ) -> Result<SteppedEngine, Error> {
        let workers = pools.len();
        let mut topology = Topology::new(workers, limits);
        let carried = vec![(0, 0); policies.slots()];
        topology.set_policies(policies, carried);
        let bells = (0..workers)
            .map(|_| Doorbell::new().map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let (senders, receivers) = rings_between(workers, sizes);
        let tables = Arc::new(topology.tables());
        let mut made = Vec::with_capacity(workers);
        let ends = senders.into_iter().zip(receivers);
        let parts = (0..).zip(pools).zip(ends).zip(&bells);
        for (((id, pools), (to_workers, from_workers)), bell) in parts {
            let (command_sender, commands) = spsc(8);
            let (answers, answer_receiver) = spsc(8);
            let (events, event_receiver) = spsc(EVENTS);
            let counts = Arc::new(WorkerCounts::default());
            let mut state = WorkerState::new(
                WorkerId(id),
                pools,
                flow_cache(flows)?,
                Connections::new(MAX_ATTACHMENTS, topology.limits.connections)?,
                events,
                counts.clone(),
            );
            state.to_workers = to_workers;
            state.from_workers = from_workers;
            // Without rings for notices: the groups of one worker are not known to the others.
            state.groups = Groups::new(WorkerId(id), topology.limits.groups.into());
            let idle = Idle::new(IdleConfig::default(), bell.clone())?;
            made.push(Stepped {
                worker: Worker::new(
                    tables.clone(),
                    state,
                    idle,
                    commands,
                    answers,
                    bells.clone(),
                ),
                counts,
                commands: command_sender,
                answers: answer_receiver,
                events: event_receiver,
            });
        }
        Ok(SteppedEngine {
            topology,
            workers: made,
        })
    }

    /// Adds an uplink.
    ///
    /// # Errors
    /// As [`crate::Engine::add_uplink`].
    pub fn add_uplink(&mut self, spec: UplinkSpec) -> Result<UplinkId, Error> {
        let id = self.topology.add_uplink(&spec)?;
        let Some(record) = self.topology.uplink(id) else {
            return Err(Error::NoUplink);
        };
        let (worker, counts) = (record.worker, record.counts.clone());
        let state = UplinkState::new(spec.port, counts);
        self.spread(worker, Change::AddUplink(id, Box::from(state)));
        Ok(id)
    }

    /// Adds an attachment with its port.
    ///
    /// # Errors
    /// As [`crate::Engine::attach`].
    pub fn attach(
        &mut self,
        spec: AttachmentSpec,
        port: Box<dyn PodPort>,
    ) -> Result<AttachmentId, Error> {
        let limits = self.topology.limits;
        let record = self.topology.add_attachment(spec)?;
        let (id, worker) = (record.id, record.worker);
        let identity = record.identity.clone();
        let counts = record.counts.clone();
        let attachment = Attachment::new(id, &record.spec, identity, counts, &limits);
        self.spread(worker, Change::AddAttachment(Box::from(attachment)));
        if let Some(owner) = self.workers.get_mut(worker.index()) {
            owner.command(Command::Connect { id, port });
        }
        Ok(id)
    }

    /// Takes an attachment's port.
    pub fn disconnect(&mut self, id: AttachmentId) {
        let worker = self.topology.attachment(id).map(|record| record.worker);
        let owner = worker.and_then(|worker| self.workers.get_mut(worker.index()));
        if let Some(owner) = owner {
            owner.command(Command::Disconnect { id });
        }
    }

    /// Takes an attachment out, with its port.
    ///
    /// # Errors
    /// As [`crate::Engine::detach`].
    pub fn detach(&mut self, id: AttachmentId) -> Result<(), Error> {
        let record = self.topology.remove_attachment(id)?;
        self.spread(record.worker, Change::RemoveAttachment(id));
        self.topology.forget_learned(id);
        Ok(())
    }

    /// Has the workers judge by other policies. Counts start anew.
    pub fn set_policies(&mut self, policies: Arc<PolicySet>) {
        let carried = vec![(0, 0); policies.slots()];
        self.topology.set_policies(policies, carried);
        self.spread(WorkerId(0), Change::None);
    }

    /// Runs the loop of every worker once, in order. Returns the number of frames received.
    pub fn round(&mut self) -> usize {
        let workers = self.workers.iter_mut();
        workers.map(|stepped| stepped.worker.round()).sum()
    }

    /// Runs the loop of one worker once. Returns the number of frames received.
    pub fn round_of(&mut self, worker: usize) -> usize {
        let stepped = self.workers.get_mut(worker);
        stepped.map_or(0, |stepped| stepped.worker.round())
    }

    /// Stops the clock of every worker at a time in nanoseconds, to be set again by hand.
    pub fn step_clock(&mut self, nanos: u64) {
        for stepped in &mut self.workers {
            stepped.worker.state.clock.step_to(nanos);
        }
    }

    /// Returns a worker.
    ///
    /// # Panics
    /// There is none of that number.
    pub(super) fn worker(&mut self, number: usize) -> &mut Worker {
        &mut self.workers[number].worker
    }

    /// Returns all counters.
    pub fn snapshot(&self) -> Snapshot {
        let workers: Vec<_> = self
            .workers
            .iter()
            .map(|one| (None, &*one.counts))
            .collect();
        snapshot::read(&self.topology, &workers)
    }

    /// Returns the balance of the counters.
    pub fn balance(&self) -> Balance {
        let mut sum = Balance::default();
        for stepped in &self.workers {
            sum.add(&stepped.worker.balance());
        }
        sum
    }

    /// Returns the number of events that wait for control, over all workers, and takes them.
    pub fn take_events(&mut self) -> usize {
        let mut taken = 0;
        for stepped in &mut self.workers {
            while stepped.events.pop().is_some() {
                taken += 1;
            }
            stepped.counts.events_taken.add(1);
        }
        taken
    }

    fn spread(&mut self, owner: WorkerId, change: Change) {
        let tables = Arc::new(self.topology.tables());
        let mut change = Some(change);
        let others = (0..self.workers.len()).filter(|&worker| worker != owner.index());
        for worker in std::iter::once(owner.index()).chain(others) {
            if let Some(stepped) = self.workers.get_mut(worker) {
                let limit = self.topology.limits.groups.into();
                let there = stepped.worker.state.groups.chunks();
                stepped.command(Command::Install {
                    room: GroupRoom::for_tables(&tables, limit, there),
                    tables: tables.clone(),
                    change: change.take().unwrap_or(Change::None),
                });
            }
        }
        self.topology.finish_growing();
    }
}

impl Stepped {
    fn command(&mut self, command: Command) {
        // The ring is empty: every command is handled before the next is given.
        let _ = self.commands.push(Numbered {
            number: 0,
            what: command,
        });
        self.worker.handle_command();
        while self.answers.pop().is_some() {}
    }
}
