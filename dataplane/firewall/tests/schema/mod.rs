// SPDX-License-Identifier: Apache-2.0
//! Validator for the part of JSON schema that the policies' schema uses. A keyword that it does not
//! know fails the test.

use std::collections::BTreeMap;

use regex::Regex;
use saphyr_parser::{Event, Parser, ScalarStyle};

/// Value as editors see it: YAML's core schema (YAML 1.2.2, 10.3), of which JSON is a part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Data>),
    Map(BTreeMap<String, Data>),
}

/// Parses one document of YAML or JSON.
pub(crate) fn load(text: &str) -> Data {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<(Data, Option<String>)> = Vec::new();
    while let Some(event) = parser.next_event() {
        let value = match event.expect("YAML").0 {
            Event::SequenceStart(..) => {
                open.push((Data::List(Vec::new()), None));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((Data::Map(BTreeMap::new()), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().expect("begun").0,
            Event::Scalar(text, ScalarStyle::Plain, ..) => scalar(&text),
            Event::Scalar(text, ..) => Data::Text(text.into_owned()),
            _ => continue,
        };
        match open.last_mut() {
            None => return value,
            Some((Data::List(items), _)) => items.push(value),
            Some((Data::Map(members), key)) => match key.take() {
                Some(name) => {
                    members.insert(name, value);
                }
                None => *key = Some(key_text(value)),
            },
            Some(_) => unreachable!("only lists and maps are open"),
        }
    }
    panic!("no document")
}

fn key_text(value: Data) -> String {
    match value {
        Data::Text(text) => text,
        other => panic!("{other:?} as a key"),
    }
}

fn scalar(text: &str) -> Data {
    match text {
        "" | "~" | "null" => Data::Null,
        "true" | "false" => Data::Bool(text == "true"),
        _ => {
            let hex = text.strip_prefix("0x");
            let hex = hex.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
            match hex.map(f64::from).or_else(|| text.parse().ok()) {
                Some(number) if is_number => Data::Number(number),
                _ => Data::Text(text.to_owned()),
            }
        }
    }
}

impl Data {
    fn get(&self, key: &str) -> Option<&Data> {
        match self {
            Data::Map(members) => members.get(key),
            _ => None,
        }
    }

    fn items(&self) -> &[Data] {
        match self {
            Data::List(items) => items,
            other => panic!("{other:?} is no list"),
        }
    }

    fn text(&self) -> &str {
        match self {
            Data::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    fn is_of_type(&self, name: &str) -> bool {
        match name {
            "object" => matches!(self, Data::Map(_)),
            "array" => matches!(self, Data::List(_)),
            "string" => matches!(self, Data::Text(_)),
            "boolean" => matches!(self, Data::Bool(_)),
            "number" => matches!(self, Data::Number(_)),
            "integer" => matches!(self, Data::Number(number) if number.fract() == 0.0),
            other => panic!("type {other}"),
        }
    }
}

/// Checks `data` against `schema`, a part of `root`.
///
/// # Errors
/// First place that does not agree.
pub(crate) fn validate(root: &Data, schema: &Data, data: &Data) -> Result<(), String> {
    let Data::Map(keywords) = schema else {
        panic!("{schema:?} as a schema");
    };
    for (keyword, value) in keywords {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let mut target = root;
                for part in value.text().trim_start_matches("#/").split('/') {
                    target = target.get(part).expect("a target");
                }
                validate(root, target, data)?;
                true
            }
            "type" => match value {
                Data::Text(name) => data.is_of_type(name),
                names => names
                    .items()
                    .iter()
                    .any(|name| data.is_of_type(name.text())),
            },
            "const" => data == value,
            "enum" => value.items().contains(data),
            "pattern" => match data {
                Data::Text(text) => Regex::new(value.text()).expect("a pattern").is_match(text),
                _ => true,
            },
            "minimum" | "maximum" => match (data, value) {
                (Data::Number(number), Data::Number(bound)) if keyword == "minimum" => {
                    number >= bound
                }
                (Data::Number(number), Data::Number(bound)) => number <= bound,
                _ => true,
            },
            "anyOf" => {
                let mut all = value.items().iter();
                all.any(|one| validate(root, one, data).is_ok())
            }
            "required" => match data {
                Data::Map(members) => {
                    let mut names = value.items().iter();
                    names.all(|name| members.contains_key(name.text()))
                }
                _ => true,
            },
            "properties" => {
                if let (Data::Map(members), Data::Map(known)) = (data, value) {
                    for (name, member) in members {
                        if let Some(schema) = known.get(name) {
                            validate(root, schema, member)
                                .map_err(|why| format!("{name}: {why}"))?;
                        }
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(*value, Data::Bool(false), "{keyword}");
                let known = schema.get("properties");
                match data {
                    Data::Map(members) => {
                        let mut names = members.keys();
                        names.all(|name| known.and_then(|known| known.get(name)).is_some())
                    }
                    _ => true,
                }
            }
            "items" => {
                if let Data::List(items) = data {
                    for item in items {
                        validate(root, value, item)?;
                    }
                }
                true
            }
            "minItems" => match (data, value) {
                (Data::List(items), Data::Number(least)) => items.len() as f64 >= *least,
                _ => true,
            },
            other => panic!("keyword {other}"),
        };
        if !holds {
            return Err(format!("{keyword} refuses {data:?}"));
        }
    }
    Ok(())
}
