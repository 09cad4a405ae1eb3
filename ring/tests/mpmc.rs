// SPDX-License-Identifier: Apache-2.0
//! The ring of many against a `VecDeque`, and by real threads.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, reason = "tests")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use sluice_ring::Mpmc;

#[derive(Debug, Clone)]
enum Step {
    Push,
    Pop,
    PushSlice(usize),
    PopSlice(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Push),
        Just(Step::Pop),
        (0..12_usize).prop_map(Step::PushSlice),
        (0..12_usize).prop_map(Step::PopSlice),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn it_is_a_queue(log2 in 1..5_u32, steps in steps()) {
        let ring = Mpmc::new(1 << log2).unwrap();
        let mut model = VecDeque::new();
        let mut next = 0_u32;
        for step in steps {
            match step {
                Step::Push => {
                    let pushed = ring.push(next).is_ok();
                    prop_assert_eq!(pushed, model.len() < ring.capacity());
                    if pushed {
                        model.push_back(next);
                        next += 1;
                    }
                }
                Step::Pop => prop_assert_eq!(ring.pop(), model.pop_front()),
                Step::PushSlice(n) => {
                    let values: Vec<u32> = (next..).take(n).collect();
                    let pushed = ring.push_slice(&values);
                    prop_assert_eq!(pushed, n.min(ring.capacity() - model.len()));
                    model.extend(&values[..pushed]);
                    next += u32::try_from(pushed).unwrap();
                }
                Step::PopSlice(n) => {
                    let mut out = vec![0; n];
                    let popped = ring.pop_slice(&mut out);
                    let expected: Vec<u32> = model.drain(..n.min(model.len())).collect();
                    prop_assert_eq!(&out[..popped], &expected[..]);
                }
            }
            prop_assert_eq!(ring.len(), model.len());
        }
    }
}

#[test]
fn capacities() {
    for bad in [0, 1, 3, 12, (1 << 31) + 1] {
        assert!(Mpmc::<u8>::new(bad).is_err(), "{bad}");
    }
}

/// Each value comes once, and those of one thread in its order, as seen by any one thread.
#[test]
fn threads_meet() {
    const EACH: u64 = 200_000;
    const SENDERS: usize = 3;
    const ALL: u64 = SENDERS as u64 * EACH;
    let ring = Mpmc::<u64>::new(64).unwrap();
    let (sum, count) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for sender in 0..SENDERS as u64 {
            let ring = &ring;
            scope.spawn(move || {
                let mut sent = 0;
                while sent < EACH {
                    let burst: Vec<u64> = (sent..EACH.min(sent + 7))
                        .map(|n| sender << 32 | n)
                        .collect();
                    let pushed = ring.push_slice(&burst);
                    sent += pushed as u64;
                    if pushed == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = [None; SENDERS];
                let mut out = [0; 16];
                while count.load(Ordering::Relaxed) < ALL {
                    let popped = ring.pop_slice(&mut out);
                    for value in &out[..popped] {
                        let (sender, n) = (value >> 32, value & 0xffff_ffff);
                        let last = &mut last[usize::try_from(sender).unwrap()];
                        assert!(last.is_none_or(|last| last < n), "{last:?}, then {n}");
                        *last = Some(n);
                        sum.fetch_add(n, Ordering::Relaxed);
                    }
                    count.fetch_add(popped as u64, Ordering::Relaxed);
                    if popped == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), ALL * (EACH - 1) / 2);
}
