//! Lookup stage: finds each frame's flow in the flow cache. Frames that hit go on as the policies
//! have decided before, and are counted as if these had been asked again.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst};

use super::frame_set::FrameSet;
use super::state::WorkerState;
use super::tables::Tables;
use crate::counters::RuleSlots;
use crate::drops::DropReason;
use crate::flows::{BucketIndexes, CachedVerdict, FlowAction, FlowVerdict};
use crate::frame::FrameInfo;
use crate::frame::destination::PackedDestination;
use crate::ids::FlowNumber;

/// Result of the lookup of one burst: which frames hit, which missed, and where the hits go.
///
/// A frame that both cached verdicts accept has *hit*. One that its sender's accepts, and whose
/// receiver's is not cached, has missed its receiver only. All others have *missed*, but those that
/// a cached verdict denies: these are no longer in the burst. The stages behind this one keep the
/// positions true when they remove frames.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Whether every frame that was looked up has hit.
    all_hit: bool,
    /// Whether all destinations are equal, if every frame has hit.
    one_destination: bool,
    /// Frames to classify and to judge at their sender.
    misses: FrameSet,
    /// Frames to judge at their receiver: the misses, and those that missed their receiver only.
    receiver_misses: FrameSet,
    /// Destination of each frame, if every frame has hit. In any other burst the hits have theirs in
    /// their facts, where classify puts those of the misses.
    destinations: [PackedDestination; BURST],
}

impl Lookup {
    /// Result for a burst of `frames` frames none of which has hit.
    pub(crate) fn all_missed(frames: usize) -> Lookup {
        Lookup {
            all_hit: false,
            one_destination: true,
            misses: FrameSet::first(frames),
            receiver_misses: FrameSet::first(frames),
            destinations: [PackedDestination::UNKNOWN; BURST],
        }
    }

    /// Whether every frame has hit: then there is nothing to classify or to judge.
    #[inline]
    pub(crate) fn all_hit(&self) -> bool {
        self.all_hit
    }

    /// Returns the frames to classify and to judge at their sender.
    #[inline]
    pub(crate) fn misses(&self) -> FrameSet {
        self.misses
    }

    /// Returns the frames to judge at their receiver.
    #[inline]
    pub(crate) fn receiver_misses(&self) -> FrameSet {
        self.receiver_misses
    }

    /// Returns the destination of all frames, if every frame has hit and they have the same.
    #[inline]
    pub(crate) fn one_destination(&self) -> Option<PackedDestination> {
        (self.all_hit && self.one_destination).then_some(self.destinations[0])
    }

    /// Returns the destination of each of `frames` frames, if every frame has hit.
    #[inline]
    pub(crate) fn destinations(&self, frames: usize) -> Option<&[PackedDestination]> {
        let known = &self.destinations[..frames.min(BURST)];
        self.all_hit.then_some(known)
    }

    /// Keeps the positions true after the frames of `removed` were taken out of the burst.
    pub(crate) fn close_up(&mut self, removed: FrameSet) {
        self.misses.close_up(removed);
        self.receiver_misses.close_up(removed);
    }

    /// Looks the frames up.
    fn fill(
        &mut self,
        rules: RuleSlots<'_>,
        state: &mut WorkerState,
        buckets: &BucketIndexes,
        burst: &mut Burst,
    ) {
        let candidates = state.flows.candidates(buckets, burst.len());
        // All three stay empty for most bursts.
        let (mut misses, mut receiver_misses) = (FrameSet::EMPTY, FrameSet::EMPTY);
        let mut denied = Denied::default();
        let (mut missed, mut one_destination) = (0, true);
        for (n, mbuf) in burst.iter_mut().enumerate() {
            let bytes = mbuf.len();
            let info = FrameInfo::of_mut(mbuf);
            let entry = state.flows.lookup(&candidates, n, info);
            let entry = entry.filter(|(_, action)| bytes <= action.max_frame as usize);
            let Some((at, action)) = entry else {
                missed += 1;
                misses.insert(n);
                receiver_misses.insert(n);
                continue;
            };
            count(rules, action.egress, bytes);
            if action.is_accepted() {
                count(rules, action.ingress, bytes);
                self.destinations[n % BURST] = action.destination;
                one_destination &= action.destination == self.destinations[0];
                continue;
            }
            receiver_misses.insert(n);
            if let Some(direction) = denied_in(rules, info, FlowNumber::of(at), action, bytes) {
                denied.insert(direction, n);
            }
        }
        state.counts.flow_hits.add((burst.len() - missed) as u64);
        (self.misses, self.receiver_misses) = (misses, receiver_misses);
        if receiver_misses.is_empty() {
            self.all_hit = true;
            self.one_destination = one_destination;
            return;
        }
        for ((n, mbuf), destination) in burst.iter_mut().enumerate().zip(&self.destinations) {
            if !receiver_misses.contains(n) {
                FrameInfo::of_mut(mbuf).set_packed_destination(*destination);
            }
        }
        if !denied.is_empty() {
            denied.remove(state, self, burst);
        }
    }
}

/// Looks every frame of a burst up, counts the hits, and removes the frames that a cached verdict
/// denies.
pub(crate) fn lookup(
    tables: &Tables,
    state: &mut WorkerState,
    buckets: &BucketIndexes,
    burst: &mut Burst,
) -> Lookup {
    // Filled in place and returned from one point: so it is not copied.
    let mut found = Lookup::all_missed(burst.len());
    if let Some(rules) = tables.rule_counts.get(state.id.index())
        && state.flows.is_on()
        && !burst.is_empty()
    {
        found.fill(rules.slots(), state, buckets, burst);
    }
    found
}

/// Counts a frame against the rules that decided on its flow.
#[inline(always)]
fn count(rules: RuleSlots<'_>, verdict: CachedVerdict, bytes: usize) {
    for slot in verdict.counters() {
        rules.hit(slot as usize, bytes);
    }
}

/// Notes what an entry without both accepts says of a frame. Returns the direction in which it is
/// denied; `None` if its receiver is still to be asked.
#[cold]
fn denied_in(
    rules: RuleSlots<'_>,
    info: &mut FrameInfo,
    flow: FlowNumber,
    action: &FlowAction,
    bytes: usize,
) -> Option<Direction> {
    info.set_packed_destination(action.destination);
    if action.egress.verdict() == FlowVerdict::Deny {
        return Some(Direction::Egress);
    }
    // The receiver's verdict will be added to this entry.
    info.set_flow(flow);
    count(rules, action.ingress, bytes);
    (action.ingress.verdict() == FlowVerdict::Deny).then_some(Direction::Ingress)
}

/// Frames of a burst that a cached verdict denies, by whose it is.
#[derive(Debug, Default)]
struct Denied {
    at_sender: FrameSet,
    at_receiver: FrameSet,
}

impl Denied {
    fn insert(&mut self, direction: Direction, n: usize) {
        match direction {
            Direction::Egress => self.at_sender.insert(n),
            Direction::Ingress => self.at_receiver.insert(n),
        }
    }

    fn is_empty(&self) -> bool {
        self.at_sender.is_empty() && self.at_receiver.is_empty()
    }

    /// Takes the frames out of the burst.
    #[cold]
    fn remove(&self, state: &mut WorkerState, found: &mut Lookup, burst: &mut Burst) {
        let mut positions = 0..;
        burst.retain_or(
            |_, _| match positions.next().unwrap_or(BURST) {
                n if self.at_sender.contains(n) => Err(Direction::Egress),
                n if self.at_receiver.contains(n) => Err(Direction::Ingress),
                _ => Ok(()),
            },
            |mbuf, direction| state.drop_at(direction, mbuf, DropReason::Denied),
        );
        found.close_up(self.at_sender);
        let mut at_receiver = self.at_receiver;
        at_receiver.close_up(self.at_sender);
        found.close_up(at_receiver);
    }
}
