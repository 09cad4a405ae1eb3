// SPDX-License-Identifier: Apache-2.0
//! Reader of named sets.

use super::addresses::{MacKind, PrefixKind, VidKind};
use super::difference::{Divisible, without};
use super::headers::PortKind;
use super::keys;
use super::kind::Kind;
use super::list::List;
use super::reader::{Fields, Reader};
use super::suggest::listed;
use super::values::{CommentKind, NameKind};
use super::yaml::Node;
use crate::named_set::{NamedSet, NamedSets, SetValues};
use crate::problem::Problem;

/// Keys of which a set has one.
const KINDS: [&str; 4] = ["prefixes", "ports", "macs", "vlans"];

impl NamedSet {
    /// Reads one set from YAML: its `name`, and one of `prefixes`, `ports`, `macs` and `vlans`, with
    /// the values that it holds and perhaps `except`.
    ///
    /// `file` is only for messages.
    ///
    /// # Errors
    /// Everything that is wrong with the text, in its order.
    pub fn parse(file: &str, text: &str) -> Result<NamedSet, Vec<Problem>> {
        let no_sets = NamedSets::default();
        super::parse(file, text, &no_sets, |reader, root| {
            read_set(reader, file, root)
        })
    }
}

/// Reads the tree of a set. `None` only with a problem.
fn read_set(reader: &mut Reader<'_>, file: &str, root: &Node<'_>) -> Option<NamedSet> {
    let fields = reader.keyed(root, "a set", keys::SET, &[])?;
    let name = reader.required::<NameKind>(&fields, "a set", "name");
    let comment = reader.one::<CommentKind>(&fields, "comment");
    let given: Vec<&str> = KINDS.into_iter().filter(|key| fields.has(key)).collect();
    let [key] = given[..] else {
        let kinds = listed(&KINDS, "and");
        let message = match given.get(1) {
            None => format!("a set needs one of the keys {kinds}"),
            Some(_) => format!("a set has one of the keys {kinds}; make a set of each"),
        };
        let at = given.get(1).map_or(fields.at, |second| fields.at(second));
        reader.problem(at, message);
        return None;
    };
    let values = match key {
        "prefixes" => SetValues::Prefixes(values::<PrefixKind>(reader, &fields, key)),
        "ports" => SetValues::Ports(values::<PortKind>(reader, &fields, key)),
        "macs" => SetValues::Macs(values::<MacKind>(reader, &fields, key)),
        _ => SetValues::Vlans(values::<VidKind>(reader, &fields, key)),
    };
    Some(NamedSet {
        name: name?,
        comment,
        file: file.to_owned(),
        values,
    })
}

/// Reads the values of a set, without its exceptions.
fn values<K: Kind<Value: Divisible>>(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
) -> Vec<K::Value> {
    for key in [key, "except"] {
        if fields.has_set(key) {
            reader.problem(
                fields.at(key),
                "a set takes nothing from another; write the values here",
            );
            return Vec::new();
        }
    }
    // Here an empty list has one meaning.
    let values = match fields.is_empty_list(key) {
        true => Vec::new(),
        false => {
            let List {
                values,
                except,
                any,
                ..
            } = reader.several::<K>(fields, key);
            if let Some(at) = any {
                let message =
                    "a set has no `any`; rules that are to match everything leave the key out";
                reader.problem(at, message);
            }
            let values = values.into_iter().map(|(value, _)| value).collect();
            without(values, &except)
        }
    };
    without(values, &reader.negated::<K>(fields, "except"))
}
