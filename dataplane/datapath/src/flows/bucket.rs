//! A bucket: eight places for flows, told apart by sixteen bits of their hash.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Places of a bucket.
pub(super) const WAYS: usize = 8;

/// The lowest bit of each lane of 16 bits.
const LOWEST_BITS: u64 = 0x0001_0001_0001_0001;

/// Tags as two words can be read of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(16))]
struct Tags([u16; WAYS]);

/// Ways that are still to be looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ways(u64);

impl Ways {
    /// One of them, or way 0 if there is none.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        // With no bit set, 63: masked, it is some way.
        let bit = (self.0 | 1 << 63).trailing_zeros() as usize;
        (bit >> 4 | (bit & 1) << 2) & (WAYS - 1)
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
    tags: Tags,
    /// Bit w: way w was used since [`Bucket::give_up`] last passed it.
    used: u8,
    /// Where it looks next.
    hand: u8,
}

impl Bucket {
    /// The ways that may hold a flow of this tag: all that do, and now and then another. Eight
    /// comparisons at once, of lanes of 16 bits in two words: a lane that is equal becomes 0, and
    /// from a lane of 0 subtracting one borrows its upper bit.
    #[inline(always)]
    pub(super) fn ways(&self, tag: u16) -> Ways {
        let [low, high]: &[u64; 2] = zerocopy::transmute_ref!(&self.tags);
        let wanted = u64::from(tag) * LOWEST_BITS;
        let equal = |lanes: u64| {
            let differ = lanes ^ wanted;
            differ.wrapping_sub(LOWEST_BITS) & !differ & (LOWEST_BITS << 15)
        };
        // Lane n of the lower word is bit 16 n, of the upper word bit 16 n + 1.
        Ways(equal(*low) >> 15 | equal(*high) >> 14)
    }

    /// Notes that a way was used.
    #[inline]
    pub(super) fn use_way(&mut self, way: usize) {
        self.used |= 1 << (way % WAYS);
    }

    /// A way for another flow: the next that was not used since it was last passed.
    pub(super) fn give_up(&mut self) -> usize {
        loop {
            let way = usize::from(self.hand) % WAYS;
            self.hand = self.hand.wrapping_add(1);
            let bit = 1 << way;
            if self.used & bit == 0 {
                return way;
            }
            self.used &= !bit;
        }
    }

    /// Gives a way to a flow of this tag. It has to be used to be kept.
    pub(super) fn take(&mut self, way: usize, tag: u16) {
        self.tags.0[way % WAYS] = tag;
        self.used &= !(1 << (way % WAYS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays() {
        let mut bucket = Bucket::new_zeroed();
        for way in 0..WAYS {
            bucket.take(way, 1);
        }
        for _ in 0..100 {
            bucket.use_way(3);
            let way = bucket.give_up();
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
        (0..WAYS).for_each(|way| bucket.use_way(way));
        let way = bucket.give_up();
        assert!(way < WAYS);
        assert_eq!(bucket.used, 0, "each was passed once");
    }
}
