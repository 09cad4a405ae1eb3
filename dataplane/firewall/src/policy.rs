// SPDX-License-Identifier: Apache-2.0
//! Policy as written.

use sluice_packet::{Vid, VidRange};

use crate::limit::Limit;
use crate::matches::Match;
use crate::named_set::UsedSet;
use crate::problem::Position;
use crate::states::{State, States};
use crate::verdict::{Direction, Verdict};

/// Policy as written: from one YAML file, or made by control from a Kubernetes object.
///
/// Every value has a meaning, also those that [`Policy::parse`] would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Name, unique in its policy set.
    pub name: String,
    /// Comment; `None` if it has none.
    pub comment: Option<String>,
    /// Whether its verdicts are only tried: what it would drop or reject passes, counted and logged.
    pub audit: bool,
    /// File it was read from, for messages.
    pub file: String,
    /// Uplink whose segments it applies to; `None`: those of every uplink.
    pub uplink: Option<String>,
    /// Segments it applies to. Empty: none, it is used by attachments that name it.
    pub vlans: Vec<SegmentRange>,
    /// Whether frames of connections that were allowed to begin pass without a rule.
    pub stateful: bool,
    /// Verdicts of frames that no rule matches.
    pub default: Defaults,
    /// Directions in which those frames are logged.
    pub log_default: Option<Directions>,
    /// Rules in order; the first match wins.
    pub rules: Vec<Rule>,
    /// Named sets whose values are in it, in order of name.
    pub sets: Vec<UsedSet>,
}

/// Verdicts of frames that no rule matches, one per direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Towards pods.
    pub ingress: Verdict,
    /// From pods.
    pub egress: Verdict,
}

impl Defaults {
    /// Verdict of one direction.
    #[must_use]
    pub const fn of(self, direction: Direction) -> Verdict {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// Range of segments that a policy applies to, one item of `vlans`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRange {
    /// VIDs of the segments; [`Vid::UNTAGGED`] is the untagged one.
    pub vids: VidRange,
    /// Position of the item in the file.
    pub at: Position,
}

impl SegmentRange {
    /// Whether the segment of `vid` is in the range.
    #[must_use]
    pub fn contains(&self, vid: Vid) -> bool {
        self.vids.contains(vid)
    }

    /// Every VID of the range, lowest first.
    pub fn vids(&self) -> impl Iterator<Item = Vid> + use<> {
        self.vids.vids()
    }
}

/// Directions that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directions {
    /// Frames towards pods.
    Ingress,
    /// Frames from pods.
    Egress,
    /// Both. `from` is still the frame's source in either.
    Both,
}

impl Directions {
    /// Whether `direction` is among them.
    #[must_use]
    pub const fn includes(self, direction: Direction) -> bool {
        matches!(
            (self, direction),
            (Directions::Both, _)
                | (Directions::Ingress, Direction::Ingress)
                | (Directions::Egress, Direction::Egress)
        )
    }
}

/// Rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name, unique in its policy; `None` if it has none.
    pub name: Option<String>,
    /// Comment, for whoever reads counters and logs; `None` if it has none.
    pub comment: Option<String>,
    /// Position where it begins.
    pub at: Position,
    /// Directions it is for.
    pub directions: Directions,
    /// Conditions that a frame must meet.
    pub matches: Match,
    /// Verdict on frames for which it is the first match.
    pub verdict: Verdict,
    /// Whether those frames are logged.
    pub log: bool,
    /// Number of those frames, at one attachment, of which one is logged, at least 1.
    pub log_sample: u32,
    /// States of the connections that frames must be of; [`States::NEW`] unless the policy is stateful.
    pub states: States,
    /// Limit of what it accepts; `None`: any amount.
    pub limit: Option<Limit>,
}

impl Policy {
    /// Verdict on frames that a rule decides, and whether they are logged.
    pub(crate) fn decision(&self, rule: &Rule) -> (Verdict, bool) {
        let verdict = self.in_force(rule.verdict);
        (verdict, rule.log || verdict == Verdict::Audit)
    }

    /// Verdict on frames that no rule of `direction` matches, and whether they are logged.
    pub(crate) fn default_decision(&self, direction: Direction) -> (Verdict, bool) {
        let verdict = self.in_force(self.default.of(direction));
        let log = self.log_default.is_some_and(|of| of.includes(direction));
        (verdict, log || verdict == Verdict::Audit)
    }

    fn in_force(&self, verdict: Verdict) -> Verdict {
        match self.audit {
            true => verdict.audited(),
            false => verdict,
        }
    }

    /// Whether a rule of `direction` is for frames in other states than new.
    pub(crate) fn has_states(&self, direction: Direction) -> bool {
        let mut rules = self.rules_of(direction);
        rules.any(|(_, rule)| rule.states != States::NEW)
    }

    /// Verdict on frames in `state` that no rule of `direction` matches, and whether they are logged.
    pub(crate) fn default_decision_in(
        &self,
        direction: Direction,
        state: State,
    ) -> (Verdict, bool) {
        match state.default_verdict() {
            None => self.default_decision(direction),
            // What is only tried lets frames of no connection pass as well, but not as a rule's doing.
            Some(verdict) => (verdict, false),
        }
    }

    /// Log samples of the rules of `direction`, by slot; empty if every frame of each is logged, or none.
    pub(crate) fn log_samples_of(&self, direction: Direction) -> Box<[u32]> {
        let samples = self.rules_of(direction).map(|(_, rule)| rule.log_sample);
        let samples: Box<[u32]> = samples.collect();
        match samples.iter().any(|sample| *sample > 1) {
            true => samples,
            false => Box::default(),
        }
    }

    /// Limits of the rules of `direction`, by slot; empty if none has one. What is only tried limits nothing.
    pub(crate) fn limits_of(&self, direction: Direction) -> Box<[Option<Limit>]> {
        let limits = self.rules_of(direction).map(|(_, rule)| rule.limit);
        let limits: Box<[Option<Limit>]> = limits.collect();
        match !self.audit && limits.iter().any(Option::is_some) {
            true => limits,
            false => Box::default(),
        }
    }

    /// Rules of one direction with their indices in the policy.
    pub(crate) fn rules_of(&self, direction: Direction) -> impl Iterator<Item = (usize, &Rule)> {
        self.rules
            .iter()
            .enumerate()
            .filter(move |(_, rule)| rule.directions.includes(direction))
    }
}
