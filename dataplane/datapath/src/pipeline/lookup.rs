// SPDX-License-Identifier: Apache-2.0
//! Lookup stage: finds each frame's flow in the flow cache. Frames that hit go on as the policies
//! have decided before, and are counted as if these had been asked again.

use sluice_firewall::Direction;
use sluice_mem::{BURST, Burst, Mbuf};

use super::classify::destination_by_now;
use super::frame_set::FrameSet;
use super::learn;
use super::state::WorkerState;
use super::tables::Tables;
use super::tracked::Source;
use crate::counters::RuleSlots;
use crate::drops::DropReason;
use crate::flows::{BucketIndexes, CachedVerdict, Candidates, FlowAction, FlowCache, FlowVerdict};
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
    /// Frames to judge at their sender.
    misses: FrameSet,
    /// Frames to classify: the misses, but for those that were classified to be looked up.
    to_classify: FrameSet,
    /// Frames to judge at their receiver: the misses, and those that missed their receiver only.
    receiver_misses: FrameSet,
    /// Frames that their sender's verdict denies, until they are removed.
    denied_at_sender: FrameSet,
    /// Frames that their receiver's verdict denies, until they are removed.
    denied_at_receiver: FrameSet,
    /// Destination of each frame, if every frame has hit. In any other burst the hits have theirs in
    /// their facts, where classify puts those of the misses.
    destinations: [PackedDestination; BURST],
}

/// Lookup in the flow cache of a burst some of whose frames are not looked up there.
#[derive(Debug)]
pub(super) struct Cached<'b> {
    buckets: &'b BucketIndexes,
    /// Made at the first frame that needs them.
    candidates: Option<Candidates>,
    /// Frames that hit.
    pub(super) hits: u64,
}

impl<'b> Cached<'b> {
    fn new(buckets: &'b BucketIndexes) -> Cached<'b> {
        Cached {
            buckets,
            candidates: None,
            hits: 0,
        }
    }
}

impl Lookup {
    /// Result of a lookup that is still to be made.
    #[inline(always)]
    pub(crate) fn new() -> Lookup {
        Lookup {
            all_hit: false,
            one_destination: true,
            misses: FrameSet::EMPTY,
            to_classify: FrameSet::EMPTY,
            receiver_misses: FrameSet::EMPTY,
            denied_at_sender: FrameSet::EMPTY,
            denied_at_receiver: FrameSet::EMPTY,
            destinations: [PackedDestination::UNKNOWN; BURST],
        }
    }

    /// Result for a burst of `frames` frames none of which has hit.
    pub(crate) fn all_missed(frames: usize) -> Lookup {
        let mut found = Lookup::new();
        found.set_all_missed(frames);
        found
    }

    /// Notes that the burst has `frames` frames now, and that none of them has hit.
    pub(crate) fn set_all_missed(&mut self, frames: usize) {
        self.misses = FrameSet::first(frames);
        self.to_classify = self.misses;
        self.receiver_misses = self.misses;
    }

    /// Whether every frame has hit: then there is nothing to classify or to judge.
    #[inline]
    pub(crate) fn all_hit(&self) -> bool {
        self.all_hit
    }

    /// Returns the frames to judge at their sender.
    #[inline]
    pub(crate) fn misses(&self) -> FrameSet {
        self.misses
    }

    /// Returns the frames to classify.
    #[inline]
    pub(crate) fn to_classify(&self) -> FrameSet {
        self.to_classify
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
        self.to_classify.close_up(removed);
        self.receiver_misses.close_up(removed);
    }

    /// Lookup stage: looks every frame of a burst up, counts the hits, and removes the frames that a
    /// cached verdict denies.
    // In place: returned by value, the result would be copied once more.
    #[inline(never)]
    pub(crate) fn look_up(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        source: Source,
        buckets: &BucketIndexes,
        burst: &mut Burst,
    ) {
        if tables.is_stateful && !burst.is_empty() {
            return self.look_up_tracked(tables, state, source, Cached::new(buckets), burst);
        }
        let Some(rules) = tables.rule_counts.get(state.id.index()) else {
            return self.set_all_missed(burst.len());
        };
        let rules = rules.slots();
        if !state.flows.is_on() || burst.is_empty() {
            return self.set_all_missed(burst.len());
        }
        let candidates = state.flows.candidates(buckets, burst.len());
        let (flows, now_ms) = (&mut state.flows, state.now_ms);
        for (n, mbuf) in burst.iter_mut().enumerate() {
            self.look_up_flow((tables, rules), flows, now_ms, &candidates, n, mbuf);
        }
        self.all_hit = self.receiver_misses.is_empty();
        let hits = burst.len() - self.misses.len();
        state.counts.flow_hits.add(hits as u64);
        if !self.all_hit {
            self.settle(state, burst);
        }
    }

    /// Looks up the flow of the `n`th frame.
    #[inline(always)]
    fn look_up_flow(
        &mut self,
        (tables, rules): (&Tables, RuleSlots<'_>),
        flows: &mut FlowCache,
        now_ms: u64,
        candidates: &Candidates,
        n: usize,
        mbuf: &mut Mbuf,
    ) {
        let bytes = mbuf.len();
        let info = FrameInfo::of_mut(mbuf);
        let Some((at, action)) = flows.lookup(candidates, n, info) else {
            return self.miss(n);
        };
        let action = if bytes <= action.max_frame as usize {
            action
        } else if let Some(action) = confirm(tables, flows, now_ms, at, info, bytes) {
            action
        } else {
            return self.miss(n);
        };
        // A verdict that is not known counts nowhere.
        count(rules, action.egress, bytes);
        count(rules, action.ingress, bytes);
        if action.is_accepted() {
            self.destinations[n % BURST] = action.destination;
            self.one_destination &= action.destination == self.destinations[0];
            return;
        }
        self.not_accepted(n, info, FlowNumber::of(at), action);
    }

    /// Looks up the flow of one frame of a burst of which others are looked up in the connection table.
    pub(super) fn look_up_cached(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        cached: &mut Cached<'_>,
        n: usize,
        mbuf: &mut Mbuf,
        frames: usize,
    ) {
        let rules = tables.rule_counts.get(state.id.index());
        let (Some(rules), true) = (rules, state.flows.is_on()) else {
            return self.miss(n);
        };
        let (flows, now_ms) = (&mut state.flows, state.now_ms);
        let candidates = cached
            .candidates
            .get_or_insert_with(|| flows.candidates(cached.buckets, frames));
        let tables = (tables, rules.slots());
        self.look_up_flow(tables, flows, now_ms, candidates, n, mbuf);
        if !self.misses.contains(n) {
            cached.hits += 1;
        }
    }

    /// Completes the lookup of a burst that was looked up in the connection table.
    pub(super) fn finish(&mut self, state: &mut WorkerState, cached_hits: u64, burst: &mut Burst) {
        self.all_hit = self.receiver_misses.is_empty();
        let known = &self.destinations[..burst.len().min(BURST)];
        self.one_destination = known.iter().all(|one| *one == known[0]);
        state.counts.flow_hits.add(cached_hits);
        if !self.all_hit {
            self.settle(state, burst);
        }
    }

    /// Notes a frame that has passed all policies on its way.
    #[inline(always)]
    pub(super) fn hit(&mut self, n: usize, destination: PackedDestination) {
        self.destinations[n % BURST] = destination;
    }

    /// Notes a frame that is classified, and to be judged at its sender.
    #[cold]
    pub(super) fn miss_classified(&mut self, n: usize) {
        self.misses.insert(n);
        self.receiver_misses.insert(n);
    }

    /// Notes a frame that is to be judged at its receiver only.
    #[cold]
    pub(super) fn miss_receiver(&mut self, n: usize) {
        self.receiver_misses.insert(n);
    }

    /// Notes a frame whose flow is not cached, or that is too long for its entry.
    #[cold]
    pub(super) fn miss(&mut self, n: usize) {
        self.misses.insert(n);
        self.to_classify.insert(n);
        self.receiver_misses.insert(n);
    }

    /// Notes a frame that not both cached verdicts accept.
    #[cold]
    fn not_accepted(
        &mut self,
        n: usize,
        info: &mut FrameInfo,
        flow: FlowNumber,
        action: &FlowAction,
    ) {
        info.set_packed_destination(action.destination);
        self.receiver_misses.insert(n);
        if action.egress.verdict() == FlowVerdict::Deny {
            self.denied_at_sender.insert(n);
        } else if action.ingress.verdict() == FlowVerdict::Deny {
            self.denied_at_receiver.insert(n);
        } else {
            // The receiver's verdict will be added to this entry.
            info.set_flow(flow);
        }
    }

    /// Puts the destinations of the hits into their facts, and removes the frames that are denied.
    #[cold]
    fn settle(&mut self, state: &mut WorkerState, burst: &mut Burst) {
        for ((n, mbuf), destination) in burst.iter_mut().enumerate().zip(&self.destinations) {
            if !self.receiver_misses.contains(n) {
                FrameInfo::of_mut(mbuf).set_packed_destination(*destination);
            }
        }
        let (at_sender, mut at_receiver) = (self.denied_at_sender, self.denied_at_receiver);
        if at_sender.is_empty() && at_receiver.is_empty() {
            return;
        }
        let mut positions = 0..;
        burst.retain_or(
            |_, _| match positions.next().unwrap_or(BURST) {
                n if at_sender.contains(n) => Err(Direction::Egress),
                n if at_receiver.contains(n) => Err(Direction::Ingress),
                _ => Ok(()),
            },
            |mbuf, direction| state.drop_at(direction, mbuf, DropReason::Denied),
        );
        self.close_up(at_sender);
        at_receiver.close_up(at_sender);
        self.close_up(at_receiver);
    }
}

/// Returns the action of an entry whose destination may be learned to be another, if the frame goes there
/// now. `None`: it is a miss.
#[cold]
#[inline(never)]
fn confirm<'s>(
    tables: &Tables,
    flows: &'s mut FlowCache,
    now_ms: u64,
    at: usize,
    info: &FrameInfo,
    bytes: usize,
) -> Option<&'s FlowAction> {
    let action = flows.action(at)?;
    if !action.may_be_confirmed(bytes) {
        return None;
    }
    let segment = tables.segment(info.segment())?;
    let table = segment.learned.as_deref()?;
    // Before what it speaks of is read: a change after that begins another.
    let (epoch, second) = (table.epoch(), learn::second(now_ms));
    if !action.is_confirmed(epoch, second) {
        let expected = destination_by_now(tables, segment, info, second)?;
        if expected.pack() != action.destination {
            return None;
        }
    }
    flows.confirm(at, epoch, second)
}

/// Counts a frame against the rules that decided on its flow.
#[inline(always)]
fn count(rules: RuleSlots<'_>, verdict: CachedVerdict, bytes: usize) {
    for slot in verdict.counters() {
        rules.hit(slot as usize, bytes);
    }
}
