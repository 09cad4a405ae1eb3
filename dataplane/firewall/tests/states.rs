// SPDX-License-Identifier: Apache-2.0
//! Rules by the state of a connection, and versions of the language.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod random;

use proptest::prelude::*;
use proptest::sample::select;
use sluice_firewall::{
    Direction, Policy, PolicySet, State, States, Table, Verdict, carry_over, naive,
};
use sluice_packet::{FlowKey, Headers};

fn refusal(text: &str) -> String {
    let problems = Policy::parse("a.yaml", text).expect_err(text);
    let problems = problems.iter().map(ToString::to_string);
    problems.collect::<Vec<_>>().join("\n")
}

fn read(text: &str) -> Policy {
    Policy::parse("a.yaml", text).unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

const POLICY: &str = "
name: a
version: 2
default: {ingress: drop, egress: accept}
rules:
  - {name: blocked, direction: both, from: 10.0.0.9, state: [established, related], verdict: drop}
  - {name: open, direction: ingress, verdict: accept}
  - {name: odd, direction: ingress, state: invalid, protocol: tcp, verdict: accept, log: true}
";

#[test]
fn a_rule_without_state_is_for_first_frames() {
    let policy = read(POLICY);
    assert!(policy.stateful);
    let states: Vec<States> = policy.rules.iter().map(|rule| rule.states).collect();
    let both = States::of([State::Established, State::Related]);
    assert_eq!(states, [both, States::NEW, States::of([State::Invalid])]);
    assert_eq!(policy.warnings(), [], "none hides another");

    let mut key = FlowKey::default();
    random::addresses(&mut key, [10, 0, 0, 9].into(), [10, 0, 0, 1].into());
    key.proto = 6;
    let verdicts = State::ALL.map(|state| {
        let table = Table::compile_in(&policy, Direction::Ingress, state);
        let hit = table.judge(&key);
        (hit.rule, hit.verdict)
    });
    let expected = [
        (1, Verdict::Accept),
        (0, Verdict::Drop),
        (0, Verdict::Drop),
        (2, Verdict::Accept),
    ];
    assert_eq!(verdicts, expected);
    random::addresses(&mut key, [10, 0, 0, 8].into(), [10, 0, 0, 1].into());
    key.proto = 17;
    let verdicts = State::ALL.map(|state| {
        let hit = Table::compile_in(&policy, Direction::Ingress, state).judge(&key);
        (hit.rule, hit.verdict)
    });
    let expected = [
        (1, Verdict::Accept),
        (3, Verdict::Accept),
        (3, Verdict::Accept),
        (3, Verdict::Drop),
    ];
    assert_eq!(verdicts, expected, "no rule: as the state says");
}

#[test]
fn tables_of_states_are_there_only_where_rules_name_them() {
    let set = PolicySet::build(1, &[read(POLICY)]).expect("a set");
    let policy = set.policy(set.named("a").expect("it is there"));
    let is_there = |direction| State::ALL.map(|s| policy.table_in(direction, s).is_some());
    assert_eq!(is_there(Direction::Ingress), [true; 4]);
    assert_eq!(
        is_there(Direction::Egress),
        [true; 4],
        "`blocked` is for both"
    );
    let plain = POLICY.replace("state: [established, related], ", "");
    let plain = PolicySet::build(1, &[read(&plain)]).expect("a set");
    let policy = plain.policy(plain.named("a").expect("it is there"));
    let is_there = |direction| State::ALL.map(|s| policy.table_in(direction, s).is_some());
    assert_eq!(is_there(Direction::Egress), [true, false, false, false]);
    let kept = carry_over(&set, &plain);
    assert_eq!(kept.old_slot(0), None, "`blocked` is another rule");
    assert_eq!(kept.old_slot(1), Some(1));
}

#[test]
fn a_version_says_what_a_file_means_that_does_not_say_it() {
    for (head, stateful) in [
        ("", false),
        ("version: 1\n", false),
        ("version: 2\n", true),
        ("version: 2\nstateful: false\n", false),
        ("version: 1\nstateful: true\n", true),
    ] {
        assert_eq!(
            read(&format!("name: a\n{head}")).stateful,
            stateful,
            "{head}"
        );
    }
    assert!(refusal("name: a\nversion: 3\n").contains("no version of the policy language"));
    assert!(refusal("name: a\nversion: two\n").contains("write 2"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let rule = |head: &str, rule: &str| {
        format!("name: a\n{head}rules:\n  - {{direction: both, verdict: {rule}}}\n")
    };
    let said = refusal(&rule("", "drop, state: established"));
    assert!(said.contains("write `stateful: true`"), "{said}");
    let said = refusal(&rule("version: 2\n", "reject, state: [new, invalid]"));
    assert!(said.contains("are not answered"), "{said}");
    let said = refusal(&rule("version: 2\n", "drop, state: estblished"));
    assert!(said.contains("did you mean `established`"), "{said}");
    assert!(refusal(&rule("version: 2\n", "drop, state: []")).contains("empty list"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn tables_of_each_state_say_what_the_naive_walk_says(
        policy in random::policy(0..24),
        states in prop::collection::vec(prop::collection::vec(select(&State::ALL[..]), 1..3), 24),
        conditions in prop::collection::vec(random::header_match(), 2),
        frames in prop::collection::vec((random::key(), random::headers()), 1..40),
    ) {
        let mut policy = policy;
        for (rule, states) in policy.rules.iter_mut().zip(&states) {
            rule.states = States::of(states.iter().copied());
        }
        for (rule, headers) in policy.rules.iter_mut().step_by(5).zip(conditions) {
            rule.matches.headers = headers;
        }
        for direction in Direction::BOTH {
            for state in State::ALL {
                let table = Table::compile_in(&policy, direction, state);
                for (key, headers) in &frames {
                    let expected = naive::judge_in(&policy, direction, state, key, headers);
                    prop_assert_eq!(table.judge_with(key, headers), expected);
                }
            }
            let table = Table::compile(&policy, direction);
            for (key, _) in &frames {
                let none = Headers::default();
                let expected = naive::judge_with(&policy, direction, key, &none);
                prop_assert_eq!(table.judge_with(key, &none), expected);
            }
        }
    }
}
