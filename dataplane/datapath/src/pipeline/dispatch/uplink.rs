// SPDX-License-Identifier: Apache-2.0
//! Transmission: frames are tagged for the wire, collected until the flow ends, and sent at once.

use sluice_mem::{Burst, Mbuf};

use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::ids::UplinkId;
use crate::pipeline::state::WorkerState;
use crate::pipeline::tables::UplinkTable;
use crate::pipeline::tags::{is_untagged_on, tag_for_wire};
use crate::ports::seam::PortContext;

/// Collects frames for an uplink that this worker polls.
pub(crate) fn send(table: &UplinkTable, state: &mut WorkerState, id: UplinkId, burst: &mut Burst) {
    if let Some(share) = state.tx.get_mut(id.index()) {
        share.take(burst.len());
    }
    for mut mbuf in burst.drain_front(burst.len()) {
        if mbuf.len() > table.max_frame {
            drop_at(state, id, mbuf, DropReason::TooLong);
            continue;
        }
        // Without its segment's tag the inner one would be the outermost: another VLAN's frame.
        let info = FrameInfo::of(&mbuf);
        if info.has_inner_tag() && is_untagged_on(table, info) {
            drop_at(state, id, mbuf, DropReason::InnerTag);
            continue;
        }
        tag_for_wire(table, &mut mbuf);
        let Some(uplink) = state.uplink(id) else {
            state.drop_frame(mbuf, DropReason::Gone);
            continue;
        };
        if let Err(mbuf) = uplink.out.push(mbuf) {
            flush(state, id);
            match state.uplink(id) {
                Some(uplink) => {
                    if let Err(mbuf) = uplink.out.push(mbuf) {
                        drop_at(state, id, mbuf, DropReason::UplinkFull);
                    }
                }
                None => state.drop_frame(mbuf, DropReason::Gone),
            }
        }
    }
}

/// Sends the frames that were collected for every uplink.
pub(crate) fn flush_all(state: &mut WorkerState) {
    for number in 0..state.uplinks.len() {
        if let Ok(number) = u16::try_from(number) {
            flush(state, UplinkId(number));
        }
    }
}

/// Sends the frames that were collected for one uplink. Those that it does not take are dropped:
/// nothing waits for it.
fn flush(state: &mut WorkerState, id: UplinkId) {
    let Some(uplink) = state.uplinks.get_mut(id.index()).and_then(Option::as_mut) else {
        return;
    };
    if uplink.out.is_empty() {
        return;
    }
    let mut context = PortContext {
        pools: &mut state.pools,
        drops: &uplink.counts.drops,
    };
    let sent = uplink.port.tx_burst(&mut context, &mut uplink.out);
    uplink.counts.traffic.sent(sent.frames, sent.bytes);
    uplink
        .counts
        .drops
        .add(DropReason::UplinkFull, uplink.out.len() as u64);
    state.pools.free_burst(&mut uplink.out);
}

/// Drops a frame on its way out of an uplink.
fn drop_at(state: &mut WorkerState, id: UplinkId, mbuf: Mbuf, reason: DropReason) {
    match state.uplink(id) {
        Some(uplink) => {
            uplink.counts.drops.add(reason, 1);
            state.pools.free(mbuf);
        }
        None => state.drop_frame(mbuf, reason),
    }
}
