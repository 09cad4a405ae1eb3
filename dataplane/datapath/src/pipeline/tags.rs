// SPDX-License-Identifier: Apache-2.0
//! Outermost tag of a frame: taken off where it comes in, put on where it leaves for the wire.

use sluice_mem::Mbuf;
use sluice_packet::{Vid, VlanTag, outer_tag};

use super::tables::UplinkTable;
use crate::drops::DropReason;
use crate::frame::FrameInfo;

/// TPIDs that a pod's frames may be tagged with.
pub(crate) const POD_TPIDS: [u16; 2] = [0x8100, 0x88a8];
/// Bytes of the two MAC addresses, which a tag follows.
const MACS_BYTES: usize = 12;

/// Takes the outermost tag: the one that the device took off, else the one among the bytes.
///
/// A device may take off a tag whose TPID is none here: that one goes back into the bytes, where it
/// counts as an inner tag of an untagged frame.
pub(crate) fn take_outer_tag(
    mbuf: &mut Mbuf,
    tpids: &[u16],
) -> Result<Option<VlanTag>, DropReason> {
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

/// Takes the outermost tag if it is one of priority alone (VID 0).
pub(crate) fn take_priority_tag(mbuf: &mut Mbuf) -> Result<Option<VlanTag>, DropReason> {
    let tag = outer_tag(mbuf.data(), &POD_TPIDS);
    if tag.and_then(VlanTag::vid) != Some(Vid::UNTAGGED) {
        return Ok(None);
    }
    take_outer_tag(mbuf, &POD_TPIDS)
}

/// Whether an uplink sends the frame without its segment's tag.
pub(crate) fn is_untagged_on(uplink: &UplinkTable, info: &FrameInfo) -> bool {
    info.segment().vid() == uplink.native.get()
}

/// Puts on the tag that a frame has on an uplink's wire.
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
