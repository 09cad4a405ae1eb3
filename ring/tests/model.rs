// SPDX-License-Identifier: Apache-2.0
//! The ring against a `VecDeque` that does the same, and between two threads.
#![cfg(not(loom))]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;
use sluice_ring::{CapacityError, Consumer, Producer, spsc, try_spsc};

#[derive(Debug, Clone)]
enum Op {
    Push,
    PushBurst(usize),
    Reserve {
        n: usize,
        put: usize,
        commit: Option<usize>,
    },
    Pop,
    PopBurst(usize),
    Peek {
        n: usize,
        commit: Option<usize>,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0..20usize;
    prop_oneof![
        Just(Op::Push),
        n().prop_map(Op::PushBurst),
        (n(), n(), prop::option::of(n())).prop_map(|(n, put, commit)| Op::Reserve {
            n,
            put,
            commit
        }),
        Just(Op::Pop),
        n().prop_map(Op::PopBurst),
        (n(), prop::option::of(n())).prop_map(|(n, commit)| Op::Peek { n, commit }),
    ]
}

/// A value that knows how often it exists.
type Value = Rc<u32>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn does_what_a_deque_does(log2 in 0..5u32, ops in prop::collection::vec(op(), 1..80)) {
        let capacity = 1usize << log2;
        let (mut producer, mut consumer) = try_spsc::<Value>(capacity).unwrap();
        let mut model: VecDeque<Value> = VecDeque::new();
        let mut next = 0;
        let mut fresh = || { next += 1; Rc::new(next) };
        for op in ops {
            let free = capacity - model.len();
            match op {
                Op::Push => {
                    let value = fresh();
                    match producer.push(Rc::clone(&value)) {
                        Ok(()) => model.push_back(value),
                        Err(back) => {
                            prop_assert_eq!(free, 0);
                            prop_assert!(Rc::ptr_eq(&back, &value));
                        }
                    }
                }
                Op::PushBurst(n) => {
                    let all: Vec<Value> = (0..n).map(|_| fresh()).collect();
                    let mut values = all.iter().cloned();
                    prop_assert_eq!(producer.push_burst(&mut values), n.min(free));
                    prop_assert_eq!(values.len(), n - n.min(free), "the rest stays with the caller");
                    model.extend(all.into_iter().take(free));
                }
                Op::Reserve { n, put, commit } => {
                    let mut reservation = producer.reserve(n);
                    prop_assert_eq!(reservation.slots(), n.min(free));
                    let mut filled = Vec::new();
                    for _ in 0..put {
                        let value = fresh();
                        match reservation.put(Rc::clone(&value)) {
                            Ok(()) => filled.push(value),
                            Err(_) => prop_assert_eq!(filled.len(), n.min(free)),
                        }
                    }
                    prop_assert_eq!(reservation.len(), filled.len());
                    let visible = match commit {
                        None => { drop(reservation); 0 }
                        Some(k) if k >= 10 => reservation.commit(),
                        Some(k) => {
                            prop_assert_eq!(reservation.commit_first(k), k.min(filled.len()));
                            k.min(filled.len())
                        }
                    };
                    for value in filled.split_off(visible) {
                        prop_assert_eq!(Rc::strong_count(&value), 1, "called off and dropped");
                    }
                    model.extend(filled);
                }
                Op::Pop => prop_assert_eq!(consumer.pop(), model.pop_front()),
                Op::PopBurst(n) => {
                    let mut popped = Vec::new();
                    let count = consumer.pop_burst(n, |value| popped.push(value));
                    prop_assert_eq!(count, n.min(model.len()));
                    prop_assert_eq!(popped, model.drain(..count).collect::<Vec<_>>());
                }
                Op::Peek { n, commit } => {
                    let peek = consumer.peek(n);
                    let seen = n.min(model.len());
                    prop_assert_eq!(peek.len(), seen);
                    prop_assert!(peek.iter().eq(model.iter().take(n)));
                    prop_assert_eq!(peek.get(seen), None);
                    if let Some(k) = commit {
                        let mut popped = Vec::new();
                        let count = peek.commit(k, |value| popped.push(value));
                        prop_assert_eq!(count, k.min(seen));
                        prop_assert_eq!(popped, model.drain(..count).collect::<Vec<_>>());
                    }
                }
            }
            prop_assert_eq!(consumer.len(), model.len());
            prop_assert_eq!(consumer.is_empty(), model.is_empty());
            prop_assert_eq!(producer.slots(), capacity - model.len());
            for value in &model {
                prop_assert_eq!(Rc::strong_count(value), 2, "once here and once in the ring");
            }
        }
        drop((producer, consumer));
        for value in &model {
            prop_assert_eq!(Rc::strong_count(value), 1, "the ring dropped what was left");
        }
    }
}

#[test]
fn only_powers_of_two_are_capacities() {
    for capacity in [0, 3, 6, 1 << 32, usize::MAX] {
        let error = try_spsc::<u8>(capacity).unwrap_err();
        assert_eq!(error, CapacityError { capacity });
        assert!(error.to_string().contains("power of two"));
    }
    for (asked, got) in [(0, 1), (1, 1), (2, 2), (3, 4), (1000, 1024)] {
        assert_eq!(spsc::<u8>(asked).0.capacity(), got);
    }
}

#[test]
fn a_dropped_side_is_noticed() {
    let (mut producer, consumer) = spsc::<u8>(4);
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    producer.push(1).unwrap();
    drop(consumer);
    assert!(producer.is_abandoned());

    let (mut producer, mut consumer) = spsc::<u8>(4);
    producer.push(1).unwrap();
    drop(producer);
    assert!(consumer.is_abandoned());
    assert_eq!(
        (consumer.pop(), consumer.pop()),
        (Some(1), None),
        "what was pushed is still there"
    );
}

#[test]
fn a_panic_in_the_middle_of_a_burst_neither_loses_nor_doubles() {
    let (mut producer, mut consumer) = spsc::<Arc<u32>>(8);
    let values: Vec<Arc<u32>> = (0..8).map(Arc::new).collect();
    let pushed = catch_unwind(AssertUnwindSafe(|| {
        let mut values = values.iter().map(|value| {
            assert!(**value < 5, "on purpose");
            Arc::clone(value)
        });
        producer.push_burst(&mut values)
    }));
    assert!(pushed.is_err());
    assert_eq!(consumer.len(), 5);
    let popped = catch_unwind(AssertUnwindSafe(|| {
        consumer.pop_burst(5, |value| assert!(*value < 2, "on purpose"));
    }));
    assert!(popped.is_err());
    assert_eq!(consumer.len(), 2, "0, 1 and 2 are popped");
    assert_eq!(consumer.pop().as_deref(), Some(&3));
    drop((producer, consumer));
    assert!(values.iter().all(|value| Arc::strong_count(value) == 1));
}

fn numbers_arrive_in_order(
    mut push: impl FnMut(&mut Producer<u64>, u64, u64) -> u64 + Send,
    mut pop: impl FnMut(&mut Consumer<u64>, &mut dyn FnMut(u64)),
) {
    const ALL: u64 = 200_000;
    let (mut producer, mut consumer) = spsc(64);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 0;
            while next < ALL {
                match push(&mut producer, next, ALL) {
                    0 => thread::yield_now(),
                    pushed => next += pushed,
                }
            }
        });
        let mut next = 0;
        while !(consumer.is_abandoned() && consumer.is_empty()) {
            let before = next;
            pop(&mut consumer, &mut |value| {
                assert_eq!(value, next);
                next += 1;
            });
            if next == before {
                thread::yield_now();
            }
        }
        assert_eq!(next, ALL);
    });
}

#[test]
fn single_values_arrive_in_order() {
    numbers_arrive_in_order(
        |producer, next, _| u64::from(producer.push(next).is_ok()),
        |consumer, each| {
            if let Some(value) = consumer.pop() {
                each(value);
            }
        },
    );
}

#[test]
fn bursts_arrive_in_order() {
    numbers_arrive_in_order(
        |producer, next, all| {
            let burst = next + 1 + next % 33;
            producer.push_burst(&mut (next..burst.min(all))) as u64
        },
        |consumer, each| {
            consumer.pop_burst(32, each);
        },
    );
}

#[test]
fn slices_arrive_in_order() {
    numbers_arrive_in_order(
        |producer, next, all| {
            let values: Vec<u64> = (next..(next + 1 + next % 33).min(all)).collect();
            producer.push_slice(&values) as u64
        },
        |consumer, each| {
            let mut out = [0; 23];
            let n = consumer.pop_slice(&mut out);
            out[..n].iter().copied().for_each(each);
        },
    );
}

#[test]
fn reserved_bursts_arrive_in_order() {
    numbers_arrive_in_order(
        |producer, next, all| {
            let mut reservation = producer.reserve(32.min((all - next) as usize));
            let slots = reservation.slots() as u64;
            (next..next + slots).for_each(|value| reservation.put(value).unwrap());
            reservation.commit_first((slots as usize).saturating_sub(next as usize % 3)) as u64
        },
        |consumer, each| {
            let peek = consumer.peek(17);
            let half = peek.len().div_ceil(2);
            peek.commit(half, each);
        },
    );
}
