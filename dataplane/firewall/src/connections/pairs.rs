// SPDX-License-Identifier: Apache-2.0
//! Pairs of paths: where the frames of a connection go in both directions, and what counts them.
//!
//! Most connections of an attachment share few of them, so a connection holds the number of a pair, interned by
//! content. A frame is one count at its path, instead of one at each rule that decided; rules are summed when
//! they are read. A change of rules is one number that no longer agrees with the current generation.

use std::io;

use sluice_mem::Array;
use zerocopy::{FromZeros, Immutable};

use super::frame::Scope;
use super::table::hash::Hasher;

/// Path of one direction. Its numbers mean what the caller wants them to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Path {
    /// Destination of the frames, packed.
    pub destination: u64,
    /// Counter slots of the rules that decided; any number that is none for fewer than four.
    pub rules: [u32; 4],
}

/// Content of a pair: the paths of the opener's frames and of the responder's, under one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Paths {
    /// Path of the opener's frames.
    pub opener: Path,
    /// Path of the responder's frames.
    pub responder: Path,
}

/// Number of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair(pub(crate) u16);

/// Counts of one path since they were last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathCounts {
    /// Frames.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Path with its counts, a cache line of its own.
#[derive(Debug, Clone, Copy, FromZeros, Immutable)]
#[repr(C, align(64))]
struct Record {
    generation: u32,
    /// Connections that hold the pair; of the opener's path.
    holders: u32,
    scope: u32,
    /// Whether the pair is interned.
    in_use: u32,
    destination: u64,
    rules: [u32; 4],
    frames: u64,
    bytes: u64,
}

const _: () = assert!(size_of::<Record>() == 64);

impl Record {
    fn path(&self) -> Path {
        Path {
            destination: self.destination,
            rules: self.rules,
        }
    }
}

/// Path that a frame is about to be counted at.
#[derive(Debug)]
pub(crate) struct CountedPath<'p>(&'p mut Record);

impl CountedPath<'_> {
    /// Whether it is of this generation.
    #[inline(always)]
    pub(crate) fn is_current(&self, generation: u32) -> bool {
        self.0.generation == generation
    }

    /// Whether it is of this scope.
    #[inline(always)]
    pub(crate) fn is_of(&self, scope: Scope) -> bool {
        self.0.scope == scope.number()
    }

    /// Counts a frame.
    #[inline(always)]
    pub(crate) fn count(self, bytes: u32) {
        self.0.frames += 1;
        self.0.bytes += u64::from(bytes);
    }
}

/// Most pairs that there may be.
pub(crate) const MAX_PAIRS: usize = 65_535;

/// Interned pairs.
#[derive(Debug)]
pub(crate) struct Pairs {
    hasher: Hasher,
    /// Paths: of pair `n` the opener's is record `2 n`, the responder's the next.
    records: Array<Record>,
    /// Numbers of pairs that are not in use.
    free: Vec<u16>,
    /// Open addressing with linear probing (Peterson, 1957): numbers of pairs plus 1, by the hash of their content.
    index: Box<[u32]>,
    /// Pair that is swept next.
    swept: usize,
}

impl Pairs {
    /// Makes room for `count` pairs, at most [`MAX_PAIRS`], 128 bytes each and 8 to 16 for the index.
    pub(crate) fn new(count: usize) -> io::Result<Pairs> {
        let count = count.clamp(1, MAX_PAIRS);
        Ok(Pairs {
            hasher: Hasher::new(),
            records: Array::zeroed(2 * count)?,
            free: (0..count)
                .rev()
                .filter_map(|n| u16::try_from(n).ok())
                .collect(),
            index: vec![0; (2 * count).next_power_of_two()].into_boxed_slice(),
            swept: 0,
        })
    }

    /// Number of pairs that are interned.
    pub(crate) fn len(&self) -> usize {
        self.records.len() / 2 - self.free.len()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.records[..]) + size_of_val(&self.index[..])
    }

    /// Finds the pair of this content or makes it, and lets one connection more hold it. `None` if there is no room:
    /// a sweep may make some.
    pub(crate) fn intern(&mut self, scope: Scope, generation: u32, paths: &Paths) -> Option<Pair> {
        let mask = self.index.len() - 1;
        let mut at = self.hash(scope, generation, paths) & mask;
        while let Some(number) = self.index[at].checked_sub(1) {
            if self.is(number as usize, scope, generation, paths) {
                let pair = Pair(u16::try_from(number).ok()?);
                self.hold(pair);
                return Some(pair);
            }
            at = (at + 1) & mask;
        }
        let number = self.free.pop()?;
        self.index[at] = u32::from(number) + 1;
        for (n, path) in [&paths.opener, &paths.responder].into_iter().enumerate() {
            self.records[2 * usize::from(number) + n] = Record {
                generation,
                holders: u32::from(n == 0),
                scope: scope.number(),
                in_use: 1,
                destination: path.destination,
                rules: path.rules,
                frames: 0,
                bytes: 0,
            };
        }
        Some(Pair(number))
    }

    fn hold(&mut self, pair: Pair) {
        self.records[2 * usize::from(pair.0)].holders += 1;
    }

    /// Lets one connection less hold a pair. It stays interned until a sweep has read its counts.
    pub(crate) fn release(&mut self, pair: Pair) {
        let record = &mut self.records[2 * usize::from(pair.0)];
        record.holders = record.holders.saturating_sub(1);
    }

    /// Path of a pair, to be counted at; 0 for the opener's.
    #[inline(always)]
    pub(crate) fn path_of(&mut self, pair: u16, end: usize) -> Option<CountedPath<'_>> {
        self.records
            .get_mut(2 * usize::from(pair) + end)
            .map(CountedPath)
    }

    /// Counts a frame at one of the paths, 0 for the opener's.
    pub(crate) fn count(&mut self, pair: u16, end: usize, bytes: u32) {
        if let Some(path) = self.path_of(pair, end) {
            path.count(bytes);
        }
    }

    /// Whether a pair is of this generation, by the path that a frame is counted at next: 0 for the opener's.
    #[inline(always)]
    pub(crate) fn is_current(&self, pair: u16, end: usize, generation: u32) -> bool {
        let record = self.records.get(2 * usize::from(pair) + end);
        record.is_some_and(|record| record.generation == generation)
    }

    /// Scope of a pair.
    #[inline(always)]
    pub(crate) fn scope(&self, pair: u16) -> Scope {
        let record = self.records.get(2 * usize::from(pair));
        let [a, b, c, _] = record.map_or(0, |record| record.scope).to_le_bytes();
        Scope::of_bytes([a, b, c])
    }

    /// Path of a pair, 0 for the opener's.
    #[inline(always)]
    pub(crate) fn path(&self, pair: Pair, end: usize) -> Path {
        self.records[2 * usize::from(pair.0) + end].path()
    }

    /// Reads the counts of the next `budget` pairs, clears them, and frees pairs that no connection holds.
    pub(crate) fn sweep(&mut self, budget: usize, mut read: impl FnMut(&Path, PathCounts)) {
        let pairs = self.records.len() / 2;
        for _ in 0..budget.min(pairs) {
            let number = self.swept;
            self.swept = (self.swept + 1) % pairs;
            if self.records[2 * number].in_use == 0 {
                continue;
            }
            for record in &mut self.records[2 * number..2 * number + 2] {
                let counts = PathCounts {
                    frames: std::mem::take(&mut record.frames),
                    bytes: std::mem::take(&mut record.bytes),
                };
                if counts.frames != 0 {
                    read(&record.path(), counts);
                }
            }
            if self.records[2 * number].holders == 0 {
                self.free(number);
            }
        }
    }

    /// Frees a pair: its place in the index is filled by those that were pushed on from there.
    fn free(&mut self, number: usize) {
        let mask = self.index.len() - 1;
        let mut hole = self.home(number);
        while self.index[hole] as usize != number + 1 {
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(other) = self.index[at].checked_sub(1) else {
                break;
            };
            let home = self.home(other as usize);
            // Whether the hole lies between its home and where it is.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.index[hole] = self.index[at];
                hole = at;
            }
        }
        self.index[hole] = 0;
        self.records[2 * number].in_use = 0;
        if let Ok(number) = u16::try_from(number) {
            self.free.push(number);
        }
    }

    fn is(&self, number: usize, scope: Scope, generation: u32, paths: &Paths) -> bool {
        let [opener, responder] = [self.records[2 * number], self.records[2 * number + 1]];
        (opener.scope, opener.generation) == (scope.number(), generation)
            && (opener.path(), responder.path()) == (paths.opener, paths.responder)
    }

    fn home(&self, number: usize) -> usize {
        let [opener, responder] = [self.records[2 * number], self.records[2 * number + 1]];
        let paths = Paths {
            opener: opener.path(),
            responder: responder.path(),
        };
        let [a, b, c, _] = opener.scope.to_le_bytes();
        let hash = self.hash(Scope::of_bytes([a, b, c]), opener.generation, &paths);
        hash & (self.index.len() - 1)
    }

    #[allow(clippy::cast_possible_truncation, reason = "it is masked to the index")]
    fn hash(&self, scope: Scope, generation: u32, paths: &Paths) -> usize {
        let word = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
        let words = |path: &Path| {
            let [a, b, c, d] = path.rules;
            [path.destination, word(a, b), word(c, d)]
        };
        let [a, b, c] = words(&paths.opener);
        let [d, e, f] = words(&paths.responder);
        let first = word(scope.number(), generation);
        let hash = self.hasher.of_words(&[first, a, b, c, d, e, f]);
        (hash >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::HashMap;

    use super::*;
    use crate::connections::testing::Dice;

    fn paths(n: u32) -> Paths {
        let path = |m: u32| Path {
            destination: u64::from(n % 5),
            rules: [n, m, u32::MAX, u32::MAX],
        };
        Paths {
            opener: path(1),
            responder: path(2),
        }
    }

    #[test]
    fn equal_content_is_one_pair_and_what_nobody_holds_is_freed_once_read() {
        const ROOM: usize = 300;
        let mut dice = Dice(5);
        let mut pairs = Pairs::new(ROOM).unwrap();
        let mut model: HashMap<(u32, u32), (Pair, u32)> = HashMap::new();
        for _ in 0..30_000 {
            let name = (
                u32::try_from(dice.below(400)).unwrap(),
                u32::from(dice.one_in(3)),
            );
            let (content, generation) = (paths(name.0), name.1);
            if dice.one_in(2) {
                let found = pairs.intern(Scope::new(1, 2), generation, &content);
                match (found, model.get_mut(&name)) {
                    (Some(pair), Some((known, holders))) => {
                        assert_eq!(pair, *known);
                        *holders += 1;
                    }
                    (Some(pair), None) => {
                        assert!(model.values().all(|(known, _)| *known != pair));
                        model.insert(name, (pair, 1));
                    }
                    (None, known) => {
                        assert!(known.is_none());
                        assert_eq!(model.len(), ROOM);
                    }
                }
            } else if let Some((pair, holders)) = model.get_mut(&name)
                && *holders > 0
            {
                pairs.release(*pair);
                *holders -= 1;
            }
            if dice.one_in(200) {
                pairs.sweep(ROOM, |_, _| {});
                model.retain(|_, (_, holders)| *holders > 0);
            }
            assert_eq!(pairs.len(), model.len());
        }
        assert!(model.len() > 50);
    }

    #[test]
    fn no_count_is_lost() {
        let mut pairs = Pairs::new(4).unwrap();
        let scope = Scope::new(1, 2);
        let pair = pairs.intern(scope, 7, &paths(1)).unwrap();
        pairs.count(pair.0, 0, 60);
        pairs.count(pair.0, 1, 1500);
        let is_current = |generation| [0, 1].map(|end| pairs.is_current(pair.0, end, generation));
        assert_eq!([7, 8].map(is_current), [[true; 2], [false; 2]]);
        assert_eq!(
            (pairs.scope(pair.0), pairs.path(pair, 1)),
            (scope, paths(1).responder)
        );
        pairs.release(pair);
        let mut read = Vec::new();
        pairs.sweep(4, |path, counts| read.push((path.rules[1], counts)));
        let counts = |frames, bytes| PathCounts { frames, bytes };
        assert_eq!(read, [(1, counts(1, 60)), (2, counts(1, 1500))]);
        assert_eq!(pairs.len(), 0);
        pairs.sweep(4, |_, _| panic!("read twice"));
    }
}
