// SPDX-License-Identifier: Apache-2.0
//! Values that are kept once.

use std::hash::{BuildHasher, RandomState};

/// Value that can be told apart by words.
pub(crate) trait Fingerprint {
    /// Words of the value: equal ones for equal values.
    fn words(&self) -> impl Iterator<Item = u64>;
}

/// Distinct values in order of first appearance: a hash table of ids with linear probing.
pub(crate) struct Distinct<V> {
    values: Vec<V>,
    /// Ids plus one by hash, 0 where none is; a power of two, at most half of it in use.
    slots: Vec<u32>,
    /// Random, so that no policy can be written to make hashes collide.
    seed: u64,
}

impl<V: Copy + Eq + Fingerprint> Distinct<V> {
    /// No values yet.
    pub(crate) fn new() -> Distinct<V> {
        Distinct {
            values: Vec::new(),
            slots: vec![0; 64],
            seed: RandomState::new().hash_one(0_u64),
        }
    }

    /// Id of `value`: how many different ones came before it. Saturates at a number that no policy
    /// reaches.
    pub(crate) fn id(&mut self, value: V) -> u32 {
        if self.values.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let mut at = self.hash(&value);
        loop {
            let slot = &mut self.slots[at];
            let Some(id) = slot.checked_sub(1) else {
                let id = u32::try_from(self.values.len()).unwrap_or(u32::MAX - 1);
                *slot = id + 1;
                self.values.push(value);
                return id;
            };
            if self.values[id as usize] == value {
                return id;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Values by id.
    pub(crate) fn into_values(self) -> Vec<V> {
        self.values
    }

    /// Multiply-fold hash, as an index into `slots`.
    fn hash(&self, value: &V) -> usize {
        let folded = value.words().fold(self.seed, |hash, word| {
            let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
            #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
            let (low, high) = (product as u64, (product >> 64) as u64);
            (low ^ high).rotate_left(23)
        });
        #[allow(clippy::cast_possible_truncation, reason = "masked to less")]
        let index = folded as usize;
        index & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * 4];
        for (number, id) in (1..).zip(0..self.values.len()) {
            let mut at = self.hash(&self.values[id]);
            while self.slots[at] != 0 {
                at = (at + 1) & (self.slots.len() - 1);
            }
            self.slots[at] = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Fingerprint for u64 {
        fn words(&self) -> impl Iterator<Item = u64> {
            [*self].into_iter()
        }
    }

    #[test]
    fn equal_values_have_one_id() {
        let mut distinct = Distinct::new();
        for number in 0..1000_u64 {
            assert_eq!(u64::from(distinct.id(number * number)), number);
        }
        for number in 0..1000_u64 {
            assert_eq!(u64::from(distinct.id(number * number)), number);
        }
        assert_eq!(distinct.into_values().len(), 1000);
    }
}
