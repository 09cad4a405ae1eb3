// SPDX-License-Identifier: Apache-2.0
//! Judge stage: frames that the policies do not accept are removed, and rejected ones are answered.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst, Mbuf};

use super::attachment::Attachment;
use super::frame_set::FrameSet;
use super::lookup::Lookup;
use super::policy_context::{Decision, PolicyContext};
use super::reject;
use super::state::WorkerState;
use super::tables::Tables;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::ids::AttachmentId;

/// Judges the misses of a burst by the egress policies of the pod that sent them.
pub(crate) fn at_sender(
    tables: &Tables,
    state: &mut WorkerState,
    sender: AttachmentId,
    flows: &mut Lookup,
    burst: &mut Burst,
) {
    let misses = flows.misses();
    if misses.is_empty() {
        return;
    }
    let mut decisions = [Decision::Pass; BURST];
    for (n, decision) in decisions[..burst.len()].iter_mut().enumerate() {
        if misses.contains(n) {
            *decision = Decision::Open;
        }
    }
    let context = PolicyContext {
        tables,
        attachment: sender,
        direction: Direction::Egress,
    };
    context.judge_open(state, burst.as_mut_slice(), &mut decisions);
    remove_refused(state, Direction::Egress, flows, burst, &decisions);
}

/// Judges frames to attachments of this worker by the ingress policies of those, unless they hit.
/// Frames that go elsewhere pass: another worker's attachment judges there, floods are judged for
/// each receiver, and no policy judges at an uplink.
pub(crate) fn at_receivers(
    tables: &Tables,
    state: &mut WorkerState,
    flows: &mut Lookup,
    burst: &mut Burst,
) {
    let misses = flows.receiver_misses();
    if misses.is_empty() {
        return;
    }
    let mut decisions = [Decision::Pass; BURST];
    let mut from = 0;
    while let Some(first) = burst.as_slice().get(from) {
        let destination = FrameInfo::of(first).packed_destination();
        let run = burst.as_slice()[from..]
            .iter()
            .take_while(|mbuf| FrameInfo::of(mbuf).packed_destination() == destination)
            .count();
        let frames = &mut burst.as_mut_slice()[from..from + run];
        let decisions = &mut decisions[from..from + run];
        if let Destination::Attachment(id) = destination.unpack()
            && let Some(attachment) = state.attachment(id)
        {
            for (n, (decision, mbuf)) in decisions.iter_mut().zip(frames.iter()).enumerate() {
                if misses.contains(from + n) {
                    *decision = before_policies(attachment, mbuf);
                }
            }
            let context = PolicyContext {
                tables,
                attachment: id,
                direction: Direction::Ingress,
            };
            context.judge_open(state, frames, decisions);
        }
        from += run;
    }
    remove_refused(state, Direction::Ingress, flows, burst, &decisions);
}

/// Judges a flooded frame for one receiver of this worker.
pub(crate) fn at_receiver(
    tables: &Tables,
    state: &mut WorkerState,
    receiver: AttachmentId,
    mbuf: &Mbuf,
) -> Decision {
    let Some(attachment) = state.attachment(receiver) else {
        return Decision::Drop(DropReason::Gone);
    };
    match before_policies(attachment, mbuf) {
        Decision::Open => PolicyContext {
            tables,
            attachment: receiver,
            direction: Direction::Ingress,
        }
        .judge(state, mbuf),
        decided => decided,
    }
}

/// Decides on a frame to an attachment as far as that needs no policy.
fn before_policies(attachment: &Attachment, mbuf: &Mbuf) -> Decision {
    let info = FrameInfo::of(mbuf);
    let inner = info.has_inner_tag();
    if attachment.is_too_long(mbuf.len(), inner) {
        Decision::Drop(DropReason::TooLong)
    } else if inner && !attachment.takes_inner_tag(info) {
        Decision::Drop(DropReason::InnerTag)
    } else if info.is_exempt() {
        Decision::Pass
    } else {
        Decision::Open
    }
}

/// Takes the frames out of a burst that do not pass.
fn remove_refused(
    state: &mut WorkerState,
    direction: Direction,
    flows: &mut Lookup,
    burst: &mut Burst,
    decisions: &[Decision; BURST],
) {
    let made = &decisions[..burst.len()];
    if made.iter().all(|&one| one == Decision::Pass) {
        return;
    }
    let mut refused = FrameSet::EMPTY;
    let mut all = std::mem::take(burst);
    for (n, (mbuf, &decision)) in all.drain_front(BURST).zip(decisions).enumerate() {
        if decision != Decision::Pass {
            refused.insert(n);
        }
        match decision {
            Decision::Pass => {
                if let Err(mbuf) = burst.push(mbuf) {
                    state.drop_frame(mbuf, DropReason::RingFull);
                }
            }
            // Every frame was judged: one that was not goes no further.
            Decision::Open => state.drop_at(direction, mbuf, DropReason::NoPolicy),
            Decision::Drop(reason) => state.drop_at(direction, mbuf, reason),
            Decision::Reject => reject::answer(state, direction, mbuf),
        }
    }
    flows.close_up(refused);
}
