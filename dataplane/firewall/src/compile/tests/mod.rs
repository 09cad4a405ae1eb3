// SPDX-License-Identifier: Apache-2.0
//! Tables of every size and of hostile rules judge as the naive walk does, on every path of this CPU, and
//! stay within their bounds: counted, never timed.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod sets;

use sluice_packet::FlowKey;

use crate::compile::axis::Axis;
use crate::compile::blocks::Blocked;
use crate::compile::region::Region;
use crate::compile::size::Size;
use crate::matches::Match;
use crate::naive;
use crate::simd::{LANES, Simd};
use crate::table::{Hit, Table};
use crate::verdict::{Direction, Verdict};
use sets::{Dice, acl, cross, key_near, nest, policy, ports, wide};

const INGRESS: Direction = Direction::Ingress;

fn keys(rules: &[Match], count: usize) -> Vec<FlowKey> {
    let mut dice = Dice(77);
    (0..count).map(|_| key_near(&mut dice, rules)).collect()
}

/// First rules that match, by the naive walk; the number of rules where none does.
fn expected(rules: &[Match], keys: &[FlowKey]) -> Vec<Hit> {
    let policy = policy(rules);
    keys.iter()
        .map(|key| naive::judge(&policy, INGRESS, key))
        .collect()
}

fn assert_agrees(rules: &[Match], keys: &[FlowKey]) {
    let expected = expected(rules, keys);
    let policy = policy(rules);
    for simd in Simd::available() {
        let table = Table::compile_for(&policy, INGRESS, simd);
        let blank = Hit {
            rule: 0,
            verdict: Verdict::Drop,
            log: false,
        };
        let mut hits = vec![blank; keys.len()];
        assert_eq!(table.judge_burst(keys, &mut hits), keys.len());
        for ((hit, expected), key) in hits.iter().zip(&expected).zip(keys) {
            assert_eq!(
                hit,
                expected,
                "{key:?} of {} rules, {}",
                rules.len(),
                simd.name()
            );
        }
        assert_eq!(table.judge(&keys[0]), expected[0]);
    }
}

/// Set compiled into blocks.
struct Compiled {
    axes: Vec<Axis>,
    table: Blocked,
}

fn axes(rules: &[Match]) -> Vec<Axis> {
    let regions: Vec<Region> = rules.iter().map(Region::new).collect();
    Axis::all(&regions.iter().collect::<Vec<_>>())
}

fn compile(rules: &[Match]) -> Compiled {
    let axes = axes(rules);
    let all: Vec<u32> = (0..).take(rules.len()).collect();
    let table = Blocked::new(&axes, &all).expect("few pages");
    Compiled { axes, table }
}

fn firsts(table: &Blocked, simd: Simd, keys: &[FlowKey], none: usize) -> Vec<u32> {
    let mut found = Vec::new();
    for keys in keys.chunks(LANES) {
        let keys: Vec<&FlowKey> = keys.iter().collect();
        let mut first = [u32::try_from(none).expect("few"); LANES];
        table.first_matches(simd, &keys, &mut first);
        found.extend_from_slice(&first[..keys.len()]);
    }
    found
}

/// Lines and rows that a table may have: two for every span in a coordinate, and one more for every block, in
/// each level.
fn most_lines(rules: &[Match], axes: &[Axis], size: Size) -> usize {
    let spans = |axis: &Axis| -> usize {
        let rules = 0..u32::try_from(rules.len()).expect("few");
        rules.map(|rule| axis.spans(rule).len()).sum()
    };
    let levels = if size.blocks > 30 { 3 } else { 2 };
    axes.iter()
        .map(|axis| levels * (2 * spans(axis) + size.blocks))
        .sum()
}

#[test]
fn access_lists_of_every_size() {
    for (count, seed) in [
        (16, 0),
        (64, 1),
        (65, 1),
        (128, 2),
        (129, 2),
        (256, 0),
        (512, 3),
        (513, 3),
        (1000, 0),
        (1024, 4),
        (1025, 4),
        (10_000, 0),
        (10_000, 1),
        (10_000, 2),
        (15_361, 5),
    ] {
        let rules = acl(count, seed);
        assert_agrees(&rules, &keys(&rules, 320));
    }
}

#[test]
fn access_lists_of_a_hundred_thousand() {
    let rules = acl(100_000, 0);
    assert_agrees(&rules, &keys(&rules, 200));
    let Compiled { axes, table } = compile(&rules);
    let size = table.size();
    assert!(size.blocks <= 100_000_usize.div_ceil(512) + 1, "{size:?}");
    assert!(size.lines <= most_lines(&rules, &axes, size), "{size:?}");
}

#[test]
fn hostile_sets_stay_within_bounds() {
    for (name, rules) in [
        ("wide", wide(10_000)),
        ("cross", cross(10_000)),
        ("nest", nest(10_000)),
        ("ports", ports(10_000)),
        ("acl", acl(10_000, 0)),
    ] {
        let keys = keys(&rules, 320);
        assert_agrees(&rules, &keys);
        let Compiled { axes, table } = compile(&rules);
        let size = table.size();
        assert!(
            size.blocks <= 10_000_usize.div_ceil(512),
            "{name}: {size:?}"
        );
        assert!(
            size.lines <= most_lines(&rules, &axes, size),
            "{name}: {size:?}"
        );
        // 8 MiB of 64 bytes each.
        assert!(size.lines <= 8 << 14, "{name}: {size:?}");
        let live = table.live_blocks(&keys);
        assert!(live <= keys.len() * size.blocks, "{name}: {live}");
        // Grouped by place, a key concerns few blocks even of these; of 20 in order of priority it is 14.
        let most = if name == "wide" { 8 } else { 5 };
        assert!(
            live <= keys.len() * most,
            "{name}: {live} of {} keys",
            keys.len()
        );
        if name == "ports" {
            assert!(size.hidden > 9_000, "{size:?}");
        }
    }
}

/// Groups are about speed alone: any division into blocks judges alike, and reads all blocks at most.
#[test]
fn shuffled_groups_judge_alike() {
    for rules in [
        acl(10_000, 3),
        wide(6000),
        cross(6000),
        nest(6000),
        ports(3000),
    ] {
        let mut dice = Dice(5);
        let mut all: Vec<u32> = (0..).take(rules.len()).collect();
        for index in (1..all.len()).rev() {
            let other = dice.roll(u32::try_from(index + 1).expect("few")) as usize;
            all.swap(index, other);
        }
        let groups = all.chunks(512).map(|group| {
            let mut group = group.to_vec();
            group.sort_unstable();
            group
        });
        let axes = axes(&rules);
        let table = Blocked::of_groups(&axes, groups.collect());
        let keys = keys(&rules, 320);
        let expected = expected(&rules, &keys);
        for simd in Simd::available() {
            let found = firsts(&table, simd, &keys, rules.len());
            assert!(
                found.iter().eq(expected.iter().map(|hit| &hit.rule)),
                "{}",
                simd.name()
            );
        }
        let size = table.size();
        assert_eq!(size.blocks, rules.len().div_ceil(512));
        assert!(size.lines <= most_lines(&rules, &axes, size), "{size:?}");
        assert!(table.live_blocks(&keys) <= keys.len() * size.blocks);
    }
}

/// More ranges than ids of 16 bits in one block, and more pages than a line has room for.
#[test]
fn long_lists_of_ports() {
    let rule = |number: u16| Match {
        protocols: vec![17],
        ports: (0..800)
            .map(|n| (n * 80 + number % 80)..=(n * 80 + number % 80))
            .collect(),
        source_ports: vec![number..=u16::MAX],
        ..Match::default()
    };
    let rules: Vec<Match> = (0..1240).map(rule).collect();
    assert!(Blocked::new(&axes(&rules), &(0..1240).collect::<Vec<_>>()).is_none());
    assert_agrees(&rules, &keys(&rules, 96));
}
