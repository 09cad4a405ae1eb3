// SPDX-License-Identifier: Apache-2.0
//! Walk of a frame through the tables of rules at one attachment, where one policy at least is stateful.

use sluice_firewall::{Direction, Verdict};
use sluice_mem::Mbuf;
use sluice_packet::FlowKey;

use super::super::by_headers;
use super::super::policy_context::{Decision, Policies, PolicyContext};
use super::super::state::WorkerState;
use crate::drops::DropReason;

/// Number of no rule's slot.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Policies of a frame that are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Both.
    All,
    /// Policies that are not stateful: the others let the frame pass by its connection.
    Stateless,
}

/// Counter slots of the rules by which stateful policies let a connection begin. Where every frame is judged by rules
/// it is counted then.
pub(super) type RuleSlots = [u32; 4];

/// Result of a walk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) decision: Decision,
    /// Slots of the rules of stateful policies that were asked.
    pub(super) slots: RuleSlots,
}

impl PolicyContext<'_> {
    /// Judges a frame by rules, and counts it at them.
    pub(super) fn by_rules(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        asked: Asked,
        mbuf: &Mbuf,
    ) -> Judged {
        let mut slots = [NO_SLOT; 4];
        let indexes = [Some(policies.vlan), policies.own].into_iter().flatten();
        for (index, slot) in indexes.zip(&mut slots) {
            let policy = self.tables.policies.policy(index);
            let is_stateful = policy.is_stateful();
            if asked == Asked::Stateless && is_stateful {
                continue;
            }
            let hit = by_headers::judge(policy.table(self.direction), mbuf);
            let counted_at = self.count(state, index, hit, mbuf);
            if is_stateful {
                *slot = u32::try_from(counted_at).unwrap_or(NO_SLOT);
            }
            if !self.is_within_limit(state, index, hit, mbuf) {
                let decision = Decision::Drop(DropReason::RuleLimited);
                return Judged { decision, slots };
            }
            let decision = match hit.verdict {
                Verdict::Accept | Verdict::Audit => continue,
                Verdict::Drop => Decision::Drop(DropReason::Denied),
                Verdict::Reject => Decision::Reject,
            };
            return Judged { decision, slots };
        }
        Judged {
            decision: Decision::Pass,
            slots,
        }
    }

    /// Judges a frame that stateful policies let pass by its connection.
    pub(super) fn by_stateless(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        mbuf: &Mbuf,
    ) -> Decision {
        self.by_rules(state, policies, Asked::Stateless, mbuf)
            .decision
    }

    /// Returns the rules of all policies that accept the first frame of a connection, which has this key; `None` if one
    /// does not. Nothing is counted. `mbuf` is a frame of the connection.
    pub(super) fn accepting(
        &self,
        policies: Policies,
        direction: Direction,
        key: &FlowKey,
        mbuf: &Mbuf,
    ) -> Option<RuleSlots> {
        let mut slots = [NO_SLOT; 4];
        let indexes = [Some(policies.vlan), policies.own].into_iter().flatten();
        for (index, slot) in indexes.zip(&mut slots) {
            let policy = self.tables.policies.policy(index);
            let hit = by_headers::judge_as_first(policy.table(direction), key, mbuf);
            if !hit.verdict.passes() {
                return None;
            }
            if policy.is_stateful() {
                let number = policy.slot_base(direction) + hit.rule as usize;
                *slot = u32::try_from(number).unwrap_or(NO_SLOT);
            }
        }
        Some(slots)
    }
}
