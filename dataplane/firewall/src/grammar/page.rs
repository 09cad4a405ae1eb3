// SPDX-License-Identifier: Apache-2.0
//! Grammar page: every key, value and word, in markdown.

use std::fmt::Write;

use super::kinds;
use crate::read::{
    DEFAULT_KEYS, Grammar, IN_LISTS, IN_POLICIES, IN_RULES, Key, LIMIT_KEYS, POLICY_KEYS,
    RULE_KEYS, SET_KEYS, Values,
};

const HEAD: &str = "# Policy grammar

Every key, value and word of a policy file, written by the tables of its reader \
(`SLUICE_WRITE_EXPECTED=1 cargo test -p sluice-firewall --test grammar`). [Policies](policies.md) has the meaning and examples.
";

const SETS: &str = "
A set has one of `prefixes`, `ports`, `macs` and `vlans`. It lies in the folder `sets` beside the policies, \
one file a set. An empty list is a set that matches nothing.
";

const LISTS: &str = "
## Lists

A key with *one or several* values takes one value, or a list. In a list, an item `except` takes values \
out again: `from: [10.0.0.0/8, except: 10.1.0.0/16]`. The word `any` stands alone or with exceptions, and \
means what the absent key means. An empty list is refused, except for `vlans` and in a \
set.

A key that begins with `not-` matches frames that have the field, and in it none of the values. Exceptions \
are written at the key without `not-`.
";

/// Page with every key and value of policy files, in markdown.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    keys(&mut page, "Keys of a policy", POLICY_KEYS);
    keys(&mut page, "Keys of `default`", DEFAULT_KEYS);
    keys(&mut page, "Keys of a rule", RULE_KEYS);
    keys(&mut page, "Keys of `limit`", LIMIT_KEYS);
    keys(&mut page, "Keys of a named set", SET_KEYS);
    page.push_str(SETS);
    page.push_str(LISTS);
    foreign(&mut page);
    page.push_str("\n## Values\n");
    for kind in kinds(POLICY_KEYS) {
        values(&mut page, kind);
    }
    page
}

fn keys(page: &mut String, title: &str, keys: &[Key]) {
    line(page, format_args!("\n## {title}\n"));
    line(page, format_args!("| key | values | meaning |"));
    line(page, format_args!("|---|---|---|"));
    for key in keys {
        let must = if key.required { " (must be there)" } else { "" };
        let values = match key.values {
            Values::One(kind) => format!("one of [{}]({})", kind.name, anchor(kind)),
            Values::Some(kinds) | Values::SomeOrNone(kinds) => {
                format!("one or several of {}", links(kinds))
            }
            Values::NoneOf(kinds) => {
                format!("one or several of {}, none of which matches", links(kinds))
            }
            Values::AllOf(kinds) => {
                format!("one or several of {}, all of which match", links(kinds))
            }
            Values::Map(_) => "a map".to_owned(),
            Values::Maps(_) => "a list of maps".to_owned(),
        };
        let (name, meaning) = (key.name, key.meaning);
        line(
            page,
            format_args!("| `{name}`{must} | {values} | {meaning} |"),
        );
    }
}

/// Keys of other languages, with what to write for them.
fn foreign(page: &mut String) {
    line(page, format_args!("\n## Keys of other firewalls\n"));
    line(
        page,
        format_args!("They are refused, with the sentence that says what to write."),
    );
    for (title, keys) in [
        ("in a policy", IN_POLICIES),
        ("in a rule", IN_RULES),
        ("in a list", IN_LISTS),
    ] {
        line(page, format_args!("\n| {title} | |\n|---|---|"));
        for foreign in keys {
            line(
                page,
                format_args!("| `{}` | {} |", foreign.key, foreign.advice()),
            );
        }
    }
}

fn values(page: &mut String, kind: &Grammar) {
    let mut title = kind.name.to_owned();
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    line(page, format_args!("\n### {title}\n"));
    for form in kind.forms {
        let examples = form.examples.iter().map(|example| format!("`{example}`"));
        let examples: Vec<String> = examples.collect();
        line(
            page,
            format_args!("* {}: {}", form.name, examples.join(", ")),
        );
    }
    if let Some(key) = kind.set {
        line(
            page,
            format_args!("* `$name`: the values of a set with `{key}`"),
        );
    }
    if kind.any {
        line(page, format_args!("* `any`: as if the key were absent"));
    }
    let words = (kind.words)();
    if words.is_empty() {
        return;
    }
    let words = words.iter().map(|word| match &word.number {
        Some(number) => format!("`{}` {number}", word.word),
        None => format!("`{}`", word.word),
    });
    let words: Vec<String> = words.collect();
    line(page, format_args!("* {}", words.join(", ")));
}

fn links(kinds: &[&Grammar]) -> String {
    let links = kinds
        .iter()
        .map(|kind| format!("[{}]({})", kind.name, anchor(kind)));
    links.collect::<Vec<_>>().join(" or ")
}

fn anchor(kind: &Grammar) -> String {
    format!("#{}", kind.name.to_lowercase().replace(' ', "-"))
}

/// Adds a line; writing to a string does not fail.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(page, "{text}");
}
