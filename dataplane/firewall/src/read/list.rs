// SPDX-License-Identifier: Apache-2.0
//! Lists of values: one plain value or several, with exceptions.

use super::foreign::{Foreign, IN_LISTS};
use super::kind::Kind;
use super::reader::{Fields, Reader};
use super::yaml::{Node, Value};
use crate::problem::Position;

/// Word that stands for every value.
const ANY: &str = "any";
/// Key of a list's item that names exceptions.
const EXCEPT: &str = "except";

/// Values of a key; empty if the key is not there.
#[derive(Debug)]
pub(super) struct List<T> {
    /// Values with their positions; of `any` none.
    pub(super) values: Vec<(T, Position)>,
    /// Values that are excepted.
    pub(super) except: Vec<T>,
    /// Position of `any`.
    pub(super) any: Option<Position>,
    /// Whether values were given and are none, as sets may be empty.
    pub(super) is_nothing: bool,
    /// Whether exceptions were given, even if they are none.
    pub(super) is_excepted: bool,
}

impl<T> List<T> {
    /// Values without their positions.
    pub(super) fn plain(self) -> Vec<T> {
        self.values.into_iter().map(|(value, _)| value).collect()
    }
}

/// Values of a list while it is read.
struct Items<T> {
    values: Vec<(T, Position)>,
    except: Vec<T>,
    any: Option<Position>,
    /// Position of the first exception.
    excepted: Option<Position>,
    /// Items that are neither `any` nor exceptions.
    count: usize,
}

impl Reader<'_> {
    /// Reads a key that may have one value or a list of them; wrong ones are left out, each with a
    /// problem.
    pub(super) fn several<K: Kind>(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
    ) -> List<K::Value> {
        let items = self.items::<K>(fields, key);
        if let Some(at) = items.any
            && items.count > 0
        {
            let message = format!("`{key}` has `{ANY}` beside other values; keep one of the two");
            self.problem(at, message);
        }
        if let Some(at) = items.excepted
            && items.any.is_none()
            && items.count == 0
        {
            self.problem(
                at,
                format!(
                    "`{key}` has exceptions and nothing that they are exceptions of; write \
                     `not-{key}` for everything but them"
                ),
            );
        }
        List {
            is_nothing: items.count > 0 && items.values.is_empty(),
            is_excepted: items.excepted.is_some(),
            values: items.values,
            except: items.except,
            any: items.any,
        }
    }

    /// Reads a negated key, as [`Reader::several`], but without `any` and exceptions.
    pub(super) fn negated<K: Kind>(&mut self, fields: &Fields<'_, '_>, key: &str) -> Vec<K::Value> {
        let items = self.items::<K>(fields, key);
        if let Some(at) = items.any {
            let message = format!("`{key}: {ANY}` matches nothing; leave it out");
            self.problem(at, message);
        }
        if let Some(at) = items.excepted {
            let message = match key.strip_prefix("not-") {
                Some(positive) => {
                    format!("`{EXCEPT}` in `{key}` is not allowed; use it in `{positive}`")
                }
                None => format!("`{EXCEPT}` in `{key}` is not allowed; write `not-{key}`"),
            };
            self.problem(at, message);
        }
        items.values.into_iter().map(|(value, _)| value).collect()
    }

    fn items<K: Kind>(&mut self, fields: &Fields<'_, '_>, key: &str) -> Items<K::Value> {
        let mut items = Items {
            values: Vec::new(),
            except: Vec::new(),
            any: None,
            excepted: None,
            count: 0,
        };
        for node in self.nodes(fields.node(key), key) {
            match &node.value {
                Value::Text(text) if text == ANY && K::GRAMMAR.any => items.any = Some(node.at),
                Value::Map(_) => match self.exceptions::<K>(node, key) {
                    Some(except) => {
                        items.excepted.get_or_insert(node.at);
                        items.except.extend(except);
                    }
                    None => items.count += 1,
                },
                _ => {
                    items.count += 1;
                    let values = self.item::<K>(node, key);
                    let values = values.into_iter().map(|value| (value, node.at));
                    items.values.extend(values);
                }
            }
        }
        items
    }

    /// Reads one item: a value, or a set's.
    fn item<K: Kind>(&mut self, node: &Node<'_>, key: &str) -> Vec<K::Value> {
        let Value::Text(text) = &node.value else {
            self.not_plain(node, key);
            return Vec::new();
        };
        match text.strip_prefix('$') {
            Some(name) => self.set_values::<K>(node.at, key, name),
            None => self.value::<K>(node.at, text).into_iter().collect(),
        }
    }

    fn set_values<K: Kind>(&mut self, at: Position, key: &str, name: &str) -> Vec<K::Value> {
        let Some(kind) = K::GRAMMAR.set else {
            let message = format!("`{key}` takes no sets; write the values here");
            self.problem(at, message);
            return Vec::new();
        };
        let Some(set) = self.set(at, name) else {
            return Vec::new();
        };
        let Some(values) = K::of_set(&set.values) else {
            let holds = set.values.key();
            let message = format!("set `{name}` has {holds}, and `{key}` takes {kind}");
            self.problem(at, message);
            return Vec::new();
        };
        values.to_vec()
    }

    /// Items of a list, or the one value that stands in its place.
    fn nodes<'n, 'a>(&mut self, node: Option<&'n Node<'a>>, key: &str) -> &'n [Node<'a>] {
        let Some(node) = node else {
            return &[];
        };
        match &node.value {
            Value::List(items) => {
                if items.is_empty() {
                    self.problem(
                        node.at,
                        format!(
                            "`{key}` is an empty list, which could mean everything or nothing; leave \
                             the key out to match everything"
                        ),
                    );
                }
                items
            }
            // A map alone is no item of a list.
            Value::Map(_) => {
                if !self.is_foreign(node, key) {
                    self.not_plain(node, key);
                }
                &[]
            }
            _ => std::slice::from_ref(node),
        }
    }

    /// Reads an item `except: ...` of a list; `None`, with a problem, if it is another map.
    fn exceptions<K: Kind>(&mut self, node: &Node<'_>, key: &str) -> Option<Vec<K::Value>> {
        if self.is_foreign(node, key) {
            return None;
        }
        let fields = self.fields(node, &format!("an item of `{key}`"), &[EXCEPT], &[])?;
        let mut except = Vec::new();
        for node in self.nodes(fields.node(EXCEPT), EXCEPT) {
            match &node.value {
                Value::Map(_) => self.not_plain(node, EXCEPT),
                _ => except.extend(self.item::<K>(node, EXCEPT)),
            }
        }
        fields.has(EXCEPT).then_some(except)
    }

    /// Whether a map is an object of another language; if so, says what to write.
    fn is_foreign(&mut self, node: &Node<'_>, key: &str) -> bool {
        let Value::Map(entries) = &node.value else {
            return false;
        };
        let found = entries.iter().find_map(|entry| {
            let foreign = Foreign::find(&entry.key, IN_LISTS)?;
            Some((entry, foreign))
        });
        let Some((entry, foreign)) = found else {
            return false;
        };
        let what = format!("an item of `{key}`");
        self.problem(entry.at, foreign.sentence(&what, &entry.key, &entry.value));
        true
    }

    fn not_plain(&mut self, node: &Node<'_>, key: &str) {
        match &node.value {
            Value::Refused => {}
            Value::Nothing => self.problem(
                node.at,
                format!("`{key}` has no value here; write one or leave the key out"),
            ),
            _ => self.problem(
                node.at,
                format!("`{key}` must be one plain value or a list of them"),
            ),
        }
    }
}
