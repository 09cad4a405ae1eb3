//! Egress: from the pod.

use sluice_firewall::Direction;
use sluice_mem::{Burst, Mbuf};

use crate::classify;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::ids::AttachmentId;
use crate::judge::{Decision, judge};
use crate::port::PortContext;
use crate::reject;
use crate::route::route;
use crate::state::State;
use crate::tables::Tables;

/// The egress flow: `copy in -> classify -> judge -> uplink.tx`, over one burst; a frame for a local
/// attachment goes on in that one's ingress flow. Returns the number of frames received.
pub(crate) fn egress(tables: &Tables, state: &mut State, slot: usize) -> usize {
    let mut burst = Burst::new();
    let Some(id) = receive(state, slot, &mut burst) else {
        return 0;
    };
    let received = burst.len();
    if received == 0 {
        return 0;
    }
    egress_classify(tables, state, slot, &mut burst);
    egress_judge(tables, state, id, &mut burst);
    route(tables, state, &mut burst);
    received
}

/// Classifies a burst and removes what has no way on or is not from who it says.
pub(crate) fn egress_classify(tables: &Tables, state: &mut State, slot: usize, burst: &mut Burst) {
    let Some(attachment) = state.attachments.get(slot).and_then(Option::as_deref) else {
        return state.pools.free_burst(burst);
    };
    let pools = &mut state.pools;
    classify::burst(
        burst,
        |mbuf| classify::from_pod(tables, attachment, mbuf),
        |mbuf, reason| {
            attachment.counts.egress_drops.add(reason, 1);
            pools.free(mbuf);
        },
    );
}

/// Judges a burst and removes what is not allowed.
pub(crate) fn egress_judge(
    tables: &Tables,
    state: &mut State,
    id: AttachmentId,
    burst: &mut Burst,
) {
    let mut rest = std::mem::take(burst);
    for mbuf in rest.drain_front(rest.len()) {
        let info = FrameInfo::of(&mbuf);
        match judge(tables, state, id, Direction::Egress, info, mbuf.len()) {
            Decision::Pass => {
                if let Err(mbuf) = burst.push(mbuf) {
                    state.drop_frame(mbuf, DropReason::RingFull);
                }
            }
            Decision::Drop(reason) => state.drop_at(id, Direction::Egress, mbuf, reason),
            Decision::Reject => reject::answer(tables, state, id, Direction::Egress, mbuf),
        }
    }
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
