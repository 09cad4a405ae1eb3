// SPDX-License-Identifier: Apache-2.0
//! Grammar page and JSON schema: they are those of the reader, and every policy in the repository
//! agrees with them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use schema::{load, validate};
use sluice_firewall::{NamedSet, NamedSets, Policy, grammar};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Compares a file with what is generated, or writes it with `SLUICE_WRITE_EXPECTED=1`.
fn assert_is_in(path: &str, generated: &str) {
    let file = repository(path);
    if std::env::var_os("SLUICE_WRITE_EXPECTED").is_some() {
        fs::write(&file, generated).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap() == generated,
        "{path} is not what the reader says: write it anew with SLUICE_WRITE_EXPECTED=1 cargo test \
         -p sluice-firewall --test grammar"
    );
}

#[test]
fn page_and_schema_are_the_readers() {
    assert_is_in("docs/policy-grammar.md", &grammar::page());
    assert_is_in("deploy/policy.schema.json", &grammar::policy_schema());
    assert_is_in("deploy/policy-set.schema.json", &grammar::set_schema());
}

fn yaml_files(folder: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(repository(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text)
    };
    paths.into_iter().map(read).collect()
}

/// Policies and sets in a markdown file: its blocks of YAML that begin with a name.
fn blocks(path: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(repository(path)).unwrap();
    let blocks = text.split("\n```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split_once("\n```").map(|(block, _)| block));
    let policies = blocks.filter(|block| block.starts_with("name:"));
    policies
        .map(|block| (path.to_owned(), block.to_owned()))
        .collect()
}

/// Every policy that users are shown, and those of the reader's tests.
fn policies() -> Vec<(String, String)> {
    let folders = [
        "deploy/policies",
        "deploy/samples/site/policies",
        "deploy/vfirewall/policies",
        "dataplane/firewall/tests/policies",
    ];
    let mut found: Vec<_> = folders.into_iter().flat_map(yaml_files).collect();
    for file in [
        "docs/policies.md",
        "docs/node.md",
        "docs/virtual-firewall.md",
    ] {
        found.extend(blocks(file).into_iter().filter(|(_, text)| !is_set(text)));
    }
    found
}

/// Whether a block is a set with prefixes rather than a policy.
fn is_set(text: &str) -> bool {
    text.contains("\nprefixes:")
}

/// Named sets that the samples use.
fn sets() -> NamedSets {
    let files = [
        "deploy/policies/sets",
        "dataplane/firewall/tests/policies/sets",
    ];
    let files = files.into_iter().flat_map(yaml_files);
    NamedSets::new(files.map(|(name, text)| NamedSet::parse(&name, &text).unwrap())).unwrap()
}

#[test]
fn every_sample_is_valid() {
    let schema = load(&grammar::policy_schema());
    let policies = policies();
    assert!(policies.len() >= 9, "{policies:?}");
    for (name, text) in policies {
        if let Err(problems) = Policy::parse_with(&name, &text, &sets()) {
            panic!("{problems:#?}");
        }
        let found = validate(&schema, &schema, &load(&text));
        assert_eq!(found, Ok(()), "{name}");
    }
}

/// Refusals of a key, a word or a shape are the same in reader and schema.
#[test]
fn the_schema_refuses() {
    let schema = load(&grammar::policy_schema());
    let refused = |text: &str| validate(&schema, &schema, &load(text)).is_err();
    for (name, text) in yaml_files("dataplane/firewall/tests/refused") {
        let by_schema = [
            "bad-values",
            "unknown-keys",
            "shapes",
            "rules-",
            "list.yaml",
        ];
        if by_schema.iter().any(|part| name.contains(part)) {
            assert!(refused(&text), "{name}");
        }
    }
    let rule = |rule: &str| format!("name: a\nrules: [{{direction: both, verdict: drop, {rule}}}]");
    assert!(!refused(&rule("from: any")));
    for wrong in [
        "from: all",
        "not-from: any",
        "protocol: 256",
        "protocol: tpc",
        "ports: [80, [443]]",
        "ports: []",
        "ethertype: 802.4",
        "log: yes",
        "fragments: [first]",
        "from: [{except: 10.0.0.0/8, of: 10.0.0.0/7}]",
        "from: {except: 10.0.0.0/8}",
        "colour: red",
    ] {
        assert!(refused(&rule(wrong)), "{wrong}");
    }
}

#[test]
fn sets_are_valid() {
    let schema = load(&grammar::set_schema());
    let check = |text: &str| validate(&schema, &schema, &load(text));
    let samples = yaml_files("deploy/policies/sets");
    let tests = yaml_files("dataplane/firewall/tests/policies/sets");
    let blocks = blocks("docs/policies.md").into_iter();
    let blocks: Vec<_> = blocks.filter(|(_, text)| is_set(text)).collect();
    assert!(!samples.is_empty() && !tests.is_empty() && !blocks.is_empty());
    for (name, text) in samples.into_iter().chain(tests).chain(blocks) {
        if let Err(problems) = NamedSet::parse(&name, &text) {
            panic!("{problems:#?}");
        }
        assert_eq!(check(&text), Ok(()), "{name}");
    }
    for wrong in [
        "prefixes: []",
        "name: a\nprefix: []",
        "name: a\nports: [x]",
        "name: a\nmacs: {}",
    ] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}
