// SPDX-License-Identifier: Apache-2.0
//! Classify stage: where each frame goes, and whether a pod's frame is from whom it says. Frames
//! that have no way on are removed.

use sluice_mem::{Burst, Mbuf};
use sluice_packet::FlowKey;

use super::antispoof;
use super::attachment::Attachment;
use super::frame_set::FrameSet;
use super::lookup::Lookup;
use super::state::WorkerState;
use super::tables::{SegmentTable, Tables};
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::ids::AttachmentId;

/// Bytes before the layer 3 header, without a second tag and with one.
const L3: u16 = 14;
const L3_BEHIND_INNER_TAG: u16 = 18;

/// Classifies the misses of a burst from the wire.
pub(crate) fn from_uplink(
    tables: &Tables,
    state: &mut WorkerState,
    flows: &mut Lookup,
    burst: &mut Burst,
) {
    misses(
        flows,
        burst,
        |mbuf| uplink_frame(tables, mbuf),
        |mbuf, reason| state.drop_at_origin(mbuf, reason),
    );
}

/// Classifies the misses of a burst from a pod, and checks that they are not spoofed.
pub(crate) fn from_pod(
    tables: &Tables,
    state: &mut WorkerState,
    sender: AttachmentId,
    flows: &mut Lookup,
    burst: &mut Burst,
) {
    let found = state.attachments.get(sender.slot());
    let Some(attachment) = found.and_then(Option::as_deref) else {
        return state.pools.free_burst(burst);
    };
    let pools = &mut state.pools;
    misses(
        flows,
        burst,
        |mbuf| pod_frame(tables, attachment, mbuf),
        |mbuf, reason| {
            attachment.counts.egress_drops.add(reason, 1);
            pools.free(mbuf);
        },
    );
}

/// Runs `classify` over the misses of a burst; a frame that it refuses it takes out, handing it to
/// `removed` with the reason.
#[inline]
fn misses(
    flows: &mut Lookup,
    burst: &mut Burst,
    mut classify: impl FnMut(&mut Mbuf) -> Result<(), DropReason>,
    removed: impl FnMut(Mbuf, DropReason),
) {
    let misses = flows.misses();
    if misses.is_empty() {
        return;
    }
    if misses == FrameSet::first(burst.len()) {
        // Nobody needs the positions of a burst that is all misses.
        burst.retain_or(|_, mbuf| classify(mbuf), removed);
        return flows.set_all_missed(burst.len());
    }
    let (mut next, mut refused) = (0, FrameSet::EMPTY);
    let step = |_: usize, mbuf: &mut Mbuf| {
        let n = next;
        next += 1;
        if !misses.contains(n) {
            return Ok(());
        }
        classify(mbuf).inspect_err(|_| refused.insert(n))
    };
    burst.retain_or(step, removed);
    flows.close_up(refused);
}

/// Decides where a frame from the wire goes.
#[inline(always)]
fn uplink_frame(tables: &Tables, mbuf: &mut Mbuf) -> Result<(), DropReason> {
    let info = FrameInfo::of_mut(mbuf);
    let segment = tables
        .segment(info.segment())
        .ok_or(DropReason::NoSegment)?;
    let destination = if info.key.dst_mac().is_multicast() {
        Destination::Flood
    } else {
        let found = segment
            .macs
            .get(info.key.dst_mac)
            .ok_or(DropReason::NotOurs)?;
        Destination::Attachment(found)
    };
    info.set_destination(destination);
    Ok(())
}

/// Checks that a pod's frame is from whom it says, and decides where it goes.
#[inline(always)]
fn pod_frame(tables: &Tables, attachment: &Attachment, mbuf: &mut Mbuf) -> Result<(), DropReason> {
    let (frame, info) = FrameInfo::beside_data(mbuf);
    let segment = tables
        .segment(info.segment())
        .ok_or(DropReason::NoSegment)?;
    let inner = info.has_inner_tag();
    if attachment.is_too_long(frame.len(), inner) {
        return Err(DropReason::TooLong);
    }
    if inner && !attachment.qinq {
        return Err(DropReason::InnerTag);
    }
    let l3 = if inner { L3_BEHIND_INNER_TAG } else { L3 };
    antispoof::check(attachment, frame, &info.key, l3)?;
    let destination = pod_destination(segment, attachment, &info.key)?;
    info.set_destination(destination);
    Ok(())
}

/// Returns where a pod's frame goes: another pod of its segment, all of them, or the wire.
fn pod_destination(
    segment: &SegmentTable,
    attachment: &Attachment,
    key: &FlowKey,
) -> Result<Destination, DropReason> {
    if key.dst_mac().is_multicast() {
        return Ok(Destination::Flood);
    }
    match segment.macs.get(key.dst_mac) {
        Some(found) if found == attachment.id => Err(DropReason::Hairpin),
        Some(found) => Ok(Destination::Attachment(found)),
        None => Ok(Destination::Uplink(segment.id.uplink())),
    }
}
