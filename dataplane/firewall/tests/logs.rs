// SPDX-License-Identifier: Apache-2.0
//! Logs of rules and of defaults: how they are read, and what hits say of them.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use sluice_firewall::{Direction, Directions, Policy, PolicySet, Table, naive};
use sluice_packet::FlowKey;

fn read(text: &str) -> Result<Policy, String> {
    Policy::parse("a.yaml", text).map_err(|problems| {
        let problems = problems.iter().map(ToString::to_string);
        problems.collect::<Vec<_>>().join("\n")
    })
}

#[test]
fn a_sample_is_one_of_so_many() {
    let rule = |log: &str| {
        read(&format!(
            "name: a\nrules:\n  - {{direction: both, verdict: drop, log: {log}}}\n"
        ))
    };
    for (log, expected) in [
        ("true", (true, 1)),
        ("false", (false, 1)),
        ("1/1", (true, 1)),
        ("1/100", (true, 100)),
        ("1/1000000", (true, 1_000_000)),
    ] {
        let policy = rule(log).expect(log);
        let found = (policy.rules[0].log, policy.rules[0].log_sample);
        assert_eq!(found, expected, "{log}");
    }
    for log in ["1/0", "1/1000001", "1/", "1/x", "1/-5"] {
        let said = rule(log).expect_err(log);
        assert!(said.contains("write 1/N"), "{log}: {said}");
    }
    assert!(
        rule("100")
            .expect_err("no sample")
            .contains("1/100 for one of a hundred")
    );
}

#[test]
fn a_set_has_the_samples_by_slot() {
    let text = "name: a
rules:
  - {direction: egress, verdict: drop, to: 10.0.0.1, log: true}
  - {direction: both, verdict: drop, to: 10.0.0.2, log: 1/50}
";
    let set = PolicySet::build(1, &[read(text).expect("good")]).expect("a set");
    let policy = set.policy(set.named("a").expect("it is there"));
    let samples = |direction| [0, 1, 2].map(|slot| policy.log_sample(direction, slot));
    assert_eq!(samples(Direction::Ingress), [50, 1, 1]);
    assert_eq!(samples(Direction::Egress), [1, 50, 1]);
}

#[test]
fn a_default_logs_in_the_directions_it_names() {
    for (log, expected) in [
        ("", None),
        (", log: ingress", Some(Directions::Ingress)),
        (", log: both", Some(Directions::Both)),
    ] {
        let text = format!("name: a\ndefault: {{ingress: drop, egress: accept{log}}}\n");
        let policy = read(&text).expect(log);
        assert_eq!(policy.log_default, expected);
        for direction in Direction::BOTH {
            let hit = Table::compile(&policy, direction).judge(&FlowKey::default());
            let logs = expected.is_some_and(|directions| directions.includes(direction));
            assert_eq!(hit.log, logs, "{log} {direction}");
            assert_eq!(hit, naive::judge(&policy, direction, &FlowKey::default()));
        }
    }
    let said = read("name: a\ndefault: {log: true}\n").expect_err("no direction");
    assert!(said.contains("not a direction"), "{said}");
}
