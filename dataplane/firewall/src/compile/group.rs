// SPDX-License-Identifier: Apache-2.0
//! Grouping of rules by place into blocks, so that a packet concerns few of them.
//!
//! A set of rules is cut in two along the order (by lowest rank or by number of ranks, in some coordinate)
//! that leaves the fewest sample packets live on both sides, and each side again, until a block holds it. A
//! packet is live in a set if in every coordinate some rule of the set holds: then the set's row of that
//! class is not empty. The greedy choice is that of decision tree classifiers (P. Gupta and N. McKeown,
//! "Packet classification using hierarchical intelligent cuttings", Hot Interconnects 1999), but rules are
//! divided and never copied, so that memory does not depend on how they overlap.

use crate::compile::axis::Axis;
use crate::compile::samples::{Mask, Samples};
use crate::simd::CHILDREN;

/// Rules of a block at most.
pub(crate) const BLOCK_RULES: usize = 512;
/// Blocks of a page, where there are several: fewer than a line has room for, as a block with too many spans
/// is divided.
const PAGE_BLOCKS: usize = 28;
/// Spans in one coordinate of a block of more than one rule, and of a page of more than one block, so that
/// ids of rows and lines have 16 bits.
const SPANS: usize = 32_000;

/// Blocks of one page, each with its rules in ascending order.
pub(crate) type Blocks = Vec<Vec<u32>>;

/// Groups `rules` into blocks, and these into pages of at most [`CHILDREN`] blocks. One page has any number
/// of spans; several have few enough for ids of 16 bits.
pub(crate) fn group(axes: &[Axis], rules: &[u32]) -> Vec<Blocks> {
    let page = match rules.len() <= CHILDREN * BLOCK_RULES {
        true => CHILDREN,
        false => PAGE_BLOCKS,
    };
    let Some(last) = rules.iter().max() else {
        return Vec::new();
    };
    let mut grouping = Grouping {
        axes,
        orders: orders(axes, rules),
        masks: vec![0; (*last as usize + 1) * axes.len()],
        is_left: vec![false; *last as usize + 1],
        scratch: Vec::with_capacity(rules.len()),
        page_rules: page * BLOCK_RULES,
        sets: Vec::new(),
    };
    grouping.cut(0, rules.len());
    into_pages(axes, grouping.sets)
}

struct Grouping<'a> {
    axes: &'a [Axis],
    /// Rules in every order, the same ones in each; a set is the same range of all.
    orders: Vec<Vec<u32>>,
    /// Samples that a rule holds for, by rule and coordinate.
    masks: Vec<Mask>,
    /// Side of the latest cut, by rule.
    is_left: Vec<bool>,
    scratch: Vec<u32>,
    page_rules: usize,
    /// Sets that need no further cut, and whether a page begins with it.
    sets: Vec<(bool, Vec<u32>)>,
}

/// Cut of a set: the first rules of an order against the rest.
struct Cut {
    cost: usize,
    order: usize,
    rules: usize,
}

impl Grouping<'_> {
    /// Cuts the set `from..to` into pages, and those into blocks.
    fn cut(&mut self, from: usize, to: usize) {
        if to - from > self.page_rules {
            let middle = self.halve(from, to, self.page_rules);
            self.cut(from, middle);
            self.cut(middle, to);
        } else {
            let first = self.sets.len();
            self.cut_page(from, to);
            self.sets[first].0 = true;
        }
    }

    /// Cuts the set `from..to` into blocks.
    fn cut_page(&mut self, from: usize, to: usize) {
        if to - from > BLOCK_RULES {
            let middle = self.halve(from, to, BLOCK_RULES);
            self.cut_page(from, middle);
            self.cut_page(middle, to);
        } else {
            let mut rules = self.orders[0][from..to].to_vec();
            rules.sort_unstable();
            self.sets.push((false, rules));
        }
    }

    /// Cuts a set of more than `unit` rules in two, at a multiple of `unit`. Returns where the right side
    /// begins; every order has the left side before it.
    fn halve(&mut self, from: usize, to: usize, unit: usize) -> usize {
        let samples = Samples::of(self.axes, &self.orders[0][from..to]);
        let width = self.axes.len();
        for &rule in &self.orders[0][from..to] {
            let masks = &mut self.masks[rule as usize * width..][..width];
            for ((column, axis), mask) in self.axes.iter().enumerate().zip(masks) {
                *mask = samples.mask(column, axis, rule);
            }
        }
        let cuts = (0..self.orders.len()).map(|order| self.best_cut(order, from, to, unit));
        let Some(best) = cuts.min_by_key(|cut| cut.cost) else {
            return from;
        };
        let middle = from + best.rules;
        for (place, &rule) in (from..).zip(&self.orders[best.order][from..to]) {
            self.is_left[rule as usize] = place < middle;
        }
        for (number, order) in self.orders.iter_mut().enumerate() {
            if number != best.order {
                partition(&mut order[from..to], &self.is_left, &mut self.scratch);
            }
        }
        middle
    }

    /// Best place to cut a set along one order.
    fn best_cut(&self, order: usize, from: usize, to: usize, unit: usize) -> Cut {
        let width = self.axes.len();
        let chunks = self.orders[order][from..to].chunks(unit);
        let count = chunks.len();
        // Samples that some rule of a chunk holds for, by chunk and coordinate.
        let mut held: Vec<Mask> = vec![0; count * width];
        for (chunk, held) in chunks.zip(held.chunks_exact_mut(width)) {
            for &rule in chunk {
                let masks = &self.masks[rule as usize * width..][..width];
                for (held, mask) in held.iter_mut().zip(masks) {
                    *held |= mask;
                }
            }
        }
        let live = |held: &[Mask]| {
            held.iter()
                .fold(Mask::MAX, |live, held| live & held)
                .count_ones()
        };
        let mut right = vec![0; count];
        let mut sum = vec![0; width];
        for chunk in (0..count).rev() {
            add(&mut sum, &held[chunk * width..][..width]);
            right[chunk] = live(&sum) as usize;
        }
        sum.fill(0);
        let mut best = Cut {
            cost: usize::MAX,
            order,
            rules: unit,
        };
        for chunk in 1..count {
            add(&mut sum, &held[(chunk - 1) * width..][..width]);
            let cost = live(&sum) as usize * chunk + right[chunk] * (count - chunk);
            if cost < best.cost {
                best.cost = cost;
                best.rules = chunk * unit;
            }
        }
        best
    }
}

fn add(sum: &mut [Mask], more: &[Mask]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum |= more;
    }
}

/// Moves the rules on the left to the front, leaving the order on each side as it is.
fn partition(order: &mut [u32], is_left: &[bool], scratch: &mut Vec<u32>) {
    scratch.clear();
    let mut kept = 0;
    for index in 0..order.len() {
        let rule = order[index];
        if is_left[rule as usize] {
            order[kept] = rule;
            kept += 1;
        } else {
            scratch.push(rule);
        }
    }
    order[kept..].copy_from_slice(scratch);
}

/// Rules by lowest rank and by number of ranks, in each coordinate.
fn orders(axes: &[Axis], rules: &[u32]) -> Vec<Vec<u32>> {
    let order = |key: &dyn Fn(u32) -> u32| {
        let keyed = rules
            .iter()
            .map(|&rule| u64::from(key(rule)) << 32 | u64::from(rule));
        let mut keyed: Vec<u64> = keyed.collect();
        keyed.sort_unstable();
        keyed
            .into_iter()
            .map(|key| (key & 0xffff_ffff) as u32)
            .collect()
    };
    axes.iter()
        .flat_map(|axis| {
            [
                order(&|rule| axis.hull(rule).from),
                order(&|rule| {
                    let hull = axis.hull(rule);
                    hull.to - hull.from
                }),
            ]
        })
        .collect()
}

/// Block that may begin a page.
struct Block {
    begins: bool,
    rules: Vec<u32>,
    spans: usize,
}

/// Divides sets with too many spans for one block, and begins a page wherever there are too many for one.
fn into_pages(axes: &[Axis], sets: Vec<(bool, Vec<u32>)>) -> Vec<Blocks> {
    let blocks: Vec<Block> = sets
        .into_iter()
        .flat_map(|(begins, rules)| divide(axes, begins, rules))
        .collect();
    if blocks.len() <= CHILDREN {
        return vec![blocks.into_iter().map(|block| block.rules).collect()];
    }
    let mut pages: Vec<Blocks> = Vec::new();
    let mut spans = 0;
    for block in blocks {
        let is_full = pages.last().is_none_or(|page| page.len() == CHILDREN);
        if block.begins || is_full || spans + block.spans > SPANS {
            pages.push(Vec::new());
            spans = 0;
        }
        spans += block.spans;
        if let Some(page) = pages.last_mut() {
            page.push(block.rules);
        }
    }
    pages
}

/// Blocks of a set: as many as its spans need.
fn divide(axes: &[Axis], begins: bool, rules: Vec<u32>) -> Vec<Block> {
    let spans_of = |rule: u32| {
        axes.iter()
            .map(|axis| axis.spans(rule).len())
            .max()
            .unwrap_or(0)
    };
    let mut blocks: Vec<Block> = Vec::new();
    for rule in rules {
        let spans = spans_of(rule);
        match blocks.last_mut() {
            Some(block) if block.spans + spans <= SPANS => {
                block.rules.push(rule);
                block.spans += spans;
            }
            _ => blocks.push(Block {
                begins: begins && blocks.is_empty(),
                rules: vec![rule],
                spans,
            }),
        }
    }
    blocks
}
