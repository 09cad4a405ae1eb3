// SPDX-License-Identifier: Apache-2.0
//! JSON schema of policy files, for editors.

use super::json::{Json, map, text};
use super::kinds;
use crate::read::{Grammar, Key, POLICY_KEYS, SET_KEYS, Values};

/// Pattern of a named set's use.
const SET_PATTERN: &str = "^\\$[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";

/// JSON schema (2020-12) of a policy file. It has every key and word, and takes whatever the reader
/// takes; conditions on several keys together are the reader's alone.
#[must_use]
pub fn policy_schema() -> String {
    schema("Sluicegate policy", POLICY_KEYS)
}

/// JSON schema (2020-12) of a file of a named set, likewise.
#[must_use]
pub fn set_schema() -> String {
    schema("Sluicegate set", SET_KEYS)
}

fn schema(title: &str, keys: &[Key]) -> String {
    let kinds = kinds(keys).into_iter();
    let kinds = kinds.map(|kind| (slug(kind.name), of_kind(kind)));
    let Json::Map(mut members) = object(keys) else {
        return String::new();
    };
    let head = [
        (
            "$schema",
            text("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title", text(title)),
    ];
    members.splice(0..0, head.map(|(name, value)| (name.to_owned(), value)));
    members.push(("$defs".to_owned(), Json::Map(kinds.collect())));
    format!("{}\n", Json::Map(members))
}

/// Schema of a map with these keys.
fn object(keys: &[Key]) -> Json {
    let required = keys.iter().filter(|key| key.required);
    let properties = keys.iter().map(|key| {
        let Json::Map(mut schema) = of_values(key.values) else {
            return (key.name.to_owned(), Json::Bool(true));
        };
        let meaning = ("description".to_owned(), text(key.meaning));
        schema.insert(0, meaning);
        (key.name.to_owned(), Json::Map(schema))
    });
    map([
        ("type", text("object")),
        ("additionalProperties", Json::Bool(false)),
        (
            "required",
            Json::List(required.map(|key| text(key.name)).collect()),
        ),
        ("properties", Json::Map(properties.collect())),
    ])
}

fn of_values(values: Values) -> Json {
    match values {
        Values::One(kind) => reference(kind),
        Values::Some(kinds) => list(kinds, 1, true),
        Values::SomeOrNone(kinds) => list(kinds, 0, true),
        Values::NoneOf(kinds) | Values::AllOf(kinds) => list(kinds, 1, false),
        Values::Map(keys) => object(keys),
        Values::Maps(keys) => map([
            ("type", text("array")),
            ("minItems", Json::Number("1".to_owned())),
            ("items", object(keys)),
        ]),
    }
}

/// Schema of a value, or of a list of at least `least`; `open` to `any` and exceptions.
fn list(kinds: &[&Grammar], least: u8, open: bool) -> Json {
    let mut values: Vec<Json> = kinds.iter().map(|kind| reference(kind)).collect();
    let several = |values: Vec<Json>, least: u8| {
        let items = map([("anyOf", Json::List(values))]);
        map([
            ("type", text("array")),
            ("minItems", Json::Number(least.to_string())),
            ("items", items),
        ])
    };
    if kinds.iter().any(|kind| kind.set.is_some()) {
        values.push(map([
            ("type", text("string")),
            ("pattern", text(SET_PATTERN)),
            ("description", text("named set")),
        ]));
    }
    let plain = values.clone();
    if open && kinds.iter().any(|kind| kind.any) {
        values.push(map([("const", text("any"))]));
    }
    let mut items = values.clone();
    if open {
        let mut except = plain.clone();
        except.push(several(plain, 1));
        items.push(map([
            ("type", text("object")),
            ("additionalProperties", Json::Bool(false)),
            ("required", Json::List(vec![text("except")])),
            (
                "properties",
                map([("except", map([("anyOf", Json::List(except))]))]),
            ),
        ]));
    }
    values.push(several(items, least));
    map([("anyOf", Json::List(values))])
}

fn reference(kind: &Grammar) -> Json {
    map([("$ref", text(format!("#/$defs/{}", slug(kind.name))))])
}

/// Schema of the values of a kind. A YAML parser makes numbers and truth values of some texts; the
/// reader, which sees the text, takes them as it takes the others.
fn of_kind(kind: &Grammar) -> Json {
    let mut any_of: Vec<Json> = Vec::new();
    let words = (kind.words)();
    if words
        .iter()
        .all(|word| matches!(word.word, "true" | "false"))
        && !words.is_empty()
    {
        any_of.push(map([("type", text("boolean"))]));
    } else if !words.is_empty() {
        let mut allowed: Vec<Json> = words.iter().map(|word| text(word.word)).collect();
        let numbers = words.iter().filter(|word| word.word.parse::<f64>().is_ok());
        allowed.extend(numbers.map(|word| Json::Number(word.word.to_owned())));
        any_of.push(map([("enum", Json::List(allowed))]));
    }
    if let Some((least, most)) = kind.numbers {
        any_of.push(map([
            ("type", text("integer")),
            ("minimum", Json::Number(least.to_string())),
            ("maximum", Json::Number(most.to_string())),
        ]));
    } else if kind.takes_any_scalar {
        let types = ["number", "boolean"].map(text);
        any_of.push(map([("type", Json::List(types.into()))]));
    }
    for form in kind.forms {
        any_of.push(map([
            ("type", text("string")),
            ("pattern", text(format!("^({})$", form.pattern))),
            ("description", text(form.name)),
        ]));
    }
    map([("anyOf", Json::List(any_of))])
}

fn slug(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}
