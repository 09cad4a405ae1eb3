//! What both flows share after their first judge: frames go, in order, to an attachment of this
//! worker, to the worker that owns it, to everybody in the segment, or out of the uplink.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst, Mbuf};

use crate::drops::DropReason;
use crate::flows::Places;
use crate::frame::origin::Source;
use crate::frame::{Destination, FrameInfo, Goal};
use crate::ids::{AttachmentId, FlowNumber, UplinkId, WorkerId};
use crate::pipeline::classify::{is_untagged_on, tag_for_wire};
use crate::pipeline::ingress::{decide, deliver, deliver_borrowed, ingress_from_judge};
use crate::pipeline::judge::Decision;
use crate::pipeline::lookup::{Recognised, recognise};
use crate::pipeline::state::State;
use crate::pipeline::tables::Tables;
use crate::ports::seam::PortContext;

/// Sends every frame of `burst` on its way. Consecutive frames for one destination stay together.
pub(crate) fn route(tables: &Tables, state: &mut State, burst: &mut Burst) {
    while let Some(first) = burst.iter().next() {
        let goal = FrameInfo::of(first).goal();
        let mut together = split_front(burst, |mbuf| FrameInfo::of(mbuf).goal() == goal);
        send(tables, state, goal.destination(), &mut together);
    }
}

/// Looks up the flows of frames that were read, and sends them on their way; those of which something
/// is not known go through `judge` first.
pub(crate) fn recognise_and_route(
    tables: &Tables,
    state: &mut State,
    places: &Places,
    burst: &mut Burst,
    judge: impl FnOnce(&mut State, &mut Burst),
) {
    let mut goals = [Goal::UNKNOWN; BURST];
    match recognise(tables, state, places, burst, &mut goals) {
        Recognised::AllPass { together: true } => send_known(tables, state, goals[0], burst),
        Recognised::AllPass { together: false } => {
            let mut goals = &goals[..burst.len()];
            while let Some(&goal) = goals.first() {
                let run = goals.iter().take_while(|&&other| other == goal).count();
                goals = &goals[run..];
                send_known(tables, state, goal, &mut take_front(burst, run));
            }
        }
        Recognised::Some { unknown } => {
            if unknown > 0 {
                judge(state, burst);
            }
            route(tables, state, burst);
        }
    }
}

/// As [`send`], for frames that are known to go to `goal` and to be let pass there. That is not in their
/// facts yet, and for most is never written there.
fn send_known(tables: &Tables, state: &mut State, goal: Goal, burst: &mut Burst) {
    let destination = goal.destination();
    match destination {
        Destination::Attachment(id) if state.attachment(id).is_some() => deliver(state, id, burst),
        _ => {
            for mbuf in burst.iter_mut() {
                FrameInfo::of_mut(mbuf).set_known(goal, true);
            }
            send(tables, state, destination, burst);
        }
    }
}

/// Sends frames on their way that all go to one destination.
fn send(tables: &Tables, state: &mut State, destination: Destination, burst: &mut Burst) {
    match destination {
        Destination::Attachment(id) => to_attachment(tables, state, id, burst),
        Destination::Uplink(id) => to_uplink(tables, state, id, burst),
        Destination::Flood => {
            for mbuf in burst.drain_front(burst.len()) {
                flood(tables, state, mbuf);
            }
        }
        Destination::Unknown => drop_all(state, burst, DropReason::Gone),
    }
}

/// Takes the first frames out for which `together` says true.
fn split_front(burst: &mut Burst, together: impl Fn(&Mbuf) -> bool) -> Burst {
    let run = burst.iter().take_while(|mbuf| together(mbuf)).count();
    take_front(burst, run)
}

/// Takes the first `run` frames out.
fn take_front(burst: &mut Burst, run: usize) -> Burst {
    if run == burst.len() {
        return std::mem::take(burst);
    }
    let mut front = Burst::new();
    for mbuf in burst.drain_front(run) {
        // A burst holds as many as a burst.
        let _ = front.push(mbuf);
    }
    front
}

fn drop_all(state: &mut State, burst: &mut Burst, reason: DropReason) {
    state.counts.drops.add(reason, burst.len() as u64);
    state.pools.free_burst(burst);
}

/// To one attachment, wherever it is.
pub(crate) fn to_attachment(
    tables: &Tables,
    state: &mut State,
    id: AttachmentId,
    burst: &mut Burst,
) {
    match tables.attachment(id).map(|entry| entry.owner) {
        Some(owner) if owner == state.id => ingress_from_judge(tables, state, id, burst),
        Some(owner) => hand_over(state, owner, burst),
        None => drop_all(state, burst, DropReason::Gone),
    }
}

/// Out of an uplink: collected until the flow ends, then sent at once.
pub(crate) fn to_uplink(tables: &Tables, state: &mut State, id: UplinkId, burst: &mut Burst) {
    let Some(table) = tables.uplink(id) else {
        return drop_all(state, burst, DropReason::Gone);
    };
    if table.worker != state.id {
        hand_over(state, table.worker, burst);
        return;
    }
    for mut mbuf in burst.drain_front(burst.len()) {
        if mbuf.len() > table.max_frame {
            drop_at_uplink(state, id, mbuf, DropReason::TooLong);
            continue;
        }
        // Without its segment's tag the inner one would be the outermost: another VLAN's frame.
        let info = FrameInfo::of(&mbuf);
        if info.has_inner_tag() && is_untagged_on(table, info) {
            drop_at_uplink(state, id, mbuf, DropReason::InnerTag);
            continue;
        }
        tag_for_wire(table, &mut mbuf);
        let Some(uplink) = state.uplink(id) else {
            state.drop_frame(mbuf, DropReason::Gone);
            continue;
        };
        if let Err(mbuf) = uplink.out.push(mbuf) {
            flush_uplink(state, id);
            match state.uplink(id) {
                Some(uplink) => {
                    if let Err(mbuf) = uplink.out.push(mbuf) {
                        drop_at_uplink(state, id, mbuf, DropReason::UplinkFull);
                    }
                }
                None => state.drop_frame(mbuf, DropReason::Gone),
            }
        }
    }
}

/// To everybody in the frame's segment but its sender; a pod's frame goes to the wire as well.
/// Every receiver judges it for itself.
fn flood(tables: &Tables, state: &mut State, mut mbuf: Mbuf) {
    let info = FrameInfo::of(&mbuf);
    let source = info.source();
    let Some(segment) = tables.segment(info.segment()) else {
        return end_flood(state, source, mbuf, DropReason::NoSegment);
    };
    let now_ms = state.now_ms;
    let own_limit = match source {
        Source::Attachment(id) => state
            .attachment(id)
            .is_none_or(|own| own.floods.take(now_ms)),
        Source::Uplink(_) => true,
    };
    let within_limit = own_limit
        && segment
            .flood
            .get(state.id.index())
            .is_some_and(|bucket| bucket.take(now_ms));
    if !within_limit {
        return end_flood(state, source, mbuf, DropReason::FloodLimited);
    }
    flood_here(tables, state, &mbuf);
    for worker in 0..state.to_workers.len() {
        if segment.member_workers & 1 << worker != 0 && worker != state.id.index() {
            copy_to_worker(state, worker, &mbuf);
        }
    }
    match source {
        Source::Uplink(_) => state.pools.free(mbuf),
        Source::Attachment(_) => {
            let id = segment.id.uplink();
            FrameInfo::of_mut(&mut mbuf).set_destination(Destination::Uplink(id));
            let mut alone = Burst::new();
            match alone.push(mbuf) {
                Ok(()) => to_uplink(tables, state, id, &mut alone),
                Err(mbuf) => state.drop_frame(mbuf, DropReason::Gone),
            }
        }
    }
}

/// To this worker's attachments of the frame's segment but its sender.
pub(crate) fn flood_here(tables: &Tables, state: &mut State, mbuf: &Mbuf) {
    let info = FrameInfo::of(mbuf);
    let Some(segment) = tables.segment(info.segment()) else {
        state.counts.drops.add(DropReason::NoSegment, 1);
        return;
    };
    for member in &segment.members {
        let sender = info.source() == Source::Attachment(member.id);
        if member.owner != state.id || sender {
            continue;
        }
        match decide(tables, state, member.id, mbuf) {
            Decision::Pass => deliver_borrowed(state, member.id, std::slice::from_ref(mbuf)),
            // What was flooded is never answered.
            Decision::Reject | Decision::Open => {
                count_ingress(state, member.id, DropReason::Denied)
            }
            Decision::Drop(reason) => count_ingress(state, member.id, reason),
        }
    }
}

fn count_ingress(state: &mut State, id: AttachmentId, reason: DropReason) {
    if let Some(attachment) = state.attachment(id) {
        attachment.counts.ingress_drops.add(reason, 1);
    }
}

fn end_flood(state: &mut State, source: Source, mbuf: Mbuf, reason: DropReason) {
    match source {
        Source::Attachment(id) => state.drop_at(id, Direction::Egress, mbuf, reason),
        Source::Uplink(id) => drop_at_uplink(state, id, mbuf, reason),
    }
}

/// A copy for another worker's attachments of the segment.
fn copy_to_worker(state: &mut State, worker: usize, mbuf: &Mbuf) {
    let Some(mut copy) = state.pools.alloc_for(mbuf.len()) else {
        state.counts.drops.add(DropReason::NoMbuf, 1);
        return;
    };
    if !copy.copy_from(mbuf.data()) {
        state.drop_frame(copy, DropReason::TooLong);
        return;
    }
    *copy.scratch_mut() = *mbuf.scratch();
    let Some(Some(ring)) = state.to_workers.get_mut(worker) else {
        state.drop_frame(copy, DropReason::Gone);
        return;
    };
    if let Err(copy) = ring.push(copy) {
        state.drop_frame(copy, DropReason::HandoverFull);
    }
    state.handed_over |= 1 << worker;
}

/// Gives frames to the worker that owns their destination.
fn hand_over(state: &mut State, worker: WorkerId, burst: &mut Burst) {
    for mut mbuf in burst.drain_front(burst.len()) {
        let Some(Some(ring)) = state.to_workers.get_mut(worker.index()) else {
            state.drop_frame(mbuf, DropReason::Gone);
            continue;
        };
        // The number means nothing in the other's flow cache.
        FrameInfo::of_mut(&mut mbuf).set_flow(FlowNumber::NONE);
        if let Err(mbuf) = ring.push(mbuf) {
            state.drop_frame(mbuf, DropReason::HandoverFull);
        }
    }
    state.handed_over |= 1 << worker.index();
}

/// Takes what other workers handed over, at most one burst of each. Returns how many frames.
pub(crate) fn take_over(tables: &Tables, state: &mut State) -> usize {
    let mut taken = 0;
    for worker in 0..state.from_workers.len() {
        let mut burst = Burst::new();
        if let Some(Some(ring)) = state.from_workers.get_mut(worker) {
            while burst.room() > 0 {
                let Some(mbuf) = ring.pop() else { break };
                if let Err(mbuf) = burst.push(mbuf) {
                    state.pools.free(mbuf);
                    break;
                }
            }
        }
        taken += burst.len();
        route_handed_over(tables, state, &mut burst);
    }
    taken
}

/// As [`route`], but a flooded frame has been everywhere else already.
fn route_handed_over(tables: &Tables, state: &mut State, burst: &mut Burst) {
    let flooded = |mbuf: &Mbuf| FrameInfo::of(mbuf).destination() == Destination::Flood;
    while !burst.is_empty() {
        let mut floods = split_front(burst, flooded);
        for mbuf in floods.iter() {
            flood_here(tables, state, mbuf);
        }
        state.pools.free_burst(&mut floods);
        let mut others = split_front(burst, |mbuf| !flooded(mbuf));
        let version = state.flows.version();
        for mbuf in others.iter_mut() {
            FrameInfo::of_mut(mbuf).set_version(version);
        }
        let places = Places::of(&state.flows, others.as_slice());
        // Classified where they came in; their receiver judges them in its ingress flow.
        recognise_and_route(tables, state, &places, &mut others, |_, _| ());
    }
}

fn drop_at_uplink(state: &mut State, id: UplinkId, mbuf: Mbuf, reason: DropReason) {
    match state.uplink(id) {
        Some(uplink) => {
            uplink.counts.drops.add(reason, 1);
            state.pools.free(mbuf);
        }
        None => state.drop_frame(mbuf, reason),
    }
}

/// Sends what was collected for an uplink. What it does not take is dropped: nothing waits for it.
fn flush_uplink(state: &mut State, id: UplinkId) {
    let Some(uplink) = state.uplinks.get_mut(id.index()).and_then(Option::as_mut) else {
        return;
    };
    if uplink.out.is_empty() {
        return;
    }
    let mut context = PortContext {
        pools: &mut state.pools,
        drops: &uplink.counts.drops,
    };
    let sent = uplink.port.tx_burst(&mut context, &mut uplink.out);
    uplink.counts.traffic.sent(sent.frames, sent.bytes);
    uplink
        .counts
        .drops
        .add(DropReason::UplinkFull, uplink.out.len() as u64);
    state.pools.free_burst(&mut uplink.out);
}

/// Ends a flow: everything delivered becomes visible, everything collected is sent.
pub(crate) fn flush(state: &mut State) {
    while let Some(slot) = state.dirty.pop() {
        if let Some(Some(attachment)) = state.attachments.get_mut(slot) {
            attachment.dirty = false;
            if let Some(port) = &mut attachment.port {
                port.flush();
            }
        }
    }
    for number in 0..state.uplinks.len() {
        if let Ok(number) = u16::try_from(number) {
            flush_uplink(state, UplinkId(number));
        }
    }
}
