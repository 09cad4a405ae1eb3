//! Ingress: towards the pod.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst, Mbuf, Pools};

use crate::drops::DropReason;
use crate::flows::Places;
use crate::frame::origin::{Mark, Source};
use crate::frame::{FrameInfo, Tagging};
use crate::ids::{AttachmentId, UplinkId};
use crate::pipeline::attachment::Attachment;
use crate::pipeline::classify;
use crate::pipeline::dispatch::recognise_and_route;
use crate::pipeline::judge::{Decision, judge, judge_burst, remove_refused};
use crate::pipeline::state::{State, UplinkState};
use crate::pipeline::tables::Tables;
use crate::ports::seam::PortContext;

/// The ingress flow: `uplink.rx -> classify -> judge -> deliver`, over one burst. Frames of known
/// flows are neither classified nor judged again. Returns the number of frames received.
pub(crate) fn ingress(tables: &Tables, state: &mut State, id: UplinkId) -> usize {
    let mut burst = Burst::new();
    let received = receive(state, id, &mut burst);
    if received == 0 {
        return 0;
    }
    let places = ingress_read(tables, state, id, &mut burst);
    recognise_and_route(tables, state, &places, &mut burst, |state, burst| {
        ingress_classify(tables, state, id, burst);
    });
    received
}

/// Reads a burst and removes what cannot be read.
fn ingress_read(tables: &Tables, state: &mut State, id: UplinkId, burst: &mut Burst) -> Places {
    let Some(uplink) = tables.uplink(id) else {
        state.pools.free_burst(burst);
        return Places::new();
    };
    let (flows, uplinks) = (&state.flows, &state.uplinks);
    let pools = &mut state.pools;
    let source = Mark::new(Source::Uplink(id), flows.version());
    classify::read_each(
        burst,
        |mbuf| classify::read_from_uplink(id, uplink, source, flows, mbuf),
        |mbuf, reason| end(uplinks, pools, id, mbuf, reason),
    )
}

/// Classifies what is not known, and removes what has no way on.
fn ingress_classify(tables: &Tables, state: &mut State, id: UplinkId, burst: &mut Burst) {
    let (uplinks, pools) = (&state.uplinks, &mut state.pools);
    classify::each(
        burst,
        |mbuf| {
            if FrameInfo::of(mbuf).is_known() {
                return Ok(());
            }
            classify::place_from_uplink(tables, mbuf)
        },
        |mbuf, reason| end(uplinks, pools, id, mbuf, reason),
    );
}

/// Ends a frame that came from an uplink and goes nowhere.
fn end(
    uplinks: &[Option<Box<UplinkState>>],
    pools: &mut Pools,
    id: UplinkId,
    mbuf: Mbuf,
    reason: DropReason,
) {
    if let Some(Some(uplink)) = uplinks.get(id.index()) {
        uplink.counts.drops.add(reason, 1);
    }
    pools.free(mbuf);
}

/// The ingress flow from its judge on, for frames that all go to one attachment of this worker:
/// `judge -> deliver`. Frames that are known to be allowed are not judged again.
pub(crate) fn ingress_from_judge(
    tables: &Tables,
    state: &mut State,
    id: AttachmentId,
    burst: &mut Burst,
) {
    let known = |mbuf: &Mbuf| FrameInfo::of(mbuf).is_known_to_receiver();
    if !burst.iter().all(known) {
        ingress_judge(tables, state, id, burst);
    }
    deliver(state, id, burst);
}

/// Judges what is not known, and removes what is not allowed.
fn ingress_judge(tables: &Tables, state: &mut State, id: AttachmentId, burst: &mut Burst) {
    let Some(attachment) = state.attachment(id) else {
        state.counts.drops.add(DropReason::Gone, burst.len() as u64);
        return state.pools.free_burst(burst);
    };
    let mut decisions = [Decision::Open; BURST];
    for (decision, mbuf) in decisions.iter_mut().zip(burst.iter()) {
        let info = FrameInfo::of(mbuf);
        *decision = if info.is_known_to_receiver() {
            Decision::Pass
        } else {
            before_judge(attachment, mbuf)
        };
    }
    let direction = Direction::Ingress;
    judge_burst(tables, state, id, direction, burst, &mut decisions);
    remove_refused(tables, state, id, direction, burst, &decisions);
}

/// What is decided of a frame to an attachment without asking its policies.
fn before_judge(attachment: &Attachment, mbuf: &Mbuf) -> Decision {
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

/// Whether a flooded frame may go to one attachment.
pub(crate) fn decide(
    tables: &Tables,
    state: &mut State,
    id: AttachmentId,
    mbuf: &Mbuf,
) -> Decision {
    let Some(attachment) = state.attachment(id) else {
        return Decision::Drop(DropReason::Gone);
    };
    match before_judge(attachment, mbuf) {
        Decision::Open => judge(tables, state, id, Direction::Ingress, mbuf),
        decided => decided,
    }
}

/// Copies frames into the pod's ring and frees them.
pub(crate) fn deliver(state: &mut State, id: AttachmentId, burst: &mut Burst) {
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
