//! The flow cache's stage: frames of known flows go on as the judges have decided before, and are
//! counted as if these had been asked again.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst, Mbuf};

use crate::counters::RuleSlots;
use crate::drops::DropReason;
use crate::flows::{Half, Path, Places, Said};
use crate::frame::origin::Source;
use crate::frame::{Destination, FrameInfo, Goal};
use crate::ids::{AttachmentId, FlowNumber};
use crate::pipeline::state::State;
use crate::pipeline::tables::Tables;

/// What is known of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recognised {
    /// Every frame passes both its judges; where each goes is said beside it, and not in its facts.
    AllPass {
        /// All go to where the first goes.
        together: bool,
    },
    /// Of so many nothing is known. The others are marked.
    Some {
        /// How many.
        unknown: usize,
    },
}

/// Looks every frame of a burst up, counts those that are known, and removes those that are known to
/// be denied. `goals` gets the goals of those that pass.
pub(crate) fn recognise(
    tables: &Tables,
    state: &mut State,
    places: &Places,
    burst: &mut Burst,
    goals: &mut [Goal; BURST],
) -> Recognised {
    let nothing = Recognised::Some {
        unknown: burst.len(),
    };
    let Some(rules) = tables.rule_counts.get(state.id.index()) else {
        return nothing;
    };
    let rules = rules.slots();
    if !state.flows.is_on() || burst.is_empty() {
        return nothing;
    }
    let candidates = state.flows.candidates(places, burst.len());
    // Frames that do not pass or are not known, and those of them that are denied: mostly none.
    let (mut unknown, mut other, mut denied) = (0, 0_u64, 0_u64);
    let mut together = true;
    for (n, mbuf) in burst.iter_mut().enumerate() {
        let bytes = mbuf.len();
        let info = FrameInfo::of_mut(mbuf);
        let found = state.flows.find(&candidates, n, info);
        let Some((at, path)) = found.filter(|(_, path)| bytes <= path.max_frame as usize) else {
            unknown += 1;
            other |= 1 << n;
            continue;
        };
        count(rules, path.egress, bytes);
        if path.passes() {
            count(rules, path.ingress, bytes);
            goals[n % BURST] = path.goal;
            together &= path.goal == goals[0];
            continue;
        }
        other |= 1 << n;
        if !go_on(rules, info, FlowNumber::of(at), path, bytes) {
            denied |= 1 << n;
        }
    }
    state.counts.known.add((burst.len() - unknown) as u64);
    if other == 0 {
        return Recognised::AllPass { together };
    }
    for ((n, mbuf), goal) in burst.iter_mut().enumerate().zip(goals) {
        if other & 1 << n == 0 {
            FrameInfo::of_mut(mbuf).set_known(*goal, true);
        }
    }
    if denied != 0 {
        remove(state, burst, denied);
    }
    Recognised::Some { unknown }
}

/// Counts a frame against the rules that decided on its flow.
#[inline(always)]
fn count(rules: RuleSlots<'_>, half: Half, bytes: usize) {
    for slot in half.counters() {
        rules.hit(slot as usize, bytes);
    }
}

/// A frame that at least one judge does not let pass, as far as is known: whether it goes on.
#[cold]
fn go_on(
    rules: RuleSlots<'_>,
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
    count(rules, path.ingress, bytes);
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
