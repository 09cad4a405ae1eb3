// SPDX-License-Identifier: Apache-2.0
//! Rules with conditions on header fields that differ within a flow: what they mean, what is refused, and
//! tables against the naive walk.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod random;

use proptest::prelude::*;
use sluice_firewall::{
    CompiledPolicy, Direction, HeaderMatch, Policy, PolicySet, Table, Verdict, naive,
};
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{Headers, InnerTag, Mac, VlanTag, arp, parse};

fn read(rules: &str) -> Policy {
    let text = format!("name: a\ndefault: {{ingress: drop}}\nrules:\n{rules}");
    let read = Policy::parse("a.yaml", &text);
    read.unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

fn refusal(rule: &str) -> String {
    let text = format!("name: a\nrules:\n  - {{direction: both, verdict: accept, {rule}}}\n");
    let problems = Policy::parse("a.yaml", &text).expect_err(rule);
    let problems = problems.iter().map(ToString::to_string);
    problems.collect::<Vec<_>>().join("\n")
}

/// Whether a rule of these conditions accepts a frame, by table and by the naive walk.
fn accepts(conditions: &str, frame: &[u8], priority: u8) -> bool {
    let policy = read(&format!(
        "  - {{direction: ingress, verdict: accept, {conditions}}}\n"
    ));
    let key = parse(frame, InnerTag::Allow).expect("a frame").key;
    let headers = Headers {
        priority,
        ..Headers::read(frame, &key)
    };
    let table = Table::compile(&policy, Direction::Ingress);
    let hit = table.judge_with(&key, &headers);
    let naive = naive::judge_with(&policy, Direction::Ingress, &key, &headers);
    assert_eq!(hit, naive, "{conditions}");
    hit.verdict == Verdict::Accept
}

fn builder<'a>() -> FrameBuilder<'a> {
    FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
}

fn v4<'a>() -> FrameBuilder<'a> {
    builder().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
}

fn tcp(flags: u8) -> Vec<u8> {
    let fields = TcpFields {
        src_port: 1024,
        dst_port: 80,
        seq: 1,
        ack: 0,
        flags,
        window: 1,
    };
    v4().tcp(fields).build()
}

#[test]
fn tcp_flags_are_all_set_and_the_negated_ones_all_clear() {
    let (syn, ack, rst) = (flag::SYN, flag::ACK, flag::RST);
    for (conditions, passing, dropped) in [
        ("tcp-flags: syn", vec![syn, syn | ack], vec![ack, 0]),
        (
            "tcp-flags: [syn, ack]",
            vec![syn | ack, 0xff],
            vec![syn, ack],
        ),
        ("not-tcp-flags: syn", vec![0, ack], vec![syn, syn | ack]),
        ("not-tcp-flags: [syn, rst]", vec![ack], vec![syn, rst]),
        (
            "tcp-flags: syn, not-tcp-flags: ack",
            vec![syn],
            vec![syn | ack, 0],
        ),
        (
            "tcp-flags: initial",
            vec![syn, syn | flag::ECE],
            vec![syn | ack, ack],
        ),
        (
            "tcp-flags: established",
            vec![ack, rst, syn | ack],
            vec![syn, 0],
        ),
        ("not-tcp-flags: established", vec![syn, 0], vec![ack, rst]),
        ("not-tcp-flags: initial", vec![syn | ack, ack, 0], vec![syn]),
        (
            "tcp-flags: established, not-tcp-flags: ack",
            vec![rst],
            vec![ack, rst | ack],
        ),
    ] {
        let conditions = format!("protocol: tcp, {conditions}");
        for flags in passing {
            assert!(
                accepts(&conditions, &tcp(flags), 0),
                "{conditions} {flags:#x}"
            );
        }
        for flags in dropped {
            assert!(
                !accepts(&conditions, &tcp(flags), 0),
                "{conditions} {flags:#x}"
            );
        }
    }
    let later = v4().proto(6).fragment(64, false).payload(&[2; 40]).build();
    assert!(!accepts("protocol: tcp, tcp-flags: syn", &later, 0));
    assert!(!accepts("protocol: tcp, not-tcp-flags: syn", &later, 0));
    assert!(accepts("protocol: tcp", &later, 0));
}

#[test]
fn class_and_ttl_of_both_ip_versions() {
    let v6 = builder().ipv6(
        "fd00::1".parse().expect("v6"),
        "fd00::2".parse().expect("v6"),
    );
    let arp = builder().ethertype(0x88b5).build();
    for ip in [v4(), v6] {
        let frame = ip.tos(46 << 2 | 1).ttl(255).udp(1, 2).build();
        assert!(accepts("dscp: [ef, cs6]", &frame, 0));
        assert!(accepts("not-dscp: default", &frame, 0));
        assert!(!accepts("dscp: 0x2d", &frame, 0));
        assert!(!accepts("not-dscp: 46", &frame, 0));
        assert!(accepts("ttl: 255", &frame, 0));
        assert!(accepts("ttl: 250-255, not-ttl: 254", &frame, 0));
        assert!(!accepts("ttl: 0-254", &frame, 0));
    }
    for conditions in ["dscp: 0", "not-dscp: 46", "ttl: 0-255", "not-ttl: 1"] {
        assert!(!accepts(conditions, &arp, 0), "{conditions}");
    }
}

#[test]
fn options_and_extension_headers() {
    let plain = v4().udp(1, 2).build();
    let alert = v4().ip_options(&[148, 4, 0, 0]).udp(1, 2).build();
    let v6 = builder().ipv6(
        "fd00::1".parse().expect("v6"),
        "fd00::2".parse().expect("v6"),
    );
    let hops = v6.clone().extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]).udp(1, 2);
    let (v6, hops) = (v6.udp(1, 2).build(), hops.build());
    for (conditions, expected) in [
        ("ip-options: none", [true, false, false, false]),
        ("ip-options: present", [false, true, false, false]),
        (
            "ip-options: [router-alert, timestamp]",
            [false, true, false, false],
        ),
        ("not-ip-options: router-alert", [true, false, false, false]),
        ("not-ip-options: record-route", [true, true, false, false]),
        ("extension-headers: none", [false, false, true, false]),
        ("extension-headers: present", [false, false, false, true]),
        ("extension-headers: hop-by-hop", [false, false, false, true]),
        (
            "not-extension-headers: [hop-by-hop, ah]",
            [false, false, true, false],
        ),
    ] {
        let found = [&plain, &alert, &v6, &hops].map(|frame| accepts(conditions, frame, 0));
        assert_eq!(found, expected, "{conditions}");
    }
}

#[test]
fn arp_operations_and_tags() {
    let fields = arp::ArpFields {
        operation: arp::REPLY,
        sender_mac: Mac([2, 0, 0, 0, 0, 1]),
        sender_ip: [10, 0, 0, 1].into(),
        target_mac: Mac([0; 6]),
        target_ip: [10, 0, 0, 2].into(),
    };
    let reply = builder().arp(fields).build();
    assert!(accepts("arp-operation: reply", &reply, 0));
    assert!(accepts("arp-operation: reply, from: 10.0.0.1", &reply, 0));
    assert!(!accepts("arp-operation: request", &reply, 0));
    assert!(!accepts(
        "ethertype: arp, not-arp-operation: [reply, 9]",
        &reply,
        0
    ));
    assert!(!accepts(
        "not-arp-operation: request",
        &v4().udp(1, 2).build(),
        0
    ));

    let plain = v4().udp(1, 2).build();
    assert!(accepts("pcp: [5, 6]", &plain, 5) && !accepts("pcp: 5", &plain, 0));
    assert!(accepts("not-pcp: 5", &plain, 0) && !accepts("not-pcp: 5", &plain, 5));
    let (tpid, tci) = (0x8100, 0x2123);
    let inner = builder().tag(VlanTag { tpid, tci });
    let inner = inner
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1, 2)
        .build();
    assert!(accepts("inner-vlan: 256-300, protocol: udp", &inner, 0));
    assert!(!accepts("inner-vlan: 256-300", &plain, 0));
    assert!(accepts("inner-vlan: untagged", &plain, 0));
    assert!(!accepts("not-inner-vlan: 291", &inner, 0));
}

#[test]
fn what_no_frame_can_meet_is_refused() {
    for (rule, words) in [
        ("tcp-flags: syn", "needs `protocol: tcp`"),
        (
            "protocol: [tcp, udp], tcp-flags: syn",
            "needs `protocol: tcp`",
        ),
        (
            "protocol: tcp, tcp-flags: syn, not-tcp-flags: [syn, fin]",
            "`syn` would have to be",
        ),
        ("protocol: tcp, tcp-flags: [initial, fin]", "stand alone"),
        ("protocol: tcp, tcp-flags: sync", "did you mean `syn`"),
        (
            "protocol: tcp, tcp-flags: [syn, except: ack]",
            "write `not-tcp-flags`",
        ),
        ("ethertype: arp, dscp: ef", "ipv4 or ipv6 only"),
        ("ethertype: ipv4, arp-operation: reply", "of ARP alone"),
        ("protocol: udp, arp-operation: reply", "of ARP alone"),
        ("dscp: 64", "not a DSCP"),
        ("pcp: 8", "not a priority"),
        ("ttl: 256", "not a TTL"),
        ("from: fd00::/8, ip-options: present", "no frame is both"),
        (
            "from: 10.0.0.0/8, extension-headers: none",
            "no frame is both",
        ),
    ] {
        let said = refusal(rule);
        assert!(said.contains(words), "{rule}: {said}");
    }
}

#[test]
fn as_many_conditions_as_a_frame_is_compared_with() {
    let rules = |count: usize| {
        let rule = |n| format!("  - {{direction: both, verdict: drop, ttl: {n}}}\n");
        let rules: String = (0..count).map(rule).collect();
        Policy::parse("a.yaml", &format!("name: a\nrules:\n{rules}"))
    };
    assert!(rules(32).is_ok());
    let problems = rules(33).expect_err("one more");
    assert!(problems[0].to_string().contains("more than 32 different"));
    let same = "  - {direction: both, verdict: drop, ttl: 9, to: 10.0.0.1}\n".repeat(40);
    assert!(Policy::parse("a.yaml", &format!("name: a\nrules:\n{same}")).is_ok());
}

#[test]
fn a_change_of_a_condition_is_another_rule() {
    let set = |version, condition: &str| {
        let rule = format!(
            "  - {{name: x, direction: ingress, protocol: tcp, {condition}, verdict: accept}}\n"
        );
        PolicySet::build(version, &[read(&rule)]).expect("a set")
    };
    let (old, new) = (set(1, "tcp-flags: syn"), set(2, "tcp-flags: ack"));
    let policy = |set: &PolicySet, of: &dyn Fn(&CompiledPolicy) -> bool| {
        of(set.policy(set.named("a").expect("it is there")))
    };
    let reads = |policy: &CompiledPolicy| policy.table(Direction::Ingress).reads_headers();
    assert!(policy(&old, &reads));
    let reads = |policy: &CompiledPolicy| policy.table(Direction::Egress).reads_headers();
    assert!(!policy(&old, &reads), "no rule of that direction has one");
    assert_eq!(sluice_firewall::carry_over(&old, &new).old_slot(0), None);
    let same = set(3, "tcp-flags: syn");
    assert_eq!(
        sluice_firewall::carry_over(&old, &same).old_slot(0),
        Some(0)
    );
}

#[test]
fn a_rule_behind_one_with_more_conditions_is_not_hidden() {
    let policy = read(
        "  - {direction: ingress, protocol: tcp, tcp-flags: syn, verdict: drop}
  - {direction: ingress, protocol: tcp, verdict: accept}
  - {direction: ingress, protocol: tcp, tcp-flags: ack, verdict: drop}\n",
    );
    let warnings = policy.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].to_string().contains("rule #3 never decides"));
}

/// Gives each rule of a policy conditions of a few, as policies have.
fn with_headers(mut policy: Policy, pool: &[HeaderMatch]) -> Policy {
    for (index, rule) in policy.rules.iter_mut().enumerate() {
        if let Some(headers) = pool.get(index * 7 % (pool.len() + 3)) {
            rule.matches.headers = headers.clone();
        }
    }
    policy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn tables_say_what_the_naive_walk_says(
        policy in random::policy(0..24),
        pool in prop::collection::vec(random::header_match(), 1..6),
        frames in prop::collection::vec((random::key(), random::headers()), 1..60),
    ) {
        let policy = with_headers(policy, &pool);
        for direction in Direction::BOTH {
            let table = Table::compile(&policy, direction);
            for (key, headers) in &frames {
                let expected = naive::judge_with(&policy, direction, key, headers);
                prop_assert_eq!(table.judge_with(key, headers), expected);
                let by_key = table.judge(key);
                prop_assert_eq!(by_key, naive::judge(&policy, direction, key));
                if !table.needs_headers(by_key) {
                    prop_assert_eq!(by_key, expected);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn large_tables_say_what_the_naive_walk_says(
        policy in random::policy(1000..1400),
        pool in prop::collection::vec(random::header_match(), 1..30),
        frames in prop::collection::vec((random::key(), random::headers()), 60),
    ) {
        let policy = with_headers(policy, &pool);
        let table = Table::compile(&policy, Direction::Ingress);
        for (key, headers) in &frames {
            let expected = naive::judge_with(&policy, Direction::Ingress, key, headers);
            prop_assert_eq!(table.judge_with(key, headers), expected);
        }
    }
}
