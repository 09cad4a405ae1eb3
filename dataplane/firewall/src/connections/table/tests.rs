// SPDX-License-Identifier: Apache-2.0
//! Tests of a table's insides: places, moves, and keys that somebody has chosen.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;

use super::super::answer::{Inserted, Opening};
use super::super::event::Event;
use super::super::frame::{Scope, TrackedFrame};
use super::super::key::{Key, Probe, V4Key, V6Key};
use super::super::pairs::Paths;
use super::super::tcp::{Segment, Tracking};
use super::super::testing::{Dice, address, frame};
use super::*;

const OPENS: Opening = Opening {
    paths: Paths {
        opener: super::super::pairs::Path {
            destination: 1,
            rules: [0; 4],
        },
        responder: super::super::pairs::Path {
            destination: 2,
            rules: [0; 4],
        },
    },
    tracking: Tracking::Window,
    from_pod: true,
    rederivable: false,
};

fn shared() -> Shared {
    Shared {
        pairs: Pairs::new(64).unwrap(),
        generation: 0,
        counts: Counts::default(),
    }
}

fn table<L: Line>(capacity: usize) -> Table<L> {
    let mut table = Table::new(capacity, 16, &Timeouts::default(), Tick(7)).unwrap();
    let quotas = Quotas {
        all: u32::MAX,
        embryonic: u32::MAX,
        one_way: u32::MAX,
        per_source: u16::MAX,
    };
    (0..16).for_each(|owner| table.set_quotas(owner, quotas));
    table
}

/// UDP flow number `n`.
fn flow(n: u32, is_v6: bool) -> TrackedFrame {
    let [a, b, c, d] = n.to_be_bytes();
    let mut src = address(1, is_v6);
    (src[12], src[13], src[14]) = (10 + a, b, c);
    TrackedFrame {
        src,
        dst: address(d, is_v6),
        src_port: u16::from_be_bytes([c, d]),
        dst_port: 4789,
        is_v6,
        scope: Scope::new(u16::from(d % 16), 7),
        ..frame(17, Event::Data)
    }
}

fn probe<K: Key>(n: u32, is_v6: bool) -> Probe<K> {
    Probe::of(&flow(n, is_v6)).unwrap()
}

/// Inserts and removes flows at random and compares with a map, at a load of two thirds and below.
fn beside_a_map<L: Line>(is_v6: bool) {
    let (mut dice, mut shared) = (Dice(3), shared());
    let mut table = table::<L>(3000);
    let mut model: HashMap<u32, u32> = HashMap::new();
    let segment = Segment::default();
    for round in 0..60_000u32 {
        let n = u32::try_from(dice.below(20_000)).unwrap();
        let probe = probe::<L::Key>(n, is_v6);
        let found = table.find(&shared.pairs, &probe.key);
        assert_eq!(found.is_some(), model.contains_key(&n));
        if let Some(place) = found {
            let expected = table.cold[place as usize].owner();
            assert_eq!(expected, probe.key.scope().attachment());
        }
        let may_grow = model.len() < 3000 && (dice.one_in(2) || round < 8000);
        if found.is_none() && may_grow {
            let inserted = table.insert(&mut shared, &probe, &segment, &OPENS);
            assert!(matches!(inserted, Inserted::Opened { .. }), "{inserted:?}");
            model.insert(n, round);
        } else if let Some(place) = found
            && !may_grow
        {
            table.remove(&mut shared, place, Removal::Ended);
            model.remove(&n);
        }
        assert_eq!(table.len(), model.len());
    }
    assert!(shared.counts.moved > 0, "some had to make way");
    assert!(model.len() > 1000);
    for &n in model.keys() {
        let key = probe::<L::Key>(n, is_v6).key;
        let place = table.find(&shared.pairs, &key).unwrap();
        table.remove(&mut shared, place, Removal::Ended);
    }
    for line in table.lines.iter() {
        assert_eq!(line.ways().over, 0);
        assert_eq!(line.ways().free(), Some(0));
    }
    assert!(table.sources.iter().all(|&count| count == 0));
    assert_eq!(table.windowed, 0);
}

#[test]
fn places_are_as_a_map_says_in_ipv4() {
    beside_a_map::<V4Line>(false);
}

#[test]
fn places_are_as_a_map_says_in_ipv6() {
    beside_a_map::<V6Line>(true);
}

/// Fills a table up to its capacity with these flows; returns how many were moved.
fn fill(flows: impl Iterator<Item = TrackedFrame>, capacity: usize) -> u64 {
    let mut shared = shared();
    let mut table = table::<V4Line>(capacity);
    for flow in flows {
        if table.len() == capacity {
            break;
        }
        let probe = Probe::<V4Key>::of(&flow).unwrap();
        let inserted = table.insert(&mut shared, &probe, &Segment::default(), &OPENS);
        assert!(!matches!(inserted, Inserted::Refused(_)), "{inserted:?}");
    }
    assert_eq!(table.len(), capacity);
    shared.counts.moved
}

#[test]
fn keys_that_somebody_chose_spread_as_random_ones_do() {
    const CAPACITY: usize = 30_000;
    let with = |n: u32, change: &dyn Fn(&mut TrackedFrame, u32)| {
        let mut flow = flow(0, false);
        change(&mut flow, n);
        flow
    };
    let random = {
        let mut dice = Dice(9);
        let mut flows = move || u32::try_from(dice.next() >> 38).unwrap();
        fill((0..u32::MAX).map(|_| flow(flows(), false)), CAPACITY)
    };
    let ports = |frame: &mut TrackedFrame, n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        (frame.src_port, frame.src[14]) = (u16::from_be_bytes([c, d]), a | b);
    };
    let addresses = |frame: &mut TrackedFrame, n: u32| {
        // Low bits alike, as an unkeyed hash that folds would like them.
        let [_, b, c, d] = n.to_be_bytes();
        (frame.src[13], frame.src[12], frame.dst[14]) = (b, c, d);
    };
    let both = |frame: &mut TrackedFrame, n: u32| {
        // Source and destination change together, so that their XOR is always the same.
        let [_, b, c, d] = n.to_be_bytes();
        for address in [&mut frame.src, &mut frame.dst] {
            (address[13], address[14], address[15]) = (b, c, d);
        }
        (frame.src[12], frame.dst[12]) = (10, 11);
    };
    for change in [&ports as &dyn Fn(&mut TrackedFrame, u32), &addresses, &both] {
        let moved = fill((0..u32::MAX).map(|n| with(n, change)), CAPACITY);
        assert!(
            moved < 2 * random + 200,
            "{moved} moved, of random ones {random}"
        );
    }
}

#[test]
fn a_place_that_is_full_costs_only_its_owner() {
    // One line: three connections of three owners, one of which comes again.
    let (mut shared, segment) = (shared(), Segment::default());
    let mut table = table::<V4Line>(2);
    let mut insert = |n: u32, shared: &mut Shared| {
        let probe = probe::<V4Key>(n, false);
        table.insert(shared, &probe, &segment, &OPENS)
    };
    for n in 1..=3 {
        assert!(matches!(insert(n, &mut shared), Inserted::Opened { .. }));
    }
    let refused = insert(4, &mut shared);
    assert_eq!(refused, Inserted::Refused(super::super::Refusal::NoPlace));
    assert!(matches!(
        insert(16 + 3, &mut shared),
        Inserted::Opened { .. }
    ));
    assert_eq!(shared.counts.evicted(Class::OneWay), 1);
    let lines = [1, 2, 19].map(|n| probe::<V4Key>(n, false).key);
    for key in lines {
        assert!(table.find(&shared.pairs, &key).is_some());
    }
    let gone = probe::<V4Key>(3, false).key;
    assert!(table.find(&shared.pairs, &gone).is_none());
}

#[test]
fn addresses_that_two_attachments_share_are_told_apart() {
    let (mut shared, segment) = (shared(), Segment::default());
    let mut table = table::<V6Line>(16);
    for attachment in 0..4 {
        let mut flow = flow(5, true);
        flow.scope = Scope::new(attachment, 7);
        let probe = Probe::<V6Key>::of(&flow).unwrap();
        assert!(table.find(&shared.pairs, &probe.key).is_none());
        let inserted = table.insert(&mut shared, &probe, &segment, &OPENS);
        assert!(matches!(inserted, Inserted::Opened { .. }));
        assert!(table.find(&shared.pairs, &probe.key).is_some());
    }
    assert_eq!(table.len(), 4);
}
