// SPDX-License-Identifier: Apache-2.0
//! Dispatch stage: frames go, in order, to an attachment of this worker, out of an uplink, to
//! everybody in the segment, or to the worker that owns their destination.

pub(crate) mod deliver;
pub(crate) mod flood;
pub(crate) mod handoff;
pub(crate) mod snoop;
pub(crate) mod uplink;

use sluice_mem::Burst;

use super::lookup::Lookup;
use super::state::WorkerState;
use super::tables::Tables;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::{Destination, PackedDestination};

/// Sends every frame of a burst on its way. Consecutive frames for one destination stay together.
#[inline]
pub(crate) fn dispatch(
    tables: &Tables,
    state: &mut WorkerState,
    flows: &Lookup,
    burst: &mut Burst,
) {
    match flows.one_destination() {
        Some(destination) => send(tables, state, destination, burst),
        None => send_runs(tables, state, flows, burst),
    }
}

/// Sends a burst on its way whose frames go to several destinations.
fn send_runs(tables: &Tables, state: &mut WorkerState, flows: &Lookup, burst: &mut Burst) {
    if let Some(mut destinations) = flows.destinations(burst.len()) {
        while let Some(&destination) = destinations.first() {
            let same = |&&other: &&PackedDestination| other == destination;
            let run = destinations.iter().take_while(same).count();
            destinations = &destinations[run..];
            send(tables, state, destination, &mut take_front(burst, run));
        }
        return;
    }
    while let Some(first) = burst.iter().next() {
        let destination = FrameInfo::of(first).packed_destination();
        let run = burst
            .iter()
            .take_while(|mbuf| FrameInfo::of(mbuf).packed_destination() == destination)
            .count();
        send(tables, state, destination, &mut take_front(burst, run));
    }
}

/// Sends frames on their way that all go to `destination`, which need not be in their facts.
fn send(
    tables: &Tables,
    state: &mut WorkerState,
    destination: PackedDestination,
    burst: &mut Burst,
) {
    match destination.unpack() {
        Destination::Attachment(id) => {
            if state.attachment(id).is_some() {
                return deliver::deliver(state, id, burst);
            }
            match tables.attachment(id) {
                Some(entry) => handoff::hand_off(tables, state, entry.owner, destination, burst),
                None => state.drop_burst(burst, DropReason::Gone),
            }
        }
        Destination::Uplink(id) => match tables.uplink(id) {
            Some(table) if table.worker == state.id => uplink::send(table, state, id, burst),
            Some(table) => handoff::hand_off(tables, state, table.worker, destination, burst),
            None => state.drop_burst(burst, DropReason::Gone),
        },
        Destination::Flood => {
            for mbuf in burst.drain_front(burst.len()) {
                flood::flood(tables, state, mbuf);
            }
        }
        Destination::LocalFlood => {
            for mbuf in burst.drain_front(burst.len()) {
                flood::flood_copy(tables, state, mbuf);
            }
        }
        Destination::Unknown => state.drop_burst(burst, DropReason::Gone),
    }
}

/// Takes the first `run` frames out.
fn take_front(burst: &mut Burst, run: usize) -> Burst {
    if run == burst.len() {
        return std::mem::take(burst);
    }
    let mut front = Burst::new();
    for mbuf in burst.drain_front(run) {
        // A burst holds as many as a burst.
        let _ = front.push(mbuf);
    }
    front
}
