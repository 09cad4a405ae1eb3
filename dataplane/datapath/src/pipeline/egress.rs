//! Egress: from the pod.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst, Mbuf};

use crate::flows::Places;
use crate::frame::FrameInfo;
use crate::frame::origin::{Mark, Source};
use crate::ids::AttachmentId;
use crate::pipeline::classify;
use crate::pipeline::dispatch::recognise_and_route;
use crate::pipeline::judge::{Decision, judge_burst, remove_refused};
use crate::pipeline::state::State;
use crate::pipeline::tables::Tables;
use crate::ports::seam::PortContext;

/// The egress flow: `copy in -> classify -> judge -> uplink.tx`, over one burst; a frame for a local
/// attachment goes on in that one's ingress flow. Frames of known flows are neither classified nor
/// judged again. Returns the number of frames received.
pub(crate) fn egress(tables: &Tables, state: &mut State, slot: usize) -> usize {
    let mut burst = Burst::new();
    let Some(id) = receive(state, slot, &mut burst) else {
        return 0;
    };
    let received = burst.len();
    if received == 0 {
        return 0;
    }
    let places = egress_read(state, slot, &mut burst);
    recognise_and_route(tables, state, &places, &mut burst, |state, burst| {
        egress_classify(tables, state, slot, burst);
        egress_judge(tables, state, id, burst);
    });
    received
}

/// Reads a burst and removes what cannot be read.
pub(crate) fn egress_read(state: &mut State, slot: usize, burst: &mut Burst) -> Places {
    let Some(attachment) = state.attachments.get(slot).and_then(Option::as_deref) else {
        state.pools.free_burst(burst);
        return Places::new();
    };
    let flows = &state.flows;
    let pools = &mut state.pools;
    let source = Mark::new(Source::Attachment(attachment.id), flows.version());
    let untagged = attachment.vlans.untagged();
    classify::read_each(
        burst,
        |mbuf| classify::read_from_pod(attachment, untagged, source, flows, mbuf),
        |mbuf, reason| {
            attachment.counts.egress_drops.add(reason, 1);
            pools.free(mbuf);
        },
    )
}

/// Classifies what is not known, and removes what has no way on or is not from who it says.
pub(crate) fn egress_classify(tables: &Tables, state: &mut State, slot: usize, burst: &mut Burst) {
    let Some(attachment) = state.attachments.get(slot).and_then(Option::as_deref) else {
        return state.pools.free_burst(burst);
    };
    let pools = &mut state.pools;
    classify::each(
        burst,
        |mbuf| {
            if FrameInfo::of(mbuf).is_known() {
                return Ok(());
            }
            classify::place_from_pod(tables, attachment, mbuf)
        },
        |mbuf, reason| {
            attachment.counts.egress_drops.add(reason, 1);
            pools.free(mbuf);
        },
    );
}

/// Judges what is not known, and removes what is not allowed.
pub(crate) fn egress_judge(
    tables: &Tables,
    state: &mut State,
    id: AttachmentId,
    burst: &mut Burst,
) {
    let mut decisions = [Decision::Open; BURST];
    for (decision, mbuf) in decisions.iter_mut().zip(burst.iter()) {
        if FrameInfo::of(mbuf).is_known() {
            *decision = Decision::Pass;
        }
    }
    judge_burst(tables, state, id, Direction::Egress, burst, &mut decisions);
    remove_refused(tables, state, id, Direction::Egress, burst, &decisions);
}

/// Copies a burst in from the pod's ring. `None` if there is no such attachment or no peer.
fn receive(state: &mut State, slot: usize, burst: &mut Burst) -> Option<AttachmentId> {
    let attachment = state.attachments.get_mut(slot)?.as_deref_mut()?;
    let id = attachment.id;
    let port = attachment.port.as_mut()?;
    let mut context = PortContext {
        pools: &mut state.pools,
        drops: &attachment.counts.egress_drops,
    };
    let received = port.rx_burst(&mut context, burst);
    if !burst.is_empty() {
        let bytes = burst.iter().map(Mbuf::len).sum();
        attachment.counts.traffic.received(burst.len(), bytes);
    }
    if let Err(fault) = received {
        state.condemn(id, fault);
    }
    Some(id)
}
