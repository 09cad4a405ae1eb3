// SPDX-License-Identifier: Apache-2.0
//! Frames that other workers handed off: parsed, classified and judged at their sender there, looked
//! up and judged at their receiver here.

use sluice_mem::Burst;

use super::dispatch::dispatch;
use super::judge;
use super::lookup::Lookup;
use super::parse;
use super::state::WorkerState;
use super::tables::Tables;

/// Takes at most one burst of each other worker's ring through the rest of its flow. Returns the
/// number of frames taken.
pub(crate) fn handed_off(tables: &Tables, state: &mut WorkerState) -> usize {
    let mut taken = 0;
    for worker in 0..state.from_workers.len() {
        let mut burst = Burst::new();
        receive(state, worker, &mut burst);
        if burst.is_empty() {
            continue;
        }
        taken += burst.len();
        state.counts.taken_over.add(burst.len() as u64);
        let buckets = parse::from_worker(state, &mut burst);
        let mut flows = Lookup::new();
        flows.look_up(tables, state, &buckets, &mut burst);
        if !flows.all_hit() {
            judge::at_receivers(tables, state, &mut flows, &mut burst);
        }
        dispatch(tables, state, &flows, &mut burst);
    }
    taken
}

/// Takes a burst out of the ring from `worker`.
fn receive(state: &mut WorkerState, worker: usize, burst: &mut Burst) {
    let Some(Some(ring)) = state.from_workers.get_mut(worker) else {
        return;
    };
    while burst.room() > 0 {
        let Some(mbuf) = ring.pop() else { break };
        if let Err(mbuf) = burst.push(mbuf) {
            state.pools.free(mbuf);
            break;
        }
    }
}
