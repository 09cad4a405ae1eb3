// SPDX-License-Identifier: Apache-2.0
//! End of a round: answers leave the outbox, pods see what was delivered, uplinks send.

use sluice_mem::Burst;

use super::dispatch::{deliver, dispatch, uplink};
use super::judge;
use super::lookup::Lookup;
use super::state::WorkerState;
use super::tables::Tables;

/// Sends everything that the flows of a round have collected.
pub(crate) fn flush(tables: &Tables, state: &mut WorkerState) {
    send_answers(tables, state);
    deliver::publish(state);
    uplink::flush_all(state);
}

/// Dispatches the answers of the outbox: after every visit, so that no attachment finds it filled by
/// another. None of them is judged, so none makes another answer.
#[inline]
pub(crate) fn send_answers(tables: &Tables, state: &mut WorkerState) {
    while !state.outbox.is_empty() {
        let mut burst = Burst::new();
        state.outbox.take(&mut burst);
        let mut flows = Lookup::all_missed(burst.len());
        judge::at_receivers(tables, state, &mut flows, &mut burst);
        dispatch(tables, state, &flows, &mut burst);
    }
}
