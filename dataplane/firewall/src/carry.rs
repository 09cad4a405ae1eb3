//! Which counter slots mean the same before and after a change of policies.

use std::collections::{HashMap, VecDeque};

use crate::compile::Region;
use crate::set::{CompiledPolicy, PolicySet};
use crate::verdict::{Direction, Verdict};

/// Where the counts of a new set's slots come from; see [`carry_over`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarryOver {
    /// By slot of the new set.
    from: Box<[Option<usize>]>,
}

impl CarryOver {
    /// The old set's slot whose counts `new_slot` continues; `None` if it starts at zero.
    #[must_use]
    pub fn old_slot(&self, new_slot: usize) -> Option<usize> {
        self.from.get(new_slot).copied().flatten()
    }

    /// Every pair `(old slot, new slot)` that stays the same rule. No slot is in two of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        let pairs = self.from.iter().enumerate();
        pairs.filter_map(|(new, old)| Some(((*old)?, new)))
    }
}

/// Pairs the counter slots of two sets. A rule keeps its counts as long as its policy's name, its own
/// name, what it matches and what it says stay; it may move, and rules around it may change. A
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

/// What makes a rule the same rule; `None` for the default.
type Identity<'a> = (Option<&'a str>, Option<&'a Region>, Verdict, bool);

/// With each, its slot in the set.
fn identities(
    policy: &CompiledPolicy,
    direction: Direction,
) -> impl Iterator<Item = (Identity<'_>, usize)> {
    let regions = policy.table(direction).content().rules();
    let regions = regions.iter().map(|(region, ..)| Some(region));
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
