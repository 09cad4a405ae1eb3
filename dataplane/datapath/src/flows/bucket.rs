// SPDX-License-Identifier: Apache-2.0
//! Bucket of the flow cache: a set of eight ways, told apart by 16-bit tags of their flows' hash,
//! with a CLOCK hand that picks the way to replace.

use sluice_mem::equal_lanes;
use zerocopy::{FromZeros, Immutable};

/// Ways of a bucket: entries that a flow can be in.
pub(super) const WAYS: usize = 8;

/// Set of ways that are still to be compared: bit `w` for way `w`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ways(u8);

impl Ways {
    /// Returns the lowest way of the set, or the last way of a bucket if the set is empty.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        (u32::from(self.0) | 1 << (WAYS - 1)).trailing_zeros() as usize
    }

    /// Whether the set is empty.
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the set without its lowest way.
    #[inline(always)]
    pub(super) fn rest(self) -> Ways {
        Ways(self.0 & self.0.wrapping_sub(1))
    }
}

/// Tags of eight entries, compared before any entry is read. Two buckets share a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable)]
#[repr(C, align(32))]
pub(super) struct Bucket {
    tags: [u16; WAYS],
    /// CLOCK hand: the way that [`Bucket::evict`] looks at next.
    hand: u16,
}

impl Bucket {
    /// Returns the ways that may hold a flow of this tag.
    #[inline(always)]
    pub(super) fn ways(&self, tag: u16) -> Ways {
        Ways(equal_lanes(&self.tags, tag))
    }

    /// Picks the way to replace by the CLOCK (second chance) algorithm: the next one whose
    /// reference bit is clear. `take_reference` clears a way's bit and returns whether it was set.
    pub(super) fn evict(&mut self, mut take_reference: impl FnMut(usize) -> bool) -> usize {
        loop {
            let way = usize::from(self.hand) % WAYS;
            self.hand = self.hand.wrapping_add(1);
            if !take_reference(way) {
                return way;
            }
        }
    }

    /// Sets the tag of a way that now holds another flow.
    pub(super) fn set_tag(&mut self, way: usize, tag: u16) {
        self.tags[way % WAYS] = tag;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evicts a way, with `used` as the reference bits.
    fn evict(bucket: &mut Bucket, used: &mut [bool; WAYS]) -> usize {
        bucket.evict(|way| std::mem::take(&mut used[way]))
    }

    #[test]
    fn a_referenced_way_stays() {
        let mut bucket = Bucket::new_zeroed();
        let mut used = [false; WAYS];
        for way in 0..WAYS {
            bucket.set_tag(way, 1);
        }
        for _ in 0..100 {
            used[3] = true;
            let way = evict(&mut bucket, &mut used);
            assert_ne!(way, 3);
            bucket.set_tag(way, 2);
        }
        let found = bucket.ways(1);
        assert_eq!(found.first(), 3);
        assert!(found.rest().is_empty());
    }

    #[test]
    fn every_way_is_found() {
        for way in 0..WAYS {
            for tag in [0, 1, 2, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let mut bucket = Bucket::new_zeroed();
                (0..WAYS).for_each(|other| bucket.set_tag(other, tag ^ 0x1234));
                bucket.set_tag(way, tag);
                let mut ways = bucket.ways(tag);
                let mut found = Vec::new();
                while !ways.is_empty() {
                    found.push(ways.first());
                    ways = ways.rest();
                }
                assert_eq!(found, [way], "tag {tag:#x}");
            }
        }
    }

    #[test]
    fn if_all_are_referenced_one_is_evicted_all_the_same() {
        let mut bucket = Bucket::new_zeroed();
        let mut used = [true; WAYS];
        let way = evict(&mut bucket, &mut used);
        assert!(way < WAYS);
        assert_eq!(used, [false; WAYS], "each was passed once");
    }
}
