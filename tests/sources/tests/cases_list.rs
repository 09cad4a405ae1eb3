// SPDX-License-Identifier: Apache-2.0
//! Check of `tests/cases.md`: every case has its number, and every test it names exists.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;

use sluice_sources::root;

/// Number of the last case.
const LAST: u32 = 52;

/// Row of the list of cases.
struct Row<'a> {
    number: u32,
    expected: &'a str,
    /// Name and file of each test.
    tests: Vec<(&'a str, &'a str)>,
}

/// Reads the rows of all tables whose first column is a number.
fn rows(text: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, expected, tests, _] = columns[..] else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        let tests = tests
            .split('[')
            .skip(1)
            .map(|link| {
                let (name, rest) = link.split_once("](").unwrap();
                (name, rest.split_once(')').unwrap().0)
            })
            .collect();
        rows.push(Row {
            number,
            expected,
            tests,
        });
    }
    rows
}

#[test]
fn every_case_is_in_the_list_once_at_least_and_in_order() {
    let text = fs::read_to_string(root().join("tests/cases.md")).unwrap();
    let numbers: Vec<u32> = rows(&text).iter().map(|row| row.number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let seen: BTreeSet<u32> = numbers.into_iter().collect();
    assert_eq!(seen, (1..=LAST).collect());
}

#[test]
fn every_case_says_what_is_expected_and_names_tests_that_exist() {
    let folder = root().join("tests");
    let text = fs::read_to_string(folder.join("cases.md")).unwrap();
    for Row {
        number,
        expected,
        tests,
    } in rows(&text)
    {
        assert!(!expected.is_empty(), "case {number} expects nothing");
        assert!(!tests.is_empty(), "case {number} names no test");
        for (name, file) in tests {
            let source = fs::read_to_string(folder.join(file));
            let source = source.unwrap_or_else(|error| panic!("case {number}: {file}: {error}"));
            // A case over VFs is a line of a table, any other a function.
            let there =
                source.contains(&format!("fn {name}(")) || source.contains(&format!("\"{name}\""));
            assert!(there, "case {number}: {file} has no test {name}");
        }
    }
}
