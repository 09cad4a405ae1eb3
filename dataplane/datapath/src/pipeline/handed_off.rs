// SPDX-License-Identifier: Apache-2.0
//! Frames that other workers handed off: parsed, classified and judged at their sender there, looked
//! up and judged at their receiver here.

use sluice_mem::{BURST, Burst};

use super::dispatch::dispatch;
use super::dispatch::flood::most_copies;
use super::judge;
use super::lookup::Lookup;
use super::parse;
use super::state::WorkerState;
use super::tables::Tables;
use super::tracked::Source;
use super::tx_shares;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::ids::UplinkId;

/// Copies of flooded frames in one visit of a ring, after which no other flooded frame is taken from it.
/// They stay in the ring, where their senders' shares are.
pub(crate) const COPIES_A_VISIT: u64 = 4 * BURST as u64;

/// Takes at most one burst of each of another worker's rings through the rest of its flow, and no flooded
/// frame once they have made `most` copies. Returns the number of frames taken.
pub(crate) fn handed_off(
    tables: &Tables,
    state: &mut WorkerState,
    worker: usize,
    most: u64,
) -> usize {
    if !matches!(state.from_workers.get(worker), Some(Some(_))) {
        return 0;
    }
    let pods = visit(tables, state, worker, Ring::Pods, most);
    pods + visit(tables, state, worker, Ring::Others, most)
}

/// Takes at most one burst of a ring through the rest of its flow. Returns the number of frames taken.
fn visit(tables: &Tables, state: &mut WorkerState, worker: usize, ring: Ring, most: u64) -> usize {
    let before = state.counts.copies.get();
    let (mut taken, mut left) = (0, most);
    // Mostly once: what a flooded frame takes is known only when it was flooded.
    while left > 0 {
        let mut burst = Burst::with_room(BURST - taken);
        let is_cut = receive(tables, state, (worker, ring), left, &mut burst);
        if burst.is_empty() {
            return taken;
        }
        taken += burst.len();
        state.counts.taken_over.add(burst.len() as u64);
        note_arrivals(tables, state, worker, &burst);
        let buckets = parse::from_worker(state, &mut burst);
        let mut flows = Lookup::new();
        flows.look_up(tables, state, Source::Worker, &buckets, &mut burst);
        if !flows.all_hit() {
            judge::at_receivers(tables, state, &mut flows, &mut burst);
        }
        dispatch(tables, state, &flows, &mut burst);
        if !is_cut {
            return taken;
        }
        let copies = state.counts.copies.get().wrapping_sub(before);
        left = most.saturating_sub(copies);
    }
    taken
}

/// Ring of those from another worker.
#[derive(Clone, Copy)]
enum Ring {
    Pods,
    Others,
}

/// Takes a burst out of a ring from a worker. Whether a flooded frame was left there, for which `left`
/// copies may not suffice.
fn receive(
    tables: &Tables,
    state: &mut WorkerState,
    (worker, ring): (usize, Ring),
    left: u64,
    burst: &mut Burst,
) -> bool {
    let Some(Some(rings)) = state.from_workers.get_mut(worker) else {
        return false;
    };
    let ring = match ring {
        Ring::Pods => &mut rings.pods,
        Ring::Others => &mut rings.others,
    };
    ring.receive(&mut state.pools, burst, left, |mbuf| {
        most_copies(tables, mbuf)
    })
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
