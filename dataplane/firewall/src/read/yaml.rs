// SPDX-License-Identifier: Apache-2.0
//! YAML text as a tree with the position of each part.
//!
//! Built from the parser's events and not with `saphyr`'s own loader, which stops at the first
//! duplicate key, nests without limit and turns scalars into numbers: here every duplicate is
//! reported, depth is bounded (a deep tree overflows the stack when it is dropped), and scalars stay
//! the text that was written, so that a MAC, a port range and `0x88cc` are read by one rule each.
//! Anchors, aliases and tags are refused: a policy says what it says in place.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::{Position, Problem};

/// Deepest nesting that is read; a policy has four levels.
const MAX_DEPTH: usize = 16;

/// Value with its position.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) at: Position,
    pub(super) value: Value<'a>,
}

#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Scalar as written, without quotes.
    Text(Cow<'a, str>),
    /// `~`, `null` or nothing at all.
    Nothing,
    /// Value that is a problem already.
    Refused,
    List(Vec<Node<'a>>),
    /// Map, no key twice.
    Map(Vec<Entry<'a>>),
}

#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) at: Position,
    pub(super) value: Node<'a>,
}

/// Parses the one document in `text`. Problems that leave a tree to go on with are added to `problems`.
///
/// # Errors
/// A problem after which the rest cannot be read.
pub(super) fn load<'a>(
    file: &str,
    text: &'a str,
    problems: &mut Vec<Problem>,
) -> Result<Node<'a>, Problem> {
    let mut builder = Builder {
        file,
        problems,
        open: Vec::new(),
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let message = format!("this is not YAML: {}", error.info());
            Problem::new(file, position(error.marker()), message)
        })?;
        builder.take(event, span)?;
    }
    builder.root.ok_or_else(|| {
        let message = "there is no policy in this file; one needs at least `name`";
        Problem::new(file, Position::default(), message)
    })
}

fn position(marker: &saphyr_parser::Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

struct Builder<'p, 'a> {
    file: &'p str,
    problems: &'p mut Vec<Problem>,
    /// Lists and maps that have begun and not ended, outermost first.
    open: Vec<Open<'a>>,
    root: Option<Node<'a>>,
}

enum Open<'a> {
    List(Position, Vec<Node<'a>>),
    Map(Position, Vec<Entry<'a>>, Key<'a>),
}

/// State of the next entry of a map.
enum Key<'a> {
    Awaited,
    Read(Cow<'a, str>, Position),
    /// Key that is not plain text; its value is skipped.
    Refused,
}

impl<'a> Builder<'_, 'a> {
    fn take(&mut self, event: Event<'a>, span: Span) -> Result<(), Problem> {
        let at = position(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) if self.root.is_some() => {
                let message = "a second document begins here; write one policy per file";
                return Err(Problem::new(self.file, at, message));
            }
            Event::DocumentStart(_) => {}
            Event::Alias(_) => {
                self.problem(at, "aliases (`*name`) are not allowed; write the value out");
                self.put(at, Value::Refused);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let value = match &*text {
                    "" | "~" | "null" if plain => Value::Nothing,
                    _ => Value::Text(text),
                };
                self.put(at, value);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                self.begin(at, Open::List(at, Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                self.begin(at, Open::Map(at, Vec::new(), Key::Awaited))?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(at, items)) => self.put(at, Value::List(items)),
                Some(Open::Map(at, entries, _)) => self.put(at, Value::Map(entries)),
                None => {}
            },
        }
        Ok(())
    }

    fn begin(&mut self, at: Position, open: Open<'a>) -> Result<(), Problem> {
        if self.open.len() == MAX_DEPTH {
            let message = "lists and maps are nested deeper here than any policy is";
            return Err(Problem::new(self.file, at, message));
        }
        self.open.push(open);
        Ok(())
    }

    /// Adds a finished value to the innermost open list or map.
    fn put(&mut self, at: Position, value: Value<'a>) {
        let (entries, key) = match self.open.last_mut() {
            None => {
                self.root = Some(Node { at, value });
                return;
            }
            Some(Open::List(_, items)) => {
                items.push(Node { at, value });
                return;
            }
            Some(Open::Map(_, entries, key)) => (entries, key),
        };
        match std::mem::replace(key, Key::Awaited) {
            Key::Awaited => match value {
                Value::Text(text) => *key = Key::Read(text, at),
                Value::Refused => *key = Key::Refused,
                _ => {
                    *key = Key::Refused;
                    self.problem(at, "a key must be a plain word");
                }
            },
            Key::Refused => {}
            Key::Read(name, named_at) => {
                let first = entries.iter().find(|entry| entry.key == name);
                if let Some(first) = first {
                    let line = first.at.line;
                    let message =
                        format!("`{name}` is written twice here, first in line {line}; keep one");
                    self.problem(named_at, message);
                } else {
                    entries.push(Entry {
                        key: name,
                        at: named_at,
                        value: Node { at, value },
                    });
                }
            }
        }
    }

    fn refuse_extras(&mut self, at: Position, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.problem(at, "anchors (`&name`) are not allowed; leave it out");
        }
        if tagged {
            self.problem(at, "tags (`!name`) are not allowed; leave it out");
        }
    }

    fn problem(&mut self, at: Position, message: impl Into<String>) {
        self.problems.push(Problem::new(self.file, at, message));
    }
}
