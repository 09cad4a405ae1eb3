// SPDX-License-Identifier: Apache-2.0
//! Keyed hash of connections, by folded 64 by 64 bit products (Wang Yi's wyhash has the same).
//!
//! The key is drawn per table from the system's random source, so that nobody can choose connections that meet
//! in one line.

use std::hash::{BuildHasher, RandomState};

use super::super::key::Key;

/// Hash function with its key.
#[derive(Debug)]
pub(crate) struct Hasher {
    key: [u64; 7],
}

impl Hasher {
    /// Draws a key from the standard library's source of hash keys, which the system's random numbers seed.
    pub(crate) fn new() -> Hasher {
        let source = RandomState::new();
        Hasher {
            key: std::array::from_fn(|n| source.hash_one(n)),
        }
    }

    /// Hash of a key. Words that a key type leaves at 0 cost nothing: the compiler knows them.
    #[inline(always)]
    pub(crate) fn of_key<K: Key>(&self, key: &K) -> u64 {
        let [a, b, c, d, e, f] = key.words();
        let [p, q, r, s, t, u, v] = self.key;
        let first = fold(a ^ p, b ^ q);
        if c | d | e | f == 0 {
            // As in IPv4.
            return fold(first ^ r, v);
        }
        let second = fold(c ^ r, d ^ s);
        let third = fold(e ^ t, f ^ u);
        fold(first ^ second.rotate_left(21), third ^ v)
    }

    /// Hash of some words.
    pub(crate) fn of_words(&self, words: &[u64]) -> u64 {
        let [p, q, ..] = self.key;
        words
            .iter()
            .fold(q, |hash, word| fold(hash ^ word, p).rotate_left(17) ^ word)
            .wrapping_mul(q | 1)
    }
}

/// Folds the 128-bit product of two numbers into 64 bits.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Lines, among `lines` of them, that a key of this hash can be in: one by each half of the hash (multiply-shift),
/// so that a table may have any size.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "less than `lines`, which is a usize"
)]
pub(crate) fn lines_of(hash: u64, lines: usize) -> [usize; 2] {
    let lines = lines as u64;
    let first = ((hash & 0xffff_ffff) * lines) >> 32;
    let second = ((hash >> 32) * lines) >> 32;
    [first as usize, second as usize]
}
