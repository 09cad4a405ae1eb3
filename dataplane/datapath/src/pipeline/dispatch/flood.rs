// SPDX-License-Identifier: Apache-2.0
//! Flooding: a group frame goes to the members of its group, or to everybody in its segment within the
//! limits of its sender, and never back to that. A pod's frame goes to the wire as well. Every
//! receiver judges it for itself. A frame to a unicast address that nobody has goes to the promiscuous
//! attachments in the same way.

use sluice_firewall::Direction;
use sluice_mem::{Burst, Mbuf};

use super::snoop::{self, Membership};
use super::{deliver, handoff, uplink};
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::Origin;
use crate::ids::{AttachmentId, WorkerId};
use crate::pipeline::flood_limits::FloodKind;
use crate::pipeline::judge;
use crate::pipeline::policy_context::Decision;
use crate::pipeline::state::WorkerState;
use crate::pipeline::tables::{Member, SegmentTable, Tables};

/// Sends one frame to the members of its group, if any are known in its segment, else to everybody in
/// the segment.
pub(crate) fn flood(tables: &Tables, state: &mut WorkerState, mut mbuf: Mbuf) {
    let info = FrameInfo::of(&mbuf);
    let (origin, mut kind) = (info.origin(), FloodKind::of(&info.key));
    let Some(segment) = tables.segment(info.segment()) else {
        return state.drop_at_origin(mbuf, DropReason::NoSegment);
    };
    if is_unicast(info) {
        return unknown_unicast(tables, state, segment, mbuf);
    }
    let from_pod = matches!(origin, Origin::Attachment(_));
    let membership = snoop::kind(&mbuf);
    match membership {
        // Reports are for routers (RFC 4541, 2.1.1 (1)): a host that hears another's would keep its
        // own back.
        Some(Membership::Report) if !from_pod && segment.routers.is_empty() => {
            return state.drop_at_origin(mbuf, DropReason::NoReceiver);
        }
        // Without these nobody gets multicast for long: they have the reserve.
        Some(_) => kind = FloodKind::Neighbour,
        None => {}
    }
    let mut reached = Reached::default();
    if let Some(first) = snoop::known_group(state, &mbuf, kind) {
        if !from_pod && !segment.wire_groups.has_one(state.clock.now_ns()) {
            return state.drop_at_origin(mbuf, DropReason::GroupLimited);
        }
        FrameInfo::of_mut(&mut mbuf).set_to_members();
        reached = to_own_members(tables, state, Some(first), &mbuf);
        if !from_pod {
            segment.wire_groups.charge(reached.receivers());
        }
    } else if within_limits(state, segment, origin, kind) {
        if membership == Some(Membership::Report) {
            snoop::learn(state, &mbuf);
            reached = to_own_routers(tables, state, &mbuf);
        } else {
            snoop::note_query(tables, state, &mbuf);
            reached = to_local_members(tables, state, &mbuf);
        }
    } else if kind == FloodKind::Multicast && from_pod {
        // The wire gets it all the same: that is one copy, as of a unicast frame, and the switch
        // behind it knows who wants the group.
        if let Some(drops) = state.drops_at(Direction::Egress, &mbuf) {
            drops.add(kind.drop_reason(), 1);
            state.counts.copies.add(1);
        }
    } else {
        return state.drop_at_origin(mbuf, kind.drop_reason());
    }
    finish(tables, state, segment, reached, mbuf);
}

/// Sends a frame to a unicast address that nobody has to the promiscuous attachments of its segment. A pod
/// pays for the copies as for those of a known group; the wire has so many a second.
fn unknown_unicast(tables: &Tables, state: &mut WorkerState, segment: &SegmentTable, mbuf: Mbuf) {
    let from_pod = matches!(FrameInfo::of(&mbuf).origin(), Origin::Attachment(_));
    if !from_pod && !segment.wire_unknown.has_one(state.clock.now_ns()) {
        return state.drop_at_origin(mbuf, DropReason::UnknownLimited);
    }
    let reached = to_all_of(tables, state, &segment.promiscuous, &mbuf);
    if !from_pod {
        segment.wire_unknown.charge(reached.receivers());
    }
    finish(tables, state, segment, reached, mbuf);
}

/// Hands copies off to the other workers that own receivers, and sends a pod's frame to the wire.
fn finish(
    tables: &Tables,
    state: &mut WorkerState,
    segment: &SegmentTable,
    reached: Reached,
    mbuf: Mbuf,
) {
    // Whoever sent it pays for what the others will do as well.
    state.copies_elsewhere = state.copies_elsewhere.wrapping_add(reached.elsewhere);
    let copies = reached.copies + to_other_workers(tables, state, reached.workers, &mbuf);
    match FrameInfo::of(&mbuf).origin() {
        Origin::Attachment(_) => {
            state.counts.flooded.add(1);
            to_wire(tables, state, segment, mbuf);
        }
        Origin::Uplink(_) => end_original(state, copies, mbuf),
    }
}

/// Whether a flooded frame is for the promiscuous attachments alone.
fn is_unicast(info: &FrameInfo) -> bool {
    !info.key.dst_mac().is_multicast()
}

/// Floods the copy that another worker made for this one.
pub(crate) fn flood_copy(tables: &Tables, state: &mut WorkerState, mbuf: Mbuf) {
    let info = FrameInfo::of(&mbuf);
    let reached = if is_unicast(info) {
        match tables.segment(info.segment()) {
            Some(segment) => to_all_of(tables, state, &segment.promiscuous, &mbuf),
            None => Reached::default(),
        }
    } else if info.is_to_members() {
        let first = snoop::known_group(state, &mbuf, FloodKind::Multicast);
        to_own_members(tables, state, first, &mbuf)
    } else if snoop::kind(&mbuf) == Some(Membership::Report) {
        to_own_routers(tables, state, &mbuf)
    } else {
        snoop::note_query(tables, state, &mbuf);
        to_local_members(tables, state, &mbuf)
    };
    end_original(state, reached.copies, mbuf);
}

/// Returns the number of copies that a frame from another worker may take: those of a flooded one for
/// everybody in its segment that this worker may own.
pub(crate) fn most_copies(tables: &Tables, mbuf: &Mbuf) -> u64 {
    let info = FrameInfo::of(mbuf);
    match info.destination() {
        Destination::LocalFlood => {
            tables
                .segment(info.segment())
                .map_or(0, |segment| match is_unicast(info) {
                    true => segment.promiscuous.len() as u64,
                    false => segment.members.len() as u64,
                })
        }
        _ => 0,
    }
}

/// Receivers of a flooded frame.
#[derive(Default)]
struct Reached {
    /// Receivers that this worker owns, each of which has had a copy.
    copies: u64,
    /// Receivers that other workers own.
    elsewhere: u64,
    /// Workers that own those, by bit.
    workers: u64,
}

impl Reached {
    fn receivers(&self) -> u64 {
        self.copies + self.elsewhere
    }

    /// Delivers the frame to a receiver, if this worker owns it.
    fn add(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        receiver: AttachmentId,
        owner: WorkerId,
        mbuf: &Mbuf,
    ) {
        if owner == state.id {
            to_receiver(tables, state, receiver, mbuf);
            self.copies += 1;
        } else {
            self.elsewhere += 1;
            self.workers |= 1 << owner.index();
        }
    }
}

/// Delivers a frame to those members of its group, and to those routers, that this worker owns, but not
/// to its sender.
fn to_own_members(
    tables: &Tables,
    state: &mut WorkerState,
    first: Option<usize>,
    mbuf: &Mbuf,
) -> Reached {
    let origin = FrameInfo::of(mbuf).origin();
    let mut reached = to_own_routers(tables, state, mbuf);
    let mut node = first;
    while let Some((member, next)) = node.and_then(|node| state.groups.member(node)) {
        node = next;
        if origin != Origin::Attachment(member.id) {
            reached.add(tables, state, member.id, member.owner, mbuf);
        }
    }
    reached
}

/// Delivers a frame to those routers of its segment that this worker owns, but not to its sender, nor to
/// members of its group.
fn to_own_routers(tables: &Tables, state: &mut WorkerState, mbuf: &Mbuf) -> Reached {
    let info = FrameInfo::of(mbuf);
    let mut reached = Reached::default();
    let Some(segment) = tables.segment(info.segment()) else {
        return reached;
    };
    for router in &segment.routers {
        let is_sender = info.origin() == Origin::Attachment(router.id);
        if !is_sender && !snoop::is_member(state, mbuf, router.id) {
            reached.add(tables, state, router.id, router.owner, mbuf);
        }
    }
    reached
}

/// Frees a frame of which `copies` were made, each of which is sent, dropped or on its way.
fn end_original(state: &mut WorkerState, copies: u64, mbuf: Mbuf) {
    if copies == 0 {
        return state.drop_at_origin(mbuf, DropReason::NoReceiver);
    }
    state.counts.flooded.add(1);
    state.pools.free(mbuf);
}

/// Whether the frame's sender may have another frame of this kind flooded now.
fn within_limits(
    state: &mut WorkerState,
    segment: &SegmentTable,
    origin: Origin,
    kind: FloodKind,
) -> bool {
    let now_ns = state.clock.now_ns();
    match origin {
        Origin::Attachment(id) => state
            .attachment(id)
            .is_some_and(|attachment| attachment.floods.take(kind, now_ns)),
        Origin::Uplink(_) => segment.wire_floods.take(kind, now_ns),
    }
}

/// Hands a copy off to each of `workers` but this one. Returns the number of copies.
fn to_other_workers(tables: &Tables, state: &mut WorkerState, workers: u64, mbuf: &Mbuf) -> u64 {
    let mut copies = 0;
    for worker in 0..state.to_workers.len() {
        if workers & 1 << worker != 0 && worker != state.id.index() {
            handoff::hand_off_copy(tables, state, worker, mbuf);
            copies += 1;
        }
    }
    copies
}

/// Delivers a frame to the attachments of its segment that this worker owns, but its sender.
fn to_local_members(tables: &Tables, state: &mut WorkerState, mbuf: &Mbuf) -> Reached {
    match tables.segment(FrameInfo::of(mbuf).segment()) {
        Some(segment) => to_all_of(tables, state, &segment.members, mbuf),
        None => Reached::default(),
    }
}

/// Delivers a frame to those of `members` that this worker owns, but its sender.
fn to_all_of(tables: &Tables, state: &mut WorkerState, members: &[Member], mbuf: &Mbuf) -> Reached {
    let origin = FrameInfo::of(mbuf).origin();
    let mut reached = Reached::default();
    for member in members {
        if origin != Origin::Attachment(member.id) {
            reached.add(tables, state, member.id, member.owner, mbuf);
        }
    }
    reached
}

/// Delivers a frame to one of its receivers, if that one's policies accept it.
fn to_receiver(tables: &Tables, state: &mut WorkerState, receiver: AttachmentId, mbuf: &Mbuf) {
    state.counts.copies.add(1);
    match judge::at_receiver(tables, state, receiver, mbuf) {
        Decision::Pass => {
            deliver::deliver_borrowed(state, receiver, std::slice::from_ref(mbuf));
        }
        // A flooded frame is never answered.
        Decision::Reject | Decision::Open => count_drop(state, receiver, DropReason::Denied),
        Decision::Drop(reason) => count_drop(state, receiver, reason),
    }
}

/// Counts a frame that one of its receivers does not get.
fn count_drop(state: &mut WorkerState, id: AttachmentId, reason: DropReason) {
    match state.attachment(id) {
        Some(attachment) => attachment.counts.ingress_drops.add(reason, 1),
        None => state.counts.drops.add(reason, 1),
    }
}

/// Sends a pod's frame out of its segment's uplink.
fn to_wire(tables: &Tables, state: &mut WorkerState, segment: &SegmentTable, mbuf: Mbuf) {
    state.counts.copies.add(1);
    let id = segment.id.uplink();
    let mut alone = Burst::new();
    if let Err(mbuf) = alone.push(mbuf) {
        return state.drop_frame(mbuf, DropReason::Gone);
    }
    match tables.uplink(id) {
        Some(table) if table.worker == state.id => uplink::send(table, state, id, &mut alone),
        Some(table) => {
            let destination = Destination::Uplink(id).pack();
            handoff::hand_off(tables, state, table.worker, destination, &mut alone);
        }
        None => state.drop_burst(&mut alone, DropReason::Gone),
    }
}
