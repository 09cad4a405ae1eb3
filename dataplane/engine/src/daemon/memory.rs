// SPDX-License-Identifier: Apache-2.0
//! Start of the datapath: workers and packet memory, on one NUMA node where the workers are.

use rustix::thread::{CpuSet, sched_setaffinity};
use sluice_datapath::{Engine, EngineConfig, WorkerConfig};
use sluice_host::topology::Topology;
use sluice_mem::HugePages;

use super::DaemonError;
use crate::config::Config;

/// Starts the datapath. Where all workers are on one NUMA node of several, so is their memory: its mempools
/// are bound to it, and what else is made at the start is first touched there.
pub(super) fn start_engine(config: &Config) -> Result<Engine, DaemonError> {
    let topology = Topology::default();
    let mut nodes = config
        .workers
        .iter()
        .map(|core| core.and_then(|core| topology.node_of(core)));
    let first = nodes.next().flatten();
    let node = first.filter(|_| nodes.all(|node| node == first));
    let Some(node) = node.filter(|_| topology.nodes().len() > 1) else {
        if topology.nodes().len() > 1 {
            tracing::warn!(
                "the workers are not pinned to cores of one NUMA node, so their memory lies where the kernel \
                 puts it: name cores of one node (`lscpu` shows them)"
            );
        }
        return Ok(Engine::start(engine_config(config, None))?);
    };
    tracing::info!("workers and mempools are on NUMA node {node}");
    let started = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut set = CpuSet::new();
            config
                .workers
                .iter()
                .flatten()
                .for_each(|&core| set.set(core));
            // Without it the memory is bound all the same, where the kernel lets it be.
            let _ = sched_setaffinity(None, &set);
            Engine::start(engine_config(config, Some(node)))
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    Ok(started?)
}

fn engine_config(config: &Config, numa_node: Option<u32>) -> EngineConfig {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    EngineConfig {
        workers: config
            .workers
            .iter()
            .map(|&core| WorkerConfig { core })
            .collect(),
        small_mbufs: config.memory.small_mbufs,
        large_mbufs: config.memory.large_mbufs,
        flow_cache: config.memory.flow_cache as usize,
        huge_pages: if config.memory.huge_pages {
            HugePages::Auto
        } else {
            HugePages::Off
        },
        numa_node,
        idle: config.idle.for_workers(),
        limits: config.limits,
    }
}
