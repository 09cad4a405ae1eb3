// SPDX-License-Identifier: Apache-2.0
//! Sweeps along a coordinate: rows of a block of rules, and lines of several blocks.

use crate::compile::axis::Axis;
use crate::compile::distinct::{Distinct, Fingerprint};
use crate::compile::rows::Row;
use crate::simd::CHILDREN;

/// Line of a class: which of its children are live, and where each goes on. A cache line.
///
/// Children are blocks, for which it has the row's index, or pages, for which it has the line's.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// A bit for every child in which a rule holds.
    pub(crate) live: u32,
    /// Index among the rows or lines of each child; 0 of children that are not live.
    pub(crate) next: [u16; CHILDREN],
}

impl Fingerprint for Line {
    fn words(&self) -> impl Iterator<Item = u64> {
        let (fours, rest) = self.next.as_chunks::<4>();
        let word = |next: &[u16]| {
            let next = next.iter().map(|next| u64::from(*next));
            next.fold(0, |word, next| word << 16 | next)
        };
        let live = u64::from(self.live) << 32 | word(rest);
        fours.iter().map(move |four| word(four)).chain([live])
    }
}

/// Begin of an interval, and what holds from there to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Rank.
    pub(crate) rank: u32,
    /// Id of the row or line.
    pub(crate) id: u32,
    /// Whether a rule holds in it.
    pub(crate) is_live: bool,
}

/// Distinct values along a coordinate.
#[derive(Debug)]
pub(crate) struct Swept<V> {
    /// Values by id.
    pub(crate) values: Vec<V>,
    /// Intervals, ascending, the first at rank 0.
    pub(crate) changes: Vec<Change>,
}

impl<V> Swept<V> {
    /// Ids by rank, for `ranks` ranks, as indices into an array that has these values from `first` on.
    pub(crate) fn ids(&self, ranks: u32, first: usize) -> Vec<u32> {
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let mut ids = Vec::with_capacity(ranks as usize);
        let ends = self.changes[1..].iter().map(|change| change.rank);
        for (change, end) in self.changes.iter().zip(ends.chain([ranks])) {
            ids.resize(end as usize, first + change.id);
        }
        ids
    }

    fn push(&mut self, change: Change) {
        if self.changes.last().is_none_or(|last| last.id != change.id) {
            self.changes.push(change);
        }
    }
}

/// Rows of `rules`, at most as many as a row has bits, along `axis`: bit n is the n-th of them.
pub(crate) fn sweep<R: Row>(axis: &Axis, rules: &[u32]) -> Swept<R> {
    let mut flips: Vec<u64> = Vec::with_capacity(rules.len() * 2);
    for (bit, &rule) in (0u64..).zip(rules) {
        for span in axis.spans(rule) {
            flips.push(u64::from(span.from) << 32 | bit);
            if span.to < axis.ranks {
                flips.push(u64::from(span.to) << 32 | bit);
            }
        }
    }
    flips.sort_unstable();
    let mut row = R::NONE;
    let mut rows = Distinct::new();
    let mut swept = Swept {
        values: Vec::new(),
        changes: Vec::with_capacity(flips.len() + 1),
    };
    let mut enter = |rank: u32, row: R| {
        swept.push(Change {
            rank,
            id: rows.id(row),
            is_live: row.is_live(),
        });
    };
    if flips.first().is_none_or(|flip| rank(*flip) != 0) {
        enter(0, row);
    }
    for flips in flips.chunk_by(|a, b| rank(*a) == rank(*b)) {
        for flip in flips {
            row.flip((flip & 0xffff_ffff) as usize);
        }
        enter(rank(flips[0]), row);
    }
    swept.values = rows.into_values();
    swept
}

/// Lines over `children`, at most [`CHILDREN`] of them with fewer than 65,536 ids each.
pub(crate) fn merge(children: &[&[Change]]) -> Swept<Line> {
    let mut events: Vec<u64> = Vec::with_capacity(children.iter().map(|one| one.len()).sum());
    for (child, changes) in (0u64..).zip(children) {
        events.extend(changes.iter().map(|change| {
            u64::from(change.rank) << 32
                | child << 24
                | u64::from(change.is_live) << 16
                | u64::from(change.id & 0xffff)
        }));
    }
    events.sort_unstable();
    let mut line = Line {
        live: 0,
        next: [0; CHILDREN],
    };
    let mut lines = Distinct::new();
    let mut swept = Swept {
        values: Vec::new(),
        changes: Vec::with_capacity(events.len()),
    };
    for events in events.chunk_by(|a, b| rank(*a) == rank(*b)) {
        for event in events {
            let child = (event >> 24 & 0xff) as usize;
            let is_live = event >> 16 & 1 == 1;
            line.live = line.live & !(1 << child) | u32::from(is_live) << child;
            #[allow(clippy::cast_possible_truncation, reason = "the lower 16 bits")]
            let id = *event as u16;
            // What is not live is never followed.
            line.next[child] = if is_live { id } else { 0 };
        }
        swept.push(Change {
            rank: rank(events[0]),
            id: lines.id(line),
            is_live: line.live != 0,
        });
    }
    swept.values = lines.into_values();
    swept
}

/// Upper half of a flip or an event.
fn rank(of: u64) -> u32 {
    (of >> 32) as u32
}
