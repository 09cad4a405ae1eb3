// SPDX-License-Identifier: Apache-2.0
//! Counter slots that keep their counts over a change of policies.

use std::collections::{HashMap, VecDeque};

use crate::compile::Region;
use crate::header_match::HeaderMatch;
use crate::set::{CompiledPolicy, PolicySet};
use crate::states::States;
use crate::verdict::{Direction, Verdict};

/// Map from the counter slots of a new set to those of the old one; see [`carry_over`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarryOver {
    /// Slots of the old set, by slot of the new set.
    from: Box<[Option<usize>]>,
}

impl CarryOver {
    /// Slot of the old set whose counts `new_slot` continues; `None` if it starts at zero.
    #[must_use]
    pub fn old_slot(&self, new_slot: usize) -> Option<usize> {
        self.from.get(new_slot).copied().flatten()
    }

    /// Pairs `(old slot, new slot)` of rules that stay the same. No slot is in two of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        let pairs = self.from.iter().enumerate();
        pairs.filter_map(|(new, old)| Some(((*old)?, new)))
    }
}

/// Pairs the counter slots of two sets. A rule keeps its counts as long as its policy's name, its own
/// name, its match, its verdict and its log flag stay; it may move, and rules around it may change. A
/// direction's default keeps them as long as its verdict stays.
#[must_use]
pub fn carry_over(old: &PolicySet, new: &PolicySet) -> CarryOver {
    let mut from = vec![None; new.slots()];
    for (_, policy) in new.iter() {
        let Some(was) = old.named(policy.name()) else {
            continue;
        };
        let was = old.policy(was);
        for direction in Direction::BOTH {
            // Rules without a name may be written twice: the first keeps the first's counts.
            let mut known: HashMap<Identity<'_>, VecDeque<usize>> = HashMap::new();
            for (identity, slot) in identities(was, direction) {
                known.entry(identity).or_default().push_back(slot);
            }
            for (identity, slot) in identities(policy, direction) {
                from[slot] = known.get_mut(&identity).and_then(VecDeque::pop_front);
            }
        }
    }
    CarryOver { from: from.into() }
}

/// Identity of a rule over changes: name, conditions, verdict, log. Name and conditions are `None` for the
/// default.
type Identity<'a> = (
    Option<&'a str>,
    Option<(&'a Region, &'a HeaderMatch, States)>,
    Verdict,
    bool,
);

/// Identities of one direction's rules and default, each with its slot in the set.
fn identities(
    policy: &CompiledPolicy,
    direction: Direction,
) -> impl Iterator<Item = (Identity<'_>, usize)> {
    let regions = policy.table(direction).content().rules();
    let regions = regions
        .iter()
        .map(|rule| Some((&rule.region, &rule.headers, rule.states)));
    policy
        .rule_infos(direction)
        .iter()
        .zip(regions.chain([None]))
        .zip(policy.slot_base(direction)..)
        .map(|((info, region), slot)| {
            let identity = (info.name.as_deref(), region, info.verdict, info.log);
            (identity, slot)
        })
}
