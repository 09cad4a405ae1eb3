// SPDX-License-Identifier: Apache-2.0
//! JSON text (RFC 8259), written with two spaces for each level.

use std::fmt;

/// JSON value.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Bool(bool),
    /// Number, in JSON's notation.
    Number(String),
    Text(String),
    List(Vec<Json>),
    /// Object; members in their order.
    Map(Vec<(String, Json)>),
}

/// Object of members in this order.
pub(super) fn map<const N: usize>(members: [(&str, Json); N]) -> Json {
    let members = members.map(|(name, value)| (name.to_owned(), value));
    Json::Map(members.into())
}

/// String.
pub(super) fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Json {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(number) => f.write_str(number),
            Json::Text(text) => write_text(f, text),
            Json::List(items) if items.iter().all(Json::is_plain) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    item.write(f, depth)?;
                }
                f.write_str("]")
            }
            Json::List(items) => write_lines(f, depth, ('[', ']'), items, |f, item| {
                item.write(f, depth + 1)
            }),
            Json::Map(members) => write_lines(f, depth, ('{', '}'), members, |f, (name, value)| {
                write_text(f, name)?;
                f.write_str(": ")?;
                value.write(f, depth + 1)
            }),
        }
    }

    fn is_plain(&self) -> bool {
        !matches!(self, Json::List(_) | Json::Map(_))
    }
}

/// Writes items on lines of their own between brackets.
fn write_lines<T>(
    f: &mut fmt::Formatter<'_>,
    depth: usize,
    (open, close): (char, char),
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{open}")?;
    for (index, item) in items.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}\n{:1$}", "", 2 * (depth + 1))?;
        write(f, item)?;
    }
    write!(f, "\n{:1$}{close}", "", 2 * depth)
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
