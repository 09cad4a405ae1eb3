// SPDX-License-Identifier: Apache-2.0
//! Searches of coordinates of few bits: a direct lookup where there are few boundaries, the rank in a bitmap
//! where there are many.

use std::collections::HashMap;

use crate::simd::Isa;

/// Bits of the coordinates that these searches are for.
const BITS: u32 = 18;
/// Pages with boundaries in them beyond which a bitmap takes less memory.
const MOST_PAGES: usize = 24;

/// Search of a coordinate of at most 18 bits.
pub(crate) enum Dense {
    /// Few boundaries.
    Paged(Paged),
    /// Many boundaries.
    Ranked(Ranked),
}

impl Dense {
    /// Bound above the numbers that it is for.
    pub(crate) const END: u32 = 1 << BITS;

    /// Builds the search over intervals that begin at `starts`, ascending, the first at zero; each with its
    /// id.
    ///
    /// # Panics
    /// If there are no intervals, or not as many ids.
    pub(crate) fn new(starts: &[u32], ids: &[u32]) -> Dense {
        assert!(
            starts.first() == Some(&0) && starts.len() == ids.len(),
            "an id for each interval"
        );
        let pages = starts.chunk_by(|a, b| a >> 8 == b >> 8).count();
        match pages <= MOST_PAGES {
            true => Dense::Paged(Paged::new(starts, ids)),
            false => Dense::Ranked(Ranked::new(starts, ids)),
        }
    }

    /// Bytes of the search.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Dense::Paged(paged) => size_of_val(&*paged.directory) + size_of_val(&*paged.ids),
            Dense::Ranked(ranked) => size_of_val(&*ranked.words) + size_of_val(&*ranked.ids),
        }
    }

    /// Writes the ids of the numbers that `number` takes out of `keys`; of one that has more than 18 bits,
    /// of its lower 18.
    #[inline(always)]
    pub(crate) fn find_all<I: Isa, K>(
        &self,
        isa: I,
        keys: &[K],
        ids: &mut [u32],
        number: impl Fn(&K) -> u32,
    ) {
        match self {
            Dense::Paged(paged) => {
                for (id, key) in ids.iter_mut().zip(keys) {
                    *id = paged.find(number(key));
                }
            }
            Dense::Ranked(ranked) => {
                for (id, key) in ids.iter_mut().zip(keys) {
                    *id = ranked.find(isa, number(key));
                }
            }
        }
    }
}

/// Two-level direct lookup: a page of 256 numbers, then the number in it. Pages of one id are shared, so
/// that a table over a few ports is a few KiB.
///
/// Invariant: each entry of the directory begins a page.
pub(crate) struct Paged {
    /// Index of the page's first id, by the number's upper bits.
    directory: Box<[u32; Paged::PAGES]>,
    /// Ids of all pages.
    ids: Box<[u32]>,
}

impl Paged {
    /// Numbers of a page.
    const PAGE: usize = 256;
    const PAGES: usize = Dense::END as usize / Paged::PAGE;

    fn new(starts: &[u32], ids: &[u32]) -> Paged {
        let mut pages: Vec<u32> = Vec::new();
        // Pages of one id, by it.
        let mut even = HashMap::new();
        let mut interval = 0;
        let mut directory = Box::new([0; Paged::PAGES]);
        for (first, begin) in (0..).step_by(Paged::PAGE).zip(directory.iter_mut()) {
            let next = |interval: usize| starts.get(interval + 1).copied().unwrap_or(u32::MAX);
            while next(interval) <= first {
                interval += 1;
            }
            let here = u32::try_from(pages.len()).unwrap_or(0);
            if next(interval) - first >= 256 {
                let id = ids[interval];
                *begin = *even.entry(id).or_insert_with(|| {
                    pages.extend([id; Paged::PAGE]);
                    here
                });
                continue;
            }
            for number in (first..).take(Paged::PAGE) {
                while next(interval) <= number {
                    interval += 1;
                }
                pages.push(ids[interval]);
            }
            *begin = here;
        }
        Paged {
            directory,
            ids: pages.into(),
        }
    }

    #[inline(always)]
    fn find(&self, number: u32) -> u32 {
        let page = self.directory[(number >> 8) as usize % Paged::PAGES];
        let at = page as usize + (number & 0xff) as usize;
        debug_assert!(at < self.ids.len());
        // SAFETY: 256 ids follow from where a page begins, by the invariant of the type, which `new` sets up
        // and nothing changes.
        unsafe { *self.ids.get_unchecked(at) }
    }
}

/// Rank of a number among the starts, by a bitmap of them and counts (G. Jacobson, "Space-efficient static
/// trees and graphs", FOCS 1989).
///
/// Invariant: no word's `below` and bits together count more starts than there are.
pub(crate) struct Ranked {
    words: Box<[Word; Ranked::WORDS]>,
    /// Ids by rank, from 1 on.
    ids: Box<[u32]>,
}

/// Sixty-four numbers.
#[derive(Clone, Copy)]
struct Word {
    /// A bit for each that is a start.
    starts: u64,
    /// Number of starts below them.
    below: u64,
}

impl Ranked {
    const WORDS: usize = Dense::END as usize / 64;

    fn new(starts: &[u32], ids: &[u32]) -> Ranked {
        let mut words = Box::new(
            [Word {
                starts: 0,
                below: 0,
            }; Ranked::WORDS],
        );
        for start in starts {
            words[(start >> 6) as usize % Ranked::WORDS].starts |= 1 << (start & 63);
        }
        let mut below = 0;
        for word in words.iter_mut() {
            word.below = below;
            below += u64::from(word.starts.count_ones());
        }
        // As many bits as starts, unless two of them are one number.
        assert!(below <= ids.len() as u64, "starts are numbers of their own");
        Ranked {
            words,
            ids: [0].iter().chain(ids).copied().collect(),
        }
    }

    #[inline(always)]
    fn find<I: Isa>(&self, isa: I, number: u32) -> u32 {
        let word = &self.words[(number >> 6) as usize % Ranked::WORDS];
        let up_to = word.starts & u64::MAX >> (63 - (number & 63));
        #[allow(
            clippy::cast_possible_truncation,
            reason = "at most as many as there are ids"
        )]
        let at = word.below as usize + isa.count(up_to);
        debug_assert!(at < self.ids.len());
        // SAFETY: there is an id for each start counted and one more, by the invariant of the type, which
        // `new` sets up and nothing changes.
        unsafe { *self.ids.get_unchecked(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, LANES, Simd};

    struct Find<'a>(&'a Dense, &'a [u32], &'a mut Vec<u32>);

    impl Kernel for Find<'_> {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let Find(search, numbers, found) = self;
            found.resize(numbers.len(), 0);
            for (numbers, found) in numbers.chunks(LANES).zip(found.chunks_mut(LANES)) {
                search.find_all(isa, numbers, found, |number| *number);
            }
        }
    }

    fn assert_finds(starts: &[u32], ids: &[u32]) {
        let numbers: Vec<u32> = (0..Dense::END).collect();
        let searches = [
            Dense::Paged(Paged::new(starts, ids)),
            Dense::Ranked(Ranked::new(starts, ids)),
        ];
        for simd in Simd::available() {
            for search in &searches {
                let mut found = Vec::new();
                simd.run(Find(search, &numbers, &mut found));
                let mut interval = 0;
                for (number, found) in numbers.iter().zip(&found) {
                    if starts.get(interval + 1) == Some(number) {
                        interval += 1;
                    }
                    assert_eq!(*found, ids[interval], "{number}, {}", simd.name());
                }
            }
        }
    }

    #[test]
    fn few_and_many_boundaries() {
        let starts = [
            0, 80, 81, 255, 256, 20_000, 30_001, 65_535, 65_536, 131_072, 262_143,
        ];
        assert_finds(&starts, &[0, 1, 0, 2, 3, 4, 0, 5, 6, 7, 8]);
        assert_finds(&[0], &[9]);
        let starts: Vec<u32> = (0..20_000).map(|number| number * 13).collect();
        let ids: Vec<u32> = (0..20_000).rev().collect();
        assert_finds(&starts, &ids);
        assert!(matches!(Dense::new(&starts, &ids), Dense::Ranked(_)));
    }

    #[test]
    fn pages_of_one_id_are_shared() {
        let Dense::Paged(paged) = Dense::new(&[0, 80, 81, 20_000, 30_001], &[0, 1, 0, 2, 0]) else {
            panic!("a bitmap for five boundaries");
        };
        // Those of 80, of 20,000 and of 30,000, and one even page of each id but 1.
        assert_eq!(paged.ids.len(), 5 * Paged::PAGE);
    }
}
