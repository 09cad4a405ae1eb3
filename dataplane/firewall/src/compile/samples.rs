// SPDX-License-Identifier: Apache-2.0
//! Sample packets by which cuts of a set of rules are judged.

use crate::compile::axis::Axis;
use crate::compile::columns::FIELDS;

/// Set of samples, a bit each.
pub(crate) type Mask = u128;

/// Number of samples.
const SAMPLES: usize = Mask::BITS as usize;

/// Samples of one coordinate, in order of rank.
struct Sorted {
    ranks: Vec<u32>,
    /// Samples below each place in `ranks`, and all.
    below: Vec<Mask>,
}

/// Samples in each coordinate.
pub(crate) struct Samples(Vec<Sorted>);

impl Samples {
    /// Corners of rules spread over `rules`, so that each sample matches a rule at least: the lowest or
    /// the highest rank of one rule in every coordinate.
    pub(crate) fn of(axes: &[Axis], rules: &[u32]) -> Samples {
        let count = rules.len().min(SAMPLES);
        let chosen: Vec<u32> = (0..count).map(|n| rules[n * rules.len() / count]).collect();
        let sorted = |(column, axis): (usize, &Axis)| {
            let corner = |(bit, &rule): (usize, &u32)| {
                let hull = axis.hull(rule);
                // Every combination of ends gets its turn.
                let highest = bit >> (column % FIELDS) & 1 == 1;
                let rank = if highest {
                    hull.to.saturating_sub(1)
                } else {
                    hull.from
                };
                (rank, bit)
            };
            let mut places: Vec<(u32, usize)> = chosen.iter().enumerate().map(corner).collect();
            places.sort_unstable();
            let mut below = vec![0];
            let mut mask = 0;
            for (_, bit) in &places {
                mask |= 1 << bit;
                below.push(mask);
            }
            Sorted {
                ranks: places.into_iter().map(|(rank, _)| rank).collect(),
                below,
            }
        };
        Samples(axes.iter().enumerate().map(sorted).collect())
    }

    /// Samples that lie within a rule's spans of a coordinate.
    pub(crate) fn mask(&self, column: usize, axis: &Axis, rule: u32) -> Mask {
        let Sorted { ranks, below } = &self.0[column];
        let mut mask = 0;
        for span in axis.spans(rule) {
            if span.from == 0 && span.to == axis.ranks {
                return below[ranks.len()];
            }
            let from = ranks.partition_point(|rank| *rank < span.from);
            let to = from + ranks[from..].partition_point(|rank| *rank < span.to);
            mask |= below[to] & !below[from];
        }
        mask
    }
}
