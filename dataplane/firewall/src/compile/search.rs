// SPDX-License-Identifier: Apache-2.0
//! Searches of one coordinate: from a number to the id of its row.

use std::hint::select_unpredictable;

use crate::compile::LANES;
use crate::compile::ranges::{Coordinate, Ranges};
use crate::compile::region::{Address, Prefixes};
use crate::compile::rows::{Builder, Distinct};

/// Binary search over interval starts: for addresses and MACs.
pub(crate) struct Intervals<T> {
    /// Starts of the intervals, ascending; the first is zero, so every number has an interval.
    starts: Box<[T]>,
    /// Row id of each interval.
    rows: Box<[u32]>,
}

impl<T: Coordinate> Intervals<T> {
    /// Builds the search from one set per rule, in their order; a rule without a set holds everywhere.
    pub(crate) fn new<'r>(
        sets: impl Iterator<Item = Option<&'r Ranges<T>>>,
        builder: &mut impl Builder,
    ) -> Self
    where
        T: 'r,
    {
        let mut flips: Vec<(T, usize)> = Vec::new();
        for (rule, ranges) in sets.enumerate() {
            let Some(ranges) = ranges else {
                flips.push((T::ZERO, rule));
                continue;
            };
            for (first, last) in ranges.iter() {
                flips.push((first, rule));
                flips.extend(last.next().map(|behind| (behind, rule)));
            }
        }
        flips.sort_unstable();

        let mut starts = Vec::new();
        let mut rows = Vec::new();
        let mut held = Vec::new();
        if flips.first().is_none_or(|(at, _)| *at != T::ZERO) {
            starts.push(T::ZERO);
            rows.push(builder.id());
        }
        for flips in flips.chunk_by(|(a, _), (b, _)| a == b) {
            for &(_, rule) in flips {
                builder.flip(rule);
                held.push(rule);
            }
            starts.push(flips[0].0);
            rows.push(builder.id());
        }
        // Back to the row of no rule, since the builder is used for further searches: a rule that was
        // flipped an even number of times is out of the row already.
        held.sort_unstable();
        for flips in held
            .chunk_by(|a, b| a == b)
            .filter(|flips| flips.len() % 2 == 1)
        {
            builder.flip(flips[0]);
        }
        Intervals {
            starts: starts.into(),
            rows: rows.into(),
        }
    }

    #[inline]
    pub(crate) fn find(&self, number: T) -> u32 {
        self.rows[self.starts.partition_point(|start| *start <= number) - 1]
    }

    /// Row ids of several numbers. All searches take the same steps side by side, so that their loads
    /// overlap and none of them has a branch to mispredict.
    #[inline]
    pub(crate) fn find_all(&self, numbers: &[T; LANES]) -> [u32; LANES] {
        let mut found = [0; LANES];
        let mut size = self.starts.len();
        while size > 1 {
            let half = size / 2;
            for lane in 0..LANES {
                let middle = found[lane] + half;
                let is_behind = self.starts[middle] <= numbers[lane];
                found[lane] = select_unpredictable(is_behind, middle, found[lane]);
            }
            size -= half;
        }
        found.map(|found| self.rows[found])
    }
}

/// Search by address, of either family or none.
pub(crate) struct Addresses {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
    /// Row id of frames without an address.
    neither: u32,
}

impl Addresses {
    /// Builds the search from one set per rule, in their order; a rule without a set holds everywhere.
    pub(crate) fn new<'r>(
        sets: impl Iterator<Item = Option<&'r Prefixes>> + Clone,
        builder: &mut impl Builder,
    ) -> Self {
        let nothing = Ranges::new([]);
        let anywhere = sets.clone().map(|set| set.map(|_| &nothing));
        let neither = Intervals::<u32>::new(anywhere, builder).find(0);
        Addresses {
            v4: Intervals::new(sets.clone().map(|set| set.map(|set| &set.v4)), builder),
            v6: Intervals::new(sets.map(|set| set.map(|set| &set.v6)), builder),
            neither,
        }
    }

    #[inline]
    pub(crate) fn find(&self, address: Address) -> u32 {
        match address {
            Address::V4(address) => self.v4.find(address),
            Address::V6(address) => self.v6.find(address),
            Address::None => self.neither,
        }
    }

    /// Row ids of several frames. `v4` has the addresses of those that have IPv4 addresses; the rest of
    /// it is ignored.
    #[inline]
    pub(crate) fn find_all(
        &self,
        v4: &[u32; LANES],
        address: impl Fn(usize) -> Address,
        all_v4: bool,
    ) -> [u32; LANES] {
        let mut found = self.v4.find_all(v4);
        if !all_v4 {
            for (lane, found) in found.iter_mut().enumerate() {
                match address(lane) {
                    Address::V4(_) => {}
                    other => *found = self.find(other),
                }
            }
        }
        found
    }
}

/// Two-level direct lookup, for coordinates of at most 17 bits: a page of 256 numbers, then the number
/// in it. Equal pages are shared, so a table over ports is a few KiB.
pub(crate) struct Paged {
    /// Index of the page, by the number's upper bits.
    directory: Box<[u32]>,
    /// Row id of each number, by its lower 8 bits.
    pages: Box<[[u32; 256]]>,
}

impl Paged {
    /// Builds the search for numbers below `end`. One set per rule, in their order; a rule without one holds everywhere.
    pub(crate) fn new<'r>(
        end: u32,
        sets: impl Iterator<Item = Option<&'r Ranges<u32>>>,
        builder: &mut impl Builder,
    ) -> Self {
        let Intervals { starts, rows } = Intervals::new(sets, builder);
        let mut pages = Distinct::default();
        let mut interval = 0;
        let directory = (0..end.div_ceil(256)).map(|page| {
            let mut rows_of = [0; 256];
            for (number, row) in (page * 256..).zip(&mut rows_of) {
                while starts.get(interval + 1).is_some_and(|next| *next <= number) {
                    interval += 1;
                }
                *row = rows[interval];
            }
            pages.id(rows_of)
        });
        Paged {
            directory: directory.collect(),
            pages: pages.values.into(),
        }
    }

    #[inline]
    pub(crate) fn find(&self, number: u32) -> u32 {
        let page = self.directory[(number >> 8) as usize];
        self.pages[page as usize][(number & 0xff) as usize]
    }

    #[inline]
    pub(crate) fn find_all(&self, numbers: &[u32; LANES]) -> [u32; LANES] {
        numbers.map(|number| self.find(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::rows::FlatBuilder;

    #[test]
    fn one_row_per_interval() {
        let a = Ranges::new([10u32..=19, 30..=u32::MAX]);
        let b = Ranges::new([0u32..=14]);
        let mut builder = FlatBuilder::<1>::new(3);
        let intervals = Intervals::new([Some(&a), None, Some(&b)].into_iter(), &mut builder);
        let nothing = builder.id();
        let rows = builder.finish();
        assert_eq!(*intervals.starts, [0, 10, 15, 20, 30]);
        let bits: Vec<u64> = intervals.rows.iter().map(|row| rows.row(*row)[0]).collect();
        assert_eq!(bits, [0b110, 0b111, 0b011, 0b010, 0b011]);
        assert_eq!(rows.row(nothing), &[0], "the builder is left as it was");
    }

    #[test]
    fn searches_agree_at_every_edge() {
        let sets = [
            Some(Ranges::new([80u32..=80, 443..=443, 8000..=8999])),
            Some(Ranges::new([1024u32..=65535])),
            None,
            Some(Ranges::new([0u32..=0, 255..=256])),
        ];
        let sets = || sets.iter().map(Option::as_ref);
        let mut builder = FlatBuilder::<1>::new(4);
        let paged = Paged::new(0x1_0101, sets(), &mut builder);
        let intervals = Intervals::<u32>::new(sets(), &mut builder);
        for number in 0..0x1_0101 {
            assert_eq!(paged.find(number), intervals.find(number), "{number}");
        }
        let numbers = [
            0,
            1,
            79,
            80,
            81,
            254,
            255,
            256,
            257,
            1023,
            1024,
            8999,
            9000,
            65535,
            65536,
            u32::MAX,
        ];
        let found = numbers.map(|number| intervals.find(number));
        assert_eq!(intervals.find_all(&numbers), found);
    }

    #[test]
    fn pages_are_shared() {
        let ports = Ranges::new([80u32..=80, 20_000..=30_000]);
        let mut builder = FlatBuilder::<1>::new(1);
        let paged = Paged::new(0x1_0000, [Some(&ports)].into_iter(), &mut builder);
        assert_eq!(paged.directory.len(), 256);
        // All off, 80, the range's begin, its middle, its end.
        assert_eq!(paged.pages.len(), 5);
    }
}
