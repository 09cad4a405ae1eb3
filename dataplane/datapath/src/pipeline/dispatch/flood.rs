// SPDX-License-Identifier: Apache-2.0
//! Flooding: a group frame goes to everybody in its segment but its sender, within two rate limits;
//! a pod's frame goes to the wire as well. Every receiver judges it for itself.

use sluice_mem::{Burst, Mbuf};

use super::{deliver, handoff, uplink};
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::Origin;
use crate::ids::AttachmentId;
use crate::pipeline::judge;
use crate::pipeline::policy_context::Decision;
use crate::pipeline::state::WorkerState;
use crate::pipeline::tables::{SegmentTable, Tables};

/// Floods one frame in its segment.
pub(crate) fn flood(tables: &Tables, state: &mut WorkerState, mbuf: Mbuf) {
    let info = FrameInfo::of(&mbuf);
    let origin = info.origin();
    let Some(segment) = tables.segment(info.segment()) else {
        return state.drop_at_origin(mbuf, DropReason::NoSegment);
    };
    if !within_limits(state, segment, origin) {
        return state.drop_at_origin(mbuf, DropReason::FloodLimited);
    }
    to_local_members(tables, state, &mbuf);
    for worker in 0..state.to_workers.len() {
        if segment.member_workers & 1 << worker != 0 && worker != state.id.index() {
            handoff::hand_off_copy(state, worker, &mbuf);
        }
    }
    match origin {
        Origin::Uplink(_) => state.pools.free(mbuf),
        Origin::Attachment(_) => to_wire(tables, state, segment, mbuf),
    }
}

/// Whether the sender and its segment may flood another frame now.
fn within_limits(state: &mut WorkerState, segment: &SegmentTable, origin: Origin) -> bool {
    let now_ms = state.now_ms;
    let sender = match origin {
        Origin::Attachment(id) => state
            .attachment(id)
            .is_none_or(|attachment| attachment.floods.take(now_ms)),
        Origin::Uplink(_) => true,
    };
    sender
        && segment
            .flood
            .get(state.id.index())
            .is_some_and(|bucket| bucket.take(now_ms))
}

/// Delivers a frame to the attachments of its segment that this worker owns, but its sender.
pub(crate) fn to_local_members(tables: &Tables, state: &mut WorkerState, mbuf: &Mbuf) {
    let info = FrameInfo::of(mbuf);
    let Some(segment) = tables.segment(info.segment()) else {
        state.counts.drops.add(DropReason::NoSegment, 1);
        return;
    };
    // From here on there are only copies of it, each of which is sent or dropped.
    state.counts.flooded.add(1);
    for member in &segment.members {
        let is_sender = info.origin() == Origin::Attachment(member.id);
        if member.owner != state.id || is_sender {
            continue;
        }
        state.counts.copies.add(1);
        match judge::at_receiver(tables, state, member.id, mbuf) {
            Decision::Pass => {
                deliver::deliver_borrowed(state, member.id, std::slice::from_ref(mbuf));
            }
            // A flooded frame is never answered.
            Decision::Reject | Decision::Open => {
                count_drop(state, member.id, DropReason::Denied);
            }
            Decision::Drop(reason) => count_drop(state, member.id, reason),
        }
    }
}

/// Counts a frame that one of its receivers does not get.
fn count_drop(state: &mut WorkerState, id: AttachmentId, reason: DropReason) {
    match state.attachment(id) {
        Some(attachment) => attachment.counts.ingress_drops.add(reason, 1),
        None => state.counts.drops.add(reason, 1),
    }
}

/// Sends a pod's frame out of its segment's uplink.
fn to_wire(tables: &Tables, state: &mut WorkerState, segment: &SegmentTable, mbuf: Mbuf) {
    state.counts.copies.add(1);
    let id = segment.id.uplink();
    let mut alone = Burst::new();
    if let Err(mbuf) = alone.push(mbuf) {
        return state.drop_frame(mbuf, DropReason::Gone);
    }
    match tables.uplink(id) {
        Some(table) if table.worker == state.id => uplink::send(table, state, id, &mut alone),
        Some(table) => {
            let destination = Destination::Uplink(id).pack();
            handoff::hand_off(state, table.worker, destination, &mut alone);
        }
        None => state.drop_burst(&mut alone, DropReason::Gone),
    }
}
