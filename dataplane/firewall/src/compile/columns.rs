// SPDX-License-Identifier: Apache-2.0
//! Coordinates of a table, which turn a key into row ids.

use sluice_packet::FlowKey;

use crate::compile::LANES;
use crate::compile::region::{
    CLASSES, L4S, Region, class_of, dst_mac_of, dst_of, dst_v4_of, has_v4, l4_of, src_mac_of,
    src_of, src_port_of, src_v4_of,
};
use crate::compile::rows::Builder;
use crate::compile::search::{Addresses, Intervals, Paged};

/// Search and rows (`R`) of each coordinate. A coordinate that no rule mentions has none: its only row
/// would be all ones.
pub(crate) struct Columns<R> {
    class: Option<Column<Paged, R>>,
    l4: Option<Column<Paged, R>>,
    src_port: Option<Column<Paged, R>>,
    src: Option<Column<Addresses, R>>,
    dst: Option<Column<Addresses, R>>,
    src_mac: Option<Column<Intervals<u64>, R>>,
    dst_mac: Option<Column<Intervals<u64>, R>>,
}

/// Number of coordinates.
pub(crate) const COLUMNS: usize = 7;

struct Column<S, R> {
    search: S,
    rows: R,
}

impl<R> Columns<R> {
    /// Builds the searches for `regions`, one per rule, first rule first.
    pub(crate) fn new<B: Builder<Rows = R>>(regions: &[&Region]) -> Columns<R> {
        fn column<'r, S, B: Builder, I: 'r>(
            sets: impl Iterator<Item = Option<&'r I>> + Clone,
            rules: usize,
            search: impl FnOnce(&mut B) -> S,
        ) -> Option<Column<S, B::Rows>> {
            sets.clone().any(|set| set.is_some()).then(|| {
                let mut builder = B::new(rules);
                let search = search(&mut builder);
                Column {
                    search,
                    rows: builder.finish(),
                }
            })
        }
        macro_rules! column {
            ($field:ident, |$sets:ident, $builder:ident| $search:expr) => {{
                let $sets = regions.iter().map(|region| region.$field.as_ref());
                column($sets.clone(), regions.len(), |$builder: &mut B| $search)
            }};
        }
        Columns {
            class: column!(class, |sets, builder| Paged::new(CLASSES, sets, builder)),
            l4: column!(l4, |sets, builder| Paged::new(L4S, sets, builder)),
            src_port: column!(src_port, |sets, builder| Paged::new(L4S, sets, builder)),
            src: column!(src, |sets, builder| Addresses::new(sets, builder)),
            dst: column!(dst, |sets, builder| Addresses::new(sets, builder)),
            src_mac: column!(src_mac, |sets, builder| Intervals::new(sets, builder)),
            dst_mac: column!(dst_mac, |sets, builder| Intervals::new(sets, builder)),
        }
    }

    /// Calls `row` with every coordinate's rows and the id of the key's row among them.
    #[inline]
    pub(crate) fn find<'t>(&'t self, key: &FlowKey, mut row: impl FnMut(&'t R, u32)) {
        if let Some(Column { search, rows }) = &self.class {
            row(rows, search.find(class_of(key)));
        }
        if let Some(Column { search, rows }) = &self.l4 {
            row(rows, search.find(l4_of(key)));
        }
        if let Some(Column { search, rows }) = &self.src_port {
            row(rows, search.find(src_port_of(key)));
        }
        if let Some(Column { search, rows }) = &self.src {
            row(rows, search.find(src_of(key)));
        }
        if let Some(Column { search, rows }) = &self.dst {
            row(rows, search.find(dst_of(key)));
        }
        if let Some(Column { search, rows }) = &self.src_mac {
            row(rows, search.find(src_mac_of(key)));
        }
        if let Some(Column { search, rows }) = &self.dst_mac {
            row(rows, search.find(dst_mac_of(key)));
        }
    }

    /// As [`Columns::find`] for several keys: one coordinate after the other, every key in each, so
    /// that a search's loads for all of them are under way together.
    #[inline]
    pub(crate) fn find_all<'t>(
        &'t self,
        keys: &[&FlowKey; LANES],
        mut row: impl FnMut(&'t R, &[u32; LANES]),
    ) {
        if let Some(Column { search, rows }) = &self.class {
            row(rows, &search.find_all(&keys.map(class_of)));
        }
        if let Some(Column { search, rows }) = &self.l4 {
            row(rows, &search.find_all(&keys.map(l4_of)));
        }
        if let Some(Column { search, rows }) = &self.src_port {
            row(rows, &search.find_all(&keys.map(src_port_of)));
        }
        let all_v4 = keys.iter().all(|key| has_v4(key));
        if let Some(Column { search, rows }) = &self.src {
            let found = search.find_all(&keys.map(src_v4_of), |lane| src_of(keys[lane]), all_v4);
            row(rows, &found);
        }
        if let Some(Column { search, rows }) = &self.dst {
            let found = search.find_all(&keys.map(dst_v4_of), |lane| dst_of(keys[lane]), all_v4);
            row(rows, &found);
        }
        if let Some(Column { search, rows }) = &self.src_mac {
            row(rows, &search.find_all(&keys.map(src_mac_of)));
        }
        if let Some(Column { search, rows }) = &self.dst_mac {
            row(rows, &search.find_all(&keys.map(dst_mac_of)));
        }
    }
}
