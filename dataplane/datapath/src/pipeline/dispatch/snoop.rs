// SPDX-License-Identifier: Apache-2.0
//! Snooping of group membership: what flooding learns from the IGMP and MLD messages that it carries.

use sluice_mem::Mbuf;
use sluice_packet::membership::{self, Message};

use crate::frame::FrameInfo;
use crate::frame::origin_tag::Origin;
use crate::ids::AttachmentId;
use crate::pipeline::flood_limits::FloodKind;
use crate::pipeline::groups::{self, Group, Learned};
use crate::pipeline::state::WorkerState;
use crate::pipeline::tables::Tables;

/// Bytes before the layer 3 header of a frame without a second tag.
const L3: u16 = 14;

/// Kind of a membership message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Membership {
    /// Query of a router.
    Query,
    /// Report of a host.
    Report,
}

/// Reads the membership message of a frame, if it is one that a router would accept. A second tag
/// means another VLAN, whose groups are none of this segment's.
fn message(mbuf: &Mbuf) -> Option<Message<'_>> {
    let info = FrameInfo::of(mbuf);
    if info.has_inner_tag() {
        return None;
    }
    membership::read(mbuf.data(), &info.key, L3)?.ok()
}

/// Returns the kind of a frame's membership message, if it is one.
pub(super) fn kind(mbuf: &Mbuf) -> Option<Membership> {
    match message(mbuf)? {
        Message::Query(_) => Some(Membership::Query),
        Message::Report(_) => Some(Membership::Report),
        Message::Other => None,
    }
}

/// Learns from the report of a pod of this worker.
pub(super) fn learn(state: &mut WorkerState, mbuf: &Mbuf) {
    let info = FrameInfo::of(mbuf);
    let (Origin::Attachment(id), Some(Message::Report(records))) = (info.origin(), message(mbuf))
    else {
        return;
    };
    let (now_ms, now_ns) = (state.now_ms, state.clock.now_ns());
    let found = state.attachments.get(id.slot()).and_then(Option::as_deref);
    let Some(attachment) = found.filter(|attachment| attachment.id == id) else {
        return;
    };
    for record in records {
        let may_change = || attachment.joins.take(now_ns);
        let learned = state
            .groups
            .learn(id, info.segment(), &record, now_ms, may_change);
        if learned == Learned::Refused {
            attachment.counts.refused_groups.add(1);
        }
    }
    state.to_wake |= state.groups.peers.take_to_wake();
}

/// Notes the query of a router, if the frame is one. A pod without the role has not come so far.
pub(super) fn note_query(tables: &Tables, state: &WorkerState, mbuf: &Mbuf) {
    let info = FrameInfo::of(mbuf);
    if let Some(Message::Query(query)) = message(mbuf) {
        let group = Group {
            segment: info.segment(),
            address: info.key.dst,
        };
        groups::note_query(tables, &group, &query, state.now_ms);
    }
}

/// Whether an attachment is known to be in the group that a frame goes to.
pub(super) fn is_member(state: &WorkerState, mbuf: &Mbuf, id: AttachmentId) -> bool {
    let info = FrameInfo::of(mbuf);
    Group::of(info.segment(), &info.key).is_some_and(|group| state.groups.is_member(&group, id))
}

/// Returns the node of the first member of the group that a frame goes to, if anybody in its segment
/// is known to be in it.
#[inline]
pub(super) fn known_group(state: &WorkerState, mbuf: &Mbuf, kind: FloodKind) -> Option<usize> {
    let info = FrameInfo::of(mbuf);
    if kind != FloodKind::Multicast || info.has_inner_tag() {
        return None;
    }
    let group = Group::of(info.segment(), &info.key)?;
    state.groups.find(&group)
}
