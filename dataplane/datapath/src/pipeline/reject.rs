// SPDX-License-Identifier: Apache-2.0
//! Reject: a rejected frame is turned round into its own answer, which waits in the outbox.

use sluice_firewall::Direction;
use sluice_mem::Mbuf;
use sluice_packet::reject::{self, RejectBuffer};
use sluice_packet::{InnerTag, parse};

use super::state::WorkerState;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::Origin;

/// Answers a frame that was rejected in `direction`, on the port it came from, within the limit of
/// the attachment that rejects it.
///
/// Frames that are never answered (RST, ICMP errors, groups, later fragments, not IP) are dropped as
/// if the rule had said drop; those over the limit, or for which the outbox has no room, are counted
/// as limited.
pub(crate) fn answer(state: &mut WorkerState, direction: Direction, mut mbuf: Mbuf) {
    let Ok(parsed) = parse(mbuf.data(), InnerTag::Allow) else {
        return state.drop_at(direction, mbuf, DropReason::Denied);
    };
    if reject::answer(mbuf.data(), &parsed).is_err() {
        return state.drop_at(direction, mbuf, DropReason::Denied);
    }
    if state.outbox.is_full() || !take_token(state, direction, &mbuf) {
        return state.drop_at(direction, mbuf, DropReason::RejectLimited);
    }
    if reject::build(&mut AnswerBuffer(&mut mbuf), &parsed).is_err() {
        return state.drop_at(direction, mbuf, DropReason::Denied);
    }
    if let Some(drops) = state.drops_at(direction, &mbuf) {
        drops.add(DropReason::Rejected, 1);
    }
    state.counts.answers.add(1);
    let info = FrameInfo::of_mut(&mut mbuf);
    info.set_exempt();
    info.set_destination(match info.origin() {
        Origin::Attachment(id) => Destination::Attachment(id),
        Origin::Uplink(id) => Destination::Uplink(id),
    });
    if let Err(mbuf) = state.outbox.push(mbuf) {
        state.drop_frame(mbuf, DropReason::RejectLimited);
    }
}

/// Takes a token from the limit of the attachment that rejects; `false` if there is none.
fn take_token(state: &mut WorkerState, direction: Direction, mbuf: &Mbuf) -> bool {
    let now_ns = state.clock.now_ns();
    FrameInfo::of(mbuf)
        .judged_at(direction)
        .and_then(|id| state.attachment(id))
        .is_some_and(|attachment| attachment.rejects.take(now_ns))
}

/// Mbuf in which the answer is built.
struct AnswerBuffer<'a>(&'a mut Mbuf);

impl RejectBuffer for AnswerBuffer<'_> {
    fn frame(&self) -> &[u8] {
        self.0.data()
    }

    fn frame_mut(&mut self) -> &mut [u8] {
        self.0.data_mut()
    }

    fn prepend(&mut self, len_bytes: usize) -> bool {
        self.0.prepend(len_bytes)
    }

    fn truncate(&mut self, len_bytes: usize) {
        self.0.truncate(len_bytes);
    }
}
