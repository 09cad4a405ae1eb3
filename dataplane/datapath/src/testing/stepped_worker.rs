// SPDX-License-Identifier: Apache-2.0
//! Worker without a thread: the caller's thread runs its loop or its stages one by one. Benches
//! measure with it; everything but the thread is a real worker's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sluice_firewall::PolicySet;
use sluice_mem::{Burst, Pools};

use super::stepped_engine::SteppedEngine;
use crate::control::memory::RingSizes;
use crate::error::Error;
use crate::flows::BucketIndexes;
use crate::frame::FrameInfo;
use crate::frame::origin_tag::Origin;
use crate::ids::{AttachmentId, UplinkId};
use crate::limits::Limits;
use crate::pipeline::dispatch::dispatch;
use crate::pipeline::flush::flush;
use crate::pipeline::lookup::Lookup;
use crate::pipeline::tracked::Source;
use crate::pipeline::{classify, judge, parse};
use crate::ports::seam::PodPort;
use crate::spec::{AttachmentSpec, UplinkSpec};
use crate::worker::Worker;

/// Engine of one worker that the caller steps, stage by stage where it wants to.
pub struct SteppedWorker {
    engine: SteppedEngine,
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
        SteppedWorker::with_limits(pools, policies, flows, Limits::default())
    }

    /// Makes a worker as [`SteppedWorker::new`] does whose sources have these limits.
    ///
    /// # Errors
    /// As [`SteppedWorker::new`].
    pub fn with_limits(
        pools: Pools,
        policies: Arc<PolicySet>,
        flows: usize,
        limits: Limits,
    ) -> Result<SteppedWorker, Error> {
        // One worker has no rings.
        let sizes = RingSizes::for_pools(1, 0, 0);
        let engine = SteppedEngine::over(vec![pools], sizes, policies, flows, limits)?;
        Ok(SteppedWorker { engine })
    }

    /// Adds an uplink.
    ///
    /// # Errors
    /// As [`crate::Engine::add_uplink`].
    pub fn add_uplink(&mut self, spec: UplinkSpec) -> Result<UplinkId, Error> {
        self.engine.add_uplink(spec)
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
        self.engine.attach(spec, port)
    }

    fn worker(&mut self) -> &mut Worker {
        self.engine.worker(0)
    }

    /// Stops the worker's clock at a time, which stays until the next call.
    pub fn set_clock(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.worker().state.clock.step_to(nanos);
    }

    /// Runs the loop once. Returns the number of frames received.
    pub fn round(&mut self) -> usize {
        self.engine.round()
    }

    /// Returns the number of frames delivered to an attachment's pod; 0 if there is no such attachment.
    pub fn delivered(&mut self, attachment: AttachmentId) -> u64 {
        self.engine
            .topology
            .attachment(attachment)
            .map_or(0, |record| record.counts.traffic.read().tx_frames)
    }

    /// Returns the worker's mempools.
    pub fn pools(&mut self) -> &mut Pools {
        &mut self.worker().state.pools
    }

    /// Runs the parse stage of a pod's egress: frames that cannot be read are freed.
    pub fn parse(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        parse::from_pod(&mut self.worker().state, attachment, burst);
    }

    /// Runs the lookup stage on frames that were parsed: those that a cached verdict denies are
    /// freed. Returns whether all others hit.
    pub fn lookup(&mut self, burst: &mut Burst) -> bool {
        let Worker { tables, state, .. } = self.worker();
        let buckets = BucketIndexes::of(&state.flows, burst.as_slice());
        let source = match burst.iter().next().map(|mbuf| FrameInfo::of(mbuf).origin()) {
            Some(Origin::Attachment(id)) => Source::Pod(id),
            _ => Source::Wire,
        };
        let mut flows = Lookup::new();
        flows.look_up(tables, state, source, &buckets, burst);
        flows.all_hit()
    }

    /// Runs the parse and classify stages of a pod's egress on frames of which none hits: those that
    /// they refuse are freed.
    pub fn classify(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        self.parse(attachment, burst);
        let mut flows = Lookup::all_missed(burst.len());
        let Worker { tables, state, .. } = self.worker();
        classify::from_pod(tables, state, attachment, &mut flows, burst);
    }

    /// Runs the judge stage of a pod's egress on frames of which none hits: those that its policies
    /// do not accept are freed.
    pub fn judge(&mut self, attachment: AttachmentId, burst: &mut Burst) {
        let mut flows = Lookup::all_missed(burst.len());
        let Worker { tables, state, .. } = self.worker();
        judge::at_sender(tables, state, attachment, &mut flows, burst);
    }

    /// Runs the stages behind a pod's judge, and the flush: every mbuf is freed.
    pub fn dispatch(&mut self, burst: &mut Burst) {
        let mut flows = Lookup::all_missed(burst.len());
        let Worker { tables, state, .. } = self.worker();
        judge::at_receivers(tables, state, &mut flows, burst);
        dispatch(tables, state, &flows, burst);
        flush(tables, state);
    }
}
