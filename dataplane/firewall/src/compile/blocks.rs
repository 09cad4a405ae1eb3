// SPDX-License-Identifier: Apache-2.0
//! Tables of many rules: blocks of 512, a line per class that says which are live and where each goes on,
//! and above 30 blocks a level of pages of the same form.

use sluice_packet::FlowKey;

use crate::compile::axis::Axis;
use crate::compile::columns::{Columns, FIELDS, Found, with_columns};
use crate::compile::group::{BLOCK_RULES, group};
use crate::compile::page::{Page, PageLayer};
use crate::compile::rows::{Row, Row8};
use crate::compile::size::Size;
use crate::compile::sweep::{Change, Line, merge};
use crate::simd::{CHILDREN, Isa, Kernel, LANES, Pairs, Simd, prefetch};

/// Pairs whose rows are under way together.
const AHEAD: usize = 64;
/// Index of the first line or row of each column.
type Firsts = [u32; FIELDS];

/// Table of blocks. Lines and rows of all columns are in one array each.
pub(crate) struct Blocked {
    columns: Columns,
    /// Lines over the pages, by class id; none in a table of one page.
    directory: Box<[Line]>,
    pages: Box<[PagePlace]>,
    /// Lines over the blocks of a page; those of a table of one page by class id.
    lines: Box<[Line]>,
    blocks: Box<[Block]>,
    rows: Box<[Row8]>,
    /// Rules left out, as an earlier one hides them.
    hidden: usize,
}

/// Place of a page, in a table of several.
struct PagePlace {
    first_block: u32,
    first_lines: Firsts,
}

/// Block: where its rows are, and its rules by bit of a row; behind them, what stands for none.
struct Block {
    first_rows: Firsts,
    rules: [u32; BLOCK_RULES + 1],
}

impl Blocked {
    /// Compiles `rules` of `axes`, which are not empty. `None` if they need more pages than a line has
    /// room for.
    pub(crate) fn new(axes: &[Axis], rules: &[u32]) -> Option<Blocked> {
        let mut pages = pages(axes, group(axes, rules))?;
        let mut hidden: Vec<u32> = pages.iter().flat_map(|page| page.hidden(axes)).collect();
        if hidden.len() * 8 >= rules.len() {
            // Fewer blocks are worth building twice; a few rules less are not.
            hidden.sort_unstable();
            let kept = |rule: &u32| hidden.binary_search(rule).is_err();
            let rules: Vec<u32> = rules.iter().copied().filter(kept).collect();
            pages = self::pages(axes, group(axes, &rules))?;
        } else {
            hidden.clear();
        }
        Some(Blocked::assemble(axes, pages, hidden.len()))
    }

    /// Compiles these groups as they are, in one page.
    #[cfg(test)]
    pub(crate) fn of_groups(axes: &[Axis], groups: Vec<Vec<u32>>) -> Blocked {
        Blocked::assemble(axes, vec![Page::new(axes, groups)], 0)
    }

    fn assemble(axes: &[Axis], pages: Vec<Page>, hidden: usize) -> Blocked {
        let mut table = Blocked {
            columns: Columns::default(),
            directory: Box::default(),
            pages: Box::default(),
            lines: Box::default(),
            blocks: Box::default(),
            rows: Box::default(),
            hidden,
        };
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        let (mut blocks, mut places) = (Vec::new(), Vec::new());
        for page in &pages {
            let mut place = PagePlace {
                first_block: count(blocks.len()),
                first_lines: [0; FIELDS],
            };
            fill(&mut place.first_lines, &page.layers, |layer| {
                let first = count(lines.len());
                lines.extend_from_slice(&layer.lines.values);
                first
            });
            places.push(place);
            for (number, rules) in page.blocks.iter().enumerate() {
                let mut block = Block {
                    first_rows: [0; FIELDS],
                    rules: [u32::MAX; BLOCK_RULES + 1],
                };
                fill(&mut block.first_rows, &page.layers, |layer| {
                    let first = count(rows.len());
                    rows.extend_from_slice(&layer.blocks[number].values);
                    first
                });
                block.rules[..rules.len()].copy_from_slice(rules);
                blocks.push(block);
            }
        }
        let mut directory: Vec<Line> = Vec::new();
        let ids = axes
            .iter()
            .enumerate()
            .map(|(column, axis)| match &pages[..] {
                [page] => {
                    let first = places[0].first_lines[column] as usize;
                    page.layers[column].lines.ids(axis.ranks, first)
                }
                _ => {
                    let changes = pages
                        .iter()
                        .map(|page| &page.layers[column].lines.changes[..]);
                    let merged = merge(&changes.collect::<Vec<&[Change]>>());
                    let ids = merged.ids(axis.ranks, directory.len());
                    directory.extend(merged.values);
                    ids
                }
            });
        let ids: Vec<Vec<u32>> = ids.collect();
        table.columns = Columns::new(axes.iter().zip(ids));
        table.directory = directory.into();
        table.pages = places.into();
        table.lines = lines.into();
        table.blocks = blocks.into();
        table.rows = rows.into();
        table
    }

    /// Counts of what it is made of.
    pub(crate) fn size(&self) -> Size {
        Size {
            blocks: self.blocks.len(),
            lines: self.directory.len() + self.lines.len() + self.rows.len(),
            hidden: self.hidden,
            bytes: self.columns.bytes()
                + size_of_val(&*self.directory)
                + size_of_val(&*self.pages)
                + size_of_val(&*self.lines)
                + size_of_val(&*self.blocks)
                + size_of_val(&*self.rows),
        }
    }

    /// Number of blocks that are live for `keys`, of all together.
    #[cfg(test)]
    pub(crate) fn live_blocks(&self, keys: &[FlowKey]) -> usize {
        let mut live = 0;
        for keys in keys.chunks(LANES) {
            let keys: Vec<&FlowKey> = keys.iter().collect();
            let mut found: Found = [[0; LANES]; FIELDS];
            self.columns.find(Simd::widest(), &keys, &mut found);
            for lane in 0..keys.len() {
                let ids = found[..self.columns.count()]
                    .iter()
                    .map(|ids| ids[lane] as usize);
                assert!(self.directory.is_empty(), "of tables of one page");
                let lines = ids.map(|id| self.lines[id].live);
                live += lines.fold(u32::MAX, |all, live| all & live).count_ones() as usize;
            }
        }
        live
    }

    /// Lowers each of `first` to the index of the first rule that matches its key, if that is less. `keys`
    /// are at most [`LANES`].
    #[inline]
    pub(crate) fn first_matches(&self, simd: Simd, keys: &[&FlowKey], first: &mut [u32; LANES]) {
        let mut found: Found = [[0; LANES]; FIELDS];
        self.columns.find(simd, keys, &mut found);
        with_columns!(self.columns.count(), |F| simd.run(Descend::<F> {
            table: self,
            found: &found,
            count: keys.len(),
            first,
        }));
    }
}

fn pages(axes: &[Axis], groups: Vec<Vec<Vec<u32>>>) -> Option<Vec<Page>> {
    let fit = groups.len() <= CHILDREN;
    fit.then(|| {
        let groups = groups.into_iter();
        groups.map(|blocks| Page::new(axes, blocks)).collect()
    })
}

/// Fills `firsts` with what `first` makes of each layer, and one more, behind the last, as the last.
fn fill(firsts: &mut Firsts, layers: &[PageLayer], mut first: impl FnMut(&PageLayer) -> u32) {
    for (place, layer) in firsts.iter_mut().zip(layers) {
        *place = first(layer);
    }
    if let Some([.., last, behind]) = firsts.get_mut(..=layers.len()) {
        *behind = *last;
    }
}

/// Number of lines, rows or blocks. Saturates at a number that no policy reaches.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Way from classes to rules, in `F` columns.
struct Descend<'a, const F: usize> {
    table: &'a Blocked,
    found: &'a Found,
    count: usize,
    first: &'a mut [u32; LANES],
}

/// Lines of up to [`LANES`] walks: keys, or pairs of a key and a page.
struct Walks<const F: usize> {
    lines: [[u32; LANES]; F],
    first_block: [u32; LANES],
    key: [u8; LANES],
    count: usize,
}

impl<const F: usize> Walks<F> {
    /// Walks without lines, each a key's.
    #[inline(always)]
    fn new(count: usize) -> Walks<F> {
        let mut key = [0; LANES];
        for (number, key) in (0..).zip(&mut key) {
            *key = number;
        }
        Walks {
            lines: [[0; LANES]; F],
            first_block: [0; LANES],
            key,
            count,
        }
    }
}

impl<const F: usize> Kernel for Descend<'_, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Descend {
            table,
            found,
            count,
            first,
        } = self;
        if table.directory.is_empty() {
            let mut walks = Walks::<F>::new(count);
            for (lines, ids) in walks.lines.iter_mut().zip(found) {
                *lines = *ids;
            }
            table.descend(isa, &walks, first);
            return;
        }
        let mut live = [0; LANES];
        for (lane, live) in live.iter_mut().enumerate().take(count) {
            *live = u32::MAX;
            for ids in &found[..F] {
                *live &= table.directory[ids[lane] as usize].live;
            }
        }
        let mut pairs = Pairs::new();
        let count = isa.pairs(&live, &mut pairs);
        for pairs in pairs.first(count).chunks(LANES) {
            let mut walks = Walks::<F>::new(pairs.len());
            for (walk, pair) in pairs.iter().enumerate().take(LANES) {
                let (lane, page) = (usize::from(pair >> 5 & 31), usize::from(pair & 31));
                let place = &table.pages[page];
                for ((lines, ids), first) in
                    walks.lines.iter_mut().zip(found).zip(&place.first_lines)
                {
                    let line = &table.directory[ids[lane] as usize];
                    lines[walk] = first + u32::from(line.next[page]);
                    prefetch(&table.lines[lines[walk] as usize]);
                }
                walks.first_block[walk] = place.first_block;
                walks.key[walk] = (pair >> 5 & 31) as u8;
            }
            table.descend(isa, &walks, first);
        }
    }
}

impl Blocked {
    /// Looks into the live blocks of every walk.
    #[inline(always)]
    fn descend<I: Isa, const F: usize>(&self, isa: I, walks: &Walks<F>, first: &mut [u32; LANES]) {
        let (all_lines, all_rows) = (&self.lines[..], &self.rows[..]);
        for lines in &walks.lines {
            for &line in lines.iter().take(walks.count) {
                prefetch(&all_lines[line as usize]);
            }
        }
        let mut live = [0; LANES];
        for (walk, live) in live.iter_mut().enumerate().take(walks.count) {
            *live = u32::MAX;
            for lines in &walks.lines {
                *live &= all_lines[lines[walk] as usize].live;
            }
        }
        let mut pairs = Pairs::new();
        let count = isa.pairs(&live, &mut pairs);
        for pairs in pairs.first(count).chunks(AHEAD) {
            let mut at = [[0; F]; AHEAD];
            for (at, pair) in at.iter_mut().zip(pairs) {
                let (walk, child) = (usize::from(pair >> 5 & 31), usize::from(pair & 31));
                let block = &self.blocks[walks.first_block[walk] as usize + child];
                for ((at, lines), first) in at.iter_mut().zip(&walks.lines).zip(&block.first_rows) {
                    let line = &all_lines[lines[walk] as usize];
                    *at = first + u32::from(line.next[child]);
                    prefetch(&all_rows[*at as usize]);
                }
            }
            for (at, pair) in at.iter().zip(pairs) {
                let (walk, child) = (usize::from(pair >> 5 & 31), usize::from(pair & 31));
                let block = &self.blocks[walks.first_block[walk] as usize + child];
                let mut rows = [&all_rows[0]; F];
                for (row, at) in rows.iter_mut().zip(at) {
                    *row = &all_rows[*at as usize];
                }
                let bit = Row8::first::<I, F>(isa, rows).min(BLOCK_RULES);
                let first = &mut first[usize::from(walks.key[walk] & 31)];
                *first = (*first).min(block.rules[bit]);
            }
        }
    }
}
