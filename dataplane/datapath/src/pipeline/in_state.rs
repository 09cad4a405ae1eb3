// SPDX-License-Identifier: Apache-2.0
//! Rules of stateful policies for frames that need none: those of a connection, ICMP errors about one, and those
//! that are possible in none. Only policies that have such rules are asked.

use sluice_firewall::{State, Verdict};
use sluice_mem::Mbuf;

use super::by_headers;
use super::policy_context::{Decision, Policies, PolicyContext};
use super::state::WorkerState;
use crate::drops::DropReason;

/// Decision of the rules for frames in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InState {
    /// No policy has a rule that matches: the frame is treated as its state says.
    Undecided,
    /// Every stateful policy lets it pass, and one has a rule that says so.
    Pass,
    /// A rule refuses it.
    Refused(Decision),
}

impl PolicyContext<'_> {
    /// Asks the rules of the stateful policies for frames in `state`, and counts the frame at those that decide.
    pub(super) fn by_rules_in(
        &self,
        worker: &mut WorkerState,
        policies: Policies,
        state: State,
        mbuf: &Mbuf,
    ) -> InState {
        let mut decided = InState::Undecided;
        for index in [Some(policies.vlan), policies.own].into_iter().flatten() {
            let policy = self.tables.policies.policy(index);
            if !policy.is_stateful() {
                continue;
            }
            let found = policy.table_in(self.direction, state).and_then(|table| {
                let hit = by_headers::judge(table, mbuf);
                (hit.rule != table.default_slot()).then_some(hit)
            });
            let Some(hit) = found else {
                // What is in no state is refused by each policy that does not let it pass.
                if state.default_verdict() == Some(Verdict::Drop) && !policy.is_audited() {
                    return InState::Undecided;
                }
                continue;
            };
            self.count(worker, index, hit, mbuf);
            if !self.is_within_limit(worker, index, hit, mbuf) {
                return InState::Refused(Decision::Drop(DropReason::RuleLimited));
            }
            match hit.verdict {
                Verdict::Accept | Verdict::Audit => decided = InState::Pass,
                Verdict::Drop => return InState::Refused(Decision::Drop(DropReason::Denied)),
                Verdict::Reject => return InState::Refused(Decision::Reject),
            }
        }
        decided
    }
}
