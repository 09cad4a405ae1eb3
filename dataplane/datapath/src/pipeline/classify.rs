// SPDX-License-Identifier: Apache-2.0
//! Classify stage: where each frame goes, and whether a pod's frame is from whom it says. Frames
//! that have no way on are removed.

use sluice_mem::{Burst, Mbuf};
use sluice_packet::link_control::{is_link_control, is_reserved_group};
use sluice_packet::{FlowKey, Mac, Vid};
use sluice_ring::Producer;

use super::antispoof;
use super::attachment::Attachment;
use super::event::{Spoofed, WorkerEvent};
use super::frame_set::FrameSet;
use super::learn;
use super::learned::Holder;
use super::lookup::Lookup;
use super::state::WorkerState;
use super::tables::{SegmentTable, Tables};
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::Origin;
use crate::ids::AttachmentId;

/// Classifies the misses of a burst from the wire.
pub(crate) fn from_uplink(
    tables: &Tables,
    state: &mut WorkerState,
    flows: &mut Lookup,
    burst: &mut Burst,
) {
    let now_ms = state.now_ms;
    misses(
        flows,
        burst,
        |mbuf| uplink_frame(tables, now_ms, mbuf),
        |mbuf, reason| {
            if reason == DropReason::LocalSource {
                tell_of_local_source(tables, state, &mbuf);
            }
            state.drop_at_origin(mbuf, reason);
        },
    );
}

/// Tells control that a frame came from the wire with the MAC of an attachment as source, once for
/// each attachment.
#[cold]
fn tell_of_local_source(tables: &Tables, state: &mut WorkerState, mbuf: &Mbuf) {
    let info = FrameInfo::of(mbuf);
    let id = tables
        .segment(info.segment())
        .and_then(|segment| segment.macs.get(info.key.src_mac));
    let Some(entry) = id.and_then(|id| tables.attachment(id)) else {
        return;
    };
    if entry.identity.tell_of_wire() {
        let event = WorkerEvent::LocalSource {
            attachment: entry.id,
            vid: Vid::new(info.segment().vid()).unwrap_or(Vid::UNTAGGED),
        };
        if state.events.push(event).is_err() {
            entry.identity.untell_of_wire();
        }
    }
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
    let (pools, events) = (&mut state.pools, &mut state.events);
    let now_ms = state.now_ms;
    misses(
        flows,
        burst,
        |mbuf| pod_frame(tables, attachment, now_ms, mbuf),
        |mbuf, reason| {
            if is_spoofed(reason) && !attachment.identity.is_told_of_spoofed(reason) {
                tell_of_spoofed(events, attachment, &mbuf, reason);
            }
            attachment.counts.egress_drops.add(reason, 1);
            pools.free(mbuf);
        },
    );
}

/// Whether a drop reason says that a pod's frame is not from whom it says.
fn is_spoofed(reason: DropReason) -> bool {
    use DropReason::{AddressTaken, SpoofedArp, SpoofedIp, SpoofedMac, SpoofedNd};
    matches!(
        reason,
        SpoofedMac | SpoofedIp | SpoofedArp | SpoofedNd | AddressTaken
    )
}

/// Tells control that a pod's frame is not from whom it says, once for each attachment and reason.
#[cold]
fn tell_of_spoofed(
    events: &mut Producer<WorkerEvent>,
    attachment: &Attachment,
    mbuf: &Mbuf,
    reason: DropReason,
) {
    let info = FrameInfo::of(mbuf);
    let (mac, ip) = antispoof::addresses(mbuf.data(), &info.key, info.l3());
    let event = WorkerEvent::Spoofed(Spoofed {
        attachment: attachment.id,
        vid: Vid::new(info.segment().vid()).unwrap_or(Vid::UNTAGGED),
        reason,
        mac,
        ip,
    });
    if events.push(event).is_ok() {
        attachment.identity.tell_of_spoofed(reason);
    }
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
    let misses = flows.to_classify();
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

/// Decides where a frame from the wire goes. One whose source cannot be a host of the wire goes
/// nowhere.
#[inline(always)]
pub(super) fn uplink_frame(
    tables: &Tables,
    now_ms: u64,
    mbuf: &mut Mbuf,
) -> Result<(), DropReason> {
    let (frame, info) = FrameInfo::beside_data(mbuf);
    let segment = tables
        .segment(info.segment())
        .ok_or(DropReason::NoSegment)?;
    let source = info.key.src_mac();
    if source.is_multicast() || source == Mac::ZERO {
        return Err(DropReason::BadSource);
    }
    if segment.macs.get(source.0).is_some() {
        return Err(DropReason::LocalSource);
    }
    check_link_control(frame, info)?;
    learn::from_wire(tables, segment, &info.key, now_ms);
    let destination = destination(tables, segment, None, &info.key)?;
    info.set_destination(destination);
    Ok(())
}

/// Checks that a pod's frame is from whom it says, and decides where it goes.
#[inline(always)]
pub(super) fn pod_frame(
    tables: &Tables,
    attachment: &Attachment,
    now_ms: u64,
    mbuf: &mut Mbuf,
) -> Result<(), DropReason> {
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
    check_link_control(frame, info)?;
    let context = antispoof::Context {
        tables,
        segment,
        now_ms,
    };
    antispoof::check(attachment, frame, &info.key, info.l3(), context)?;
    learn::from_pod(tables, segment, attachment, &info.key, now_ms)?;
    let destination = destination(tables, segment, Some(attachment.id), &info.key)?;
    info.set_destination(destination);
    Ok(())
}

/// Refuses what the two ends of a link say to each other: the engine is the end of this one.
#[inline]
fn check_link_control(frame: &[u8], info: &FrameInfo) -> Result<(), DropReason> {
    let key = &info.key;
    if key.dst_mac().is_multicast() && is_reserved_group(key.dst_mac()) {
        return Err(DropReason::ReservedGroup);
    }
    if !key.is_ip() && is_link_control(frame, key, info.l3()) {
        return Err(DropReason::LinkControl);
    }
    Ok(())
}

/// Returns where a frame goes: an attachment, all of its segment or those that are promiscuous, or the
/// wire. `sender` is the pod that it comes from, if it comes from one.
#[inline(always)]
pub(crate) fn destination(
    tables: &Tables,
    segment: &SegmentTable,
    sender: Option<AttachmentId>,
    key: &FlowKey,
) -> Result<Destination, DropReason> {
    if key.dst_mac().is_multicast() {
        return Ok(Destination::Flood);
    }
    match (tables.owner_of(segment, key.dst_mac), sender) {
        (Some(found), Some(sender)) if found == sender => Err(DropReason::Hairpin),
        (Some(found), _) => Ok(Destination::Attachment(found)),
        (None, _) if !segment.promiscuous.is_empty() => Ok(to_promiscuous(segment, sender)),
        (None, Some(_)) => Ok(Destination::Uplink(segment.id.uplink())),
        (None, None) => Err(DropReason::NotOurs),
    }
}

/// Returns where a frame of a cached flow goes by what is learned by now, and notes that its source is in
/// use. `None`: its source has moved, or it has no way on.
#[cold]
pub(crate) fn destination_by_now(
    tables: &Tables,
    segment: &SegmentTable,
    info: &FrameInfo,
    now_s: u32,
) -> Option<Destination> {
    let (key, table) = (&info.key, segment.learned.as_deref()?);
    let sender = match info.origin() {
        Origin::Attachment(id) => {
            let own = tables.attachment(id)?.identity.mac;
            let is_there =
                key.src_mac() == own || table.refresh(key.src_mac(), learn::holder(id), now_s);
            is_there.then_some(Some(id))?
        }
        Origin::Uplink(_) => match table.holder(key.src_mac()) {
            Some(Holder::Slot(_)) => return None,
            Some(Holder::Wire) | None => None,
        },
    };
    destination(tables, segment, sender, key).ok()
}

/// Destination of a frame to an address that nobody in its segment has, and somebody is to get.
#[cold]
fn to_promiscuous(segment: &SegmentTable, sender: Option<AttachmentId>) -> Destination {
    let mut others = segment
        .promiscuous
        .iter()
        .filter(|one| Some(one.id) != sender);
    match (others.next(), others.next(), sender) {
        (None, _, _) => Destination::Uplink(segment.id.uplink()),
        // A frame of the wire that one gets is as any other for it.
        (Some(one), None, None) => Destination::Attachment(one.id),
        _ => Destination::Flood,
    }
}
