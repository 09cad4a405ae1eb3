// SPDX-License-Identifier: Apache-2.0
//! Engine of one VLAN, for the sections that run a whole one.

use std::time::Duration;

use anyhow::Result;
use sluice_benches::scene::{pod, policies, wire};
use sluice_datapath::{
    AttachmentSpec, Engine, EngineConfig, IdleConfig, Limits, PodPort, UplinkId, WorkerConfig,
};
use sluice_mem::HugePages;

/// Starts an engine with one worker for each of `cores` and a policy of `rules` rules for VLAN 210.
pub(crate) fn start(cores: &[usize], rules: u16, idle: IdleConfig) -> Result<(Engine, UplinkId)> {
    let engine = Engine::start(EngineConfig {
        numa_node: None,
        workers: cores
            .iter()
            .map(|&core| WorkerConfig { core: Some(core) })
            .collect(),
        small_mbufs: 8192,
        large_mbufs: 256,
        flow_cache: 131_072,
        huge_pages: HugePages::Auto,
        idle,
        limits: Limits::default(),
    })?;
    let uplink = engine.add_uplink(wire())?;
    engine.set_policies(policies(rules))?;
    Ok((engine, uplink))
}

/// Attaches a pod to a worker.
pub(crate) fn attach(
    engine: &Engine,
    uplink: UplinkId,
    number: usize,
    pair: u8,
    worker: usize,
    port: Box<dyn PodPort>,
) -> Result<()> {
    let attached = engine.attach(AttachmentSpec {
        worker: Some(worker),
        ..pod(uplink, number, pair)
    })?;
    engine.connect(attached.id, port)?;
    Ok(())
}

/// Idle configuration of a worker that always polls.
pub(crate) fn restless() -> IdleConfig {
    IdleConfig {
        pause_after: u32::MAX,
        sleep_after: None,
        sleep_cap: Duration::from_millis(1),
    }
}
