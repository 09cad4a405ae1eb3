// SPDX-License-Identifier: Apache-2.0
//! Flat tables: bit vector classification (T. V. Lakshman and D. Stiliadis, "High-speed policy-based packet
//! forwarding", SIGCOMM 1998) with one row per class.

use sluice_packet::FlowKey;

use crate::compile::axis::Axis;
use crate::compile::columns::{Columns, FIELDS, Found, with_columns};
use crate::compile::rows::Row;
use crate::compile::size::Size;
use crate::compile::sweep::{Swept, sweep};
use crate::simd::{Isa, Kernel, LANES, Simd};

/// Table of as many rules as a row has bits, or fewer.
pub(crate) struct Flat<R> {
    columns: Columns,
    /// Rows by class id: those of all columns, one after the other.
    rows: Box<[R]>,
    /// Number of rules.
    rules: u32,
}

impl<R: Row> Flat<R> {
    /// Compiles `rules` rules, at most [`Row::RULES`]; `axes` are not empty.
    pub(crate) fn new(axes: &[Axis], rules: u32) -> Flat<R> {
        let all: Vec<u32> = (0..rules).collect();
        let mut rows: Vec<R> = Vec::new();
        let ids: Vec<Vec<u32>> = axes
            .iter()
            .map(|axis| {
                let swept: Swept<R> = sweep(axis, &all);
                let ids = swept.ids(axis.ranks, rows.len());
                rows.extend(swept.values);
                ids
            })
            .collect();
        Flat {
            columns: Columns::new(axes.iter().zip(ids)),
            rows: rows.into(),
            rules,
        }
    }

    /// Counts of what it is made of.
    pub(crate) fn size(&self) -> Size {
        Size {
            lines: self.rows.len(),
            bytes: self.columns.bytes() + size_of_val(&*self.rows),
            ..Size::default()
        }
    }

    /// Indices of the first rules that match `keys`, at most [`LANES`]; the number of rules where none
    /// does.
    #[inline]
    pub(crate) fn first_matches(&self, simd: Simd, keys: &[&FlowKey], first: &mut [u32; LANES]) {
        let mut found: Found = [[0; LANES]; FIELDS];
        self.columns.find(simd, keys, &mut found);
        with_columns!(self.columns.count(), |F| simd.run(And::<R, F> {
            table: self,
            found: &found,
            first: &mut first[..keys.len()],
        }));
    }
}

/// AND of the rows found, in `F` columns.
struct And<'a, R, const F: usize> {
    table: &'a Flat<R>,
    found: &'a Found,
    first: &'a mut [u32],
}

impl<R: Row, const F: usize> Kernel for And<'_, R, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let rows = &self.table.rows[..];
        for (lane, first) in self.first.iter_mut().enumerate().take(LANES) {
            let mut found = [&rows[0]; F];
            for (row, ids) in found.iter_mut().zip(self.found) {
                *row = &rows[ids[lane] as usize];
            }
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a row has 1024 bits at most"
            )]
            let bit = R::first::<I, F>(isa, found) as u32;
            *first = bit.min(self.table.rules);
        }
    }
}
