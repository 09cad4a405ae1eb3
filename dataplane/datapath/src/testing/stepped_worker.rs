//! A worker without a thread: it goes round when it is told to, on the caller's thread, and its
//! stages can be run one by one. Benches measure with it; nothing else differs from a real one.

use std::sync::Arc;

use sluice_firewall::PolicySet;
use sluice_mem::{BURST, Burst, Pools};
use sluice_ring::{Consumer, spsc};

use crate::control::engine::flow_cache;
use crate::control::spec::{AttachmentSpec, IdleConfig, UplinkSpec};
use crate::control::topology::Topology;
use crate::error::Error;
use crate::flows::Places;
use crate::frame::Goal;
use crate::ids::{AttachmentId, UplinkId, WorkerId};
use crate::pipeline::attachment::Attachment;
use crate::pipeline::dispatch::{flush, route};
use crate::pipeline::egress::{egress_classify, egress_judge, egress_read};
use crate::pipeline::lookup::{Recognised, recognise};
use crate::pipeline::state::{State, UplinkState, WorkerEvent};
use crate::ports::seam::PodPort;
use crate::worker::Worker;
use crate::worker::commands::{Answer, Change, Command, Numbered};
use crate::worker::idle::{Doorbell, Idle};

/// One worker, its tables and its ports.
pub struct SteppedWorker {
    topology: Topology,
    worker: Worker,
    commands: sluice_ring::Producer<Numbered<Command>>,
    answers: Consumer<Numbered<Answer>>,
    _events: Consumer<WorkerEvent>,
}

impl SteppedWorker {
    /// A worker that judges by `policies`, with a flow cache of at least `flows` entries (0: none),
    /// and no ports.
    ///
    /// # Errors
    /// [`Error::System`]: no more file descriptors.
    pub fn new(
        pools: Pools,
        policies: Arc<PolicySet>,
        flows: usize,
    ) -> Result<SteppedWorker, Error> {
        let mut topology = Topology::new(1);
        let carried = vec![(0, 0); policies.slots()];
        topology.set_policies(policies, carried);
        let bell = Arc::new(Doorbell::new()?);
        let (command_sender, commands) = spsc(8);
        let (answers, answer_receiver) = spsc(8);
        let (events, event_receiver) = spsc(1024);
        let worker = Worker {
            tables: Arc::new(topology.tables()),
            state: State::new(
                WorkerId(0),
                pools,
                flow_cache(flows)?,
                events,
                Arc::default(),
            ),
            idle: Idle::new(IdleConfig::default(), bell.clone())?,
            commands,
            answers,
            bells: vec![bell],
            polled: Vec::new(),
            uplinks: Vec::new(),
            tended_ms: 0,
        };
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
        let state = UplinkState {
            port: spec.port,
            counts,
            out: Burst::new(),
        };
        self.install(Change::AddUplink(id, Box::from(state)));
        Ok(id)
    }

    /// Makes an attachment with its port.
    ///
    /// # Errors
    /// As [`crate::Engine::attach`].
    pub fn attach(
        &mut self,
        spec: AttachmentSpec,
        port: Box<dyn PodPort>,
    ) -> Result<AttachmentId, Error> {
        let record = self.topology.add_attachment(spec)?;
        let id = record.id;
        let attachment = Attachment::new(id, &record.spec, record.counts.clone());
        self.install(Change::AddAttachment(Box::from(attachment)));
        self.ask(Command::Connect { id, port });
        Ok(id)
    }

    /// Once round the loop. Returns the number of frames received.
    pub fn round(&mut self) -> usize {
        self.worker.round()
    }

    /// Frames delivered to an attachment's pod so far; 0 if there is no such attachment.
    pub fn delivered(&mut self, attachment: AttachmentId) -> u64 {
        self.topology
            .attachment(attachment)
            .map_or(0, |record| record.counts.traffic.read().tx_frames)
    }

    /// The worker's mempools.
    pub fn pools(&mut self) -> &mut Pools {
        &mut self.worker.state.pools
    }

    /// The first half of a pod's classify stage, its tag and key: what cannot be read is freed.
    pub fn read(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        egress_read(&mut self.worker.state, attachment.slot(), burst);
    }

    /// The flow cache's stage, on frames that were read: what is known to be denied is freed.
    /// Returns how many frames nothing is known of.
    pub fn recognise(&mut self, burst: &mut Burst) -> usize {
        let Worker { tables, state, .. } = &mut self.worker;
        let places = Places::of(&state.flows, burst.as_slice());
        let mut goals = [Goal::UNKNOWN; BURST];
        match recognise(tables, state, &places, burst, &mut goals) {
            Recognised::AllPass { .. } => 0,
            Recognised::Some { unknown } => unknown,
        }
    }

    /// The whole classify stage of a pod's egress: what it rejects is freed.
    pub fn classify(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        self.read(attachment, burst);
        let worker = &mut self.worker;
        egress_classify(&worker.tables, &mut worker.state, attachment.slot(), burst);
    }

    /// The judge stage of a pod's egress: what is not allowed is freed.
    pub fn judge(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        let worker = &mut self.worker;
        egress_judge(&worker.tables, &mut worker.state, attachment, burst);
    }

    /// What comes after a pod's judge: the ingress of local destinations, uplinks, and the flush.
    /// Every mbuf is freed.
    pub fn route(&mut self, burst: &mut Burst) {
        let worker = &mut self.worker;
        route(&worker.tables, &mut worker.state, burst);
        flush(&mut worker.state);
    }

    fn install(&mut self, change: Change) {
        let tables = Arc::new(self.topology.tables());
        self.ask(Command::Install { tables, change });
    }

    fn ask(&mut self, what: Command) {
        // The ring is empty: every command is obeyed before the next is given.
        let _ = self.commands.push(Numbered { number: 0, what });
        self.worker.obey();
        while self.answers.pop().is_some() {}
    }
}
