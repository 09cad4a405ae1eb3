// SPDX-License-Identifier: Apache-2.0
//! Structure of a file: its keys, and where one is wrong.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_saphyr::Error;

use crate::Problem;

/// Parses the structure of the file `file`, whose text is `text`. An empty file has no keys. `see` says where the
/// form of the file is shown, as in `sluiced --help`.
///
/// # Errors
/// First problem of the structure: with a wrong one, what follows cannot be read.
pub fn parse<T: DeserializeOwned + Default>(
    file: &Path,
    text: &str,
    see: &str,
) -> Result<T, Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options::<Option<T>>(text, options)
        .map(Option::unwrap_or_default)
        .map_err(|error| problem(file, text, see, &error))
}

fn problem(file: &Path, text: &str, see: &str, error: &Error) -> Problem {
    let (line, column) = error
        .location()
        .map_or((0, 0), |at| (at.line(), at.column()));
    let (key, message) = match error.without_snippet() {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            field.clone(),
            format!(
                "there is no such key here: use one of {}",
                expected.join(", ")
            ),
        ),
        Error::DuplicateMappingKey { key, .. } => (
            key.clone().unwrap_or_default(),
            "this key is here twice: keep one of them".to_owned(),
        ),
        Error::NullIntoString { .. } => (
            key_before(text, line, column),
            "there is no value: write one, or leave the key out".to_owned(),
        ),
        _ => (
            key_before(text, line, column),
            one_line(&error.to_string(), see),
        ),
    };
    Problem {
        file: file.to_owned(),
        line,
        column,
        key,
        message,
    }
}

/// Last key written before a position: the one that a value of the wrong shape belongs to.
fn key_before(text: &str, line: u64, column: u64) -> String {
    let mut found = "";
    for (number, content) in (1u64..)
        .zip(text.lines())
        .take_while(|(number, _)| *number <= line)
    {
        let content = content.split(" #").next().unwrap_or_default();
        let chars = if number < line {
            usize::MAX
        } else {
            usize::try_from(column).unwrap_or(1)
        };
        let end = content
            .char_indices()
            .nth(chars)
            .map_or(content.len(), |(at, _)| at);
        for (colon, _) in content[..end].match_indices(':') {
            let ends_key = matches!(content[colon + 1..].chars().next(), None | Some(' '));
            let word = content[..colon]
                .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default();
            if ends_key && !word.is_empty() {
                found = word;
            }
        }
    }
    found.to_owned()
}

/// Message of the parser for structure that fits nothing: its first line, without the position.
fn one_line(message: &str, see: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = line.split(" at line ").next().unwrap_or(line);
    format!("{line}; see `{see}` for the form of the file")
}
