// SPDX-License-Identifier: Apache-2.0
//! Coordinates of a table, which turn keys into the ids of their classes.

use sluice_packet::FlowKey;

use crate::compile::axis::{Axis, Field, Starts};
use crate::compile::region::{
    Address, CLASSES, L4S, class_of, dst_mac_of, dst_of, dst_v4_of, has_v4, l4_of, src_mac_of,
    src_of, src_port_of, src_v4_of,
};
use crate::compile::search::Addresses;
use crate::simd::{Dense, Isa, Kernel, LANES, Node8, Simd, Tree};

/// Number of coordinates that a key has.
pub(crate) const FIELDS: usize = 7;

const _: () = assert!(CLASSES <= Dense::END && L4S <= Dense::END);

/// Class ids of up to [`LANES`] keys, by column and lane.
pub(crate) type Found = [[u32; LANES]; FIELDS];

/// Calls `$body` with the constant `$f`, a number of columns that is at least `$columns`, 1 to
/// [`FIELDS`].
macro_rules! with_columns {
    ($columns:expr, |$f:ident| $body:expr) => {
        match $columns {
            0..=2 => {
                const $f: usize = 2;
                $body
            }
            3 => {
                const $f: usize = 3;
                $body
            }
            4 => {
                const $f: usize = 4;
                $body
            }
            5 => {
                const $f: usize = 5;
                $body
            }
            _ => {
                const $f: usize = $crate::compile::columns::FIELDS;
                $body
            }
        }
    };
}
pub(crate) use with_columns;

/// Searches of the coordinates that the rules have conditions on. One that no rule mentions is not there
/// and costs nothing.
#[derive(Default)]
pub(crate) struct Columns(Box<[Column]>);

struct Column {
    field: Field,
    search: Search,
}

enum Search {
    Dense(Dense),
    Addresses(Addresses),
    Macs(Tree<Node8>),
}

impl Columns {
    /// Builds the searches from each axis and the ids of its ranks.
    pub(crate) fn new<'a>(axes: impl Iterator<Item = (&'a Axis, Vec<u32>)>) -> Columns {
        let column = |(axis, ids): (&Axis, Vec<u32>)| Column {
            field: axis.field,
            search: match &axis.starts {
                Starts::Dense(starts) => Search::Dense(Dense::new(starts, &ids)),
                Starts::Addresses(v4, v6) => Search::Addresses(Addresses::new(v4, v6, &ids)),
                Starts::Macs(starts) => Search::Macs(Tree::new(starts, &ids)),
            },
        };
        Columns(axes.map(column).collect())
    }

    /// Bytes of all searches.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |column: &Column| match &column.search {
            Search::Dense(search) => search.bytes(),
            Search::Addresses(search) => search.bytes(),
            Search::Macs(search) => search.bytes(),
        };
        self.0.iter().map(bytes).sum()
    }

    /// Number of coordinates, 1 to [`FIELDS`].
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Looks up the class ids of `keys`, at most [`LANES`]: one coordinate after the other, every key in
    /// each, so that the loads of all searches are under way together. The column behind the last has the
    /// last one's ids: what is ANDed with itself stays what it is, so that a few numbers of columns serve
    /// all tables.
    #[inline]
    pub(crate) fn find(&self, simd: Simd, keys: &[&FlowKey], found: &mut Found) {
        simd.run(Find {
            columns: self,
            simd,
            keys,
            found,
        });
        if let Some([.., last, behind]) = found.get_mut(..=self.count()) {
            *behind = *last;
        }
    }
}

struct Find<'a> {
    columns: &'a Columns,
    simd: Simd,
    keys: &'a [&'a FlowKey],
    found: &'a mut Found,
}

impl Kernel for Find<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let keys = &self.keys[..self.keys.len().min(LANES)];
        // Mostly every frame of a burst is whole, IPv4 and has ports: then nothing is to be told apart.
        let (plain, fragment) = (FlowKey::IPV4 | FlowKey::PORTS, FlowKey::FRAGMENT);
        let is_plain = keys
            .iter()
            .all(|key| key.flags & (plain | fragment) == plain);
        let all_v4 = is_plain || keys.iter().all(|key| has_v4(key));
        for (column, ids) in self.columns.0.iter().zip(self.found) {
            match (&column.search, column.field) {
                (Search::Dense(search), Field::Class) if is_plain => {
                    search.find_all(isa, keys, ids, |key| plain_class_of(key));
                }
                (Search::Dense(search), Field::L4) if is_plain => {
                    search.find_all(isa, keys, ids, |key| key.dst_port.into());
                }
                (Search::Dense(search), _) if is_plain => {
                    search.find_all(isa, keys, ids, |key| key.src_port.into());
                }
                (Search::Dense(search), Field::Class) => {
                    search.find_all(isa, keys, ids, |key| class_of(key))
                }
                (Search::Dense(search), Field::L4) => {
                    search.find_all(isa, keys, ids, |key| l4_of(key))
                }
                (Search::Dense(search), _) => {
                    search.find_all(isa, keys, ids, |key| src_port_of(key))
                }
                (Search::Addresses(search), Field::Src) => {
                    search.v4().find_all(isa, keys, ids, |key| src_v4_of(key));
                    if !all_v4 {
                        others(self.simd, search, keys, ids, src_of);
                    }
                }
                (Search::Addresses(search), _) => {
                    search.v4().find_all(isa, keys, ids, |key| dst_v4_of(key));
                    if !all_v4 {
                        others(self.simd, search, keys, ids, dst_of);
                    }
                }
                (Search::Macs(search), Field::SrcMac) => {
                    search.find_all(isa, keys, ids, |key| src_mac_of(key));
                }
                (Search::Macs(search), _) => search.find_all(isa, keys, ids, |key| dst_mac_of(key)),
            }
        }
    }
}

/// [`class_of`] of a whole IPv4 packet.
#[inline(always)]
fn plain_class_of(key: &FlowKey) -> u32 {
    u32::from(key.proto) * 4
}

/// Not inlined: most bursts are IPv4 only.
#[inline(never)]
fn others(
    simd: Simd,
    search: &Addresses,
    keys: &[&FlowKey],
    ids: &mut [u32; LANES],
    address: impl Fn(&FlowKey) -> Address,
) {
    let mut addresses = [Address::None; LANES];
    for (place, key) in addresses.iter_mut().zip(keys) {
        *place = address(key);
    }
    search.find_others(simd, &addresses[..keys.len()], ids);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_classes_are_classes() {
        for proto in 0..=u8::MAX {
            let key = FlowKey {
                proto,
                flags: FlowKey::IPV4 | FlowKey::PORTS,
                ..FlowKey::default()
            };
            assert_eq!(plain_class_of(&key), class_of(&key), "{proto}");
        }
    }
}
