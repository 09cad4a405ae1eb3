// SPDX-License-Identifier: Apache-2.0
//! Typed reads from a YAML tree, which collect the problems on the way.

use super::suggest::listed;
use super::value_error::DidYouMean;
use super::values::Read;
use super::yaml::{Entry, Node, Value};
use crate::problem::{Position, Problem};

/// Reader of one file, with the problems found so far.
pub(super) struct Reader<'f> {
    file: &'f str,
    problems: Vec<Problem>,
}

/// Entries of one map, all of whose keys are known.
pub(super) struct Fields<'n, 'a> {
    pub(super) at: Position,
    entries: Vec<&'n Entry<'a>>,
}

impl<'n, 'a> Fields<'n, 'a> {
    fn get(&self, key: &str) -> Option<&'n Entry<'a>> {
        self.entries.iter().find(|entry| entry.key == key).copied()
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Position of the key; the beginning of the map if it is not there.
    pub(super) fn at(&self, key: &str) -> Position {
        self.get(key).map_or(self.at, |entry| entry.at)
    }

    /// Value of the key.
    pub(super) fn node(&self, key: &str) -> Option<&'n Node<'a>> {
        self.get(key).map(|entry| &entry.value)
    }
}

impl<'f> Reader<'f> {
    pub(super) fn new(file: &'f str, problems: Vec<Problem>) -> Reader<'f> {
        Reader { file, problems }
    }

    pub(super) fn problem(&mut self, at: Position, message: impl Into<String>) {
        self.problems.push(Problem::new(self.file, at, message));
    }

    /// Number of problems so far.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Returns the problems in the order of the text.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    /// Reads the entries of a map; keys that are not `allowed` are problems and left out.
    pub(super) fn fields<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        allowed: &[&'static str],
    ) -> Option<Fields<'n, 'a>> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Refused => return None,
            _ => {
                let keys = listed(allowed, "and");
                self.problem(
                    node.at,
                    format!("{what} must be a map; its keys are {keys}"),
                );
                return None;
            }
        };
        let mut known = Vec::new();
        for entry in entries {
            if allowed.contains(&&*entry.key) {
                known.push(entry);
                continue;
            }
            let key = &entry.key;
            let message = format!(
                "{what} has no key `{key}`{}; allowed are {}",
                DidYouMean(key, allowed),
                listed(allowed, "and")
            );
            self.problem(entry.at, message);
        }
        Some(Fields {
            at: node.at,
            entries: known,
        })
    }

    /// Reads the one value of a key; `None` if it is not there or wrong.
    pub(super) fn one<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        read: impl Fn(&str) -> Read<T>,
    ) -> Option<T> {
        let node = fields.node(key)?;
        match &node.value {
            Value::Text(text) => self.value(node.at, text, read),
            Value::Refused => None,
            _ => {
                self.problem(node.at, format!("`{key}` must have one plain value"));
                None
            }
        }
    }

    /// Reads the one value of a key, like [`Reader::one`], but a missing key is a problem too.
    pub(super) fn required<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        what: &str,
        key: &str,
        read: impl Fn(&str) -> Read<T>,
    ) -> Option<T> {
        if !fields.has(key) {
            self.problem(fields.at, format!("{what} needs the key `{key}`"));
        }
        self.one(fields, key, read)
    }

    /// Reads a key that may have one value or a list of them, each with its position; wrong ones are
    /// left out. Empty if the key is not there.
    pub(super) fn several<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        read: impl Fn(&str) -> Read<T>,
    ) -> Vec<(T, Position)> {
        let Some(node) = fields.node(key) else {
            return Vec::new();
        };
        let items = match &node.value {
            Value::List(items) if items.is_empty() => {
                self.problem(
                    node.at,
                    format!(
                        "`{key}` is an empty list, which could mean everything or nothing; leave the \
                         key out to match everything"
                    ),
                );
                return Vec::new();
            }
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut values = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(text) => {
                    let value = self.value(item.at, text, &read);
                    values.extend(value.map(|value| (value, item.at)));
                }
                Value::Refused => {}
                Value::Nothing => self.problem(
                    item.at,
                    format!("`{key}` has no value here; write one or leave the key out"),
                ),
                _ => self.problem(
                    item.at,
                    format!("`{key}` must be one plain value or a list of them"),
                ),
            }
        }
        values
    }

    fn value<T>(&mut self, at: Position, text: &str, read: impl Fn(&str) -> Read<T>) -> Option<T> {
        read(text)
            .map_err(|refused| self.problem(at, refused.to_string()))
            .ok()
    }
}
