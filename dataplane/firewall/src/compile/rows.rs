// SPDX-License-Identifier: Apache-2.0
//! Bit vectors with one bit per rule: the rules that hold in one interval of one coordinate.
//!
//! Rows are built by walking a coordinate upwards and flipping bits ([`Builder::flip`]); each distinct
//! row is kept once and has an id.

use std::collections::HashMap;
use std::hash::Hash;

/// Bit vector with one bit per rule, first rule lowest.
pub(crate) type Bits<const W: usize> = [u64; W];

/// Computes `bits &= with`.
#[inline]
pub(crate) fn and<const W: usize>(bits: &mut Bits<W>, with: &Bits<W>) {
    for (word, with) in bits.iter_mut().zip(with) {
        *word &= with;
    }
}

/// Index of the lowest bit that is set.
#[inline]
pub(crate) fn first<const W: usize>(bits: &Bits<W>) -> Option<usize> {
    let word = bits.iter().position(|word| *word != 0)?;
    Some(word * 64 + bits[word].trailing_zeros() as usize)
}

/// Builder of the rows of one coordinate, which starts from the row of no rule.
pub(crate) trait Builder {
    /// Rows that it builds.
    type Rows;
    /// Makes a builder for this many rules.
    fn new(rules: usize) -> Self;
    /// Puts a rule into the row, or takes it out again.
    fn flip(&mut self, rule: usize);
    /// Id of the row as it is now.
    fn id(&mut self) -> u32;
    /// Returns all rows that have an id.
    fn finish(self) -> Self::Rows;
}

/// Rows of tables whose rules fit into one row each.
pub(crate) struct Flat<const W: usize>(Box<[Bits<W>]>);

impl<const W: usize> Flat<W> {
    /// Row of an id that these rows' builder gave out.
    #[inline]
    pub(crate) fn row(&self, id: u32) -> &Bits<W> {
        &self.0[id as usize]
    }
}

pub(crate) struct FlatBuilder<const W: usize> {
    now: Bits<W>,
    rows: Distinct<Bits<W>>,
}

impl<const W: usize> Builder for FlatBuilder<W> {
    type Rows = Flat<W>;

    fn new(_rules: usize) -> Self {
        FlatBuilder {
            now: [0; W],
            rows: Distinct::default(),
        }
    }

    fn flip(&mut self, rule: usize) {
        self.now[rule / 64] ^= 1 << (rule % 64);
    }

    fn id(&mut self) -> u32 {
        self.rows.id(self.now)
    }

    fn finish(self) -> Flat<W> {
        Flat(self.rows.values.into())
    }
}

/// Words of one block of a row: 512 bits, a cache line.
pub(crate) const BLOCK_WORDS: usize = 8;
/// Rules of one block.
pub(crate) const BLOCK_RULES: usize = 64 * BLOCK_WORDS;

/// Aggregated rows of many rules, in blocks of [`BLOCK_RULES`]. Equal blocks are kept once; most are
/// empty, so memory grows with the rules, not with their square.
pub(crate) struct Blocked {
    blocks: usize,
    /// Aggregate words by row id: a bit for each block that has a bit set. The highest bit stands for
    /// all blocks from 63 on.
    live: Box<[u64]>,
    /// Indices into `parts`, by row id and block.
    parts_of: Box<[u32]>,
    parts: Box<[Bits<BLOCK_WORDS>]>,
}

impl Blocked {
    /// Number of blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Aggregate word of a row: the blocks that may have a bit set; the highest bit stands for all from
    /// 63 on.
    #[inline]
    pub(crate) fn live(&self, id: u32) -> u64 {
        self.live[id as usize]
    }

    /// Block number `block` of a row.
    #[inline]
    pub(crate) fn part(&self, id: u32, block: usize) -> &Bits<BLOCK_WORDS> {
        &self.parts[self.parts_of[id as usize * self.blocks + block] as usize]
    }
}

pub(crate) struct BlockedBuilder {
    now: Vec<Bits<BLOCK_WORDS>>,
    parts: Distinct<Bits<BLOCK_WORDS>>,
    /// Ids of the blocks of `now`, stale for those in `flipped`.
    ids: Vec<u32>,
    flipped: Vec<usize>,
    rows: Distinct<Box<[u32]>>,
    live: Vec<u64>,
}

impl Builder for BlockedBuilder {
    type Rows = Blocked;

    fn new(rules: usize) -> Self {
        let blocks = rules.div_ceil(BLOCK_RULES);
        let mut parts = Distinct::default();
        let empty = parts.id([0; BLOCK_WORDS]);
        BlockedBuilder {
            now: vec![[0; BLOCK_WORDS]; blocks],
            parts,
            ids: vec![empty; blocks],
            flipped: Vec::new(),
            rows: Distinct::default(),
            live: Vec::new(),
        }
    }

    fn flip(&mut self, rule: usize) {
        let block = rule / BLOCK_RULES;
        let bit = rule % BLOCK_RULES;
        self.now[block][bit / 64] ^= 1 << (bit % 64);
        self.flipped.push(block);
    }

    fn id(&mut self) -> u32 {
        for block in self.flipped.drain(..) {
            self.ids[block] = self.parts.id(self.now[block]);
        }
        let id = self.rows.id(self.ids.as_slice().into());
        if id as usize == self.live.len() {
            let live = |(block, bits): (usize, &Bits<BLOCK_WORDS>)| match first(bits) {
                Some(_) => 1 << block.min(63),
                None => 0,
            };
            self.live.push(
                self.now
                    .iter()
                    .enumerate()
                    .map(live)
                    .fold(0, |all, bit| all | bit),
            );
        }
        id
    }

    fn finish(self) -> Blocked {
        Blocked {
            blocks: self.now.len(),
            live: self.live.into(),
            parts_of: self.rows.values.concat().into(),
            parts: self.parts.values.into(),
        }
    }
}

/// Distinct values in order of first appearance.
pub(crate) struct Distinct<V> {
    pub(crate) values: Vec<V>,
    known: HashMap<V, u32>,
}

impl<V> Default for Distinct<V> {
    fn default() -> Self {
        Distinct {
            values: Vec::new(),
            known: HashMap::new(),
        }
    }
}

impl<V: Clone + Eq + Hash> Distinct<V> {
    /// Index of `value`. Saturates at a number that no policy of the largest size can reach.
    pub(crate) fn id(&mut self, value: V) -> u32 {
        if let Some(id) = self.known.get(&value) {
            return *id;
        }
        let id = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(value.clone());
        self.known.insert(value, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_bit() {
        assert_eq!(first(&[0, 0]), None);
        assert_eq!(first(&[0, 0b1000]), Some(67));
        assert_eq!(first(&[1 << 63, 1]), Some(63));
    }

    #[test]
    fn equal_rows_have_one_id() {
        let mut builder = FlatBuilder::<2>::new(128);
        let empty = builder.id();
        builder.flip(64);
        let one = builder.id();
        builder.flip(64);
        assert_eq!(builder.id(), empty);
        let rows = builder.finish();
        assert_eq!((rows.row(empty), rows.row(one)), (&[0, 0], &[0, 1]));
    }

    #[test]
    fn blocks_share_their_parts() {
        let mut builder = BlockedBuilder::new(70 * BLOCK_RULES);
        builder.flip(3);
        builder.flip(BLOCK_RULES + 3);
        builder.flip(65 * BLOCK_RULES + 511);
        let id = builder.id();
        builder.flip(3);
        let other = builder.id();
        assert_ne!(id, other);
        let rows = builder.finish();
        assert_eq!(rows.blocks(), 70);
        assert_eq!(rows.live(id), 1 << 63 | 0b11);
        assert_eq!(rows.live(other), 1 << 63 | 0b10);
        assert_eq!(rows.part(id, 1), &[8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rows.part(other, 0), &[0; BLOCK_WORDS]);
        assert_eq!(rows.part(other, 65), &[0, 0, 0, 0, 0, 0, 0, 1 << 63]);
        // Empty, bit 3, bit 511.
        assert_eq!(rows.parts.len(), 3);
    }
}
