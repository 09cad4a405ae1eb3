// SPDX-License-Identifier: Apache-2.0
//! Rule sets that tables are held to: one as acl generators write them, and hostile ones.

use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};
use sluice_packet::{EtherType, FlowKey};

use crate::matches::Match;
use crate::policy::{Defaults, Directions, Policy, Rule};
use crate::problem::Position;
use crate::states::States;
use crate::verdict::Verdict;

/// Ports that services are known by.
const SERVICES: [u16; 12] = [22, 25, 53, 80, 123, 179, 443, 514, 3306, 5060, 6443, 8080];

/// Source of numbers: splitmix64 (Steele, Lea and Flood, 2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u32) -> u32 {
        u32::try_from((u64::from(self.word()) * u64::from(sides)) >> 32).expect("less than sides")
    }

    pub(super) fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) >> 32).expect("half of a word")
    }

    pub(super) fn port(&mut self) -> u16 {
        u16::try_from(self.roll(1 << 16)).expect("sixteen bits")
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(u32::try_from(of.len()).expect("few")) as usize]
    }

    fn range(&mut self) -> RangeInclusive<u16> {
        let (a, b) = (self.port(), self.port());
        a.min(b)..=a.max(b)
    }
}

fn net(address: u32, bits: u8) -> IpNet {
    let net = Ipv4Net::new(address.into(), bits).expect("at most 32 bits");
    IpNet::V4(net.trunc())
}

fn rule(from: IpNet, to: IpNet, protocol: u8, ports: [Option<RangeInclusive<u16>>; 2]) -> Match {
    let [source_ports, ports] = ports.map(|ports| ports.into_iter().collect());
    Match {
        from: vec![from],
        to: vec![to],
        protocols: vec![protocol],
        source_ports,
        ports,
        ..Match::default()
    }
}

/// Rules between networks that share prefixes, with ports as access lists have them; specific ones first.
pub(super) fn acl(count: usize, seed: u64) -> Vec<Match> {
    let mut dice = Dice(seed);
    let bases: Vec<u32> = (0..count / 3 + 8)
        .map(|_| match dice.roll(4) {
            0 => 0x0a00_0000 | dice.word() >> 8,
            1 => 0xac10_0000 | dice.word() >> 12,
            2 => 0xc0a8_0000 | dice.word() >> 16,
            _ => 0x2000_0000 | dice.word() >> 1,
        })
        .collect();
    let mut rules: Vec<(u32, Match)> = (0..count)
        .map(|_| {
            let mut side = |lengths: &[u8]| {
                let base = dice.pick(&bases);
                let low = if dice.roll(2) == 0 {
                    dice.word() & 0xffff
                } else {
                    0
                };
                (base ^ low, dice.pick(lengths))
            };
            let (from, to) = (
                side(&[0, 8, 16, 16, 20, 24, 24, 24, 28, 32, 32, 32]),
                side(&[0, 16, 24, 24, 24, 27, 28, 32, 32, 32, 32, 32]),
            );
            let source = match dice.roll(16) {
                0 => Some(1024..=u16::MAX),
                1 => Some(dice.range()),
                _ => None,
            };
            let ports = match dice.roll(10) {
                0 => None,
                1..=5 => {
                    let port = dice.pick(&SERVICES);
                    Some(port..=port)
                }
                6 => Some(1024..=u16::MAX),
                7 | 8 => {
                    let first = 1024 + dice.port() / 2;
                    Some(first..=first + 99)
                }
                _ => Some(dice.range()),
            };
            let bits = u32::from(from.1) + u32::from(to.1);
            let protocol = dice.pick(&[6, 6, 6, 17]);
            let rule = rule(
                net(from.0, from.1),
                net(to.0, to.1),
                protocol,
                [source, ports],
            );
            (bits + dice.roll(24), rule)
        })
        .collect();
    rules.sort_by_key(|(specific, _)| u32::MAX - specific);
    rules.into_iter().map(|(_, rule)| rule).collect()
}

/// Short prefixes and wide ranges of ports in every rule: many rules hold for every packet.
pub(super) fn wide(count: usize) -> Vec<Match> {
    let mut dice = Dice(1);
    let rule = |_| {
        let mut side = |bits| net(dice.word(), bits);
        let (from, to) = (side(4), side(4));
        rule(from, to, 6, [Some(dice.range()), Some(dice.range())])
    };
    (0..count).map(rule).collect()
}

/// Rules each narrow in one coordinate and open in all others.
pub(super) fn cross(count: usize) -> Vec<Match> {
    let mut dice = Dice(2);
    let any = || net(0, 0);
    let rule = |number: usize| {
        let port = dice.port();
        match number % 4 {
            0 => rule(net(dice.word(), 32), any(), 6, [None, None]),
            1 => rule(any(), net(dice.word(), 32), 6, [None, None]),
            2 => rule(any(), any(), 6, [Some(port..=port), None]),
            _ => rule(any(), any(), 6, [None, Some(port..=port)]),
        }
    };
    (0..count).map(rule).collect()
}

/// All prefix lengths of four addresses, against each other.
pub(super) fn nest(count: usize) -> Vec<Match> {
    let mut dice = Dice(3);
    let addresses: [u32; 4] = std::array::from_fn(|_| dice.word());
    let rule = |_| {
        let bits = |dice: &mut Dice| u8::try_from(8 + dice.roll(25)).expect("at most 32");
        let (from, to) = (bits(&mut dice), bits(&mut dice));
        let (from, to) = (
            net(dice.pick(&addresses), from),
            net(dice.pick(&addresses), to),
        );
        let port = dice.port();
        rule(from, to, 17, [None, Some(port..=port)])
    };
    (0..count).map(rule).collect()
}

/// Rules from a network to another, with rectangles of ports at random: most are hidden by earlier ones.
pub(super) fn ports(count: usize) -> Vec<Match> {
    let mut dice = Dice(4);
    let (from, to) = (net(0x0a01_0000, 16), net(0x0a02_0300, 24));
    let rule = |_| rule(from, to, 6, [Some(dice.range()), Some(dice.range())]);
    (0..count).map(rule).collect()
}

/// Policy of these rules.
pub(super) fn policy(rules: &[Match]) -> Policy {
    let rule = |(number, matches): (usize, &Match)| Rule {
        name: None,
        comment: None,
        at: Position::default(),
        directions: Directions::Ingress,
        matches: matches.clone(),
        verdict: [Verdict::Accept, Verdict::Drop, Verdict::Reject][number % 3],
        log: number % 7 == 0,
        log_sample: 1,
        states: States::NEW,
        limit: None,
    };
    Policy {
        name: "set".to_owned(),
        comment: None,
        audit: false,
        stateful: false,
        file: "set.yaml".to_owned(),
        uplink: None,
        vlans: Vec::new(),
        default: Defaults {
            ingress: Verdict::Drop,
            egress: Verdict::Drop,
        },
        log_default: None,
        rules: rules.iter().enumerate().map(rule).collect(),
        sets: Vec::new(),
    }
}

/// Key within a rule at random, in one of eight at its corner, in one of eight just outside.
pub(super) fn key_near(dice: &mut Dice, rules: &[Match]) -> FlowKey {
    let rule = &rules[dice.roll(u32::try_from(rules.len()).expect("few")) as usize];
    let how = dice.roll(8);
    let address = |dice: &mut Dice, nets: &[IpNet]| {
        let Some(IpNet::V4(net)) = nets.first() else {
            return dice.word();
        };
        let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
        match how {
            0 if dice.roll(2) == 0 => first,
            0 => last,
            1 if dice.roll(4) == 0 => first.wrapping_sub(1),
            1 if dice.roll(4) == 0 => last.wrapping_add(1),
            _ => first | dice.word() & (last - first),
        }
    };
    let src = address(dice, &rule.from);
    let dst = address(dice, &rule.to);
    let port = |dice: &mut Dice, ranges: &[RangeInclusive<u16>]| match ranges.first() {
        None => dice.port(),
        Some(range) => match dice.roll(6) {
            0 => *range.start(),
            1 => *range.end(),
            2 if how == 1 => range.end().wrapping_add(1),
            _ => {
                range.start() + dice.port() % (range.end() - range.start()).saturating_add(1).max(1)
            }
        },
    };
    FlowKey {
        src: FlowKey::mapped(src.to_be_bytes()),
        dst: FlowKey::mapped(dst.to_be_bytes()),
        src_port: port(dice, &rule.source_ports),
        dst_port: port(dice, &rule.ports),
        ethertype: EtherType::IPV4,
        proto: rule.protocols.first().copied().unwrap_or(6),
        flags: FlowKey::IPV4 | FlowKey::PORTS,
        ..FlowKey::default()
    }
}
