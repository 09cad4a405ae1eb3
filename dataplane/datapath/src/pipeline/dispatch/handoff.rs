// SPDX-License-Identifier: Apache-2.0
//! Handoff: frames go to the worker that owns their destination, over a ring per pair of workers.

use sluice_mem::{Burst, Mbuf};

use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::{Destination, PackedDestination};
use crate::ids::{FlowNumber, WorkerId};
use crate::pipeline::state::WorkerState;

/// Hands frames off to the worker that owns their destination.
pub(crate) fn hand_off(
    state: &mut WorkerState,
    worker: WorkerId,
    destination: PackedDestination,
    burst: &mut Burst,
) {
    for mut mbuf in burst.drain_front(burst.len()) {
        let Some(Some(ring)) = state.to_workers.get_mut(worker.index()) else {
            state.drop_frame(mbuf, DropReason::Gone);
            continue;
        };
        let info = FrameInfo::of_mut(&mut mbuf);
        info.set_packed_destination(destination);
        // The number means nothing in the other's flow cache.
        info.set_flow(FlowNumber::NONE);
        match ring.push(mbuf) {
            Ok(()) => state.counts.handed_off.add(1),
            Err(mbuf) => state.drop_frame(mbuf, DropReason::HandoffFull),
        }
    }
    state.to_wake |= 1 << worker.index();
}

/// Hands a copy of a flooded frame off to a worker that owns attachments of its segment.
pub(crate) fn hand_off_copy(state: &mut WorkerState, worker: usize, mbuf: &Mbuf) {
    state.counts.copies.add(1);
    let Some(mut copy) = state.pools.alloc_for(mbuf.len()) else {
        state.counts.drops.add(DropReason::NoMbuf, 1);
        return;
    };
    if !copy.copy_from(mbuf.data()) {
        state.drop_frame(copy, DropReason::TooLong);
        return;
    }
    *copy.scratch_mut() = *mbuf.scratch();
    FrameInfo::of_mut(&mut copy).set_destination(Destination::LocalFlood);
    let Some(Some(ring)) = state.to_workers.get_mut(worker) else {
        state.drop_frame(copy, DropReason::Gone);
        return;
    };
    match ring.push(copy) {
        Ok(()) => state.counts.handed_off.add(1),
        Err(copy) => state.drop_frame(copy, DropReason::HandoffFull),
    }
    state.to_wake |= 1 << worker;
}
