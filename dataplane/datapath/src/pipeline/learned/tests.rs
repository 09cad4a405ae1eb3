// SPDX-License-Identifier: Apache-2.0
//! The table of learned addresses against a naive model, and with several workers at once.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test is no worker"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use sluice_packet::Mac;

use super::moves::{HOLD_SECONDS, MOST_MOVES, WINDOW_SECONDS};
use super::{AGE_SECONDS, Holder, Learned, LearnedTable};

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0x5e, 0, number])
}

/// Entry of the model: holder, second of its last frame, moves, and the second that they are counted from.
#[derive(Debug, Clone, Copy)]
struct Entry {
    holder: Holder,
    seen: u32,
    moves: u32,
    since: u32,
}

impl Entry {
    fn may_move(&mut self, now: u32) -> bool {
        let elapsed = now - self.since;
        let is_held = self.moves > MOST_MOVES;
        if is_held && elapsed < HOLD_SECONDS {
            return false;
        }
        if is_held || self.moves == 0 || elapsed >= WINDOW_SECONDS {
            (self.since, self.moves) = (now, 0);
        }
        self.moves += 1;
        if self.moves > MOST_MOVES {
            self.since = now;
        }
        self.moves <= MOST_MOVES
    }
}

#[derive(Debug, Clone)]
enum Step {
    Take(u8, u16),
    ToWire(u8),
    Refresh(u8, u16),
    Wait(u32),
    Age,
    Detach(u16),
    Grow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (macs, slots) = (0..12_u8, 0..4_u16);
    let step = prop_oneof![
        6 => (macs.clone(), slots.clone()).prop_map(|(mac, slot)| Step::Take(mac, slot)),
        2 => macs.clone().prop_map(Step::ToWire),
        2 => (macs, slots.clone()).prop_map(|(mac, slot)| Step::Refresh(mac, slot)),
        2 => (0..200_u32).prop_map(Step::Wait),
        1 => Just(Step::Age),
        1 => slots.prop_map(Step::Detach),
        1 => Just(Step::Grow),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_a_map_of_addresses_that_ages_and_damps(steps in steps()) {
        let mut table = LearnedTable::new(16);
        let mut model: BTreeMap<u8, Entry> = BTreeMap::new();
        let mut now = 1000;
        for step in steps {
            let epoch = table.epoch();
            let before: Vec<_> = (0..12).map(|n| table.holder(mac(n))).collect();
            match step {
                Step::Take(number, slot) => {
                    let taker = Holder::Slot(slot);
                    let expected = match model.get_mut(&number) {
                        None => {
                            let entry = Entry { holder: taker, seen: now, moves: 0, since: 0 };
                            model.insert(number, entry);
                            Learned::Taken { from: None }
                        }
                        Some(entry) if entry.holder == taker => {
                            entry.seen = now;
                            Learned::Known
                        }
                        Some(entry) => match entry.may_move(now) {
                            true => {
                                let from = Some(entry.holder);
                                (entry.holder, entry.seen) = (taker, now);
                                Learned::Taken { from }
                            }
                            false => Learned::Flapping,
                        },
                    };
                    prop_assert_eq!(table.take(mac(number), slot, now), expected);
                }
                Step::ToWire(number) => {
                    let expected = model.get_mut(&number).and_then(|entry| {
                        let Holder::Slot(slot) = entry.holder else {
                            return None;
                        };
                        entry.may_move(now);
                        (entry.holder, entry.seen) = (Holder::Wire, now);
                        Some(slot)
                    });
                    prop_assert_eq!(table.take_to_wire(mac(number), now), expected);
                }
                Step::Refresh(number, slot) => {
                    let own = model.get_mut(&number).filter(|e| e.holder == Holder::Slot(slot));
                    let found = table.refresh(mac(number), Holder::Slot(slot), now);
                    prop_assert_eq!(found, own.is_some());
                    own.into_iter().for_each(|entry| entry.seen = now);
                }
                Step::Wait(seconds) => now += seconds,
                Step::Age => {
                    let mut removed = Vec::new();
                    for bucket in 0..table.buckets() {
                        table.age(bucket, now, |holder| removed.push(holder.bits()));
                    }
                    let old = |entry: &Entry| now - entry.seen >= AGE_SECONDS;
                    let mut expected: Vec<_> =
                        model.values().filter(|e| old(e)).map(|e| e.holder.bits()).collect();
                    model.retain(|_, entry| !old(entry));
                    removed.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(removed, expected);
                }
                Step::Detach(slot) => {
                    table.remove_slot(slot);
                    model.retain(|_, entry| entry.holder != Holder::Slot(slot));
                }
                Step::Grow => {
                    let larger = LearnedTable::new(table.entries() + 1);
                    larger.adopt(&table);
                    larger.adopt(&table);
                    // Its moves are counted anew.
                    model.values_mut().for_each(|entry| entry.moves = 0);
                    table = larger;
                }
            }
            for number in 0..12 {
                let holder = model.get(&number).map(|entry| entry.holder);
                prop_assert_eq!(table.holder(mac(number)), holder);
            }
            let after: Vec<_> = (0..12).map(|n| table.holder(mac(n))).collect();
            if before != after && !matches!(step, Step::Grow) {
                prop_assert_ne!(table.epoch(), epoch, "a change begins another epoch");
            }
            for slot in 0..4 {
                let mut macs = table.of_slot(slot);
                macs.sort_unstable();
                let own = model.iter().filter(|(_, e)| e.holder == Holder::Slot(slot));
                prop_assert_eq!(macs, own.map(|(&n, _)| mac(n)).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn there_is_room_for_as_many_as_were_asked_for() {
    for entries in [1, 64, 1000] {
        let table = LearnedTable::new(entries);
        for n in 0..entries {
            let [.., a, b] = n.to_be_bytes();
            let taken = table.take(Mac([2, 0, 0, 0, a, b]), 1, 0);
            assert_eq!(taken, Learned::Taken { from: None }, "{n} of {entries}");
        }
        assert_eq!(table.of_slot(1).len(), entries);
    }
}

#[test]
fn addresses_that_moved_to_the_wire_make_room_for_others() {
    let table = LearnedTable::new(64);
    for n in 0..10_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let mac = Mac([2, 0, 0, a, b, c]);
        assert_eq!(table.take(mac, 1, 0), Learned::Taken { from: None }, "{n}");
        assert_eq!(table.take_to_wire(mac, 0), Some(1));
    }
}

#[test]
fn workers_that_take_one_address_at_the_same_time_leave_one_entry() {
    const WORKERS: u16 = 4;
    for round in 0..200 {
        let table = LearnedTable::new(64);
        let start = std::sync::Barrier::new(WORKERS.into());
        std::thread::scope(|scope| {
            for slot in 0..WORKERS {
                let (table, start) = (&table, &start);
                scope.spawn(move || {
                    start.wait();
                    for n in 0..8 {
                        let _ = table.take(mac(n), slot, round);
                    }
                });
            }
        });
        for n in 0..8 {
            let holders = (0..WORKERS).filter(|&slot| table.of_slot(slot).contains(&mac(n)));
            let holders: Vec<_> = holders.map(Holder::Slot).collect();
            assert_eq!(holders, [table.holder(mac(n)).unwrap()]);
        }
    }
}
