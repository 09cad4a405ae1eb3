// SPDX-License-Identifier: Apache-2.0
//! Samples of workers and mempools.

use sluice_api::WorkerStatus;

use super::{Samples, f};
use crate::metrics::samples::Histogram;
use crate::node::EngineState;

pub(super) fn collect(samples: &mut Samples, state: &EngineState) {
    for worker in &state.status.workers {
        let id = worker.id.to_string();
        let one = [id.as_str()];
        let text = |number: Option<String>| number.unwrap_or_default();
        let core = text(worker.core.map(|core| core.to_string()));
        let numa = text(worker.numa.map(|node| node.to_string()));
        samples.add(&f::WORKER_INFO, &[&id, &core, &numa], 1);
        samples.add(&f::WORKER_BUSY, &one, worker.busy_cycles);
        samples.add(&f::WORKER_IDLE, &one, worker.idle_cycles);
        let hertz = worker.cycles_per_ms.saturating_mul(1000);
        samples.add(&f::WORKER_CLOCK, &one, hertz);
        if !worker.burst_frames.is_empty() {
            samples.histogram(&f::WORKER_BURSTS, &one, bursts(worker));
        }
        samples.add(&f::WORKER_LOOPS, &one, worker.loops);
        samples.add(&f::WORKER_EMPTY_LOOPS, &one, worker.empty_loops);
        samples.add(&f::WORKER_SLEEPS, &one, worker.sleeps);
        samples.add(&f::WORKER_COPIES, &one, worker.copies);
        samples.add(&f::WORKER_ANSWERS, &one, worker.answers);
        samples.add(&f::WORKER_HANDED_OFF, &one, worker.handed_off);
        samples.add(&f::WORKER_LOST_RECORDS, &one, worker.lost_log_records);
        samples.add(&f::FLOW_HITS, &one, worker.known);
        samples.add(&f::FLOW_INSERTIONS, &one, worker.learned);
        let connections = &worker.connections;
        samples.add(&f::CONNECTIONS, &one, connections.now);
        samples.add(&f::CONNECTIONS_OPENED, &one, connections.opened);
        samples.add(&f::CONNECTIONS_EVICTED, &one, connections.evicted);
        for (reason, number) in &connections.refused {
            samples.add(&f::CONNECTIONS_REFUSED, &[&id, reason], *number);
        }
        for (cause, frames) in &connections.invalid {
            samples.add(&f::INVALID_PACKETS, &[&id, cause], *frames);
        }
        for (reason, frames) in worker.drops.iter().filter(|(_, frames)| **frames != 0) {
            samples.add(&f::WORKER_DROPS, &[&id, reason], *frames);
        }
    }
    let memory = &state.status.memory;
    for (pool, mbufs) in [("small", memory.small), ("large", memory.large)] {
        samples.add(&f::MEMPOOL_SIZE, &[pool], mbufs.all);
        samples.add(&f::MEMPOOL_FREE, &[pool], mbufs.free);
    }
}

/// Largest size of each bucket of bursts but the last, which is of full ones.
const SIZES: [f64; 6] = [1.0, 3.0, 7.0, 15.0, 31.0, 63.0];

fn bursts(worker: &WorkerStatus) -> Histogram {
    let counts = worker.burst_frames.iter().copied();
    let bounds = SIZES.into_iter().chain([f64::INFINITY]);
    #[allow(
        clippy::cast_precision_loss,
        reason = "2^53 frames take a year at any rate"
    )]
    let sum = worker.burst_frames_sum as f64;
    Histogram {
        sum,
        count: counts.clone().sum(),
        buckets: bounds.zip(counts.chain(std::iter::repeat(0))).collect(),
    }
}
