// SPDX-License-Identifier: Apache-2.0
//! Samples of one scrape, from the state of the engine and of the agent.

mod agent;
mod attachments;
mod engine;
mod uplinks;
mod workers;

#[cfg(test)]
mod tests;

use crate::config::MetricsConfig;
use crate::context::Context;
use crate::node::EngineState;

use super::families as f;
use super::operations::Operations;
use super::samples::Samples;
use super::vfs::Vf;

/// Collects everything. An engine that does not answer has `sluicegate_up 0` and nothing else.
pub(super) fn collect(
    context: &Context,
    config: &MetricsConfig,
    operations: &Operations,
    engine: Result<&EngineState, &String>,
    vfs: &[Vf],
) -> Samples {
    let mut samples = Samples::default();
    agent::collect(&mut samples, context);
    operations.collect(&mut samples);
    samples.add(&f::UP, &[], u64::from(engine.is_ok()));
    if let Ok(state) = engine {
        engine::collect(&mut samples, state);
        attachments::collect(&mut samples, state, config.max_attachments);
        uplinks::collect(&mut samples, state);
        workers::collect(&mut samples, state);
    }
    uplinks::vfs(&mut samples, vfs, engine.ok(), config.sriov_kubepoddevice);
    samples
}
