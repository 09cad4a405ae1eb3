//! The flow cache's stage: frames of known flows go on as the judges have decided before, and are
//! counted as if these had been asked again.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst, Mbuf};

use crate::counters::RuleCounts;
use crate::drops::DropReason;
use crate::flows::{Path, Said};
use crate::frame::{Destination, FrameInfo};
use crate::ids::{AttachmentId, FlowNumber};
use crate::mark::Source;
use crate::state::State;
use crate::tables::Tables;

/// Looks every frame of a burst up, marks those that are known, and removes those that are known to
/// be denied. Returns how many are left that nothing is known of.
pub(crate) fn recognise(tables: &Tables, state: &mut State, burst: &mut Burst) -> usize {
    let Some(rules) = tables.rule_counts.get(state.id.index()) else {
        return burst.len();
    };
    if !state.flows.is_on() || burst.is_empty() {
        return burst.len();
    }
    let candidates = state.flows.look_for(burst.as_slice());
    let mut unknown = 0;
    let mut denied = 0_u64;
    for (n, mbuf) in burst.iter_mut().enumerate() {
        let bytes = mbuf.len();
        let info = FrameInfo::of_mut(mbuf);
        let found = state.flows.find(&candidates, n, info);
        let Some((flow, path)) = found.filter(|(_, path)| bytes <= path.max_frame as usize) else {
            unknown += 1;
            continue;
        };
        path.egress.each_counter(|slot| rules.hit(slot, bytes));
        if path.passes() {
            path.ingress.each_counter(|slot| rules.hit(slot, bytes));
            info.set_known(path.goal, true);
        } else if !go_on(rules, info, flow, path, bytes) {
            denied |= 1 << n;
        }
    }
    state.counts.known.add((burst.len() - unknown) as u64);
    if denied != 0 {
        remove(state, burst, denied);
    }
    unknown
}

/// A frame that at least one judge does not let pass, as far as is known: whether it goes on.
#[cold]
fn go_on(
    rules: &RuleCounts,
    info: &mut FrameInfo,
    flow: FlowNumber,
    path: &Path,
    bytes: usize,
) -> bool {
    info.set_known(path.goal, false);
    if path.egress.said() == Said::Denied {
        return false;
    }
    // Either its receiver is asked, and then the flow's entry is wanted; or its receiver is known
    // to deny it, and then this says that the drop is the receiver's.
    info.set_flow(flow);
    path.ingress.each_counter(|slot| rules.hit(slot, bytes));
    path.ingress.said() != Said::Denied
}

/// Removes the frames whose bit is set.
#[cold]
fn remove(state: &mut State, burst: &mut Burst, denied: u64) {
    let mut all = std::mem::take(burst);
    for (at, mbuf) in all.drain_front(BURST).enumerate() {
        if denied & 1 << at == 0 {
            // It came out of a burst.
            let _ = burst.push(mbuf);
            continue;
        }
        match denied_by(&mbuf) {
            Some((id, direction)) => state.drop_at(id, direction, mbuf, DropReason::Denied),
            None => state.drop_frame(mbuf, DropReason::Denied),
        }
    }
}

/// Whose policies deny a frame: the receiver's, if its sender's let it pass.
fn denied_by(mbuf: &Mbuf) -> Option<(AttachmentId, Direction)> {
    let info = FrameInfo::of(mbuf);
    if info.flow() != FlowNumber::NONE {
        return match info.destination() {
            Destination::Attachment(id) => Some((id, Direction::Ingress)),
            _ => None,
        };
    }
    match info.source() {
        Source::Attachment(id) => Some((id, Direction::Egress)),
        Source::Uplink(_) => None,
    }
}
