// SPDX-License-Identifier: Apache-2.0
//! Policies from files: the meaning of the samples, and the exact messages of what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sluice_firewall::{Directions, IcmpTypes, Policy, Problem, Verdict};
use sluice_packet::Vid;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn sample(name: &str) -> Policy {
    let text = fs::read_to_string(folder("policies").join(name)).unwrap();
    Policy::parse(name, &text).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// Every file in `tests/refused` is refused with exactly the words in the file beside it. To write
/// those files anew after changing a message: `SLUICE_WRITE_EXPECTED=1 cargo test`, then read them.
#[test]
fn refusals_say_what_and_where() {
    let mut names: Vec<_> = fs::read_dir(folder("refused"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let problems = Policy::parse(name, &text).expect_err(name);
        let expected = path.with_extension("expected");
        if std::env::var_os("SLUICE_WRITE_EXPECTED").is_some() {
            fs::write(&expected, lines(&problems)).unwrap();
        }
        assert_eq!(
            lines(&problems),
            fs::read_to_string(&expected).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn voice_means_what_it_says() {
    let policy = sample("voice.yaml");
    assert_eq!(policy.name, "voice");
    assert_eq!(policy.uplink.as_deref(), Some("wire0"));
    let vids: Vec<u16> = policy
        .vlans
        .iter()
        .flat_map(|range| range.vids())
        .map(Vid::get)
        .collect();
    assert_eq!(
        vids,
        [210, 220, 221, 222, 223, 224, 225, 226, 227, 228, 229]
    );
    assert_eq!(
        (policy.default.ingress, policy.default.egress),
        (Verdict::Drop, Verdict::Accept)
    );
    assert_eq!(policy.rules.len(), 5);

    let sip = &policy.rules[0];
    assert_eq!(sip.name.as_deref(), Some("allow-sip"));
    assert_eq!((sip.at.line, sip.at.column), (7, 5));
    assert_eq!(sip.directions, Directions::Ingress);
    assert_eq!(
        sip.matches.from,
        ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    );
    assert_eq!(sip.matches.to, ["10.21.0.5/32".parse().unwrap()]);
    assert_eq!(sip.matches.protocols, [17]);
    assert_eq!(sip.matches.source_ports, [1024..=65535]);
    assert_eq!(sip.matches.ports, [5060..=5060, 5061..=5061]);
    assert_eq!((sip.verdict, sip.log), (Verdict::Accept, true));

    assert_eq!(
        policy.rules[2].matches.icmp_types,
        [0..=0, 3..=3, 8..=8, 11..=12].map(IcmpTypes::of)
    );
    assert_eq!(policy.rules[3].matches.ethertypes, [0x0806]);
    assert_eq!(policy.rules[4].directions, Directions::Egress);
    assert_eq!(policy.warnings(), []);
}

#[test]
fn what_is_left_out_drops() {
    let policy = sample("data.yaml");
    assert_eq!(policy.uplink, None);
    assert_eq!(policy.vlans[0].vids.first(), Vid::UNTAGGED);
    assert_eq!(
        (policy.default.ingress, policy.default.egress),
        (Verdict::Accept, Verdict::Drop)
    );
    assert_eq!(
        policy.rules[0].matches.source_macs[0].to_string(),
        "02:00:5e:10:00:01"
    );
    assert_eq!(policy.rules[3].matches.ethertypes, [0]);

    let policy = sample("named-only.yaml");
    assert_eq!((policy.vlans.len(), policy.rules.len()), (0, 0));
}

/// The form in the crate's documentation is the form that is read.
#[test]
fn documented_form() {
    let source = fs::read_to_string(folder("../src/lib.rs")).unwrap();
    let yaml: Vec<&str> = source
        .lines()
        .skip_while(|line| *line != "//! ```yaml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//!"))
        .collect();
    // One leading space is left on every line, which YAML does not mind.
    let policy = Policy::parse("lib.rs", &yaml.join("\n"));
    let policy = policy.unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    assert_eq!(policy.rules.len(), 3);
}

#[test]
fn nesting_is_bounded() {
    for text in [
        format!("name: {}", "[".repeat(200_000)),
        format!("name: {}", "{a: ".repeat(200_000)),
        format!("name:\n{}", "- ".repeat(200_000)),
    ] {
        let problems = Policy::parse("deep", &text).expect_err("deep");
        let text = lines(&problems);
        assert!(
            text.contains("nested deeper") || text.contains("recursion limit"),
            "{}",
            lines(&problems)
        );
    }
}

#[test]
fn addresses_in_flow_and_block() {
    let text = "name: a\nrules:\n- direction: both\n  from: [::/0, ::1, 1.2.3.4]\n  to:\n  - ::2\n  \
                - fe80::/10\n  verdict: drop\n";
    let policy = Policy::parse("a", text).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let from: Vec<String> = policy.rules[0]
        .matches
        .from
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(from, ["::/0", "::1/128", "1.2.3.4/32"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any text gives an answer, never a panic.
    #[test]
    fn any_text_is_answered(text in "[ -~\\n\\t\u{e9}\u{feff}]{0,200}") {
        let _ = Policy::parse("any", &text);
    }

    /// Nearly right texts give an answer, never a panic.
    #[test]
    fn damaged_samples_are_answered(
        place in any::<prop::sample::Index>(),
        length in 0usize..20,
        with in "[\\]\\[{}:,\\-&*!|>'\"% \\n\\ta0]{0,6}",
    ) {
        let text = fs::read_to_string(folder("policies").join("voice.yaml")).unwrap();
        let start = place.index(text.len());
        let end = (start + length).min(text.len());
        let damaged = format!("{}{with}{}", &text[..start], &text[end..]);
        if let Err(problems) = Policy::parse("damaged", &damaged) {
            prop_assert!(!problems.is_empty());
        }
    }
}
