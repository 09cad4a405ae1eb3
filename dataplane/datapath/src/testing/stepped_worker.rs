// SPDX-License-Identifier: Apache-2.0
//! Worker without a thread: the caller's thread runs its loop or its stages one by one. Benches
//! measure with it; everything but the thread is a real worker's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sluice_firewall::PolicySet;
use sluice_mem::{Burst, Pools};
use sluice_ring::{Consumer, Producer, spsc};

use crate::control::engine::flow_cache;
use crate::control::link::EVENTS;
use crate::control::topology::Topology;
use crate::error::Error;
use crate::flows::BucketIndexes;
use crate::ids::{AttachmentId, UplinkId, WorkerId};
use crate::limits::Limits;
use crate::pipeline::attachment::Attachment;
use crate::pipeline::dispatch::dispatch;
use crate::pipeline::event::WorkerEvent;
use crate::pipeline::flush::flush;
use crate::pipeline::groups::Groups;
use crate::pipeline::groups::group_room::GroupRoom;
use crate::pipeline::lookup::Lookup;
use crate::pipeline::state::{UplinkState, WorkerState};
use crate::pipeline::{classify, judge, parse};
use crate::ports::seam::PodPort;
use crate::spec::{AttachmentSpec, IdleConfig, UplinkSpec};
use crate::worker::Worker;
use crate::worker::commands::{Answer, Change, Command, Numbered};
use crate::worker::idle::{Doorbell, Idle};

/// Worker that the caller steps, with its tables and its ports.
pub struct SteppedWorker {
    topology: Topology,
    worker: Worker,
    commands: Producer<Numbered<Command>>,
    answers: Consumer<Numbered<Answer>>,
    _events: Consumer<WorkerEvent>,
}

impl fmt::Debug for SteppedWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppedWorker").finish_non_exhaustive()
    }
}

impl SteppedWorker {
    /// Makes a worker that judges by `policies`, with a flow cache of at least `flows` entries (0:
    /// none) and no ports.
    ///
    /// # Errors
    /// [`Error::System`]: no more file descriptors.
    pub fn new(
        pools: Pools,
        policies: Arc<PolicySet>,
        flows: usize,
    ) -> Result<SteppedWorker, Error> {
        let mut topology = Topology::new(1, Limits::default());
        let carried = vec![(0, 0); policies.slots()];
        topology.set_policies(policies, carried);
        let bell = Arc::new(Doorbell::new()?);
        let (command_sender, commands) = spsc(8);
        let (answers, answer_receiver) = spsc(8);
        let (events, event_receiver) = spsc(EVENTS);
        let mut state = WorkerState::new(
            WorkerId(0),
            pools,
            flow_cache(flows)?,
            events,
            Arc::default(),
        );
        state.groups = Groups::new(WorkerId(0), topology.limits.groups.into());
        let tables = Arc::new(topology.tables());
        let idle = Idle::new(IdleConfig::default(), bell.clone())?;
        let worker = Worker::new(tables, state, idle, commands, answers, vec![bell]);
        Ok(SteppedWorker {
            topology,
            worker,
            commands: command_sender,
            answers: answer_receiver,
            _events: event_receiver,
        })
    }

    /// Adds an uplink.
    ///
    /// # Errors
    /// As [`crate::Engine::add_uplink`].
    pub fn add_uplink(&mut self, spec: UplinkSpec) -> Result<UplinkId, Error> {
        let id = self.topology.add_uplink(&spec)?;
        let counts = Arc::default();
        let state = UplinkState::new(spec.port, counts);
        self.install(Change::AddUplink(id, Box::from(state)));
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
        let id = record.id;
        let identity = record.identity.clone();
        let counts = record.counts.clone();
        let attachment = Attachment::new(id, &record.spec, identity, counts, &limits);
        self.install(Change::AddAttachment(Box::from(attachment)));
        self.command(Command::Connect { id, port });
        Ok(id)
    }

    /// Stops the worker's clock at a time, which stays until the next call.
    pub fn set_clock(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.worker.state.clock.step_to(nanos);
    }

    /// Runs the loop once. Returns the number of frames received.
    pub fn round(&mut self) -> usize {
        self.worker.round()
    }

    /// Returns the number of frames delivered to an attachment's pod; 0 if there is no such attachment.
    pub fn delivered(&mut self, attachment: AttachmentId) -> u64 {
        self.topology
            .attachment(attachment)
            .map_or(0, |record| record.counts.traffic.read().tx_frames)
    }

    /// Returns the worker's mempools.
    pub fn pools(&mut self) -> &mut Pools {
        &mut self.worker.state.pools
    }

    /// Runs the parse stage of a pod's egress: frames that cannot be read are freed.
    pub fn parse(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        parse::from_pod(&mut self.worker.state, attachment, burst);
    }

    /// Runs the lookup stage on frames that were parsed: those that a cached verdict denies are
    /// freed. Returns whether all others hit.
    pub fn lookup(&mut self, burst: &mut Burst) -> bool {
        let Worker { tables, state, .. } = &mut self.worker;
        let buckets = BucketIndexes::of(&state.flows, burst.as_slice());
        let mut flows = Lookup::new();
        flows.look_up(tables, state, &buckets, burst);
        flows.all_hit()
    }

    /// Runs the parse and classify stages of a pod's egress on frames of which none hits: those that
    /// they refuse are freed.
    pub fn classify(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        self.parse(attachment, burst);
        let mut flows = Lookup::all_missed(burst.len());
        let Worker { tables, state, .. } = &mut self.worker;
        classify::from_pod(tables, state, attachment, &mut flows, burst);
    }

    /// Runs the judge stage of a pod's egress on frames of which none hits: those that its policies
    /// do not accept are freed.
    pub fn judge(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        let mut flows = Lookup::all_missed(burst.len());
        let Worker { tables, state, .. } = &mut self.worker;
        judge::at_sender(tables, state, attachment, &mut flows, burst);
    }

    /// Runs the stages behind a pod's judge, and the flush: every mbuf is freed.
    pub fn dispatch(&mut self, burst: &mut Burst) {
        let mut flows = Lookup::all_missed(burst.len());
        let Worker { tables, state, .. } = &mut self.worker;
        judge::at_receivers(tables, state, &mut flows, burst);
        dispatch(tables, state, &flows, burst);
        flush(tables, state);
    }

    fn install(&mut self, change: Change) {
        let tables = Arc::new(self.topology.tables());
        let limit = self.topology.limits.groups.into();
        let there = self.worker.state.groups.chunks();
        self.command(Command::Install {
            room: GroupRoom::for_tables(&tables, limit, there),
            tables,
            change,
        });
    }

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
