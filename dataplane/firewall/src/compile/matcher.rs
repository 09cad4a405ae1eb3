// SPDX-License-Identifier: Apache-2.0
//! Bit vector classification: the first rule that matches a key, in tables of several sizes.

use sluice_packet::FlowKey;

use crate::compile::LANES;
use crate::compile::columns::{COLUMNS, Columns};
use crate::compile::region::Region;
use crate::compile::rows::{
    BLOCK_RULES, Bits, Blocked, BlockedBuilder, Flat, FlatBuilder, and, first,
};

/// Compiled rules. The sizes differ only in the length of a row, in words of 64 rules.
pub(crate) enum Matcher {
    Narrow(Box<Single<1>>),
    Medium(Box<Single<2>>),
    Wide(Box<Single<8>>),
    Wider(Box<Single<16>>),
    Many(Box<Many>),
}

impl Matcher {
    /// Compiles `regions`, one per rule, first rule first.
    pub(crate) fn new(regions: &[&Region]) -> Matcher {
        match regions.len() {
            0..=64 => Matcher::Narrow(Box::new(Single::new(regions))),
            65..=128 => Matcher::Medium(Box::new(Single::new(regions))),
            129..=512 => Matcher::Wide(Box::new(Single::new(regions))),
            513..=1024 => Matcher::Wider(Box::new(Single::new(regions))),
            _ => Matcher::Many(Box::new(Many(Columns::new::<BlockedBuilder>(regions)))),
        }
    }

    /// Index of the first rule that matches `key`.
    #[inline]
    pub(crate) fn first_match(&self, key: &FlowKey) -> Option<usize> {
        match self {
            Matcher::Narrow(rules) => rules.first_match(key),
            Matcher::Medium(rules) => rules.first_match(key),
            Matcher::Wide(rules) => rules.first_match(key),
            Matcher::Wider(rules) => rules.first_match(key),
            Matcher::Many(rules) => rules.first_match(key),
        }
    }

    /// Index of the first rule that matches each of `keys`.
    #[inline]
    pub(crate) fn first_matches(&self, keys: &[&FlowKey; LANES]) -> [Option<usize>; LANES] {
        match self {
            Matcher::Narrow(rules) => rules.first_matches(keys),
            Matcher::Medium(rules) => rules.first_matches(keys),
            Matcher::Wide(rules) => rules.first_matches(keys),
            Matcher::Wider(rules) => rules.first_matches(keys),
            Matcher::Many(rules) => rules.first_matches(keys),
        }
    }
}

/// Up to 64 * W rules: the AND of the key's rows, and its lowest bit (Lakshman and Stiliadis, 1998).
pub(crate) struct Single<const W: usize> {
    /// Bit vector with a bit for every rule.
    all: Bits<W>,
    columns: Columns<Flat<W>>,
}

impl<const W: usize> Single<W> {
    fn new(regions: &[&Region]) -> Single<W> {
        let mut all = [0; W];
        for rule in 0..regions.len() {
            all[rule / 64] |= 1 << (rule % 64);
        }
        Single {
            all,
            columns: Columns::new::<FlatBuilder<W>>(regions),
        }
    }

    #[inline]
    fn first_match(&self, key: &FlowKey) -> Option<usize> {
        let mut bits = self.all;
        self.columns
            .find(key, |rows, id| and(&mut bits, rows.row(id)));
        first(&bits)
    }

    #[inline]
    fn first_matches(&self, keys: &[&FlowKey; LANES]) -> [Option<usize>; LANES] {
        let mut bits = [self.all; LANES];
        self.columns.find_all(keys, |rows, ids| {
            for lane in 0..LANES {
                and(&mut bits[lane], rows.row(ids[lane]));
            }
        });
        bits.map(|bits| first(&bits))
    }
}

/// More rules than one row holds: aggregated bit vectors (Baboescu and Varghese, 2001). An aggregate
/// word per row says which blocks have a bit; the blocks in which all of the key's rows have one are
/// tried in order until the AND of one is not empty.
pub(crate) struct Many(Columns<Blocked>);

/// Rows of a key (or of several), one per coordinate.
struct Found<'t, Ids> {
    count: usize,
    rows: [Option<(&'t Blocked, Ids)>; COLUMNS],
}

impl<'t, Ids: Copy> Found<'t, Ids> {
    fn new() -> Self {
        Found {
            count: 0,
            rows: [None; COLUMNS],
        }
    }

    #[inline]
    fn push(&mut self, rows: &'t Blocked, ids: Ids) {
        self.rows[self.count] = Some((rows, ids));
        self.count += 1;
    }

    /// First match of one key, whose row id `id` takes out of `Ids`.
    #[inline]
    fn first(&self, id: impl Fn(&Ids) -> u32) -> Option<usize> {
        let rows = || self.rows[..self.count].iter().flatten();
        // Without a condition anywhere, the first rule matches everything.
        let Some((some, _)) = rows().next() else {
            return Some(0);
        };
        let mut live = rows().fold(u64::MAX, |live, (rows, ids)| live & rows.live(id(ids)));
        let in_block = |block: usize| {
            let mut bits = [u64::MAX; BLOCK_RULES / 64];
            for (rows, ids) in rows() {
                and(&mut bits, rows.part(id(ids), block));
            }
            first(&bits).map(|rule| block * BLOCK_RULES + rule)
        };
        while live != 0 {
            let block = live.trailing_zeros() as usize;
            if block == 63 {
                return (63..some.blocks()).find_map(in_block);
            }
            if let Some(rule) = in_block(block) {
                return Some(rule);
            }
            live &= live - 1;
        }
        None
    }
}

impl Many {
    #[inline]
    fn first_match(&self, key: &FlowKey) -> Option<usize> {
        let mut found = Found::new();
        self.0.find(key, |rows, id| found.push(rows, id));
        found.first(|id| *id)
    }

    #[inline]
    fn first_matches(&self, keys: &[&FlowKey; LANES]) -> [Option<usize>; LANES] {
        let mut found = Found::new();
        self.0.find_all(keys, |rows, ids| found.push(rows, *ids));
        std::array::from_fn(|lane| found.first(|ids| ids[lane]))
    }
}
