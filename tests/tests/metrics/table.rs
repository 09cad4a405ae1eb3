// SPDX-License-Identifier: Apache-2.0
//! Table of `docs/metrics.md`, and what a scrape says of the same families.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::checkout;

/// Family as the page or a scrape has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) labels: BTreeSet<String>,
    pub(crate) help: String,
}

/// Reads the page's table, by the name of the family in OpenMetrics.
pub(crate) fn page() -> BTreeMap<String, Family> {
    let text = fs::read_to_string(checkout().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `s"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, unit, labels, help, bound] = cells[..] else {
            panic!("{row}");
        };
        assert!(!bound.is_empty(), "{row}");
        let bare = |text: &str| text.replace('`', "");
        let family = Family {
            kind: kind.to_owned(),
            unit: unit.to_owned(),
            labels: labels
                .split(", ")
                .map(bare)
                .filter(|l| !l.is_empty())
                .collect(),
            help: help.to_owned(),
        };
        (family_name(&bare(name), kind).to_owned(), family)
    })
    .collect()
}

fn family_name<'a>(sample: &'a str, kind: &str) -> &'a str {
    let suffix = match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    sample.strip_suffix(suffix).unwrap()
}

/// Names that samples of a family can have.
pub(crate) fn sample_names(family: &str, kind: &str) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        "counter" => &["_total"],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    suffixes.iter().map(|s| format!("{family}{s}")).collect()
}

/// Reads the families of a scrape in the OpenMetrics format.
pub(crate) fn served(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next()) {
            (Some("#"), Some("EOF")) => {}
            (Some("#"), Some(what)) => {
                name = words.next().unwrap().to_owned();
                let rest = words.next().unwrap_or_default().to_owned();
                let family = families.entry(name.clone()).or_default();
                match what {
                    "HELP" => family.help = rest,
                    "TYPE" => family.kind = rest,
                    "UNIT" => family.unit = rest,
                    other => panic!("{other}"),
                }
            }
            _ => {
                let (sample, rest) = line.split_once(['{', ' ']).unwrap();
                let family = families.get_mut(&name).unwrap();
                assert!(
                    sample_names(&name, &family.kind)
                        .iter()
                        .any(|n| n == sample),
                    "{line} is not of {name}"
                );
                if !line.contains('{') {
                    continue;
                }
                let labels = rest.split("=\"").map(|part| {
                    let start = part.rfind(['"', ',']).map_or(0, |at| at + 1);
                    part[start..].to_owned()
                });
                // The last part is the last value.
                let labels: Vec<String> = labels.collect();
                let names = &labels[..labels.len() - 1];
                family
                    .labels
                    .extend(names.iter().filter(|l| *l != "le").cloned());
            }
        }
    }
    families
}
