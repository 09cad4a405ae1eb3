// SPDX-License-Identifier: Apache-2.0
//! Judging by policies that are stateful: frames of a connection that was allowed to begin pass without a rule, and so
//! do ICMP errors about them. Others that are of no connection, or not possible in theirs, are dropped.
//!
//! A policy that is not stateful, beside one that is, judges every frame by its rules as ever. Nothing is put into the
//! flow cache: what passes depends on what passed before.

use sluice_firewall::connections::{
    Answer, Cause, End, Event, Inserted, Opening, Pair, Path, Paths, Reading, Refusal, Scope, Tick,
    TrackedFrame, Tracking,
};
use sluice_firewall::{Direction, Verdict};
use sluice_mem::Mbuf;
use sluice_packet::pose::AntiSpoof;
use sluice_packet::{FlowKey, InnerTag, IpProto, Parsed, parse};

use super::attachment::ETHERNET_HEADER_BYTES;
use super::policy_context::{Decision, Policies, PolicyContext};
use super::state::WorkerState;
use crate::drops::DropReason;
use crate::frame::FrameInfo;

/// Milliseconds for which an attachment's connections may begin with their third frame, after a SYN found no room.
const FLOODED_MS: u64 = 60_000;

/// Number of no rule's slot.
const NO_SLOT: u32 = u32::MAX;

/// Types of ICMP and ICMPv6 queries and of their answers.
const ICMP_PAIRS: [(u8, u8, u8); 4] = [
    (IpProto::ICMP, 8, 0),
    (IpProto::ICMP, 13, 14),
    (IpProto::ICMPV6, 128, 129),
    (IpProto::ICMPV6, 139, 140),
];

/// Policies of a frame that are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Both.
    All,
    /// Policies that are not stateful: the others let the frame pass by its connection.
    Stateless,
}

impl PolicyContext<'_> {
    /// Whether one of the policies is stateful.
    pub(super) fn is_stateful(&self, policies: Policies) -> bool {
        let is_stateful = |index| self.tables.policies.policy(index).is_stateful();
        is_stateful(policies.vlan) || policies.own.is_some_and(is_stateful)
    }

    /// Judges a frame by policies of which one is stateful at least.
    #[cold]
    pub(super) fn judge_stateful(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        mbuf: &Mbuf,
    ) -> Decision {
        let decision = self.judge_by_state(state, policies, mbuf);
        let is_for_state = matches!(
            decision,
            Decision::Drop(DropReason::InvalidState | DropReason::ConnectionLimited)
        );
        // What the state of its connection speaks against is let through by a policy that is only tried.
        match is_for_state && self.is_state_tried(policies) {
            true => self.by_rules(state, policies, Asked::Stateless, mbuf),
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

    fn judge_by_state(&self, state: &mut WorkerState, policies: Policies, mbuf: &Mbuf) -> Decision {
        let info = FrameInfo::of(mbuf);
        let inner = match info.has_inner_tag() {
            true => InnerTag::Allow,
            false => InnerTag::Refuse,
        };
        let slot = u16::try_from(self.attachment.slot()).unwrap_or(u16::MAX);
        let scope = Scope::new(slot, info.segment().vid());
        // It was parsed before, and a later fragment has got its ports since.
        let Ok(parsed) = parse(mbuf.data(), inner) else {
            return Decision::Drop(DropReason::BadHeader);
        };
        let parsed = Parsed {
            key: info.key,
            ..parsed
        };
        match TrackedFrame::read(mbuf.data(), &parsed, scope) {
            Reading::Tracked(frame) => self.judge_tracked(state, policies, &frame, mbuf),
            Reading::Untracked => self.by_rules(state, policies, Asked::All, mbuf),
            Reading::Error => {
                let now = Tick::of_millis(state.now_ms);
                let mtu = state.attachment(self.attachment).map_or(0, |attachment| {
                    attachment.max_frame.saturating_sub(ETHERNET_HEADER_BYTES)
                });
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                let tracker = &mut state.connections.tracker;
                match tracker.relate(now, mbuf.data(), &parsed, scope, self.direction, mtu) {
                    Ok(_) => self.by_rules(state, policies, Asked::Stateless, mbuf),
                    Err(_) => Decision::Drop(DropReason::InvalidState),
                }
            }
            Reading::Invalid(_) => Decision::Drop(DropReason::InvalidState),
        }
    }

    fn judge_tracked(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        frame: &TrackedFrame,
        mbuf: &Mbuf,
    ) -> Decision {
        let now = Tick::of_millis(state.now_ms);
        match state.connections.tracker.lookup(now, frame) {
            Answer::New => self.open(state, policies, frame, mbuf),
            Answer::Stale { from, .. } => self.judge_anew(state, policies, frame, from, mbuf),
            Answer::Invalid(Cause::NoConnection) if frame.proto == IpProto::TCP => {
                self.without_connection(state, policies, frame, mbuf)
            }
            answer => self.by_answer(state, policies, answer, mbuf),
        }
    }

    /// Judges a frame whose connection needs no rules of stateful policies.
    fn by_answer(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        answer: Answer,
        mbuf: &Mbuf,
    ) -> Decision {
        match answer {
            Answer::Known { pair, from, .. } => {
                self.count_at(state, pair, from, mbuf);
                self.by_rules(state, policies, Asked::Stateless, mbuf)
            }
            // Accepted by the rules as they are, without room to say so.
            Answer::Stale { .. } => self.by_rules(state, policies, Asked::Stateless, mbuf),
            Answer::Revoked => Decision::Drop(DropReason::Denied),
            Answer::New | Answer::Invalid(_) => Decision::Drop(DropReason::InvalidState),
        }
    }

    /// Counts a frame at the rules by which its connection began.
    fn count_at(&self, state: &mut WorkerState, pair: Pair, from: End, mbuf: &Mbuf) {
        let path = state.connections.tracker.path(pair, from);
        if let Some(counts) = self.tables.rule_counts.get(state.id.index()) {
            for slot in path.rules.into_iter().filter(|&slot| slot != NO_SLOT) {
                counts.hit(slot as usize, mbuf.len());
            }
        }
    }

    /// Judges the first frame of a connection, and lets it begin.
    fn open(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        frame: &TrackedFrame,
        mbuf: &Mbuf,
    ) -> Decision {
        let decision = self.by_rules(state, policies, Asked::All, mbuf);
        if decision != Decision::Pass {
            return decision;
        }
        let key = &FrameInfo::of(mbuf).key;
        let Some(rules) = self.accepting(policies, self.direction, key) else {
            return decision;
        };
        let opening = self.opening(state, policies, key, rules);
        let now = Tick::of_millis(state.now_ms);
        match state.connections.tracker.insert(now, frame, &opening) {
            Inserted::Opened { .. } => decision,
            Inserted::Found(answer) => match answer {
                Answer::Known { .. } | Answer::Stale { .. } => decision,
                other => self.by_answer(state, policies, other, mbuf),
            },
            Inserted::Refused(reason) => {
                if reason == Refusal::EmbryonicQuota {
                    let until = state.now_ms + FLOODED_MS;
                    if let Some(attachment) = state.attachment(self.attachment) {
                        attachment.flooded_until_ms = until;
                    }
                }
                match opening.rederivable {
                    true => decision,
                    false => Decision::Drop(DropReason::ConnectionLimited),
                }
            }
        }
    }

    /// Judges a connection by policies that have changed since it began, as it began.
    fn judge_anew(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        frame: &TrackedFrame,
        from: End,
        mbuf: &Mbuf,
    ) -> Decision {
        let key = FrameInfo::of(mbuf).key;
        let accepting = match from {
            End::Opener => self.accepting(policies, self.direction, &key),
            End::Responder => self.accepting(policies, opposite(self.direction), &reversed(&key)),
        };
        let now = Tick::of_millis(state.now_ms);
        let tracker = &mut state.connections.tracker;
        let Some(rules) = accepting else {
            tracker.revoke(frame);
            return Decision::Drop(DropReason::Denied);
        };
        let answer = tracker.revalidate(now, frame, &paths(rules));
        self.by_answer(state, policies, answer, mbuf)
    }

    /// Judges a TCP frame that opens nothing and is of no connection that is known. After a start its connection may
    /// have begun before; in a flood of SYNs it may have begun without an entry. Then it passes where the policies
    /// would let it begin now.
    fn without_connection(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        frame: &TrackedFrame,
        mbuf: &Mbuf,
    ) -> Decision {
        let invalid = Decision::Drop(DropReason::InvalidState);
        let now_ms = state.now_ms;
        let is_in_grace = state.connections.is_in_grace(now_ms);
        let is_flooded = state
            .attachment(self.attachment)
            .is_some_and(|attachment| now_ms < attachment.flooded_until_ms);
        if !is_in_grace && !is_flooded {
            return invalid;
        }
        let key = FrameInfo::of(mbuf).key;
        let from_pod = self.direction == Direction::Egress;
        let as_sent = || Some((self.accepting(policies, self.direction, &key)?, End::Opener));
        let as_answer = || {
            let back = reversed(&key);
            let rules = self.accepting(policies, opposite(self.direction), &back)?;
            Some((rules, End::Responder))
        };
        // What the policies would let come in from outside is taken for that, since nothing hangs on its entry.
        let found = match from_pod {
            true => as_answer().or_else(|| as_sent().filter(|_| is_in_grace)),
            // An answer to the pod: it has to confirm it.
            false => as_sent().or_else(|| as_answer().filter(|_| is_in_grace)),
        };
        let Some((rules, sender)) = found else {
            return invalid;
        };
        let is_opened_by_pod = from_pod == (sender == End::Opener);
        let opening = match sender {
            End::Opener => self.opening(state, policies, &key, rules),
            End::Responder => Opening {
                from_pod: is_opened_by_pod,
                rederivable: !is_opened_by_pod,
                ..self.opening(state, policies, &reversed(&key), rules)
            },
        };
        let confirmed = from_pod || sender == End::Opener;
        let now = Tick::of_millis(now_ms);
        let tracker = &mut state.connections.tracker;
        let picked_up = tracker.pick_up(now, frame, &opening, sender, confirmed);
        let passes = match picked_up {
            Inserted::Opened { .. } => true,
            Inserted::Found(answer) => matches!(answer, Answer::Known { .. }),
            // Such as the answer to a SYN that has no entry.
            Inserted::Refused(_) => !is_opened_by_pod && frame.event != Event::Rst,
        };
        match passes {
            true => self.by_rules(state, policies, Asked::Stateless, mbuf),
            false => invalid,
        }
    }

    /// Judges a frame by rules, and counts it at them.
    fn by_rules(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        asked: Asked,
        mbuf: &Mbuf,
    ) -> Decision {
        for index in [Some(policies.vlan), policies.own].into_iter().flatten() {
            let policy = self.tables.policies.policy(index);
            if asked == Asked::Stateless && policy.is_stateful() {
                continue;
            }
            let hit = policy.table(self.direction).judge(&FrameInfo::of(mbuf).key);
            self.count(state, index, hit, mbuf);
            match hit.verdict {
                Verdict::Accept | Verdict::Audit => {}
                Verdict::Drop => return Decision::Drop(DropReason::Denied),
                Verdict::Reject => return Decision::Reject,
            }
        }
        Decision::Pass
    }

    /// Returns the rules of all policies that accept a frame of this key; `None` if one does not. Nothing is counted.
    fn accepting(
        &self,
        policies: Policies,
        direction: Direction,
        key: &FlowKey,
    ) -> Option<[u32; 4]> {
        let mut rules = [NO_SLOT; 4];
        let indexes = [Some(policies.vlan), policies.own].into_iter().flatten();
        for (index, rule) in indexes.zip(&mut rules) {
            let policy = self.tables.policies.policy(index);
            let hit = policy.table(direction).judge(key);
            if !hit.verdict.passes() {
                return None;
            }
            // Where every frame is judged by rules it is counted then.
            if policy.is_stateful() {
                let slot = policy.slot_base(direction) + hit.rule as usize;
                *rule = u32::try_from(slot).unwrap_or(NO_SLOT);
            }
        }
        Some(rules)
    }

    /// Opening of a connection whose first frame has this key, by this context's direction.
    fn opening(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        key: &FlowKey,
        rules: [u32; 4],
    ) -> Opening {
        let from_pod = self.direction == Direction::Egress;
        let rederivable = !from_pod
            || self
                .accepting(policies, Direction::Ingress, &reversed(key))
                .is_some();
        let anti_spoof = state
            .attachment(self.attachment)
            .map_or(AntiSpoof::Off, |attachment| attachment.identity.anti_spoof);
        Opening {
            paths: paths(rules),
            tracking: match anti_spoof {
                AntiSpoof::Strict => Tracking::Window,
                // One interface of a router often sees one direction alone.
                AntiSpoof::Mac | AntiSpoof::Off => Tracking::Flags,
            },
            from_pod,
            rederivable,
        }
    }
}

fn paths(rules: [u32; 4]) -> Paths {
    let path = Path {
        destination: 0,
        rules,
    };
    Paths {
        opener: path,
        responder: path,
    }
}

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

/// Key of a frame that goes back the way of this key's.
fn reversed(key: &FlowKey) -> FlowKey {
    let mut back = FlowKey {
        src: key.dst,
        dst: key.src,
        src_port: key.dst_port,
        dst_port: key.src_port,
        src_mac: key.dst_mac,
        dst_mac: key.src_mac,
        ..*key
    };
    if key.has(FlowKey::ICMP) {
        let mut pairs = ICMP_PAIRS.iter().filter(|(proto, ..)| *proto == key.proto);
        let found = pairs.find_map(|&(_, query, answer)| match key.icmp_type {
            other if other == query => Some(answer),
            other if other == answer => Some(query),
            _ => None,
        });
        back.icmp_type = found.unwrap_or(key.icmp_type);
    }
    back
}
