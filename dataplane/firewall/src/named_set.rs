// SPDX-License-Identifier: Apache-2.0
//! Named sets: values that several policies share, written as `$name` in their rules.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::VidRange;

use crate::masked_mac::MaskedMac;
use crate::problem::{Position, Problem};

/// Set as written, with its exceptions taken out. An empty one matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSet {
    /// Name, unique among sets.
    pub name: String,
    /// Comment; `None` if it has none.
    pub comment: Option<String>,
    /// File it was read from, for messages.
    pub file: String,
    /// Values, of one kind.
    pub values: SetValues,
}

/// Values of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValues {
    /// Prefixes, for `from` and `to`.
    Prefixes(Vec<IpNet>),
    /// Ports, for `ports` and `source-ports`.
    Ports(Vec<RangeInclusive<u16>>),
    /// MACs, for `source-mac` and `destination-mac`.
    Macs(Vec<MaskedMac>),
    /// Segments, for `vlans`.
    Vlans(Vec<VidRange>),
}

impl SetValues {
    /// Key of a set's file that has such values.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            SetValues::Prefixes(_) => "prefixes",
            SetValues::Ports(_) => "ports",
            SetValues::Macs(_) => "macs",
            SetValues::Vlans(_) => "vlans",
        }
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            SetValues::Prefixes(values) => values.is_empty(),
            SetValues::Ports(values) => values.is_empty(),
            SetValues::Macs(values) => values.is_empty(),
            SetValues::Vlans(values) => values.is_empty(),
        }
    }
}

/// Sets that policies may use, by name.
#[derive(Debug, Clone, Default)]
pub struct NamedSets(BTreeMap<String, NamedSet>);

impl NamedSets {
    /// Collects sets.
    ///
    /// # Errors
    /// Two sets of one name.
    pub fn new(sets: impl IntoIterator<Item = NamedSet>) -> Result<NamedSets, Vec<Problem>> {
        let mut by_name = BTreeMap::new();
        let mut problems = Vec::new();
        for set in sets {
            match by_name.entry(set.name.clone()) {
                Entry::Vacant(free) => {
                    free.insert(set);
                }
                Entry::Occupied(other) => {
                    let other: &NamedSet = other.get();
                    let message = format!(
                        "set `{}` is in {} already; give one of them another name",
                        set.name, other.file
                    );
                    problems.push(Problem::new(&set.file, Position::default(), message));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(NamedSets(by_name)),
            false => Err(problems),
        }
    }

    /// Set of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedSet> {
        self.0.get(name)
    }

    /// Sets in order of name.
    pub fn iter(&self) -> impl Iterator<Item = &NamedSet> {
        self.0.values()
    }
}

/// Set that a policy uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedSet {
    /// Name of the set.
    pub name: String,
    /// File that it was read from.
    pub file: String,
}
