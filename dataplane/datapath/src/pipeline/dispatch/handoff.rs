// SPDX-License-Identifier: Apache-2.0
//! Handoff: frames go to the worker that owns their destination, over rings that accounts share.

use sluice_firewall::Direction;
use sluice_mem::{Burst, Mbuf};

use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::{Destination, PackedDestination};
use crate::frame::origin_tag::Origin;
use crate::ids::{FlowNumber, WorkerId};
use crate::pipeline::handoff_ring::Charge;
use crate::pipeline::state::WorkerState;
use crate::pipeline::tables::Tables;
use crate::pipeline::tx_shares;

/// Hands frames off to the worker that owns their destination.
pub(crate) fn hand_off(
    tables: &Tables,
    state: &mut WorkerState,
    worker: WorkerId,
    destination: PackedDestination,
    burst: &mut Burst,
) {
    for mut mbuf in burst.drain_front(burst.len()) {
        let info = FrameInfo::of_mut(&mut mbuf);
        info.set_packed_destination(destination);
        // The number means nothing in the other's flow cache.
        info.set_flow(FlowNumber::NONE);
        push(tables, state, worker.index(), mbuf);
    }
    wake(state, worker.index());
}

/// Hands a copy of a flooded frame off to a worker that owns attachments of its segment.
pub(crate) fn hand_off_copy(tables: &Tables, state: &mut WorkerState, worker: usize, mbuf: &Mbuf) {
    state.counts.copies.add(1);
    let Some(mut copy) = state.pools.alloc_for(mbuf.len()) else {
        return count_at_origin(state, mbuf, DropReason::NoMbuf);
    };
    if !copy.copy_from(mbuf.data()) {
        return state.drop_frame(copy, DropReason::TooLong);
    }
    *copy.scratch_mut() = *mbuf.scratch();
    FrameInfo::of_mut(&mut copy).set_destination(Destination::LocalFlood);
    push(tables, state, worker, copy);
    wake(state, worker);
}

/// Pushes one frame, whose destination is in its facts.
#[inline]
fn push(tables: &Tables, state: &mut WorkerState, worker: usize, mbuf: Mbuf) {
    let info = FrameInfo::of(&mbuf);
    let charge = Charge::of(info);
    let uplink = match info.destination() {
        Destination::Uplink(id) => Some(id),
        _ => None,
    };
    if uplink.is_some_and(|id| !tx_shares::has_place(state, id)) {
        return refuse(tables, state, mbuf, DropReason::UplinkFull);
    }
    let large = state.pools.is_large(&mbuf);
    // What a flooded frame costs its receivers keeps it in the queue, where a visit ends at it.
    let may_pass = info.destination() != Destination::LocalFlood;
    let Some(Some(rings)) = state.to_workers.get_mut(worker) else {
        return state.drop_frame(mbuf, DropReason::Gone);
    };
    let pushed = match charge {
        Charge::Pod(account) => rings.pods.push(account, large, may_pass, mbuf),
        Charge::Other(account) => rings
            .others
            .push_within_share(account, large, may_pass, mbuf),
    };
    match pushed {
        Ok(()) => {
            state.counts.handed_off.add(1);
            if let Some(id) = uplink {
                tx_shares::spend(tables, state, id);
            }
        }
        Err(mbuf) => refuse(tables, state, mbuf, DropReason::HandoffFull),
    }
}

/// Has a worker woken at the end of the round, and notes whether its ring is crowded.
#[inline]
fn wake(state: &mut WorkerState, worker: usize) {
    if let Some(Some(rings)) = state.to_workers.get(worker)
        && rings.pods.may_be_crowded()
    {
        state.crowded |= 1 << worker;
    }
    state.to_wake |= 1 << worker;
}

/// Drops a frame that its account has no room for, and counts it at the account: the attachment that
/// was to get it, or whoever sent it.
#[cold]
fn refuse(tables: &Tables, state: &mut WorkerState, mbuf: Mbuf, reason: DropReason) {
    let info = FrameInfo::of(&mbuf);
    let receiver = match (Charge::of(info), info.destination()) {
        (Charge::Other(_), Destination::Attachment(id)) => tables.attachment(id),
        _ => None,
    };
    match receiver {
        Some(entry) => {
            entry.counts.handoff_full.add(1);
            state.counts.drops_elsewhere.add(1);
            state.pools.free(mbuf);
        }
        None => state.drop_at_origin(mbuf, reason),
    }
}

/// Counts a copy that could not be made at the port that the frame came from.
#[cold]
fn count_at_origin(state: &mut WorkerState, mbuf: &Mbuf, reason: DropReason) {
    let at_origin = match FrameInfo::of(mbuf).origin() {
        Origin::Attachment(_) => state.drops_at(Direction::Egress, mbuf),
        Origin::Uplink(id) => state.uplink(id).map(|uplink| &uplink.counts.drops),
    };
    match at_origin {
        Some(drops) => drops.add(reason, 1),
        None => state.counts.drops.add(reason, 1),
    }
}
