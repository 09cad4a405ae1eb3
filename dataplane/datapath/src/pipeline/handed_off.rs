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
use super::tx_shares;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::ids::UplinkId;

/// Takes at most one burst of each of another worker's rings through the rest of its flow. Returns the
/// number of frames taken.
pub(crate) fn handed_off(tables: &Tables, state: &mut WorkerState, worker: usize) -> usize {
    if !matches!(state.from_workers.get(worker), Some(Some(_))) {
        return 0;
    }
    let mut taken = 0;
    for ring in [Ring::Pods, Ring::Others] {
        let mut burst = Burst::new();
        receive(state, worker, ring, &mut burst);
        if burst.is_empty() {
            continue;
        }
        taken += burst.len();
        state.counts.taken_over.add(burst.len() as u64);
        note_arrivals(tables, state, worker, &burst);
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

/// Ring of those from another worker.
#[derive(Clone, Copy)]
enum Ring {
    Pods,
    Others,
}

/// Takes a burst out of a ring from `worker`.
fn receive(state: &mut WorkerState, worker: usize, ring: Ring, burst: &mut Burst) {
    let Some(Some(rings)) = state.from_workers.get_mut(worker) else {
        return;
    };
    let ring = match ring {
        Ring::Pods => &mut rings.pods,
        Ring::Others => &mut rings.others,
    };
    ring.receive(&mut state.pools, burst);
}

/// Notes the frames that go out of an uplink: their places in its ring were kept.
fn note_arrivals(tables: &Tables, state: &mut WorkerState, from: usize, burst: &Burst) {
    let mut run: Option<(UplinkId, u32)> = None;
    for mbuf in burst.iter() {
        let Destination::Uplink(id) = FrameInfo::of(mbuf).destination() else {
            continue;
        };
        run = match run {
            Some((same, frames)) if same == id => Some((same, frames + 1)),
            ended => {
                if let Some((id, frames)) = ended {
                    tx_shares::arrived(tables, state, from, id, frames);
                }
                Some((id, 1))
            }
        };
    }
    if let Some((id, frames)) = run {
        tx_shares::arrived(tables, state, from, id, frames);
    }
}
