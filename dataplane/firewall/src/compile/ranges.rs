// SPDX-License-Identifier: Apache-2.0
//! Sets of numbers, as sorted ranges.

use std::ops::RangeInclusive;

/// Number by which a table is searched.
pub(crate) trait Coordinate: Copy + Ord {
    /// Lowest number.
    const ZERO: Self;
    /// Next higher number, if there is one.
    fn next(self) -> Option<Self>;
    /// Next lower number, if there is one.
    fn previous(self) -> Option<Self>;
}

macro_rules! coordinate {
    ($($number:ty),*) => {$(
        impl Coordinate for $number {
            const ZERO: Self = 0;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )*};
}
coordinate!(u32, u64, u128);

/// Set of numbers: inclusive ranges, ascending, neither overlapping nor touching. Two are equal
/// exactly if they hold the same numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ranges<T>(Box<[(T, T)]>);

impl<T: Coordinate> Ranges<T> {
    /// Set of the numbers in at least one of `ranges`, which may overlap and come in any order; a range
    /// that ends before it begins holds nothing.
    pub(crate) fn new(ranges: impl IntoIterator<Item = RangeInclusive<T>>) -> Ranges<T> {
        let mut ranges: Vec<(T, T)> = ranges
            .into_iter()
            .filter(|range| range.start() <= range.end())
            .map(RangeInclusive::into_inner)
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                // `end` has no successor: it is the highest number there is, nothing lies behind it.
                Some((_, end)) if end.next().is_none_or(|next| first <= next) => {
                    *end = last.max(*end);
                }
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged.into_boxed_slice())
    }

    /// Ranges of the set, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (T, T)> {
        self.0.iter().copied()
    }

    /// Whether no number is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Set of the numbers of this set that are not in `other`.
    pub(crate) fn minus(&self, other: &Ranges<T>) -> Ranges<T> {
        let mut left = Vec::new();
        let mut holes = other.0.iter().peekable();
        for &(first, last) in &self.0 {
            // Holes that end before this range end before every later one.
            while holes.next_if(|&&(_, end)| end < first).is_some() {}
            let mut rest = Some(first);
            for &(start, end) in holes.clone().take_while(|&&(start, _)| start <= last) {
                left.extend(rest.zip(start.previous()).map(|(from, to)| from..=to));
                rest = end.next();
            }
            left.extend(rest.map(|from| from..=last));
        }
        Ranges::new(left)
    }

    /// Whether a number is in both sets.
    pub(crate) fn intersects(&self, other: &Ranges<T>) -> bool {
        self.0.iter().any(|&(first, last)| {
            let mut theirs = other.0.iter();
            theirs.any(|&(start, end)| first <= end && start <= last)
        })
    }

    /// Whether every number of `other` is in this set.
    pub(crate) fn contains_all(&self, other: &Ranges<T>) -> bool {
        let mut mine = self.0.iter();
        let mut current = mine.next();
        other.0.iter().all(|&(first, last)| {
            while current.is_some_and(|&(_, end)| end < first) {
                current = mine.next();
            }
            current.is_some_and(|&(start, end)| start <= first && last <= end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u32, u32)]) -> Ranges<u32> {
        Ranges::new(ranges.iter().map(|&(first, last)| first..=last))
    }

    #[test]
    fn merges_what_overlaps_or_touches() {
        assert_eq!(set(&[(5, 9), (1, 2), (3, 4)]), set(&[(1, 9)]));
        assert_eq!(set(&[(1, 9), (2, 3), (9, 12)]), set(&[(1, 12)]));
        assert_eq!(
            set(&[(1, 2), (4, 5)]).iter().collect::<Vec<_>>(),
            [(1, 2), (4, 5)]
        );
        assert_eq!(
            set(&[(7, u32::MAX), (0, 6), (9, 10)]),
            set(&[(0, u32::MAX)])
        );
        assert_eq!(set(&[(4, 3)]), set(&[]));
    }

    #[test]
    fn difference() {
        let all = set(&[(0, u32::MAX)]);
        let some = set(&[(0, 4), (10, 19), (30, u32::MAX)]);
        assert_eq!(all.minus(&some), set(&[(5, 9), (20, 29)]));
        assert_eq!(all.minus(&all.minus(&some)), some);
        assert_eq!(some.minus(&all), set(&[]));
        assert_eq!(some.minus(&set(&[])), some);
        let holes = set(&[(3, 3), (9, 10), (12, 13), (19, 40)]);
        let left = [(0, 2), (4, 4), (11, 11), (14, 18), (41, u32::MAX)];
        assert_eq!(some.minus(&holes), set(&left));
        // One hole over several ranges.
        assert_eq!(some.minus(&set(&[(2, 35)])), set(&[(0, 1), (36, u32::MAX)]));
        assert!(set(&[]).is_empty() && !some.is_empty());
    }

    #[test]
    fn intersection() {
        let one = set(&[(1, 5), (10, 20)]);
        assert!(one.intersects(&set(&[(5, 9)])) && one.intersects(&set(&[(0, 1), (30, 40)])));
        assert!(!one.intersects(&set(&[(6, 9), (21, 30)])) && !one.intersects(&set(&[])));
    }

    #[test]
    fn containment() {
        let outer = set(&[(1, 5), (10, 20), (30, 30)]);
        assert!(outer.contains_all(&set(&[(2, 3), (5, 5), (12, 20), (30, 30)])));
        assert!(outer.contains_all(&set(&[])));
        assert!(!outer.contains_all(&set(&[(5, 6)])));
        assert!(!outer.contains_all(&set(&[(4, 11)])));
        assert!(!outer.contains_all(&set(&[(31, 31)])));
        assert!(!set(&[]).contains_all(&set(&[(0, 0)])));
    }
}
