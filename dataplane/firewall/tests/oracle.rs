// SPDX-License-Identifier: Apache-2.0
//! Compiled tables say what the naive walk of the written rules says.

mod random;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use sluice_firewall::{
    Defaults, Direction, Directions, Hit, Match, Policy, Position, Rule, States, Table, Verdict,
    naive,
};
use sluice_packet::FlowKey;

/// Judges one by one, and in bursts of every length up to that of `keys`.
fn assert_agrees(policy: &Policy, keys: &[FlowKey]) {
    for direction in Direction::BOTH {
        let table = Table::compile(policy, direction);
        let expected: Vec<Hit> = keys
            .iter()
            .map(|key| naive::judge(policy, direction, key))
            .collect();
        for (key, expected) in keys.iter().zip(&expected) {
            assert_eq!(table.judge(key), *expected, "{key:?} {direction}");
            assert_eq!(table.hit(expected.rule), Some(*expected));
        }
        let blank = Hit {
            rule: u32::MAX,
            verdict: Verdict::Drop,
            log: false,
        };
        for length in [0, 1, 7, 8, 15, 16, 17, 64, keys.len()] {
            let length = length.min(keys.len());
            let mut hits = vec![blank; length + 3];
            assert_eq!(table.judge_burst(&keys[..length], &mut hits), length);
            assert_eq!(hits[..length], expected[..length]);
            assert_eq!(hits[length..], [blank; 3]);
            // Fewer places than keys.
            let mut hits = vec![blank; length / 2];
            assert_eq!(table.judge_burst(keys, &mut hits), length / 2);
            assert_eq!(hits, expected[..length / 2]);
        }
        let default = table.hit(table.default_slot()).map(|hit| hit.verdict);
        let written = policy.default.of(direction);
        let in_force = match policy.audit {
            true => written.audited(),
            false => written,
        };
        assert_eq!(default, Some(in_force));
        assert_eq!(table.slots(), table.default_slot() as usize + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn small_policies(
        policy in random::policy(0..24),
        keys in prop::collection::vec(random::key(), 1..80),
    ) {
        assert_agrees(&policy, &keys);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Sizes around those at which the table changes its form.
    #[test]
    fn policies_of_one_and_two_words(
        policy in prop_oneof![random::policy(92..100), random::policy(188..196)],
        keys in prop::collection::vec(random::key(), 80),
    ) {
        assert_agrees(&policy, &keys);
    }

    /// Matches in every block, on both sides of every boundary.
    #[test]
    fn large_policies(seed: u64, size in prop::sample::select(&[63, 64, 65, 127, 128, 129, 512, 513, 1024, 1025, 2048][..])) {
        let mut dice = Dice(seed);
        let policy = dice.policy(size);
        let keys: Vec<FlowKey> = (0..200).map(|_| dice.key_near(&policy)).collect();
        assert_agrees(&policy, &keys);
    }
}

#[test]
fn ten_thousand_rules() {
    let mut dice = Dice(10_000);
    let policy = dice.policy(10_000);
    let keys: Vec<FlowKey> = (0..300).map(|_| dice.key_near(&policy)).collect();
    assert_agrees(&policy, &keys);
    let decided = |key| naive::judge(&policy, Direction::Ingress, key).rule;
    assert!(keys.iter().any(|key| decided(key) < 1000));
    assert!(
        keys.iter()
            .any(|key| (9000..10_000).contains(&decided(key)))
    );
}

/// More blocks of rules than a row's summary has bits, and rules that have no condition at all.
#[test]
fn summaries_that_do_not_fit() {
    let default = Defaults {
        ingress: Verdict::Drop,
        egress: Verdict::Drop,
    };
    let rule = |matches| Rule {
        name: None,
        comment: None,
        at: Position::default(),
        directions: Directions::Ingress,
        matches,
        verdict: Verdict::Accept,
        log: false,
        log_sample: 1,
        states: States::NEW,
        limit: None,
    };
    let address = |number: u32| Ipv4Addr::from(0x0a00_0000 + number * 2);
    let rules = (0..33_500).map(|number| {
        rule(Match {
            to: vec![IpNet::from(IpAddr::V4(address(number)))],
            ..Match::default()
        })
    });
    let policy = random::named("many", default, rules.collect());
    let keys = [0, 511, 512, 32_255, 32_256, 33_000, 33_499, 33_500].map(|number| {
        let mut key = FlowKey::default();
        random::addresses(&mut key, address(7).into(), address(number).into());
        key
    });
    assert_agrees(&policy, &keys);

    let rules = vec![rule(Match::default()); 1100];
    let policy = random::named("all", default, rules);
    assert_agrees(&policy, &keys);
}

/// Rules as acl generators write them, and keys at the edges of a randomly chosen rule: too many
/// values for a strategy to shrink.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0);
        high % sides
    }

    fn prefix(&mut self) -> IpNet {
        let length = u8::try_from(12 + self.roll(21)).unwrap_or(32);
        let bits = 0x0a00_0000 | self.roll(1 << 24);
        let net = Ipv4Net::new(bits.into(), length).map(|net| net.trunc());
        net.map_or(IpNet::V4(Ipv4Net::default()), IpNet::V4)
    }

    fn ports(&mut self) -> std::ops::RangeInclusive<u16> {
        let first = u16::try_from(self.roll(60_000)).unwrap_or(0);
        let more = [0, 0, 9, 5000][self.roll(4) as usize];
        first..=first + more
    }

    fn policy(&mut self, size: usize) -> Policy {
        let rules = (0..size).map(|_| Rule {
            name: None,
            comment: None,
            at: Position::default(),
            directions: [Directions::Ingress, Directions::Both][self.roll(2) as usize],
            matches: Match {
                from: vec![self.prefix()],
                to: vec![self.prefix()],
                protocols: vec![[6, 17][self.roll(2) as usize]],
                source_ports: match self.roll(4) {
                    0 => vec![self.ports()],
                    _ => Vec::new(),
                },
                ports: match self.roll(4) {
                    0 => Vec::new(),
                    _ => vec![self.ports(), self.ports()],
                },
                ..Match::default()
            },
            verdict: [Verdict::Accept, Verdict::Drop][self.roll(2) as usize],
            log: self.roll(8) == 0,
            log_sample: 1,
            states: States::NEW,
            limit: None,
        });
        let default = Defaults {
            ingress: Verdict::Drop,
            egress: Verdict::Accept,
        };
        random::named("dice", default, rules.collect())
    }

    fn key_near(&mut self, policy: &Policy) -> FlowKey {
        let size = u32::try_from(policy.rules.len()).unwrap_or(u32::MAX);
        let rule = &policy.rules[self.roll(size) as usize].matches;
        // One time in eight just outside.
        let edge = |dice: &mut Dice, net: &IpNet| -> IpAddr {
            let outside = if dice.roll(8) == 0 { 2 } else { 0 };
            random::edge(net, outside + dice.roll(2))
        };
        let (src, dst) = (edge(self, &rule.from[0]), edge(self, &rule.to[0]));
        let mut port = |ranges: &[std::ops::RangeInclusive<u16>]| match ranges.first() {
            None => u16::try_from(self.roll(65536)).unwrap_or(0),
            Some(range) => match self.roll(10) {
                0 => range.end().wrapping_add(1),
                1 => range.start().wrapping_sub(1),
                2..=5 => *range.end(),
                _ => *range.start(),
            },
        };
        let ports = (port(&rule.source_ports), port(&rule.ports));
        let mut key = FlowKey {
            proto: rule.protocols[0],
            ..FlowKey::default()
        };
        random::addresses(&mut key, src, dst);
        let fragment = u8::try_from(self.roll(12)).unwrap_or(2);
        random::transport(&mut key, fragment, ports, (0, 0));
        key
    }
}
