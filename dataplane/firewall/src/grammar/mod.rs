// SPDX-License-Identifier: Apache-2.0
//! Grammar of policy files, as a page for people and as a JSON schema for editors. Both are made from
//! the tables by which the reader reads, so they say what it does.

mod json;
mod page;
mod schema;

pub use page::page;
pub use schema::{policy_schema, set_schema};

use crate::read::{Grammar, Key, Values};

/// Kinds of values that are named in `keys` and the maps below, each once, in order of appearance.
fn kinds(keys: &[Key]) -> Vec<&'static Grammar> {
    let mut found: Vec<&'static Grammar> = Vec::new();
    for key in keys {
        let of_key = match key.values {
            Values::One(kind) => vec![kind],
            Values::Some(kinds)
            | Values::SomeOrNone(kinds)
            | Values::NoneOf(kinds)
            | Values::AllOf(kinds) => kinds.to_vec(),
            Values::Map(keys) | Values::Maps(keys) => self::kinds(keys),
        };
        for kind in of_key {
            if found.iter().all(|known| known.name != kind.name) {
                found.push(kind);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
