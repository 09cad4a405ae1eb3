// SPDX-License-Identifier: Apache-2.0
//! Policies that judge at one attachment in one direction: the VLAN's first, then the attachment's
//! own, and both must accept.

use sluice_firewall::{Direction, Hit, PolicyIndex, Table, Verdict};
use sluice_mem::{BURST, Mbuf};

use super::by_headers;
use super::state::WorkerState;
use super::tables::{OwnPolicy, Tables};
use crate::drops::DropReason;
use crate::flows::{CachedVerdict, FlowAction, FlowVerdict};
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::Origin;
use crate::ids::{AttachmentId, FlowNumber, SegmentId};

/// Decision on one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// None yet: the policies are to be asked.
    Open,
    /// The frame goes on.
    Pass,
    /// The frame is dropped.
    Drop(DropReason),
    /// The frame is dropped, and its sender gets an answer.
    Reject,
}

/// Policies that a frame of a segment has to pass at an attachment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policies {
    pub(super) vlan: PolicyIndex,
    pub(super) own: Option<PolicyIndex>,
}

/// Attachment and direction that are judged at, with the tables to judge by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PolicyContext<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) attachment: AttachmentId,
    pub(crate) direction: Direction,
}

const NO_HIT: Hit = Hit {
    rule: 0,
    verdict: Verdict::Drop,
    log: false,
};

impl PolicyContext<'_> {
    /// Judges one frame that others get as well; nothing is cached of it.
    pub(crate) fn judge(&self, state: &mut WorkerState, mbuf: &Mbuf) -> Decision {
        let info = FrameInfo::of(mbuf);
        let policies = match self.policies(info.segment()) {
            Ok(policies) => policies,
            Err(reason) => return Decision::Drop(reason),
        };
        if self.is_stateful(policies) {
            return self.judge_stateful(state, policies, None, mbuf);
        }
        let hit = self.table(policies.vlan).judge(&info.key);
        self.decide(state, policies, hit, mbuf).0
    }

    /// Judges the frames whose decisions are open, consecutive ones of a segment together, and
    /// inserts their flows into the flow cache. `frames` are at most a burst.
    pub(crate) fn judge_open(
        &self,
        state: &mut WorkerState,
        frames: &mut [Mbuf],
        decisions: &mut [Decision],
    ) {
        let mut hits = [NO_HIT; BURST];
        let mut from = 0;
        while let (Some(first), Some(&decision)) = (frames.get(from), decisions.get(from)) {
            if decision != Decision::Open {
                from += 1;
                continue;
            }
            let segment = FrameInfo::of(first).segment();
            let policies = self.policies(segment);
            let run = frames[from..]
                .iter()
                .zip(&decisions[from..])
                .take_while(|&(mbuf, &decision)| {
                    decision == Decision::Open && FrameInfo::of(mbuf).segment() == segment
                })
                .count();
            let (frames, decisions) = (
                &mut frames[from..from + run],
                &mut decisions[from..from + run],
            );
            from += run;
            let policies = match policies {
                Ok(policies) => policies,
                Err(reason) => {
                    decisions.fill(Decision::Drop(reason));
                    continue;
                }
            };
            if self.is_stateful(policies) {
                for (mbuf, decision) in frames.iter_mut().zip(decisions) {
                    let found = FrameInfo::of_mut(mbuf).take_answer().unpack();
                    *decision = self.judge_stateful(state, policies, found, mbuf);
                }
                continue;
            }
            let keys = frames.iter().map(|mbuf| &FrameInfo::of(mbuf).key);
            self.table(policies.vlan)
                .judge_burst(keys, &mut hits[..run]);
            for ((mbuf, decision), &hit) in frames.iter_mut().zip(decisions).zip(&hits) {
                let (made, to_cache) = self.decide(state, policies, hit, mbuf);
                *decision = made;
                if let Some(verdict) = to_cache {
                    self.insert(state, FrameInfo::of_mut(mbuf), verdict);
                }
            }
        }
    }

    /// Returns the policies that judge the frames of a segment here.
    pub(super) fn policies(&self, segment: SegmentId) -> Result<Policies, DropReason> {
        let segment = self.tables.segment(segment);
        let vlan = segment
            .and_then(|segment| segment.policy)
            .ok_or(DropReason::NoPolicy)?;
        let entry = self
            .tables
            .attachment(self.attachment)
            .ok_or(DropReason::Gone)?;
        let own = match entry.own_policy {
            OwnPolicy::None => None,
            OwnPolicy::Policy(own) => Some(own),
            OwnPolicy::Missing => return Err(DropReason::NoPolicy),
        };
        Ok(Policies { vlan, own })
    }

    fn table(&self, policy: PolicyIndex) -> &Table {
        self.tables.policies.policy(policy).table(self.direction)
    }

    /// Decides from what the VLAN's table says; the attachment's own table is asked if that accepts.
    /// Returns the verdict for the flow cache too, if it may be cached.
    fn decide(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        hit: Hit,
        mbuf: &Mbuf,
    ) -> (Decision, Option<CachedVerdict>) {
        let by_headers = by_headers::complete(self.table(policies.vlan), hit, mbuf);
        let (hit, mut by_key) = (by_headers.unwrap_or(hit), by_headers.is_none());
        let first = self.count(state, policies.vlan, hit, mbuf);
        if !self.is_within_limit(state, policies.vlan, hit, mbuf) {
            return (Decision::Drop(DropReason::RuleLimited), None);
        }
        let mut is_limited = self.has_limit(policies.vlan, hit);
        let (mut last, mut second, mut logged) = (hit, None, hit.log);
        if let (true, Some(own)) = (hit.verdict.passes(), policies.own) {
            last = self.table(own).judge(&FrameInfo::of(mbuf).key);
            let by_headers = by_headers::complete(self.table(own), last, mbuf);
            by_key &= by_headers.is_none();
            last = by_headers.unwrap_or(last);
            second = Some(self.count(state, own, last, mbuf));
            if !self.is_within_limit(state, own, last, mbuf) {
                return (Decision::Drop(DropReason::RuleLimited), None);
            }
            is_limited |= self.has_limit(own, last);
            logged |= last.log;
        }
        let (decision, verdict) = match last.verdict {
            Verdict::Accept | Verdict::Audit => (Decision::Pass, Some(FlowVerdict::Accept)),
            Verdict::Drop => (Decision::Drop(DropReason::Denied), Some(FlowVerdict::Deny)),
            Verdict::Reject => (Decision::Reject, None),
        };
        let to_cache = verdict
            .filter(|_| !logged && by_key && !is_limited)
            .map(|verdict| CachedVerdict::new(verdict, [Some(first), second]));
        (decision, to_cache)
    }

    /// Whether a frame that a rule decides on is one of those that are logged, one of `sample`.
    fn is_sampled(&self, state: &mut WorkerState, sample: u32, slot: usize) -> bool {
        let attachment = state.attachment(self.attachment);
        sample == 1 || attachment.is_some_and(|found| found.records.is_sampled(slot, sample))
    }

    /// Whether the rule that made a decision has a limit, so that the decision holds for one frame.
    fn has_limit(&self, policy: PolicyIndex, hit: Hit) -> bool {
        let policy = self.tables.policies.policy(policy);
        policy.limit(self.direction, hit.rule).is_some()
    }

    /// Whether a frame is within the limit of the rule that decided on it, of which it takes its part.
    #[inline]
    pub(super) fn is_within_limit(
        &self,
        state: &mut WorkerState,
        policy: PolicyIndex,
        hit: Hit,
        mbuf: &Mbuf,
    ) -> bool {
        let policies = &self.tables.policies;
        let compiled = policies.policy(policy);
        let Some(limit) = compiled.limit(self.direction, hit.rule) else {
            return true;
        };
        let slot = compiled.slot_base(self.direction) + hit.rule as usize;
        let now_ns = state.clock.now_ns();
        let source = &FrameInfo::of(mbuf).key.src;
        let attachment = state.attachment(self.attachment);
        attachment.is_some_and(|attachment| {
            let limits = &mut attachment.rule_limits;
            limits.take(policies.version(), slot, limit, source, mbuf.len(), now_ns)
        })
    }

    /// Counts a decision against the rule that made it, and logs it if the rule asks for that.
    /// Returns the rule's slot.
    pub(super) fn count(
        &self,
        state: &mut WorkerState,
        policy: PolicyIndex,
        hit: Hit,
        mbuf: &Mbuf,
    ) -> usize {
        let compiled = self.tables.policies.policy(policy);
        let slot = compiled.slot_base(self.direction) + hit.rule as usize;
        if let Some(counts) = self.tables.rule_counts.get(state.id.index()) {
            counts.hit(slot, mbuf.len());
        }
        if hit.log && self.is_sampled(state, compiled.log_sample(self.direction, hit.rule), slot) {
            let key = &FrameInfo::of(mbuf).key;
            state.record(
                self.attachment,
                policy,
                self.direction,
                hit,
                key,
                self.tables,
            );
        }
        slot
    }

    /// Inserts a verdict into the flow cache.
    fn insert(&self, state: &mut WorkerState, info: &mut FrameInfo, verdict: CachedVerdict) {
        if !state.flows.is_on() {
            return;
        }
        let Some(attachment) = state.attachment(self.attachment) else {
            return;
        };
        let max_frame = u32::try_from(attachment.max_frame).unwrap_or(u32::MAX);
        let destination = info.packed_destination();
        let segment = self.tables.segment(info.segment());
        let learns = segment.is_some_and(|segment| segment.learned.is_some());
        let action = |egress, ingress| {
            let action = FlowAction::new(destination, max_frame, egress, ingress);
            match learns {
                true => action.to_be_confirmed(),
                false => action,
            }
        };
        let inserted = match self.direction {
            Direction::Egress => {
                // At an uplink no policy judges.
                let receiver = match info.destination() {
                    Destination::Uplink(_) => CachedVerdict::ACCEPT,
                    _ => CachedVerdict::UNKNOWN,
                };
                state.flows.insert(info, action(verdict, receiver))
            }
            Direction::Ingress if info.flow() != FlowNumber::NONE => {
                state.flows.set_ingress(info, verdict, max_frame);
                return;
            }
            // A frame from elsewhere was judged there, if anywhere.
            Direction::Ingress => match info.origin() {
                Origin::Attachment(id) if state.attachment(id).is_some() => None,
                _ => state
                    .flows
                    .insert(info, action(CachedVerdict::ACCEPT, verdict)),
            },
        };
        if let Some((flow, is_new)) = inserted {
            info.set_flow(flow);
            state.counts.flow_inserts.add(is_new.into());
        }
    }
}
