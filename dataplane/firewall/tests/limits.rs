// SPDX-License-Identifier: Apache-2.0
//! Limits of rules: how they are read, and where a set has them.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use sluice_firewall::{Direction, Limit, LimitScope, Policy, PolicySet};

fn read(rule: &str) -> Result<Policy, String> {
    let text = format!("name: a\nrules:\n  - {{direction: ingress, {rule}}}\n");
    Policy::parse("a.yaml", &text).map_err(|problems| {
        let problems = problems.iter().map(ToString::to_string);
        problems.collect::<Vec<_>>().join("\n")
    })
}

fn limit(text: &str) -> Limit {
    let policy = read(&format!("verdict: accept, limit: {text}")).expect(text);
    policy.rules[0].limit.expect("it has one")
}

#[test]
fn rates_bursts_and_scopes() {
    let expected = Limit {
        frames: Some(1000),
        bytes: None,
        burst_ms: 100,
        per: LimitScope::Attachment,
    };
    assert_eq!(limit("{frames: 1000/s}"), expected);
    let expected = Limit {
        frames: Some(20_000),
        bytes: Some(10_000_000),
        burst_ms: 2000,
        per: LimitScope::Source,
    };
    let text = "{frames: 20k/s, bytes: 10M/s, burst: 2s, per: source}";
    assert_eq!(limit(text), expected);
    assert_eq!(
        limit("{bytes: 100G/s, burst: 5ms}").bytes,
        Some(100_000_000_000)
    );
    assert_eq!(
        read("verdict: accept").expect("no limit").rules[0].limit,
        None
    );
}

#[test]
fn what_is_no_limit_is_refused() {
    for (rule, words) in [
        ("verdict: accept, limit: {}", "needs `frames` or `bytes`"),
        (
            "verdict: accept, limit: {per: source}",
            "needs `frames` or `bytes`",
        ),
        ("verdict: accept, limit: 10/s", "must be a map"),
        ("verdict: accept, limit: {frames: 10}", "is not a rate"),
        ("verdict: accept, limit: {frames: 0/s}", "is not a rate"),
        ("verdict: accept, limit: {frames: -5/s}", "is not a rate"),
        ("verdict: accept, limit: {bytes: 101G/s}", "is not a rate"),
        (
            "verdict: accept, limit: {bytes: 99999999999999999999G/s}",
            "is not a rate",
        ),
        ("verdict: accept, limit: {frames: 1kk/s}", "is not a rate"),
        (
            "verdict: accept, limit: {frames: 1/s, burst: 11s}",
            "length of a burst",
        ),
        (
            "verdict: accept, limit: {frames: 1/s, burst: 0ms}",
            "length of a burst",
        ),
        (
            "verdict: accept, limit: {frames: 1/s, burst: 5}",
            "length of a burst",
        ),
        (
            "verdict: accept, limit: {frames: 1/s, per: pod}",
            "not a scope of a limit",
        ),
        (
            "verdict: drop, limit: {frames: 1/s}",
            "goes with `verdict: accept`",
        ),
        (
            "verdict: accept, meter: x",
            "write `limit: {frames: 1000/s}`",
        ),
    ] {
        let said = read(rule).expect_err(rule);
        assert!(said.contains(words), "{rule}: {said}");
    }
}

#[test]
fn as_many_limits_as_there_are_buckets_for() {
    let rules = |count: usize| {
        let rule = |n| {
            format!(
                "  - {{direction: both, verdict: accept, to: 10.0.0.{n}, limit: {{frames: 1/s}}}}\n"
            )
        };
        let rules: String = (1..=count).map(rule).collect();
        Policy::parse("a.yaml", &format!("name: a\nrules:\n{rules}"))
    };
    assert!(rules(16).is_ok());
    let problems = rules(17).expect_err("one more");
    assert!(problems[0].to_string().contains("more than 16 rules"));
}

#[test]
fn a_set_has_the_limits_by_slot_and_an_audited_policy_none() {
    let text = "name: a
rules:
  - {direction: egress, verdict: accept, to: 10.0.0.1}
  - {direction: ingress, verdict: accept, to: 10.0.0.2, limit: {frames: 1/s}}
  - {direction: ingress, verdict: accept, to: 10.0.0.3}
";
    let limits = |text: &str| {
        let policy = Policy::parse("a.yaml", text).expect(text);
        let set = PolicySet::build(1, &[policy]).expect("a set");
        let policy = set.policy(set.named("a").expect("it is there"));
        Direction::BOTH.map(|direction| {
            let slots = 0..4;
            let found = slots.filter(|&slot| policy.limit(direction, slot).is_some());
            found.collect::<Vec<u32>>()
        })
    };
    assert_eq!(limits(text), [vec![0], vec![]]);
    assert_eq!(limits(&format!("audit: true\n{text}")), [vec![], vec![]]);
}
