//! The first stage of both flows: what is this frame, in which segment, and where does it go? What
//! it cannot say it removes, with the reason.

use sluice_mem::{Burst, Mbuf};
use sluice_packet::{
    FlowKey, InnerTag, ParseError, Vid, VlanTag, outer_tag, parse_into, parse_plain,
};

use crate::drops::DropReason;
use crate::flows::{FlowCache, Place, Places};
use crate::frame::origin::Mark;
use crate::frame::{Destination, FrameInfo};
use crate::ids::{SegmentId, UplinkId};
use crate::pipeline::antispoof;
use crate::pipeline::attachment::{Attachment, Vlans};
use crate::pipeline::tables::{SegmentTable, Tables, UplinkTable};

/// TPIDs that a pod's frames may be tagged with.
const POD_TPIDS: [u16; 2] = [0x8100, 0x88a8];
/// Bytes of the two MAC addresses, which a tag follows.
const MACS_BYTES: usize = 12;
/// The bits of a TCI that are no VID: priority and drop eligibility.
const PRIORITY: u16 = 0xf000;

/// Bytes before what follows the EtherType, without a second tag and with one.
const L3: u16 = 14;
const L3_BEHIND_INNER_TAG: u16 = 18;

/// Reads one frame from the wire: its tag, its segment and its key.
#[inline(always)]
pub(crate) fn read_from_uplink(
    id: UplinkId,
    uplink: &UplinkTable,
    source: Mark,
    flows: &FlowCache,
    mbuf: &mut Mbuf,
) -> Result<Place, DropReason> {
    // Without a tag in its bytes, as the first EtherType is IPv4; the device may have taken one off.
    let (frame, info) = FrameInfo::beside_data(mbuf);
    if info.tag().is_none() && parse_plain(frame, uplink.native.get(), &mut info.key) {
        info.describe(SegmentId::new(id, uplink.native), source);
        return Ok(flows.place(info));
    }
    read_any_from_uplink(id, uplink, source, mbuf)?;
    Ok(flows.place(FrameInfo::of(mbuf)))
}

fn read_any_from_uplink(
    uplink_id: UplinkId,
    uplink: &UplinkTable,
    source: Mark,
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
    describe(mbuf, id, tag, source)
}

/// Says where a frame from the wire goes.
pub(crate) fn place_from_uplink(tables: &Tables, mbuf: &mut Mbuf) -> Result<(), DropReason> {
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

/// Reads one frame from a pod: its tag, its segment and its key. `untagged` is the segment of its
/// untagged frames.
#[inline(always)]
pub(crate) fn read_from_pod(
    attachment: &Attachment,
    untagged: Option<SegmentId>,
    source: Mark,
    flows: &FlowCache,
    mbuf: &mut Mbuf,
) -> Result<Place, DropReason> {
    // Most frames have no tag, as the first EtherType is IPv4.
    let (frame, info) = FrameInfo::beside_data(mbuf);
    if let Some(segment) = untagged
        && info.tag().is_none()
        && parse_plain(frame, segment.vid(), &mut info.key)
    {
        info.describe(segment, source);
        return Ok(flows.place(info));
    }
    read_any_from_pod(attachment, source, mbuf)?;
    Ok(flows.place(FrameInfo::of(mbuf)))
}

fn read_any_from_pod(
    attachment: &Attachment,
    source: Mark,
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
    describe(mbuf, id, tag, source)
}

/// Checks that a pod's frame is who it says it is, and says where it goes.
pub(crate) fn place_from_pod(
    tables: &Tables,
    attachment: &Attachment,
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
    let l3 = if inner { L3_BEHIND_INNER_TAG } else { L3 };
    antispoof::check(attachment, frame, &info.key, l3)?;
    let destination = from_pod_destination(segment, attachment, &info.key)?;
    info.set_destination(destination);
    Ok(())
}

/// Where a pod's frame goes: another pod of its segment, all of them, or the wire.
fn from_pod_destination(
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

/// Parses the frame and notes its key, segment, priority and source. The key is written where it
/// stays: returned by value, copies of it would cost more than the parsing.
#[inline]
fn describe(
    mbuf: &mut Mbuf,
    segment: SegmentId,
    tag: Option<VlanTag>,
    source: Mark,
) -> Result<(), DropReason> {
    let (frame, info) = FrameInfo::beside_data(mbuf);
    let layout =
        parse_into(frame, InnerTag::Allow, &mut info.key).map_err(|error| match error {
            ParseError::Truncated => DropReason::Truncated,
            ParseError::BadHeader => DropReason::BadHeader,
            ParseError::InnerTag => DropReason::InnerTag,
            ParseError::ThirdTag => DropReason::ThirdTag,
        })?;
    info.key.vid = segment.vid();
    info.describe(segment, source);
    info.set_inner_tag(layout.inner.is_some());
    // From here on the tag is only its priority: the VID is the segment's, the TPID the receiver's.
    let priority = tag.map_or(0, |tag| tag.tci & PRIORITY);
    info.set_tag(Some(VlanTag {
        tpid: 0,
        tci: priority,
    }));
    Ok(())
}

/// Whether a frame is sent without its segment's tag.
pub(crate) fn is_untagged_on(uplink: &UplinkTable, info: &FrameInfo) -> bool {
    info.segment().vid() == uplink.native.get()
}

/// Puts the tag on that a frame has on the wire.
pub(crate) fn tag_for_wire(uplink: &UplinkTable, mbuf: &mut Mbuf) {
    let info = FrameInfo::of_mut(mbuf);
    let untagged = is_untagged_on(uplink, info);
    let vid = info.segment().vid();
    let tag = VlanTag {
        tpid: uplink.tpids.first().copied().unwrap_or(POD_TPIDS[0]),
        tci: info.priority_bits() | vid,
    };
    info.set_tag((!untagged).then_some(tag));
}

/// The outermost tag: the one the device took off, else taken out of the bytes here.
///
/// A device may take off what is no tag here: that one goes back into the bytes, where it counts
/// as an inner tag of an untagged frame.
fn take_outer_tag(mbuf: &mut Mbuf, tpids: &[u16]) -> Result<Option<VlanTag>, DropReason> {
    if let Some(tag) = FrameInfo::of(mbuf).tag() {
        if tpids.contains(&tag.tpid) {
            return Ok(Some(tag));
        }
        if mbuf.len() < MACS_BYTES || !mbuf.prepend(VlanTag::LEN) {
            return Err(DropReason::Truncated);
        }
        let bytes = mbuf.data_mut();
        bytes.copy_within(VlanTag::LEN..VlanTag::LEN + MACS_BYTES, 0);
        bytes[MACS_BYTES..MACS_BYTES + VlanTag::LEN].copy_from_slice(&tag.to_bytes());
        return Ok(None);
    }
    let Some(tag) = outer_tag(mbuf.data(), tpids) else {
        return Ok(None);
    };
    mbuf.data_mut().copy_within(0..MACS_BYTES, VlanTag::LEN);
    Ok(mbuf.trim_front(VlanTag::LEN).then_some(tag))
}

fn take_priority_tag(mbuf: &mut Mbuf) -> Result<Option<VlanTag>, DropReason> {
    let tag = outer_tag(mbuf.data(), &POD_TPIDS);
    if tag.and_then(VlanTag::vid) != Some(Vid::UNTAGGED) {
        return Ok(None);
    }
    take_outer_tag(mbuf, &POD_TPIDS)
}

/// Reads every frame of a burst, and says in which buckets of the flow cache their flows can be; what
/// cannot be read it takes out, handing it to `removed` with the reason.
#[inline(always)]
pub(crate) fn read_each(
    burst: &mut Burst,
    read: impl Fn(&mut Mbuf) -> Result<Place, DropReason>,
    removed: impl FnMut(Mbuf, DropReason),
) -> Places {
    let mut places = Places::new();
    let step = |n: usize, mbuf: &mut Mbuf| {
        places.set(n, read(mbuf)?);
        Ok(())
    };
    burst.retain_or(step, removed);
    places
}

/// Runs one step over a burst and takes out what has no further way, handing it to `removed` with
/// the reason.
pub(crate) fn each(
    burst: &mut Burst,
    mut step: impl FnMut(&mut Mbuf) -> Result<(), DropReason>,
    removed: impl FnMut(Mbuf, DropReason),
) {
    burst.retain_or(|_, mbuf| step(mbuf), removed);
}
