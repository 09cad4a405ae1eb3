// SPDX-License-Identifier: Apache-2.0
//! Plain Rust: every CPU, and the twin that tests compare the others with.

use crate::simd::{Isa, LANES, Node8, Node16, Pairs};

/// No instructions beyond the target's baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portable;

impl Isa for Portable {
    #[inline(always)]
    fn rank16(self, node: &Node16, number: i32) -> usize {
        let below = node.0.map(|start| i32::from(start < number));
        below.into_iter().sum::<i32>() as usize
    }

    #[inline(always)]
    fn rank8(self, node: &Node8, number: i64) -> usize {
        let below = node.0.map(|start| usize::from(start < number));
        below.into_iter().sum()
    }

    #[inline(always)]
    fn count(self, bits: u64) -> usize {
        bits.count_ones() as usize
    }

    #[inline(always)]
    fn first<const W: usize, const F: usize>(self, rows: [&[u64; W]; F]) -> usize {
        let mut words = *rows[0];
        for row in &rows[1..] {
            for (word, with) in words.iter_mut().zip(*row) {
                *word &= with;
            }
        }
        first_bit(&words)
    }

    #[inline(always)]
    fn pairs(self, live: &[u32; LANES], pairs: &mut Pairs) -> usize {
        few_pairs(live, pairs)
    }
}

/// Index of the lowest bit set, at least `64 * W` if there is none; without a branch that depends on
/// the words.
#[inline(always)]
pub(super) fn first_bit<const W: usize>(words: &[u64; W]) -> usize {
    let mut set = 1 << W;
    for (index, word) in words.iter().enumerate() {
        set |= u32::from(*word != 0) << index;
    }
    let index = set.trailing_zeros() as usize;
    let word = words.get(index).copied().unwrap_or(0);
    index * 64 + word.trailing_zeros() as usize
}

/// Pairs of all lanes, four a lane at once: a loop that ended after each lane's last bit would be
/// mispredicted once a lane, which costs more than the pairs themselves.
#[inline(always)]
pub(super) fn few_pairs(live: &[u32; LANES], pairs: &mut Pairs) -> usize {
    const AT_ONCE: usize = 4;
    let mut count = 0;
    for (lane, &live) in (0u16..).zip(live) {
        let mut left = live;
        let mut at = count;
        count += live.count_ones() as usize;
        while let Some(room) = pairs.0.get_mut(at..at + AT_ONCE) {
            for pair in room {
                // At most 32, of nothing left, which no one reads.
                #[allow(clippy::cast_possible_truncation, reason = "at most 32")]
                let child = left.trailing_zeros() as u16;
                *pair = lane * 32 + child;
                left &= left.wrapping_sub(1);
            }
            if left == 0 {
                break;
            }
            at += AT_ONCE;
        }
    }
    count
}
