// SPDX-License-Identifier: Apache-2.0
//! Keyed hash of a flow, which finds its bucket. It folds 64 by 64 bit products, as wyhash does;
//! the key is random, so that nobody can choose flows that meet in one bucket.

use std::hash::{BuildHasher, RandomState};

use crate::frame::FrameInfo;

/// Hash function with its key, which is drawn when the worker is made.
#[derive(Debug)]
pub(super) struct Hasher {
    key: [u64; 6],
}

impl Hasher {
    /// Draws a key from the standard library's source of hash keys, which the system's random
    /// numbers seed.
    pub(super) fn new() -> Hasher {
        let source = RandomState::new();
        Hasher {
            key: std::array::from_fn(|n| source.hash_one(n)),
        }
    }

    /// Hashes the words in which flows differ: the lower halves of the addresses (an IPv4 address is
    /// there), the ports with EtherType and VID, most of the receiver's MAC, the protocol, the
    /// origin; and the upper halves of the addresses together. A pod can make up flows that have all
    /// this in common and fill one bucket with them, which gains it nothing.
    #[inline(always)]
    pub(super) fn hash(&self, info: &FrameInfo) -> u64 {
        let [a, b, c, d, ports, _, last, origin] = *info.flow_words();
        let [p, q, r, s, t, u] = self.key;
        let low = fold(b ^ p, d ^ q);
        let high = fold(ports ^ r, last ^ origin.rotate_left(24) ^ s);
        fold(low ^ t, high ^ a ^ c.rotate_left(32) ^ u)
    }
}

/// Folds the 128-bit product of two numbers into 64 bits.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// Bits of a hash that choose the bucket.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half is asked for"
)]
pub(super) fn index(hash: u64) -> usize {
    hash as u32 as usize
}

/// Bits of a hash that are kept in the bucket as the tag.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the upper bits are asked for"
)]
pub(super) fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16
}
