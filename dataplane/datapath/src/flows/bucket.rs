//! A bucket: eight places for flows, told apart by sixteen bits of their hash.

use sluice_mem::equal_lanes;
use zerocopy::{FromZeros, Immutable};

/// Places of a bucket.
pub(super) const WAYS: usize = 8;

/// Ways that are still to be looked at: bit `w` for way `w`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ways(u8);

impl Ways {
    /// One of them, or the last way if there is none.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        (u32::from(self.0) | 1 << (WAYS - 1)).trailing_zeros() as usize
    }

    /// Whether there is none.
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Without the first.
    #[inline(always)]
    pub(super) fn rest(self) -> Ways {
        Ways(self.0 & self.0.wrapping_sub(1))
    }
}

/// What is looked at before any entry: two buckets share a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable)]
#[repr(C, align(32))]
pub(super) struct Bucket {
    tags: [u16; WAYS],
    /// Where [`Bucket::give_up`] looks next.
    hand: u16,
}

impl Bucket {
    /// The ways that may hold a flow of this tag.
    #[inline(always)]
    pub(super) fn ways(&self, tag: u16) -> Ways {
        Ways(equal_lanes(&self.tags, tag))
    }

    /// A way for another flow: the next that was not used since it was last passed, which is what
    /// `was_used` says of a way and forgets.
    pub(super) fn give_up(&mut self, mut was_used: impl FnMut(usize) -> bool) -> usize {
        loop {
            let way = usize::from(self.hand) % WAYS;
            self.hand = self.hand.wrapping_add(1);
            if !was_used(way) {
                return way;
            }
        }
    }

    /// Gives a way to a flow of this tag.
    pub(super) fn take(&mut self, way: usize, tag: u16) {
        self.tags[way % WAYS] = tag;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives up a way of those that are marked in `used`.
    fn give_up(bucket: &mut Bucket, used: &mut [bool; WAYS]) -> usize {
        bucket.give_up(|way| std::mem::take(&mut used[way]))
    }

    #[test]
    fn what_is_used_stays() {
        let mut bucket = Bucket::new_zeroed();
        let mut used = [false; WAYS];
        for way in 0..WAYS {
            bucket.take(way, 1);
        }
        for _ in 0..100 {
            used[3] = true;
            let way = give_up(&mut bucket, &mut used);
            assert_ne!(way, 3);
            bucket.take(way, 2);
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
                (0..WAYS).for_each(|other| bucket.take(other, tag ^ 0x1234));
                bucket.take(way, tag);
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
    fn if_all_are_used_one_goes_all_the_same() {
        let mut bucket = Bucket::new_zeroed();
        let mut used = [true; WAYS];
        let way = give_up(&mut bucket, &mut used);
        assert!(way < WAYS);
        assert_eq!(used, [false; WAYS], "each was passed once");
    }
}
