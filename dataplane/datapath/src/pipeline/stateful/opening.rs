// SPDX-License-Identifier: Apache-2.0
//! Connections that begin, that are judged anew after a change of policies, and that are taken up in the middle.

use sluice_firewall::Direction;
use sluice_firewall::connections::{
    Answer, End, Event, Inserted, Opening, Path, Paths, Refusal, Tick, TrackedFrame, Tracking,
    reversed,
};
use sluice_mem::Mbuf;
use sluice_packet::FlowKey;
use sluice_packet::pose::AntiSpoof;

use super::super::policy_context::{Decision, Policies, PolicyContext};
use super::super::state::WorkerState;
use super::rules::{Asked, Judged, RuleSlots};
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::answer::Found;

/// Milliseconds for which an attachment's connections may begin with their third frame, after a SYN found no room.
const FLOODED_MS: u64 = 60_000;

impl PolicyContext<'_> {
    /// Judges the first frame of a connection, and lets it begin.
    pub(super) fn open(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        frame: &TrackedFrame,
        mbuf: &Mbuf,
    ) -> Decision {
        let Judged { decision, slots } = self.by_rules(state, policies, Asked::All, mbuf);
        if decision != Decision::Pass {
            return decision;
        }
        let opening = self.opening(state, policies, &FrameInfo::of(mbuf).key, slots, mbuf);
        let now = Tick::of_millis(state.now_ms);
        match state.connections.tracker.insert(now, frame, &opening) {
            Inserted::Opened { .. } => decision,
            Inserted::Found(answer) => match answer {
                Answer::Known { .. } | Answer::Stale { .. } => decision,
                other => self.by_connection(state, policies, Found::of(other), mbuf),
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
    pub(super) fn judge_anew(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        frame: &TrackedFrame,
        from: End,
        mbuf: &Mbuf,
    ) -> Decision {
        let key = FrameInfo::of(mbuf).key;
        let accepting = match from {
            End::Opener => self.accepting(policies, self.direction, &key, mbuf),
            End::Responder => {
                self.accepting(policies, opposite(self.direction), &reversed(&key), mbuf)
            }
        };
        let now = Tick::of_millis(state.now_ms);
        let tracker = &mut state.connections.tracker;
        let Some(rules) = accepting else {
            tracker.revoke(frame);
            return Decision::Drop(DropReason::Denied);
        };
        let answer = tracker.revalidate(now, frame, &paths(rules));
        let found = self.found(state, answer, mbuf);
        self.by_connection(state, policies, found, mbuf)
    }

    /// Judges a TCP frame that opens nothing and is of no connection that is known. After a start its connection may
    /// have begun before; in a flood of SYNs it may have begun without an entry. Then it passes where the policies
    /// would let it begin now.
    pub(super) fn without_connection(
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
        let as_sent = || {
            Some((
                self.accepting(policies, self.direction, &key, mbuf)?,
                End::Opener,
            ))
        };
        let as_answer = || {
            let back = reversed(&key);
            let rules = self.accepting(policies, opposite(self.direction), &back, mbuf)?;
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
            End::Opener => self.opening(state, policies, &key, rules, mbuf),
            End::Responder => Opening {
                from_pod: is_opened_by_pod,
                rederivable: !is_opened_by_pod,
                ..self.opening(state, policies, &reversed(&key), rules, mbuf)
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
            true => self.by_stateless(state, policies, mbuf),
            false => invalid,
        }
    }

    /// Opening of a connection whose first frame has this key, by this context's direction.
    fn opening(
        &self,
        state: &mut WorkerState,
        policies: Policies,
        key: &FlowKey,
        rules: RuleSlots,
        mbuf: &Mbuf,
    ) -> Opening {
        let from_pod = self.direction == Direction::Egress;
        let rederivable = !from_pod
            || self
                .accepting(policies, Direction::Ingress, &reversed(key), mbuf)
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

fn paths(rules: RuleSlots) -> Paths {
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
