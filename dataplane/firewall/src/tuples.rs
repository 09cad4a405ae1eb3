// SPDX-License-Identifier: Apache-2.0
//! Second step of judging, for rules with conditions on header fields that are no part of a flow's key:
//! tuple space search (V. Srinivasan, S. Suri and G. Varghese, "Packet classification using tuple space
//! search", SIGCOMM 1999), with the distinct conditions as tuples.
//!
//! A table judges by key alone first, as if those conditions were met. Only if the rule found has one are
//! the fields read and this step is made: each distinct condition has a matcher of its rules, and of those
//! whose condition the frame meets the lowest rule decides. So policies without such rules pay nothing,
//! others pay for the frames that such a rule may decide, and a frame costs one search for every distinct
//! condition that it meets, at most [`MOST_CONDITIONS`].

use std::collections::HashMap;

use sluice_packet::{FlowKey, Headers};

use crate::compile::{Matcher, Region};
use crate::header_match::HeaderMatch;
use crate::simd::{LANES, Simd};

/// Most distinct conditions on header fields among the rules of one policy; the reader refuses more.
pub(crate) const MOST_CONDITIONS: usize = 32;

/// Rules of a table by their conditions on header fields.
pub(crate) struct Tuples {
    tuples: Box<[Tuple]>,
    /// Whether a rule has such a condition, by rule; not of the default.
    conditional: Box<[bool]>,
}

struct Tuple {
    condition: HeaderMatch,
    matcher: Matcher,
    /// Rules of the matcher, ascending.
    rules: Box<[u32]>,
}

impl Tuples {
    /// Groups rules, first rule first; `None` if none of them has a condition on header fields.
    pub(crate) fn new(rules: &[(&Region, &HeaderMatch)], simd: Simd) -> Option<Tuples> {
        if rules.iter().all(|(_, condition)| condition.is_empty()) {
            return None;
        }
        let mut by_condition: HashMap<&HeaderMatch, Vec<u32>> = HashMap::new();
        for (number, (_, condition)) in (0..).zip(rules) {
            by_condition.entry(condition).or_default().push(number);
        }
        let tuple = |(condition, members): (&HeaderMatch, Vec<u32>)| {
            let regions = members.iter().map(|&rule| rules[rule as usize].0);
            Tuple {
                condition: condition.clone(),
                matcher: Matcher::new(&regions.collect::<Vec<_>>(), simd),
                rules: members.into(),
            }
        };
        let mut tuples: Vec<Tuple> = by_condition.into_iter().map(tuple).collect();
        // Where the first rule of a tuple comes behind the best so far, the search ends.
        tuples.sort_unstable_by_key(|tuple| tuple.rules.first().copied());
        let conditional = rules.iter().map(|(_, condition)| !condition.is_empty());
        Some(Tuples {
            tuples: tuples.into(),
            conditional: conditional.collect(),
        })
    }

    /// Whether a rule has a condition on header fields.
    #[inline]
    pub(crate) fn is_conditional(&self, rule: u32) -> bool {
        self.conditional
            .get(rule as usize)
            .copied()
            .unwrap_or(false)
    }

    /// Returns the first rule that matches a frame, `u32::MAX` if none does.
    pub(crate) fn first_match(&self, key: &FlowKey, headers: &Headers) -> u32 {
        let mut best = u32::MAX;
        for tuple in &self.tuples {
            if tuple.rules.first().is_none_or(|&first| first >= best) {
                break;
            }
            if !tuple.condition.holds(headers) {
                continue;
            }
            let mut first = [0; LANES];
            tuple.matcher.first_matches(&[key], &mut first);
            if let Some(&rule) = tuple.rules.get(first[0] as usize) {
                best = best.min(rule);
            }
        }
        best
    }

    /// Bytes of the matchers.
    pub(crate) fn bytes(&self) -> usize {
        self.tuples
            .iter()
            .map(|tuple| tuple.matcher.size().bytes)
            .sum()
    }
}
