// SPDX-License-Identifier: Apache-2.0
//! Policy set: all policies compiled, by which workers judge at one moment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use sluice_packet::Vid;

use crate::info::RuleInfo;
use crate::limit::Limit;
use crate::named_set::UsedSet;
use crate::policy::{Defaults, Policy, SegmentRange};
use crate::problem::{Position, Problem};
use crate::simd::Simd;
use crate::states::State;
use crate::table::Content;
use crate::table::Table;
use crate::verdict::{Direction, Verdict};

/// Index of a policy in one [`PolicySet`]; meaningless in another set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyIndex(u32);

/// Set of all policies at one moment; immutable. Workers hold it as an `Arc` and judge every burst by
/// exactly one.
///
/// Each rule, and each direction's default, has a counter slot: slots are numbered from 0 to
/// [`PolicySet::slots`] over the whole set, so that a worker counts in one flat array.
#[derive(Debug, Default)]
pub struct PolicySet {
    version: u64,
    policies: Vec<CompiledPolicy>,
    by_name: HashMap<String, PolicyIndex>,
    /// Policies that claim a VID, each with its uplink (`None`: all). No two claims of a VID have an
    /// uplink in common.
    by_vid: HashMap<Vid, Vec<(Option<String>, PolicyIndex)>>,
    slots: usize,
}

/// Policy of a set, compiled.
#[derive(Debug)]
pub struct CompiledPolicy {
    name: String,
    file: String,
    uplink: Option<String>,
    vlans: Vec<SegmentRange>,
    stateful: bool,
    /// Verdicts in force.
    default: Defaults,
    audit: bool,
    rules: usize,
    sets: Vec<UsedSet>,
    /// Tables in the order of [`Direction::BOTH`].
    directions: [CompiledDirection; 2],
}

#[derive(Debug)]
struct CompiledDirection {
    table: Arc<Table>,
    /// Tables of frames in states other than new, if there are rules for such.
    in_states: Option<[Arc<Table>; 3]>,
    slot_base: usize,
    /// Rule of each slot of the table.
    infos: Box<[RuleInfo]>,
    /// Log sample of each rule, by slot; empty if none has one.
    log_samples: Box<[u32]>,
    /// Limit of each rule, by slot; empty if none has one.
    limits: Box<[Option<Limit>]>,
}

impl PolicySet {
    /// Set of no policies, version 0: by it, nothing passes.
    #[must_use]
    pub fn empty() -> PolicySet {
        PolicySet::default()
    }

    /// Compiles `policies`. Policies with equal rules share tables.
    ///
    /// Flow caches tag their entries with `version`; control counts it up.
    ///
    /// # Errors
    /// Two policies of one name, or two that claim the same segment.
    pub fn build(version: u64, policies: &[Policy]) -> Result<PolicySet, Vec<Problem>> {
        PolicySet::build_from(version, policies, None)
    }

    /// Compiles `policies` like [`PolicySet::build`], but takes every table that `previous` has already
    /// from there: after an edit of one policy only its tables are compiled.
    ///
    /// # Errors
    /// As for [`PolicySet::build`].
    pub fn build_from(
        version: u64,
        policies: &[Policy],
        previous: Option<&PolicySet>,
    ) -> Result<PolicySet, Vec<Problem>> {
        let mut set = PolicySet {
            version,
            ..PolicySet::default()
        };
        let mut problems = Vec::new();
        for (index, policy) in (0..).map(PolicyIndex).zip(policies) {
            problems.extend(set.enter(index, policy, policies));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut tables = KnownTables::of(previous);
        for policy in policies {
            let directions = Direction::BOTH.map(|direction| {
                let mut in_state = |state| tables.table(Content::new(policy, direction, state));
                let table = in_state(State::New);
                let in_states = policy
                    .has_states(direction)
                    .then(|| [State::Established, State::Related, State::Invalid].map(in_state));
                let slot_base = set.slots;
                set.slots += table.slots();
                CompiledDirection {
                    table,
                    in_states,
                    slot_base,
                    infos: RuleInfo::of(policy, direction),
                    log_samples: policy.log_samples_of(direction),
                    limits: policy.limits_of(direction),
                }
            });
            set.policies.push(CompiledPolicy {
                name: policy.name.clone(),
                file: policy.file.clone(),
                uplink: policy.uplink.clone(),
                vlans: policy.vlans.clone(),
                stateful: policy.stateful,
                default: Defaults {
                    ingress: policy.default_decision(Direction::Ingress).0,
                    egress: policy.default_decision(Direction::Egress).0,
                },
                audit: policy.audit,
                rules: policy.rules.len(),
                sets: policy.sets.clone(),
                directions,
            });
        }
        Ok(set)
    }

    /// Version that [`PolicySet::build`] was given; 0 is the empty set that an engine starts with.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// VLAN policy of a segment ([`Vid::UNTAGGED`]: the untagged one). **`None` means that the
    /// segment carries nothing.**
    #[must_use]
    pub fn segment(&self, uplink: &str, vid: Vid) -> Option<PolicyIndex> {
        let claims = self.by_vid.get(&vid)?;
        claims
            .iter()
            .find(|(claimed, _)| claimed.as_deref().is_none_or(|claimed| claimed == uplink))
            .map(|&(_, index)| index)
    }

    /// Policy of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<PolicyIndex> {
        self.by_name.get(name).copied()
    }

    /// Policy at `index`.
    ///
    /// # Panics
    /// If `index` is another set's and this one has fewer policies.
    #[inline]
    #[must_use]
    pub fn policy(&self, index: PolicyIndex) -> &CompiledPolicy {
        &self.policies[index.0 as usize]
    }

    /// Policies in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (PolicyIndex, &CompiledPolicy)> {
        (0..).map(PolicyIndex).zip(&self.policies)
    }

    /// Number of counter slots of the whole set.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Rule of each counter slot, in order of slot and without gaps.
    pub fn rules(&self) -> impl Iterator<Item = (&CompiledPolicy, Direction, &RuleInfo)> {
        self.policies.iter().flat_map(|policy| {
            Direction::BOTH.into_iter().flat_map(move |direction| {
                let infos = policy.rule_infos(direction);
                infos.iter().map(move |info| (policy, direction, info))
            })
        })
    }

    /// Enters a policy's name and segments; a problem for each that another policy has already.
    fn enter(&mut self, index: PolicyIndex, policy: &Policy, all: &[Policy]) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.by_name.entry(policy.name.clone()) {
            Entry::Vacant(free) => {
                free.insert(index);
            }
            Entry::Occupied(other) => {
                let other = &all[other.get().0 as usize];
                problems.push(Problem::new(
                    &policy.file,
                    Position::default(),
                    format!(
                        "policy `{}` is in {} already; give one of them another name",
                        policy.name, other.file
                    ),
                ));
            }
        }
        for range in &policy.vlans {
            // One problem per range and earlier policy says it all.
            let mut reported = Vec::new();
            for vid in range.vids() {
                let claims = self.by_vid.entry(vid).or_default();
                let clash = claims.iter().find(|(uplink, other)| {
                    *other != index && share_an_uplink(uplink.as_deref(), policy.uplink.as_deref())
                });
                match clash {
                    None => claims.push((policy.uplink.clone(), index)),
                    Some(&(_, other)) if reported.contains(&other) => {}
                    Some(&(_, other)) => {
                        reported.push(other);
                        let other = &all[other.0 as usize];
                        problems.push(clash_problem(policy, range, vid, other));
                    }
                }
            }
        }
        problems
    }
}

impl CompiledPolicy {
    /// Name, unique in its set.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// File it was read from.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Uplink whose segments it applies to; `None`: those of every uplink.
    #[must_use]
    pub fn uplink(&self) -> Option<&str> {
        self.uplink.as_deref()
    }

    /// Segments it applies to; none if it is only for attachments that name it.
    #[must_use]
    pub fn vlans(&self) -> &[SegmentRange] {
        &self.vlans
    }

    /// Whether frames of connections that were allowed to begin pass without a rule.
    #[inline]
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.stateful
    }

    /// Verdict of frames that no rule of `direction` matches.
    #[must_use]
    pub fn default_verdict(&self, direction: Direction) -> Verdict {
        self.default.of(direction)
    }

    /// Whether its verdicts are only tried: what it would drop or reject passes, counted and logged.
    #[must_use]
    pub fn is_audited(&self) -> bool {
        self.audit
    }

    /// Number of rules as written.
    #[must_use]
    pub fn written_rules(&self) -> usize {
        self.rules
    }

    /// Named sets whose values are in its rules and segments, in order of name.
    #[must_use]
    pub fn sets(&self) -> &[UsedSet] {
        &self.sets
    }

    /// Table that judges frames of `direction`.
    #[inline]
    #[must_use]
    pub fn table(&self, direction: Direction) -> &Table {
        &self.directions[direction.index()].table
    }

    /// Table that judges frames of `direction` whose connection is in `state`; `None` if no rule of a stateful
    /// policy is for such. Its slots are those of [`CompiledPolicy::table`].
    #[inline]
    #[must_use]
    pub fn table_in(&self, direction: Direction, state: State) -> Option<&Table> {
        let direction = &self.directions[direction.index()];
        match state.beyond_new() {
            None => Some(&direction.table),
            Some(index) => direction.in_states.as_ref().map(|tables| &*tables[index]),
        }
    }

    /// Counter slot of the set for slot 0 of the table: a frame counts in `slot_base + hit.rule`.
    #[inline]
    #[must_use]
    pub fn slot_base(&self, direction: Direction) -> usize {
        self.directions[direction.index()].slot_base
    }

    /// Rule of a slot of the table ([`crate::Hit::rule`]); `None` if there is no such slot.
    #[must_use]
    pub fn rule_info(&self, direction: Direction, slot: u32) -> Option<&RuleInfo> {
        self.rule_infos(direction).get(slot as usize)
    }

    /// Number of frames that the rule of a slot decides on, at one attachment, of which one is logged, if it logs
    /// any; at least 1.
    #[must_use]
    pub fn log_sample(&self, direction: Direction, slot: u32) -> u32 {
        let samples = &self.directions[direction.index()].log_samples;
        samples.get(slot as usize).copied().unwrap_or(1).max(1)
    }

    /// Whether a rule of either direction has a limit.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.directions
            .iter()
            .any(|direction| !direction.limits.is_empty())
    }

    /// Limit of the rule of a slot; `None` if it has none. What a rule with a limit decides holds for one frame.
    #[inline]
    #[must_use]
    pub fn limit(&self, direction: Direction, slot: u32) -> Option<&Limit> {
        let limits = &self.directions[direction.index()].limits;
        limits.get(slot as usize)?.as_ref()
    }

    /// Rules of the table's slots: rules in order, then the default.
    #[must_use]
    pub fn rule_infos(&self, direction: Direction) -> &[RuleInfo] {
        &self.directions[direction.index()].infos
    }
}

/// Tables by the hash of their content.
struct KnownTables(HashMap<u64, Vec<Arc<Table>>>);

impl KnownTables {
    fn of(set: Option<&PolicySet>) -> KnownTables {
        let mut known = KnownTables(HashMap::new());
        let policies = set.into_iter().flat_map(|set| &set.policies);
        for direction in policies.flat_map(|policy| &policy.directions) {
            let in_states = direction.in_states.iter().flatten();
            for table in [&direction.table].into_iter().chain(in_states) {
                known.0.entry(table.hash()).or_default().push(table.clone());
            }
        }
        known
    }

    /// Table of this content, compiled only if it is not known.
    fn table(&mut self, content: Content) -> Arc<Table> {
        let hash = content.hash();
        let known = self.0.entry(hash).or_default();
        // Equal hashes do not make equal tables; a collision must not swap policies.
        if let Some(table) = known.iter().find(|table| *table.content() == content) {
            return table.clone();
        }
        let table = Arc::new(Table::from_content(content, hash, Simd::widest()));
        known.push(table.clone());
        table
    }
}

fn share_an_uplink(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

fn clash_problem(policy: &Policy, range: &SegmentRange, vid: Vid, other: &Policy) -> Problem {
    let segment = match vid.is_untagged() {
        true => "the untagged segment".to_owned(),
        false => format!("VLAN {vid}"),
    };
    let uplink = match policy.uplink.as_ref().or(other.uplink.as_ref()) {
        Some(uplink) => format!("uplink {uplink}"),
        None => "every uplink".to_owned(),
    };
    let line = other.vlans.iter().find(|range| range.contains(vid));
    let line = line.map_or(0, |range| range.at.line);
    Problem::new(
        &policy.file,
        range.at,
        format!(
            "{segment} of {uplink} has policy `{}` already ({}:{line}); a segment has one VLAN \
             policy, so take it out of one of the two",
            other.name, other.file
        ),
    )
}
