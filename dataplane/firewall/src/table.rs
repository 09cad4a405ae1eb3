// SPDX-License-Identifier: Apache-2.0
//! Compiled table: the rules of one policy in one direction.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use sluice_packet::{FlowKey, Headers};

use crate::compile::{Matcher, Region};
use crate::header_match::HeaderMatch;
use crate::policy::Policy;
use crate::simd::{LANES, Simd};
use crate::states::{State, States};
use crate::tuples::Tuples;
use crate::verdict::{Direction, Verdict};

/// Decision of a table on one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hit {
    /// Index of the rule that decided, among the policy's rules of the table's direction;
    /// [`Table::default_slot`] if none matched. Also the frame's counter slot, behind
    /// [`CompiledPolicy::slot_base`](crate::CompiledPolicy::slot_base).
    pub rule: u32,
    /// Verdict on the frame.
    pub verdict: Verdict,
    /// Whether the rule asks for a log record.
    pub log: bool,
}

/// Rules of one policy in one direction, compiled; immutable.
///
/// A table has the matches and verdicts of rules, not their names: policies that differ only in names,
/// comments or notation share one. [`crate::CompiledPolicy::rule_info`] has the names.
///
/// A frame is judged by its key first. Where the rule found has conditions on header fields that are no part
/// of a key, such as TCP flags ([`Table::needs_headers`]), [`Table::judge_with`] decides.
///
/// Judging allocates nothing. Up to 1024 rules it takes the same steps for every key; beyond, keys take
/// few steps more, and the worst case, whatever the rules and the key, one for every 512 rules.
pub struct Table {
    content: Content,
    hash: u64,
    rules: Matcher,
    /// Rules by their conditions on header fields, if there are any.
    tuples: Option<Box<Tuples>>,
    /// Decisions by slot: the rules, then the default.
    hits: Box<[Hit]>,
}

/// Leaves the rules out: a log line should not become a megabyte.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("slots", &self.slots())
            .field("size", &self.rules.size())
            .finish_non_exhaustive()
    }
}

/// Source of a table, in normal form. Equal contents judge every frame alike.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    /// State of the frames that the table judges.
    state: State,
    rules: Box<[RuleContent]>,
    default: (Verdict, bool),
}

/// Rule in normal form.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct RuleContent {
    /// Conditions on the key.
    pub(crate) region: Region,
    /// Conditions on other header fields.
    pub(crate) headers: HeaderMatch,
    /// States that it is for.
    pub(crate) states: States,
    verdict: Verdict,
    log: bool,
}

impl Content {
    pub(crate) fn new(policy: &Policy, direction: Direction, state: State) -> Content {
        let rules = policy.rules_of(direction).map(|(_, rule)| {
            let (verdict, log) = policy.decision(rule);
            RuleContent {
                region: Region::new(&rule.matches),
                headers: rule.matches.headers.clone(),
                states: rule.states,
                verdict,
                log,
            }
        });
        Content {
            state,
            rules: rules.collect(),
            default: policy.default_decision_in(direction, state),
        }
    }

    /// Hash for finding tables of this content; equality decides.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Hash::hash(self, &mut hasher);
        hasher.finish()
    }

    /// Rules in normal form.
    pub(crate) fn rules(&self) -> &[RuleContent] {
        &self.rules
    }
}

impl Table {
    /// Compiles the rules of `policy` for `direction`.
    #[must_use]
    pub fn compile(policy: &Policy, direction: Direction) -> Table {
        Table::compile_for(policy, direction, Simd::widest())
    }

    /// Compiles as [`Table::compile`] does, into a table that judges with these vector instructions: all
    /// judge alike, the widest fastest.
    #[must_use]
    pub fn compile_for(policy: &Policy, direction: Direction, simd: Simd) -> Table {
        let content = Content::new(policy, direction, State::New);
        let hash = content.hash();
        Table::from_content(content, hash, simd)
    }

    /// Compiles the rules of `policy` for `direction` that judge frames in this state; the others keep their
    /// slots and match nothing. Frames that no rule matches have [`State::default_verdict`].
    #[must_use]
    pub fn compile_in(policy: &Policy, direction: Direction, state: State) -> Table {
        let content = Content::new(policy, direction, state);
        let hash = content.hash();
        Table::from_content(content, hash, Simd::widest())
    }

    pub(crate) fn from_content(content: Content, hash: u64, simd: Simd) -> Table {
        let (nothing, none) = (Region::nothing(), HeaderMatch::default());
        let conditions =
            content
                .rules
                .iter()
                .map(|rule| match rule.states.contains(content.state) {
                    true => (&rule.region, &rule.headers),
                    false => (&nothing, &none),
                });
        let conditions: Vec<(&Region, &HeaderMatch)> = conditions.collect();
        let regions: Vec<&Region> = conditions.iter().map(|(region, _)| *region).collect();
        let rules = Matcher::new(&regions, simd);
        let tuples = Tuples::new(&conditions, simd).map(Box::new);
        let decided = content.rules.iter().map(|rule| (rule.verdict, rule.log));
        let hits = decided
            .chain([content.default])
            .zip(0..)
            .map(|((verdict, log), rule)| Hit { rule, verdict, log })
            .collect();
        Table {
            content,
            hash,
            rules,
            tuples,
            hits,
        }
    }

    /// Judges one frame by its key: by the first rule that matches, or the default. Conditions on header fields
    /// count as met: if [`Table::needs_headers`] says so of the hit, [`Table::judge_with`] is to be asked.
    #[inline]
    #[must_use]
    pub fn judge(&self, key: &FlowKey) -> Hit {
        let mut slots = [0; LANES];
        self.rules.first_matches(&[key], &mut slots);
        self.answer(slots[0] as usize)
    }

    /// Judges one frame by its key and its header fields. Where the hit by its key does not need header fields
    /// both agree.
    #[must_use]
    pub fn judge_with(&self, key: &FlowKey, headers: &Headers) -> Hit {
        match &self.tuples {
            None => self.judge(key),
            Some(tuples) => self.answer(tuples.first_match(key, headers) as usize),
        }
    }

    /// Whether rules have conditions on header fields.
    #[inline]
    #[must_use]
    pub fn reads_headers(&self) -> bool {
        self.tuples.is_some()
    }

    /// Whether a hit by key alone is not final, as its rule has conditions on header fields. Frames of one flow
    /// may then be decided by several rules.
    #[inline]
    #[must_use]
    pub fn needs_headers(&self, hit: Hit) -> bool {
        let tuples = self.tuples.as_deref();
        tuples.is_some_and(|tuples| tuples.is_conditional(hit.rule))
    }

    /// Judges by key, as [`Table::judge`], key after key into `hits`, until either runs out; several at a time, so that their
    /// searches overlap. Returns how many it judged.
    #[inline]
    pub fn judge_burst<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k FlowKey>,
        hits: &mut [Hit],
    ) -> usize {
        let mut keys = keys.into_iter();
        let mut judged = 0;
        for hits in hits.chunks_mut(LANES) {
            let mut keys = keys.by_ref().take(hits.len());
            let Some(first) = keys.next() else {
                break;
            };
            let mut lanes = [first; LANES];
            let mut filled = 1;
            for (lane, key) in lanes[1..].iter_mut().zip(keys) {
                *lane = key;
                filled += 1;
            }
            let mut slots = [0; LANES];
            self.rules.first_matches(&lanes[..filled], &mut slots);
            for (hit, slot) in hits.iter_mut().zip(&slots[..filled]) {
                *hit = self.answer(*slot as usize);
            }
            judged += filled;
        }
        judged
    }

    /// Number of counter slots: one per rule and one for the default.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.hits.len()
    }

    /// Bytes of the compiled rules, without their source and their decisions.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tuples = self.tuples.as_deref().map_or(0, Tuples::bytes);
        self.rules.size().bytes + tuples
    }

    /// Slot of the default verdict, the last one.
    #[must_use]
    pub fn default_slot(&self) -> u32 {
        self.hits[self.hits.len() - 1].rule
    }

    /// Decision of `slot`; `None` if there is no such slot.
    #[must_use]
    pub fn hit(&self, slot: u32) -> Option<Hit> {
        self.hits.get(slot as usize).copied()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Decision of the rule, or of the default where there is no such rule.
    #[inline]
    fn answer(&self, rule: usize) -> Hit {
        self.hits[rule.min(self.hits.len() - 1)]
    }
}
