//! Ingress: towards the pod.

use sluice_firewall::Direction;
use sluice_mem::{Burst, Mbuf};

use crate::classify;
use crate::drops::DropReason;
use crate::frame::{FrameInfo, Tagging};
use crate::ids::{AttachmentId, UplinkId};
use crate::judge::{Decision, judge};
use crate::port::PortContext;
use crate::reject;
use crate::route::route;
use crate::state::State;
use crate::tables::Tables;

/// The ingress flow: `uplink.rx -> classify -> judge -> deliver`, over one burst.
/// Returns the number of frames received.
pub(crate) fn ingress(tables: &Tables, state: &mut State, id: UplinkId) -> usize {
    let mut burst = Burst::new();
    let received = receive(state, id, &mut burst);
    if received == 0 {
        return 0;
    }
    ingress_classify(tables, state, id, &mut burst);
    route(tables, state, &mut burst);
    received
}

/// Classifies a burst and removes what has no way on.
fn ingress_classify(tables: &Tables, state: &mut State, id: UplinkId, burst: &mut Burst) {
    let Some(uplink) = tables.uplink(id) else {
        return state.pools.free_burst(burst);
    };
    let (uplinks, pools) = (&state.uplinks, &mut state.pools);
    classify::burst(
        burst,
        |mbuf| classify::from_uplink(tables, id, uplink, mbuf),
        |mbuf, reason| {
            if let Some(Some(uplink)) = uplinks.get(id.index()) {
                uplink.counts.drops.add(reason, 1);
            }
            pools.free(mbuf);
        },
    );
}

/// The ingress flow from its judge on, for frames that all go to one attachment of this worker:
/// `judge -> deliver`.
pub(crate) fn ingress_from_judge(
    tables: &Tables,
    state: &mut State,
    id: AttachmentId,
    burst: &mut Burst,
) {
    let mut allowed = Burst::new();
    for mbuf in burst.drain_front(burst.len()) {
        match decide(tables, state, id, &mbuf) {
            Decision::Pass => {
                if let Err(mbuf) = allowed.push(mbuf) {
                    state.drop_frame(mbuf, DropReason::RingFull);
                }
            }
            Decision::Drop(reason) => state.drop_at(id, Direction::Ingress, mbuf, reason),
            Decision::Reject => reject::answer(tables, state, id, Direction::Ingress, mbuf),
        }
    }
    deliver(state, id, &mut allowed);
}

/// Whether one frame may go to one attachment.
pub(crate) fn decide(
    tables: &Tables,
    state: &mut State,
    id: AttachmentId,
    mbuf: &Mbuf,
) -> Decision {
    let info = FrameInfo::of(mbuf);
    let Some(attachment) = state.attachment(id) else {
        return Decision::Drop(DropReason::Gone);
    };
    if attachment.is_too_long(mbuf.len(), info.has_inner_tag()) {
        return Decision::Drop(DropReason::TooLong);
    }
    if info.has_inner_tag() && !attachment.takes_inner_tag(info) {
        return Decision::Drop(DropReason::InnerTag);
    }
    judge(tables, state, id, Direction::Ingress, info, mbuf.len())
}

/// Copies frames into the pod's ring and frees them.
fn deliver(state: &mut State, id: AttachmentId, burst: &mut Burst) {
    deliver_borrowed(state, id, burst.as_slice());
    state.pools.free_burst(burst);
}

/// Copies frames into the pod's ring; what does not fit is counted. They stay the caller's, so
/// that a flooded frame needs no clone.
pub(crate) fn deliver_borrowed(state: &mut State, id: AttachmentId, frames: &[Mbuf]) {
    if frames.is_empty() {
        return;
    }
    let Some(attachment) = state.attachment(id) else {
        state
            .counts
            .drops
            .add(DropReason::Gone, frames.len() as u64);
        return;
    };
    let tagging: Tagging = attachment.tagging;
    let drops = &attachment.counts.ingress_drops;
    let Some(port) = &mut attachment.port else {
        drops.add(DropReason::LinkDown, frames.len() as u64);
        return;
    };
    match port.deliver(frames, tagging) {
        Ok(sent) => {
            attachment.counts.traffic.sent(sent.frames, sent.bytes);
            if sent.unfit > 0 {
                drops.add(DropReason::TooLong, sent.unfit as u64);
            }
            let left = frames.len().saturating_sub(sent.frames + sent.unfit);
            if left > 0 {
                drops.add(DropReason::RingFull, left as u64);
            }
            if !attachment.dirty {
                attachment.dirty = true;
                state.dirty.push(id.slot());
            }
        }
        Err(fault) => {
            drops.add(DropReason::LinkDown, frames.len() as u64);
            state.condemn(id, fault);
        }
    }
}

fn receive(state: &mut State, id: UplinkId, burst: &mut Burst) -> usize {
    let Some(uplink) = state.uplinks.get_mut(id.index()).and_then(Option::as_mut) else {
        return 0;
    };
    let mut context = PortContext {
        pools: &mut state.pools,
        drops: &uplink.counts.drops,
    };
    uplink.port.rx_burst(&mut context, burst);
    let frames = burst.len();
    if frames > 0 {
        uplink
            .counts
            .traffic
            .received(frames, burst.iter().map(Mbuf::len).sum());
    }
    frames
}
