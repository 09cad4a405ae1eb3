// SPDX-License-Identifier: Apache-2.0
//! Typed reads from a YAML tree, which collect the problems on the way.

use std::collections::BTreeSet;

use super::foreign::Foreign;
use super::keys::Key;
use super::kind::Kind;
use super::suggest::{closest, listed};
use super::yaml::{Entry, Node, Value};
use crate::named_set::{NamedSet, NamedSets, UsedSet};
use crate::problem::{Position, Problem};

/// Reader of one file, with the problems found so far.
pub(super) struct Reader<'f> {
    file: &'f str,
    problems: Vec<Problem>,
    sets: &'f NamedSets,
    used: BTreeSet<UsedSet>,
}

/// Entries of one map, all of whose keys are known.
pub(super) struct Fields<'n, 'a> {
    pub(super) at: Position,
    entries: Vec<&'n Entry<'a>>,
    /// Keys that an unknown one was probably meant to be, so that they are not missing as well.
    hinted: Vec<&'static str>,
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

    /// Whether the key's value is a list without items.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        let value = self.node(key).map(|node| &node.value);
        matches!(value, Some(Value::List(items)) if items.is_empty())
    }

    /// Whether the key has a set among its values.
    pub(super) fn has_set(&self, key: &str) -> bool {
        let is_set =
            |node: &Node<'_>| matches!(&node.value, Value::Text(text) if text.starts_with('$'));
        self.node(key).is_some_and(|node| match &node.value {
            Value::List(items) => items.iter().any(is_set),
            _ => is_set(node),
        })
    }

    /// Value of the key.
    pub(super) fn node(&self, key: &str) -> Option<&'n Node<'a>> {
        self.get(key).map(|entry| &entry.value)
    }
}

impl<'f> Reader<'f> {
    /// Reader of a file whose values may name `sets`.
    pub(super) fn new(file: &'f str, problems: Vec<Problem>, sets: &'f NamedSets) -> Reader<'f> {
        Reader {
            file,
            problems,
            sets,
            used: BTreeSet::new(),
        }
    }

    /// Takes the sets that were used so far, in order of name.
    pub(super) fn take_used(&mut self) -> Vec<UsedSet> {
        std::mem::take(&mut self.used).into_iter().collect()
    }

    /// Looks up a set by its name.
    pub(super) fn set(&mut self, at: Position, name: &str) -> Option<&'f NamedSet> {
        let sets = self.sets;
        let Some(set) = sets.get(name) else {
            let names: Vec<&str> = sets.iter().map(|set| &*set.name).collect();
            let message = match closest(name, &names) {
                Some(meant) => format!("there is no set `{name}`; did you mean `${meant}`?"),
                None => format!(
                    "there is no set `{name}`; write it as sets/{name}.yaml in the folder of policies"
                ),
            };
            self.problem(at, message);
            return None;
        };
        self.used.insert(UsedSet {
            name: set.name.clone(),
            file: set.file.clone(),
        });
        Some(set)
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

    /// Reads the entries of a map that may have `keys`; others are problems and left out.
    pub(super) fn keyed<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        keys: &[Key],
        foreign: &'static [Foreign],
    ) -> Option<Fields<'n, 'a>> {
        let names: Vec<&'static str> = keys.iter().map(|key| key.name).collect();
        self.fields(node, what, &names, foreign)
    }

    /// Reads the entries of a map; keys that are not `allowed` are problems and left out.
    pub(super) fn fields<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        allowed: &[&'static str],
        foreign: &'static [Foreign],
    ) -> Option<Fields<'n, 'a>> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Refused => return None,
            _ => {
                let keys = listed(&without_negations(allowed), "and");
                self.problem(
                    node.at,
                    format!("{what} must be a map; its keys are {keys}"),
                );
                return None;
            }
        };
        let mut known = Vec::new();
        let mut hinted = Vec::new();
        for entry in entries {
            if allowed.contains(&&*entry.key) {
                known.push(entry);
                continue;
            }
            let key = &entry.key;
            let message = if let Some(foreign) = Foreign::find(key, foreign) {
                hinted.extend(foreign.ours);
                foreign.sentence(what, key, &entry.value)
            } else if let Some(meant) = closest(key, allowed) {
                hinted.push(meant);
                format!("{what} has no key `{key}`; did you mean `{meant}`?")
            } else {
                let keys = listed(&without_negations(allowed), "and");
                format!("{what} has no key `{key}`; its keys are {keys}")
            };
            self.problem(entry.at, message);
        }
        Some(Fields {
            at: node.at,
            entries: known,
            hinted,
        })
    }

    /// Reads the one value of a key; `None` if it is not there or wrong.
    pub(super) fn one<K: Kind>(&mut self, fields: &Fields<'_, '_>, key: &str) -> Option<K::Value> {
        let node = fields.node(key)?;
        match &node.value {
            Value::Text(text) => self.value::<K>(node.at, text),
            Value::Refused => None,
            _ => {
                self.problem(node.at, format!("`{key}` must have one plain value"));
                None
            }
        }
    }

    /// Reads the one value of a key, like [`Reader::one`], but a missing key is a problem too.
    pub(super) fn required<K: Kind>(
        &mut self,
        fields: &Fields<'_, '_>,
        what: &str,
        key: &str,
    ) -> Option<K::Value> {
        if !fields.has(key) && !fields.hinted.contains(&key) {
            self.problem(fields.at, format!("{what} needs the key `{key}`"));
        }
        self.one::<K>(fields, key)
    }

    /// Reads one value.
    pub(super) fn value<K: Kind>(&mut self, at: Position, text: &str) -> Option<K::Value> {
        K::read(text)
            .map_err(|refused| self.problem(at, refused.to_string()))
            .ok()
    }
}

/// Keys without those that negate another: a message has no room for both.
fn without_negations<'k>(keys: &[&'k str]) -> Vec<&'k str> {
    let keys = keys.iter().copied();
    keys.filter(|key| !key.starts_with("not-")).collect()
}
