// SPDX-License-Identifier: Apache-2.0
//! Compiled rules of any number: the form that fits it, and the first rule that matches a key.

use sluice_packet::FlowKey;

use crate::compile::axis::Axis;
use crate::compile::blocks::Blocked;
use crate::compile::flat::Flat;
use crate::compile::region::Region;
use crate::compile::rows::{Row, Row1, Row2, Row4, Row8, Row16};
use crate::compile::size::Size;
use crate::simd::{LANES, Simd};

/// Compiled rules.
pub(crate) struct Matcher {
    form: Form,
    /// Number of rules, which stands for none.
    rules: u32,
    simd: Simd,
}

enum Form {
    /// No rule has a condition: the first decides, if there is one.
    Unconditional,
    Row1(Flat<Row1>),
    Row2(Flat<Row2>),
    Row4(Flat<Row4>),
    Row8(Flat<Row8>),
    Row16(Flat<Row16>),
    /// More rules than a row has bits for: one table, or several if their spans are more than one has room
    /// for.
    Many(Box<[Blocked]>),
}

impl Matcher {
    /// Compiles `regions`, one per rule, first rule first.
    pub(crate) fn new(regions: &[&Region], simd: Simd) -> Matcher {
        // Behind a rule without conditions, none decides.
        let last = regions.iter().position(|region| is_everything(region));
        let regions = &regions[..last.map_or(regions.len(), |last| last + 1)];
        let rules = u32::try_from(regions.len()).unwrap_or(u32::MAX);
        let axes = Axis::all(regions);
        let form = match regions.len() {
            _ if axes.is_empty() => Form::Unconditional,
            count if count <= Row1::RULES => Form::Row1(Flat::new(&axes, rules)),
            count if count <= Row2::RULES => Form::Row2(Flat::new(&axes, rules)),
            count if count <= Row4::RULES => Form::Row4(Flat::new(&axes, rules)),
            count if count <= Row8::RULES => Form::Row8(Flat::new(&axes, rules)),
            count if count <= Row16::RULES => Form::Row16(Flat::new(&axes, rules)),
            _ => {
                let all: Vec<u32> = (0..rules).collect();
                Form::Many(many(&axes, &all).into())
            }
        };
        Matcher { form, rules, simd }
    }

    /// Counts of what it is made of.
    pub(crate) fn size(&self) -> Size {
        match &self.form {
            Form::Unconditional => Size::default(),
            Form::Row1(flat) => flat.size(),
            Form::Row2(flat) => flat.size(),
            Form::Row4(flat) => flat.size(),
            Form::Row8(flat) => flat.size(),
            Form::Row16(flat) => flat.size(),
            Form::Many(tables) => tables.iter().map(Blocked::size).sum(),
        }
    }

    /// Writes the index of the first rule that matches each of `keys`, at most [`LANES`]; at least the
    /// number of rules where none does.
    #[inline]
    pub(crate) fn first_matches(&self, keys: &[&FlowKey], first: &mut [u32; LANES]) {
        match &self.form {
            // Without rules, this is their number, too.
            Form::Unconditional => first.fill(0),
            Form::Row1(flat) => flat.first_matches(self.simd, keys, first),
            Form::Row2(flat) => flat.first_matches(self.simd, keys, first),
            Form::Row4(flat) => flat.first_matches(self.simd, keys, first),
            Form::Row8(flat) => flat.first_matches(self.simd, keys, first),
            Form::Row16(flat) => flat.first_matches(self.simd, keys, first),
            Form::Many(tables) => {
                first.fill(self.rules);
                for table in tables {
                    table.first_matches(self.simd, keys, first);
                }
            }
        }
    }
}

/// Whether a region has no condition.
fn is_everything(region: &Region) -> bool {
    region.class.is_none()
        && region.l4.is_none()
        && region.src_port.is_none()
        && region.src.is_none()
        && region.dst.is_none()
        && region.src_mac.is_none()
        && region.dst_mac.is_none()
}

/// Table of `rules`, or of each half if they do not fit into one.
fn many(axes: &[Axis], rules: &[u32]) -> Vec<Blocked> {
    if let Some(table) = Blocked::new(axes, rules) {
        return vec![table];
    }
    let (first, second) = rules.split_at(rules.len() / 2);
    let mut tables = many(axes, first);
    tables.extend(many(axes, second));
    tables
}
