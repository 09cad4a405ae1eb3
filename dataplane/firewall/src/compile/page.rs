// SPDX-License-Identifier: Apache-2.0
//! Page of up to [`CHILDREN`] blocks, while a table is built: rows of its blocks, and lines over them.

use crate::compile::axis::Axis;
use crate::compile::rows::{Row, Row8};
use crate::compile::sweep::{Change, Line, Swept, merge, sweep};
use crate::simd::CHILDREN;

/// Page in the making.
pub(crate) struct Page {
    /// Rules of each block, ascending.
    pub(crate) blocks: Vec<Vec<u32>>,
    /// Rows and lines of each coordinate.
    pub(crate) layers: Vec<PageLayer>,
}

/// Page in one coordinate.
pub(crate) struct PageLayer {
    /// Rows of each block.
    pub(crate) blocks: Vec<Swept<Row8>>,
    /// Lines over the blocks.
    pub(crate) lines: Swept<Line>,
}

impl Page {
    /// Sweeps `blocks`, at most [`CHILDREN`], in every coordinate.
    pub(crate) fn new(axes: &[Axis], blocks: Vec<Vec<u32>>) -> Page {
        debug_assert!(blocks.len() <= CHILDREN);
        let layer = |axis: &Axis| {
            let swept: Vec<Swept<Row8>> = blocks.iter().map(|rules| sweep(axis, rules)).collect();
            let changes: Vec<&[Change]> = swept.iter().map(|one| &one.changes[..]).collect();
            PageLayer {
                lines: merge(&changes),
                blocks: swept,
            }
        };
        Page {
            layers: axes.iter().map(layer).collect(),
            blocks,
        }
    }

    /// Rules that can never decide, since an earlier one of the page holds wherever they do: of the rules
    /// that hold at both outermost corners of a rule, each earlier one is looked at.
    pub(crate) fn hidden(&self, axes: &[Axis]) -> Vec<u32> {
        let ids: Vec<Vec<u32>> = axes
            .iter()
            .zip(&self.layers)
            .map(|(axis, layer)| layer.lines.ids(axis.ranks, 0))
            .collect();
        let rules = self.blocks.iter().flatten();
        rules
            .copied()
            .filter(|&rule| self.is_hidden(axes, &ids, rule))
            .collect()
    }

    fn is_hidden(&self, axes: &[Axis], ids: &[Vec<u32>], rule: u32) -> bool {
        let mut live = u32::MAX;
        let mut lines: Vec<[&Line; 2]> = Vec::with_capacity(axes.len());
        for ((axis, layer), ids) in axes.iter().zip(&self.layers).zip(ids) {
            let hull = axis.hull(rule);
            if hull.from == hull.to {
                // It holds for no frame at all.
                return true;
            }
            let line = |rank: u32| &layer.lines.values[ids[rank as usize] as usize];
            let corners = [line(hull.from), line(hull.to - 1)];
            live &= corners[0].live & corners[1].live;
            lines.push(corners);
        }
        while live != 0 {
            let block = live.trailing_zeros() as usize;
            live &= live - 1;
            if self.hides(axes, block, &lines, rule) {
                return true;
            }
        }
        false
    }

    /// Whether a rule of `block`, earlier than `rule`, holds wherever `rule` does.
    fn hides(&self, axes: &[Axis], block: usize, lines: &[[&Line; 2]], rule: u32) -> bool {
        /// Candidates looked at: most rules have one range each, so that the first is the answer.
        const CANDIDATES: usize = 4;
        let rules = &self.blocks[block];
        let earlier = rules.partition_point(|other| *other < rule);
        if earlier == 0 {
            return false;
        }
        let mut both = [u64::MAX; Row8::RULES / 64];
        for (layer, corners) in self.layers.iter().zip(lines) {
            for line in corners {
                let row = &layer.blocks[block].values[usize::from(line.next[block])];
                for (word, with) in both.iter_mut().zip(row.0) {
                    *word &= with;
                }
            }
        }
        let words = (0..).zip(both);
        let bits = words.flat_map(|(index, word)| bits(word).map(move |bit| index * 64 + bit));
        bits.take_while(|bit| *bit < earlier)
            .take(CANDIDATES)
            .any(|bit| axes.iter().all(|axis| axis.covers(rules[bit], rule)))
    }
}

/// Indices of the bits set in a word.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}
