// SPDX-License-Identifier: Apache-2.0
//! Judging by policies that are stateful: frames of a connection that was allowed to begin pass without a rule, and so
//! do ICMP errors about them. Others that are of no connection, or not possible in theirs, are dropped.
//!
//! A policy that is not stateful, beside one that is, judges every frame by its rules as ever. Nothing is put into the
//! flow cache: what passes depends on what passed before. Most frames of known connections never come here: the lookup
//! stage ([`tracked`](super::tracked)) finds them.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | what the answer of the tracker means for a frame |
//! | `opening.rs` | connections that begin, and those that are judged anew |
//! | `rules.rs` | the walk through the tables of rules |

mod opening;
mod rules;

use sluice_firewall::State;
use sluice_firewall::connections::{Answer, Cause, Layers, Reading, Scope, Tick, TrackedFrame};
use sluice_mem::Mbuf;
use sluice_packet::IpProto;

use super::attachment::ETHERNET_HEADER_BYTES;
use super::in_state::InState;
use super::policy_context::{Decision, Policies, PolicyContext};
use super::state::WorkerState;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::answer::Found;
use rules::{Asked, NO_SLOT};

impl PolicyContext<'_> {
    /// Whether one of the policies is stateful.
    pub(super) fn is_stateful(&self, policies: Policies) -> bool {
        let is_stateful = |index| self.tables.policies.policy(index).is_stateful();
        is_stateful(policies.vlan) || policies.own.is_some_and(is_stateful)
    }

    /// Whether every policy is stateful and has no rules for other frames than first ones: then the connection alone
    /// decides on a frame of it.
    pub(super) fn are_all_stateful(&self, policies: Policies) -> bool {
        let decides_alone = |index| {
            let policy = self.tables.policies.policy(index);
            let has_rules = policy.table_in(self.direction, State::Established);
            policy.is_stateful() && has_rules.is_none()
        };
        decides_alone(policies.vlan) && policies.own.is_none_or(decides_alone)
    }

    /// Judges a frame by policies of which one is stateful at least. `found` is what the lookup stage has found of its
    /// connection, if that has asked.
    pub(super) fn judge_stateful(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        found: Option<Found>,
        mbuf: &Mbuf,
    ) -> Decision {
        let decision = self.judge_by_state(state, policies, found, mbuf);
        let is_for_state = matches!(
            decision,
            Decision::Drop(DropReason::InvalidState | DropReason::ConnectionLimited)
        );
        if decision == Decision::Drop(DropReason::InvalidState) {
            match self.by_rules_in(state, policies, State::Invalid, mbuf) {
                InState::Refused(decision) => return decision,
                InState::Pass => return self.by_stateless(state, policies, mbuf),
                InState::Undecided => {}
            }
        }
        // What the state of its connection speaks against is let through by a policy that is only tried.
        match is_for_state && self.is_state_tried(policies) {
            true => self.by_stateless(state, policies, mbuf),
            false => decision,
        }
    }

    /// Whether every policy that is stateful is only tried.
    fn is_state_tried(&self, policies: Policies) -> bool {
        let mut indexes = [Some(policies.vlan), policies.own].into_iter().flatten();
        indexes.all(|index| {
            let policy = self.tables.policies.policy(index);
            !policy.is_stateful() || policy.is_audited()
        })
    }

    fn judge_by_state(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        found: Option<Found>,
        mbuf: &Mbuf,
    ) -> Decision {
        if found == Some(Found::Known) {
            return self.by_connection(state, policies, Found::Known, mbuf);
        }
        let Some(scope) = self.scope(state, mbuf) else {
            return Decision::Drop(DropReason::Gone);
        };
        match TrackedFrame::read(&layers(mbuf), scope) {
            Reading::Tracked(frame) => self.judge_tracked(state, policies, found, &frame, mbuf),
            Reading::Untracked => self.by_rules(state, policies, Asked::All, mbuf).decision,
            Reading::Error => self.judge_error(state, policies, scope, mbuf),
            Reading::Invalid(cause) => {
                state.connections.tracker.note_invalid(cause);
                Decision::Drop(DropReason::InvalidState)
            }
        }
    }

    /// Returns the scope of a frame's connections; `None` if the attachment is gone.
    fn scope(&self, state: &mut WorkerState, mbuf: &Mbuf) -> Option<Scope> {
        let number = state.attachment(self.attachment)?.tracked_as;
        Some(Scope::new(number, FrameInfo::of(mbuf).segment().vid()))
    }

    /// Judges an ICMP error: one about a connection passes without a rule.
    fn judge_error(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        scope: Scope,
        mbuf: &Mbuf,
    ) -> Decision {
        let now = Tick::of_millis(state.now_ms);
        let mtu = state.attachment(self.attachment).map_or(0, |attachment| {
            attachment.max_frame.saturating_sub(ETHERNET_HEADER_BYTES)
        });
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let tracker = &mut state.connections.tracker;
        match tracker.relate(now, &layers(mbuf), scope, self.direction, mtu) {
            Ok(_) => match self.by_rules_in(state, policies, State::Related, mbuf) {
                InState::Refused(decision) => decision,
                InState::Undecided | InState::Pass => self.by_stateless(state, policies, mbuf),
            },
            Err(_) => Decision::Drop(DropReason::InvalidState),
        }
    }

    fn judge_tracked(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        found: Option<Found>,
        frame: &TrackedFrame,
        mbuf: &Mbuf,
    ) -> Decision {
        let now = Tick::of_millis(state.now_ms);
        let found = match found {
            // A frame before it in the burst may have opened its connection.
            Some(Found::NoConnection) if state.connections.has_opened_since_lookup() => {
                let tracker = &mut state.connections.tracker;
                let answer = tracker.look_up_again(now, frame, Cause::NoConnection);
                self.found(state, answer, mbuf)
            }
            Some(found) => found,
            None => {
                let answer = state.connections.tracker.lookup(now, frame);
                self.found(state, answer, mbuf)
            }
        };
        match found {
            Found::New => self.open(state, policies, frame, mbuf),
            Found::Stale(from) => self.judge_anew(state, policies, frame, from, mbuf),
            Found::NoConnection if frame.proto == IpProto::TCP => {
                self.without_connection(state, policies, frame, mbuf)
            }
            found => self.by_connection(state, policies, found, mbuf),
        }
    }

    /// Judges a frame whose connection needs no rules of stateful policies.
    fn by_connection(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        found: Found,
        mbuf: &Mbuf,
    ) -> Decision {
        match found {
            // A stale one was accepted by the rules as they are, without room to say so.
            Found::Known | Found::Stale(_) => {
                match self.by_rules_in(state, policies, State::Established, mbuf) {
                    InState::Refused(decision) => decision,
                    InState::Undecided | InState::Pass => self.by_stateless(state, policies, mbuf),
                }
            }
            Found::Revoked => Decision::Drop(DropReason::Denied),
            Found::New | Found::NoConnection | Found::Invalid => {
                Decision::Drop(DropReason::InvalidState)
            }
        }
    }

    /// Counts a frame of a known connection at the rules by which that began.
    fn found(&self, state: &mut WorkerState, answer: Answer, mbuf: &Mbuf) -> Found {
        if let Answer::Known { pair, from, .. } = answer {
            let path = state.connections.tracker.path(pair, from);
            if let Some(counts) = self.tables.rule_counts.get(state.id.index()) {
                for slot in path.rules.into_iter().filter(|&slot| slot != NO_SLOT) {
                    counts.hit(slot as usize, mbuf.len());
                }
            }
        }
        Found::of(answer)
    }
}

/// Layers of a frame as the parse stage found them.
#[inline(always)]
pub(super) fn layers(mbuf: &Mbuf) -> Layers<'_> {
    let info = FrameInfo::of(mbuf);
    Layers {
        bytes: mbuf.data(),
        key: &info.key,
        l3: info.l3(),
        l4: info.l4(),
    }
}
