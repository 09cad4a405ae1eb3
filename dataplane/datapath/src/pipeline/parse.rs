// SPDX-License-Identifier: Apache-2.0
//! Parse stage: a frame's tag, its segment and its key. Frames that cannot be read are removed.

use sluice_mem::{Burst, Mbuf};
use sluice_packet::{FlowKey, InnerTag, ParseError, Vid, VlanTag, parse_into, parse_plain};

use super::attachment::{Attachment, Vlans};
use super::state::WorkerState;
use super::tables::{Tables, UplinkTable};
use super::tags::{POD_TPIDS, take_outer_tag, take_priority_tag};
use crate::drops::DropReason;
use crate::flows::{BucketIndex, BucketIndexes, FlowCache};
use crate::frame::FrameInfo;
use crate::frame::origin_tag::{Origin, OriginTag};
use crate::ids::{AttachmentId, SegmentId, UplinkId};

/// Bits of a TCI that are no VID: priority and drop eligibility.
const PRIORITY: u16 = 0xf000;

/// Parses a burst from the wire. Returns the bucket of the flow cache that each frame's flow can be
/// in.
pub(crate) fn from_uplink(
    tables: &Tables,
    state: &mut WorkerState,
    id: UplinkId,
    burst: &mut Burst,
) -> BucketIndexes {
    let Some(uplink) = tables.uplink(id) else {
        state.drop_burst(burst, DropReason::Gone);
        return BucketIndexes::new();
    };
    let (flows, uplinks) = (&state.flows, &state.uplinks);
    let pools = &mut state.pools;
    let origin = OriginTag::new(Origin::Uplink(id), flows.version());
    let pieces = Pieces {
        of: PiecesOf::Wire(tables, uplink),
        now_ms: state.now_ms,
    };
    each(
        burst,
        |mbuf| uplink_frame(id, uplink, origin, flows, pieces, mbuf),
        |mbuf, reason| {
            if let Some(Some(uplink)) = uplinks.get(id.index()) {
                uplink.counts.drops.add(reason, 1);
            }
            pools.free(mbuf);
        },
    )
}

/// Parses a burst from a pod. Returns the bucket of the flow cache that each frame's flow can be in.
pub(crate) fn from_pod(
    state: &mut WorkerState,
    sender: AttachmentId,
    burst: &mut Burst,
) -> BucketIndexes {
    let found = state.attachments.get(sender.slot());
    let Some(attachment) = found.and_then(Option::as_deref) else {
        state.drop_burst(burst, DropReason::Gone);
        return BucketIndexes::new();
    };
    let flows = &state.flows;
    let pools = &mut state.pools;
    let origin = OriginTag::new(Origin::Attachment(attachment.id), flows.version());
    let removed = |mbuf, reason| {
        attachment.counts.egress_drops.add(reason, 1);
        pools.free(mbuf);
    };
    let pieces = Pieces {
        of: PiecesOf::Pod(attachment),
        now_ms: state.now_ms,
    };
    match attachment.vlans.untagged() {
        Some(untagged) => {
            let parse =
                |mbuf: &mut Mbuf| pod_frame(attachment, untagged, origin, flows, pieces, mbuf);
            each(burst, parse, removed)
        }
        // A trunk without native segment: every frame has a tag.
        None => {
            let parse = |mbuf: &mut Mbuf| {
                any_pod_frame(attachment, origin, pieces, mbuf)?;
                Ok(flows.bucket_index(FrameInfo::of(mbuf)))
            };
            each(burst, parse, removed)
        }
    }
}

/// Tables of first pieces that the fragments of a burst are looked up in.
#[derive(Clone, Copy)]
struct Pieces<'a> {
    of: PiecesOf<'a>,
    now_ms: u64,
}

/// Owner of the pieces: a pod, or the wire, whose pieces are those of each receiver.
#[derive(Clone, Copy)]
enum PiecesOf<'a> {
    Pod(&'a Attachment),
    Wire(&'a Tables, &'a UplinkTable),
}

impl Pieces<'_> {
    /// Gives a later piece the ports of its datagram's first, and remembers a first one.
    #[cold]
    fn follow(self, frame: &[u8], l3: u16, info: &mut FrameInfo) -> Result<(), DropReason> {
        let table = match self.of {
            PiecesOf::Pod(attachment) => &attachment.identity.pieces_out,
            PiecesOf::Wire(tables, uplink) => {
                let receiver = tables
                    .segment(info.segment())
                    .and_then(|segment| tables.owner_of(segment, info.key.dst_mac))
                    .and_then(|id| tables.attachment(id));
                match receiver {
                    Some(entry) => &entry.identity.pieces_in,
                    None => &uplink.pieces,
                }
            }
        };
        table.follow(frame, &mut info.key, l3, self.now_ms)
    }
}

/// Takes over the keys that another worker parsed, for this worker's flow cache. Returns the bucket
/// that each frame's flow can be in.
pub(crate) fn from_worker(state: &mut WorkerState, burst: &mut Burst) -> BucketIndexes {
    let version = state.flows.version();
    for mbuf in burst.iter_mut() {
        FrameInfo::of_mut(mbuf).set_version(version);
    }
    BucketIndexes::of(&state.flows, burst.as_slice())
}

/// Parses every frame of a burst; one that cannot be read it takes out, handing it to `removed` with
/// the reason.
#[inline(always)]
fn each(
    burst: &mut Burst,
    parse: impl Fn(&mut Mbuf) -> Result<BucketIndex, DropReason>,
    removed: impl FnMut(Mbuf, DropReason),
) -> BucketIndexes {
    let mut buckets = BucketIndexes::new();
    let step = |n: usize, mbuf: &mut Mbuf| {
        buckets.set(n, parse(mbuf)?);
        Ok(())
    };
    burst.retain_or(step, removed);
    buckets
}

/// Parses one frame from the wire.
#[inline(always)]
fn uplink_frame(
    id: UplinkId,
    uplink: &UplinkTable,
    origin: OriginTag,
    flows: &FlowCache,
    pieces: Pieces<'_>,
    mbuf: &mut Mbuf,
) -> Result<BucketIndex, DropReason> {
    // Without a tag in its bytes, as the first EtherType is IPv4; the device may have taken one off.
    let (frame, info) = FrameInfo::beside_data(mbuf);
    if info.tag().is_none() && parse_plain(frame, uplink.native.get(), &mut info.key) {
        info.set_origin(SegmentId::new(id, uplink.native), origin);
        return Ok(flows.bucket_index(info));
    }
    any_uplink_frame(id, uplink, origin, pieces, mbuf)?;
    Ok(flows.bucket_index(FrameInfo::of(mbuf)))
}

/// Parses a frame from the wire that may be tagged or not IPv4.
#[cold]
#[inline(never)]
fn any_uplink_frame(
    uplink_id: UplinkId,
    uplink: &UplinkTable,
    origin: OriginTag,
    pieces: Pieces<'_>,
    mbuf: &mut Mbuf,
) -> Result<(), DropReason> {
    let tag = take_outer_tag(mbuf, &uplink.tpids)?;
    let vid = match tag
        .map(|tag| tag.vid().ok_or(DropReason::BadVid))
        .transpose()?
    {
        None | Some(Vid::UNTAGGED) => uplink.native,
        Some(_) if uplink.port_vlan => return Err(DropReason::InnerTag),
        Some(vid) => vid,
    };
    let id = SegmentId::new(uplink_id, vid);
    finish(mbuf, id, tag, origin, pieces)
}

/// Parses one frame from a pod. `untagged` is the segment of the pod's untagged frames.
#[inline(always)]
fn pod_frame(
    attachment: &Attachment,
    untagged: SegmentId,
    origin: OriginTag,
    flows: &FlowCache,
    pieces: Pieces<'_>,
    mbuf: &mut Mbuf,
) -> Result<BucketIndex, DropReason> {
    // Most frames have no tag, as the first EtherType is IPv4.
    let (frame, info) = FrameInfo::beside_data(mbuf);
    if info.tag().is_none() && parse_plain(frame, untagged.vid(), &mut info.key) {
        info.set_origin(untagged, origin);
        return Ok(flows.bucket_index(info));
    }
    any_pod_frame(attachment, origin, pieces, mbuf)?;
    Ok(flows.bucket_index(FrameInfo::of(mbuf)))
}

/// Parses a frame from a pod that may be tagged or not IPv4.
#[cold]
#[inline(never)]
fn any_pod_frame(
    attachment: &Attachment,
    origin: OriginTag,
    pieces: Pieces<'_>,
    mbuf: &mut Mbuf,
) -> Result<(), DropReason> {
    let tag = match &attachment.vlans {
        // A tag of an access pod that may send inner tags is an inner tag: only one of priority
        // alone is the segment's.
        Vlans::Access(_) if attachment.qinq => take_priority_tag(mbuf)?,
        _ => take_outer_tag(mbuf, &POD_TPIDS)?,
    };
    let vid = tag
        .map(|tag| tag.vid().ok_or(DropReason::BadVid))
        .transpose()?;
    let id = match (&attachment.vlans, vid) {
        (Vlans::Access(segment), None | Some(Vid::UNTAGGED)) => *segment,
        (Vlans::Access(_), Some(_)) => return Err(DropReason::TagOnAccess),
        (Vlans::Trunk { native, .. }, None | Some(Vid::UNTAGGED)) => {
            native.ok_or(DropReason::UntaggedOnTrunk)?
        }
        (Vlans::Trunk { allowed, .. }, Some(vid)) => {
            let segment = allowed.first().ok_or(DropReason::VlanNotAllowed)?;
            let wanted = SegmentId::new(segment.uplink(), vid);
            // Not Vlans::contains: the native segment is not to be had by tag.
            allowed
                .binary_search(&wanted)
                .map_err(|_| DropReason::VlanNotAllowed)?;
            wanted
        }
    };
    // The priority of a pod's frames is the network's to grant.
    let tag = tag.filter(|_| attachment.keeps_priority);
    finish(mbuf, id, tag, origin, pieces)
}

/// Parses the headers behind the outermost tag, notes key, segment, priority and origin, and cuts off
/// what is behind the packet. The key
/// is written in place: returned by value, copies of it would cost more than the parsing.
#[inline]
fn finish(
    mbuf: &mut Mbuf,
    segment: SegmentId,
    tag: Option<VlanTag>,
    origin: OriginTag,
    pieces: Pieces<'_>,
) -> Result<(), DropReason> {
    let (frame, info) = FrameInfo::beside_data(mbuf);
    let layout =
        parse_into(frame, InnerTag::Allow, &mut info.key).map_err(|error| match error {
            ParseError::Truncated => DropReason::Truncated,
            ParseError::BadHeader => DropReason::BadHeader,
            ParseError::HiddenAddress => DropReason::HiddenAddress,
            ParseError::InnerTag => DropReason::InnerTag,
            ParseError::ThirdTag => DropReason::ThirdTag,
        })?;
    info.key.vid = segment.vid();
    info.set_origin(segment, origin);
    info.set_inner_tag(layout.inner.is_some());
    info.set_l4(layout.l4);
    if info.key.has(FlowKey::FRAGMENT) {
        pieces.follow(frame, layout.l3, info)?;
    }
    // From here on the tag is only a priority: the VID is the segment's, the TPID the receiver's.
    let priority = tag.map_or(0, |tag| tag.tci & PRIORITY);
    info.set_tag(Some(VlanTag {
        tpid: 0,
        tci: priority,
    }));
    // Bytes behind the packet are nobody's: they go no further.
    mbuf.truncate(layout.end);
    Ok(())
}
