// SPDX-License-Identifier: Apache-2.0
//! Grammar against the reader: what the tables say is what is read.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use regex::Regex;

use super::kinds;
use crate::policy::Policy;
use crate::read::{Grammar, POLICY_KEYS, RULE_KEYS, Values};

fn read(text: &str) -> Result<Policy, String> {
    Policy::parse("grammar.yaml", text).map_err(|problems| {
        let lines = problems.iter().map(|problem| format!("{problem}\n"));
        lines.collect()
    })
}

/// Every notation and word of a kind.
fn samples(kind: &Grammar) -> Vec<String> {
    let forms = kind.forms.iter().flat_map(|form| form.examples);
    let words = (kind.words)().into_iter().map(|word| word.word);
    let any = kind.any.then_some("any");
    let all = forms.copied().chain(words).chain(any);
    all.map(str::to_owned).collect()
}

/// Keys that a rule needs beside this one, for a value of this kind.
fn companions(key: &str, kind: &Grammar) -> &'static str {
    match (key, kind.name) {
        ("icmp-type" | "not-icmp-type", "ICMPv6 types") => "protocol: icmpv6, ",
        ("icmp-type" | "not-icmp-type", _) => "protocol: icmp, ",
        ("icmp-code", _) => "protocol: icmp, icmp-type: 3, ",
        (key, _) if key.ends_with("ports") || key.ends_with("tcp-flags") => "protocol: tcp, ",
        _ => "",
    }
}

#[test]
fn every_value_of_every_key_is_read() {
    for key in RULE_KEYS {
        let kinds = match key.values {
            Values::One(kind) => vec![kind],
            Values::Some(kinds)
            | Values::SomeOrNone(kinds)
            | Values::NoneOf(kinds)
            | Values::AllOf(kinds) => kinds.to_vec(),
            // Limits are read in `tests/limits.rs`.
            Values::Map(_) => continue,
            Values::Maps(_) => unreachable!("a rule has no lists of maps"),
        };
        for kind in kinds {
            for sample in samples(kind) {
                if sample == "any" && matches!(key.values, Values::NoneOf(_)) {
                    continue;
                }
                let must = |name, rest| if key.name == name { "" } else { rest };
                let text = format!(
                    "name: a\nversion: 2\nrules: [{{{}{}{}{}: \"{sample}\"}}]",
                    must("direction", "direction: both, "),
                    must("verdict", "verdict: drop, "),
                    companions(key.name, kind),
                    key.name,
                );
                let policy = read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
                let bare = text.replace(&format!("{}: \"{sample}\"", key.name), "log: false");
                let is_absent = ["any", "false", "new"].contains(&&*sample);
                if !must(key.name, "x").is_empty() && !is_absent {
                    assert_ne!(Ok(policy), read(&bare), "`{text}` says nothing");
                }
            }
        }
    }
}

#[test]
fn every_example_matches_its_pattern() {
    for kind in kinds(POLICY_KEYS) {
        for form in kind.forms {
            let pattern = Regex::new(&format!("^({})$", form.pattern)).unwrap();
            for example in form.examples {
                assert!(pattern.is_match(example), "{example}: {pattern}");
            }
        }
        assert!(!samples(kind).is_empty(), "{} cannot be written", kind.name);
    }
}

#[test]
fn words_mean_their_numbers() {
    let matches = |rule: &str| {
        let text = format!("name: a\nrules: [{{direction: both, verdict: drop, {rule}}}]");
        let policy = read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        policy.rules[0].matches.clone()
    };
    let mut compared = 0;
    for key in RULE_KEYS {
        let Values::Some(kinds) = key.values else {
            continue;
        };
        for kind in kinds {
            for word in (kind.words)() {
                let Some(number) = word.number.filter(|number| number != "a length") else {
                    continue;
                };
                let of = |value: &str| {
                    matches(&format!(
                        "{}{}: \"{value}\"",
                        companions(key.name, kind),
                        key.name
                    ))
                };
                assert_eq!(of(word.word), of(&number), "{} {}", key.name, word.word);
                compared += 1;
            }
        }
    }
    assert!(compared > 250, "{compared}");
}
