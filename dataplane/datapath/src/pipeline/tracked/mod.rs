// SPDX-License-Identifier: Apache-2.0
//! Lookup stage where policies are stateful: the connection table takes the place of the flow cache, whose lookup these
//! frames never see.
//!
//! A burst is looked up at once, for its sender and then for its receivers: two pods of one worker have an entry each.
//! A frame of a known connection has hit: it is counted at the rules by which its connection began, and neither
//! classified nor judged again. Any other keeps the table's answer among its facts until the judge stage acts on it.
//!
//! Where a frame goes is not in the table. It follows from MAC addresses that the connection does not know, and a
//! burst's frames mostly have the same: those that are [`Alike`] the one before take over its destination.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the stage |
//! | `alike.rs` | consecutive frames that are classified alike |
//! | `batch.rs` | frames that are looked up together |
//! | `side.rs` | where the connection alone decides |

mod alike;
mod batch;
mod side;

use sluice_firewall::connections::{Answer, Reading, Tick, TrackedFrame};
use sluice_mem::{BURST, Burst, Mbuf};
use sluice_packet::role::plays_none;

use super::attachment::Attachment;
use super::classify;
use super::frame_set::FrameSet;
use super::lookup::{Cached, Lookup};
use super::state::WorkerState;
use super::stateful::layers;
use super::tables::Tables;
use crate::counters::RuleSlots;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::answer::{Found, PackedAnswer};
use crate::frame::destination::PackedDestination;
use crate::ids::{AttachmentId, SegmentId};
use alike::Alike;
pub(crate) use batch::Batch;
use side::Side;

/// Origin of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A pod of this worker.
    Pod(AttachmentId),
    /// An uplink of this worker.
    Wire,
    /// Worker other than this one, which has judged at the sender and knows the destination.
    Worker,
}

impl Lookup {
    /// Lookup stage of a burst in which stateful policies may judge. Frames that others judge are looked up in the flow
    /// cache as ever.
    #[inline(never)]
    pub(super) fn look_up_tracked(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        source: Source,
        mut cached: Cached<'_>,
        burst: &mut Burst,
    ) {
        let onward = match source {
            Source::Pod(sender) => {
                self.look_up_at_sender(tables, state, sender, &mut cached, burst)
            }
            Source::Wire => self.classify_from_wire(tables, state, &mut cached, burst),
            Source::Worker => self.taken_over(tables, state, &mut cached, burst),
        };
        self.look_up_at_receivers(tables, state, source, &mut cached, onward, burst);
        state.connections.note_lookup();
        self.finish(state, cached.hits, burst);
    }

    /// Looks up what a pod sends, at its own side. Returns the frames that go on to their receiver.
    fn look_up_at_sender(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        sender: AttachmentId,
        cached: &mut Cached<'_>,
        burst: &mut Burst,
    ) -> FrameSet {
        let mut onward = FrameSet::EMPTY;
        let mut alike = Alike::NONE;
        let mut last: Option<(SegmentId, Side)> = None;
        state.connections.batch.clear();
        let frames = burst.len();
        for (n, mbuf) in burst.iter_mut().enumerate() {
            let segment = FrameInfo::of(mbuf).segment();
            let side = match last {
                Some((same, side)) if same == segment => side,
                _ => side::of_sender(tables, state, sender, segment),
            };
            last = Some((segment, side));
            let Side::Tracked { scope, .. } = side else {
                self.look_up_cached(tables, state, cached, n, mbuf, frames);
                continue;
            };
            let (attachment, now_ms) = (state.attachments.get(sender.slot()), state.now_ms);
            let Some(attachment) = attachment.and_then(Option::as_deref) else {
                self.miss(n);
                continue;
            };
            if classify_alike(tables, attachment, now_ms, &mut alike, mbuf).is_err() {
                // The classify stage finds it again, and drops and counts the frame.
                self.miss(n);
                continue;
            }
            match TrackedFrame::read(&layers(mbuf), scope) {
                Reading::Tracked(frame) => state.connections.batch.push(n, &frame),
                _ => self.miss_classified(n),
            }
        }
        let rules = rules_of(tables, state);
        let connections = &mut state.connections;
        let now = Tick::of_millis(state.now_ms);
        connections.batch.look_up(&mut connections.tracker, now);
        let frames = burst.as_mut_slice();
        for (n, answer) in connections.batch.answers() {
            let Some(mbuf) = frames.get_mut(n) else {
                continue;
            };
            if let Answer::Known { pair, from, .. } = answer {
                count(rules, connections.tracker.path(pair, from).rules, mbuf);
                onward.insert(n);
            } else {
                keep(mbuf, answer);
                self.miss_classified(n);
            }
        }
        onward
    }

    /// Classifies what comes from the wire, where somebody's policies are stateful. Returns the frames that have a
    /// destination.
    fn classify_from_wire(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        cached: &mut Cached<'_>,
        burst: &mut Burst,
    ) -> FrameSet {
        let mut onward = FrameSet::EMPTY;
        let mut alike = Alike::NONE;
        let mut last: Option<(SegmentId, bool)> = None;
        let frames = burst.len();
        for (n, mbuf) in burst.iter_mut().enumerate() {
            let segment = FrameInfo::of(mbuf).segment();
            let is_stateful = match last {
                Some((same, is_stateful)) if same == segment => is_stateful,
                _ => tables
                    .segment(segment)
                    .is_some_and(|segment| segment.is_stateful && segment.learned.is_none()),
            };
            last = Some((segment, is_stateful));
            if !is_stateful || !FrameInfo::of(mbuf).is_decided_by_header() {
                self.look_up_cached(tables, state, cached, n, mbuf, frames);
                continue;
            }
            let info = FrameInfo::of_mut(mbuf);
            if let Some(destination) = alike.destination(info, false) {
                info.set_packed_destination(destination);
                onward.insert(n);
                continue;
            }
            let classified = classify::uplink_frame(tables, state.now_ms, mbuf);
            let info = FrameInfo::of(mbuf);
            if classified.is_ok() && info.goes_to_one() {
                alike.note(info, false);
                onward.insert(n);
            } else {
                self.miss(n);
            }
        }
        onward
    }

    /// Takes over what another worker has handed off. Returns the frames that have one destination.
    fn taken_over(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        cached: &mut Cached<'_>,
        burst: &mut Burst,
    ) -> FrameSet {
        let mut onward = FrameSet::EMPTY;
        let frames = burst.len();
        for (n, mbuf) in burst.iter_mut().enumerate() {
            if FrameInfo::of(mbuf).is_decided_by_key() {
                onward.insert(n);
            } else {
                self.look_up_cached(tables, state, cached, n, mbuf, frames);
            }
        }
        onward
    }

    /// Looks up frames that have passed at their sender, at the side of their receiver.
    fn look_up_at_receivers(
        &mut self,
        tables: &Tables,
        state: &mut WorkerState,
        source: Source,
        cached: &mut Cached<'_>,
        onward: FrameSet,
        burst: &mut Burst,
    ) {
        let mut last: Option<(PackedDestination, SegmentId, Side)> = None;
        state.connections.batch.clear();
        let frames = burst.len();
        for (n, mbuf) in burst.iter_mut().enumerate() {
            if !onward.contains(n) {
                continue;
            }
            let info = FrameInfo::of(mbuf);
            let (destination, segment) = (info.packed_destination(), info.segment());
            let side = match last {
                Some((to, of, side)) if (to, of) == (destination, segment) => side,
                _ => side::of_receiver(tables, state, destination, segment),
            };
            last = Some((destination, segment, side));
            match side {
                Side::Open => self.hit(n, destination),
                Side::Rules if matches!(source, Source::Pod(_)) => self.miss_receiver(n),
                Side::Rules => {
                    self.look_up_cached(tables, state, cached, n, mbuf, frames);
                }
                Side::Tracked { max_frame, .. } if mbuf.len() > max_frame => self.miss_receiver(n),
                Side::Tracked { scope, .. } => match TrackedFrame::read(&layers(mbuf), scope) {
                    Reading::Tracked(frame) => state.connections.batch.push(n, &frame),
                    _ => self.miss_receiver(n),
                },
            }
        }
        let rules = rules_of(tables, state);
        let connections = &mut state.connections;
        let now = Tick::of_millis(state.now_ms);
        connections.batch.look_up(&mut connections.tracker, now);
        let frames = burst.as_mut_slice();
        for (n, answer) in connections.batch.answers() {
            let Some(mbuf) = frames.get_mut(n) else {
                continue;
            };
            if let Answer::Known { pair, from, .. } = answer {
                count(rules, connections.tracker.path(pair, from).rules, mbuf);
                self.hit(n, FrameInfo::of(mbuf).packed_destination());
            } else {
                keep(mbuf, answer);
                self.miss_receiver(n);
            }
        }
    }
}

/// Finds where a pod's frame goes, and that it is from whom it says, unless it is as the frame before it. An error is
/// the reason for which the classify stage is to look at the frame, or to drop it.
#[inline(always)]
fn classify_alike(
    tables: &Tables,
    attachment: &Attachment,
    now_ms: u64,
    alike: &mut Alike,
    mbuf: &mut Mbuf,
) -> Result<(), DropReason> {
    let bytes = mbuf.len();
    let info = FrameInfo::of_mut(mbuf);
    if !info.is_decided_by_header() || attachment.is_too_long(bytes, false) {
        return Err(DropReason::TooLong);
    }
    // What depends on more than addresses are the roles that a frame plays.
    let may_be_alike = plays_none(&info.key);
    if may_be_alike && let Some(destination) = alike.destination(info, true) {
        info.set_packed_destination(destination);
        return Ok(());
    }
    classify::pod_frame(tables, attachment, now_ms, mbuf)?;
    let info = FrameInfo::of(mbuf);
    if !info.goes_to_one() {
        return Err(DropReason::NotOurs);
    }
    if may_be_alike {
        alike.note(info, true);
    }
    Ok(())
}

/// Notes an answer among the facts of its frame, for the judge stage.
#[cold]
fn keep(mbuf: &mut Mbuf, answer: Answer) {
    FrameInfo::of_mut(mbuf).set_answer(PackedAnswer::of(Found::of(answer)));
}

/// Counters of this worker.
fn rules_of<'t>(tables: &'t Tables, state: &WorkerState) -> Option<RuleSlots<'t>> {
    let counts = tables.rule_counts.get(state.id.index())?;
    Some(counts.slots())
}

/// Counts a frame at the rules by which its connection began: one of each policy.
#[inline(always)]
fn count(rules: Option<RuleSlots<'_>>, [vlan, own, ..]: [u32; 4], mbuf: &Mbuf) {
    if let Some(rules) = rules {
        rules.hit(vlan as usize, mbuf.len());
        rules.hit(own as usize, mbuf.len());
    }
}

const _: () = assert!(BURST <= 256, "a position in a burst is a byte");
