//! The judge stage: the VLAN's policy first, then the attachment's own, and both must accept.

use sluice_firewall::{Direction, Hit, PolicyIndex, Verdict};
use sluice_mem::{BURST, Burst, Mbuf};

use crate::drops::DropReason;
use crate::flows::{Half, Path};
use crate::frame::origin::Source;
use crate::frame::{Destination, FrameInfo};
use crate::ids::{AttachmentId, FlowNumber};
use crate::pipeline::reject;
use crate::pipeline::state::State;
use crate::pipeline::tables::{OwnPolicy, Tables};

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is to be judged.
    Open,
    /// It goes on.
    Pass,
    /// It ends here.
    Drop(DropReason),
    /// It ends here, and its sender is told.
    Reject,
}

/// The policies that a frame of a segment has to pass at an attachment.
#[derive(Debug, Clone, Copy)]
struct Policies {
    vlan: PolicyIndex,
    own: Option<PolicyIndex>,
}

impl Policies {
    fn of(
        tables: &Tables,
        attachment: AttachmentId,
        info: &FrameInfo,
    ) -> Result<Policies, DropReason> {
        let segment = tables.segment(info.segment());
        let vlan = segment
            .and_then(|segment| segment.policy)
            .ok_or(DropReason::NoPolicy)?;
        let entry = tables.attachment(attachment).ok_or(DropReason::Gone)?;
        let own = match entry.own_policy {
            OwnPolicy::None => None,
            OwnPolicy::Policy(own) => Some(own),
            OwnPolicy::Missing => return Err(DropReason::NoPolicy),
        };
        Ok(Policies { vlan, own })
    }
}

/// Judges one frame, on its way to or from `attachment`, that others get as well.
pub(crate) fn judge(
    tables: &Tables,
    state: &mut State,
    attachment: AttachmentId,
    direction: Direction,
    mbuf: &Mbuf,
) -> Decision {
    let info = FrameInfo::of(mbuf);
    if info.is_exempt() {
        return Decision::Pass;
    }
    let policies = match Policies::of(tables, attachment, info) {
        Ok(policies) => policies,
        Err(reason) => return Decision::Drop(reason),
    };
    let court = Court {
        tables,
        attachment,
        direction,
    };
    let hit = court.table(policies.vlan).judge(&info.key);
    court.decide(state, policies, hit, mbuf).0
}

/// Judges the frames of a burst, on their way to or from `attachment`, whose decisions are open,
/// consecutive ones of a segment together; their flows are learned.
pub(crate) fn judge_burst(
    tables: &Tables,
    state: &mut State,
    attachment: AttachmentId,
    direction: Direction,
    burst: &mut Burst,
    decisions: &mut [Decision; BURST],
) {
    let court = Court {
        tables,
        attachment,
        direction,
    };
    let mut hits = [NO_HIT; BURST];
    let mut from = 0;
    while let Some(first) = burst.as_slice().get(from) {
        if decisions[from] != Decision::Open {
            from += 1;
            continue;
        }
        let info = FrameInfo::of(first);
        let segment = info.segment();
        let policies = Policies::of(tables, attachment, info);
        let run = burst.as_slice()[from..]
            .iter()
            .zip(&decisions[from..])
            .take_while(|&(mbuf, &decision)| {
                decision == Decision::Open && FrameInfo::of(mbuf).segment() == segment
            })
            .count();
        let (frames, decisions) = (
            &mut burst.as_mut_slice()[from..from + run],
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
        let keys = frames.iter().map(|mbuf| &FrameInfo::of(mbuf).key);
        court
            .table(policies.vlan)
            .judge_burst(keys, &mut hits[..run]);
        for ((mbuf, decision), &hit) in frames.iter_mut().zip(decisions).zip(&hits) {
            let (made, learnt) = court.decide(state, policies, hit, mbuf);
            *decision = made;
            if let Some(half) = learnt {
                court.learn(state, FrameInfo::of_mut(mbuf), half);
            }
        }
    }
}

const NO_HIT: Hit = Hit {
    rule: 0,
    verdict: Verdict::Drop,
    log: false,
};

/// Where is judged, and by which tables.
#[derive(Clone, Copy)]
struct Court<'a> {
    tables: &'a Tables,
    attachment: AttachmentId,
    direction: Direction,
}

impl Court<'_> {
    fn table(&self, policy: PolicyIndex) -> &sluice_firewall::Table {
        self.tables.policies.policy(policy).table(self.direction)
    }

    /// What follows from what the VLAN's table says; the attachment's own is asked if that accepts.
    /// Also what may be learned of it.
    fn decide(
        &self,
        state: &mut State,
        policies: Policies,
        hit: Hit,
        mbuf: &Mbuf,
    ) -> (Decision, Option<Half>) {
        let first = self.count(state, policies.vlan, hit, mbuf);
        let (mut last, mut second, mut logged) = (hit, None, hit.log);
        if let (Verdict::Accept, Some(own)) = (hit.verdict, policies.own) {
            last = self.table(own).judge(&FrameInfo::of(mbuf).key);
            second = Some(self.count(state, own, last, mbuf));
            logged |= last.log;
        }
        let decision = match last.verdict {
            Verdict::Accept => Decision::Pass,
            Verdict::Drop => Decision::Drop(DropReason::Denied),
            Verdict::Reject => Decision::Reject,
        };
        let may_be_learned = !logged && decision != Decision::Reject;
        let half =
            may_be_learned.then(|| Half::new(decision == Decision::Pass, [Some(first), second]));
        (decision, half)
    }

    /// Counts a decision against the rule that made it, and logs it if that asks for it; returns
    /// the rule's slot.
    fn count(&self, state: &mut State, policy: PolicyIndex, hit: Hit, mbuf: &Mbuf) -> usize {
        let compiled = self.tables.policies.policy(policy);
        let slot = compiled.slot_base(self.direction) + hit.rule as usize;
        if let Some(counts) = self.tables.rule_counts.get(state.id.index()) {
            counts.hit(slot, mbuf.len());
        }
        if hit.log {
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

    /// Puts a decision into the flow cache.
    fn learn(&self, state: &mut State, info: &mut FrameInfo, half: Half) {
        if !state.flows.is_on() {
            return;
        }
        let Some(attachment) = state.attachment(self.attachment) else {
            return;
        };
        let max_frame = u32::try_from(attachment.max_frame).unwrap_or(u32::MAX);
        let goal = info.goal();
        let path = |egress, ingress| Path::new(goal, max_frame, egress, ingress);
        let learned = match self.direction {
            Direction::Egress => {
                // At an uplink nobody is asked.
                let receiver = match info.destination() {
                    Destination::Uplink(_) => Half::PASS,
                    _ => Half::ASK,
                };
                state.flows.learn(info, path(half, receiver))
            }
            Direction::Ingress if info.flow() != FlowNumber::NONE => {
                state.flows.learn_ingress(info, half, max_frame);
                return;
            }
            // What comes from elsewhere was judged there, if anywhere.
            Direction::Ingress => match info.source() {
                Source::Attachment(id) if state.attachment(id).is_some() => None,
                _ => state.flows.learn(info, path(Half::PASS, half)),
            },
        };
        if let Some((flow, is_new)) = learned {
            info.set_flow(flow);
            state.counts.learned.add(is_new.into());
        }
    }
}

/// Takes out of a burst what does not pass, and sees to its end.
pub(crate) fn remove_refused(
    tables: &Tables,
    state: &mut State,
    attachment: AttachmentId,
    direction: Direction,
    burst: &mut Burst,
    decisions: &[Decision; BURST],
) {
    let all_pass = |decisions: &[Decision]| decisions.iter().all(|&one| one == Decision::Pass);
    if all_pass(&decisions[..burst.len()]) {
        return;
    }
    let mut all = std::mem::take(burst);
    for (mbuf, &decision) in all.drain_front(BURST).zip(decisions) {
        match decision {
            Decision::Pass => {
                if let Err(mbuf) = burst.push(mbuf) {
                    state.drop_frame(mbuf, DropReason::RingFull);
                }
            }
            // Every frame was judged: one that was not goes no further.
            Decision::Open => state.drop_at(attachment, direction, mbuf, DropReason::NoPolicy),
            Decision::Drop(reason) => state.drop_at(attachment, direction, mbuf, reason),
            Decision::Reject => reject::answer(tables, state, attachment, direction, mbuf),
        }
    }
}
