// SPDX-License-Identifier: Apache-2.0
//! A burst against a `VecDeque` that does the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use proptest::prelude::*;
use sluice_mem::{BURST, BufSize, Burst, Cache, HugePages, Mbuf, Mempool, PoolConfig};

fn pool(buffers: u32) -> Mempool {
    let config = PoolConfig {
        buffers,
        size: BufSize::Small,
        numa_node: None,
        huge_pages: HugePages::Off,
    };
    Mempool::new(config).unwrap()
}

/// An mbuf that says its number.
fn numbered(cache: &mut Cache, number: u32) -> Mbuf {
    let mut mbuf = cache.alloc().unwrap();
    assert!(mbuf.copy_from(&number.to_le_bytes()));
    mbuf
}

fn number(mbuf: &Mbuf) -> u32 {
    u32::from_le_bytes(mbuf.data().try_into().unwrap())
}

fn numbers(burst: &Burst) -> Vec<u32> {
    burst.iter().map(number).collect()
}

#[derive(Debug, Clone)]
enum Op {
    Push(usize),
    Pop,
    SwapRemove(usize),
    DrainFront { n: usize, take: usize },
    Retain(u64),
    AppendFrom(usize),
    AppendTo(usize),
    Swap(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (1..40usize).prop_map(Op::Push),
        Just(Op::Pop),
        (0..70usize).prop_map(Op::SwapRemove),
        (0..70usize, 0..70usize).prop_map(|(n, take)| Op::DrainFront { n, take }),
        any::<u64>().prop_map(Op::Retain),
        (0..=BURST).prop_map(Op::AppendFrom),
        (0..=BURST).prop_map(Op::AppendTo),
        (0..BURST, 0..BURST).prop_map(|(a, b)| Op::Swap(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn does_what_a_deque_does(ops in prop::collection::vec(op(), 1..60)) {
        static POOL: OnceLock<Mempool> = OnceLock::new();
        let mut cache = POOL.get_or_init(|| pool(1024)).cache(0);
        let mut next = 0u32;
        let mut fresh = |cache: &mut Cache| { next += 1; (numbered(cache, next), next) };
        let mut burst = Burst::new();
        let mut model = VecDeque::new();
        for op in ops {
            match op {
                Op::Push(n) => for _ in 0..n {
                    let (mbuf, number) = fresh(&mut cache);
                    match burst.push(mbuf) {
                        Ok(()) => model.push_back(number),
                        Err(mbuf) => {
                            prop_assert_eq!(model.len(), BURST);
                            cache.free(mbuf);
                        }
                    }
                },
                Op::Pop => {
                    let popped = burst.pop();
                    prop_assert_eq!(popped.as_ref().map(number), model.pop_back());
                    popped.into_iter().for_each(|mbuf| cache.free(mbuf));
                }
                Op::SwapRemove(at) => {
                    let removed = burst.swap_remove(at);
                    prop_assert_eq!(removed.as_ref().map(number), model.swap_remove_back(at));
                    removed.into_iter().for_each(|mbuf| cache.free(mbuf));
                }
                Op::DrainFront { n, take } => {
                    let mut drain = burst.drain_front(n);
                    let expected = n.min(model.len());
                    prop_assert_eq!(drain.len(), expected);
                    for mbuf in drain.by_ref().take(take) {
                        prop_assert_eq!(Some(number(&mbuf)), model.pop_front());
                        cache.free(mbuf);
                    }
                    drop(drain);
                    model.drain(..expected - take.min(expected));
                }
                Op::Retain(mask) => {
                    let keep = |number: u32| mask >> (number % 64) & 1 == 1;
                    let mut removed = Vec::new();
                    let mut kept = 0;
                    let step = |n, mbuf: &mut Mbuf| {
                        assert_eq!(n, kept);
                        let number = number(mbuf);
                        keep(number).then(|| kept += 1).ok_or(number)
                    };
                    burst.retain_or(step, |mbuf, why| {
                        assert_eq!(why, number(&mbuf));
                        removed.push(why);
                        cache.free(mbuf);
                    });
                    let gone: Vec<u32> = model.iter().copied().filter(|&n| !keep(n)).collect();
                    prop_assert_eq!(removed, gone);
                    model.retain(|&n| keep(n));
                }
                Op::AppendFrom(n) => {
                    let mut other = Burst::new();
                    let mut expected = VecDeque::new();
                    for _ in 0..n {
                        let (mbuf, number) = fresh(&mut cache);
                        other.push(mbuf).unwrap();
                        expected.push_back(number);
                    }
                    burst.append(&mut other);
                    let moved = n.min(BURST - model.len());
                    model.extend(expected.drain(..moved));
                    prop_assert_eq!(expected, numbers(&other));
                    cache.free_burst(&mut other);
                }
                Op::AppendTo(n) => {
                    let mut other = Burst::new();
                    for _ in 0..n {
                        other.push(fresh(&mut cache).0).unwrap();
                    }
                    other.append(&mut burst);
                    let moved = model.len().min(BURST - n);
                    let front: Vec<u32> = model.drain(..moved).collect();
                    prop_assert_eq!(&numbers(&other)[n..], front);
                    cache.free_burst(&mut other);
                }
                Op::Swap(a, b) => if a < burst.len() && b < burst.len() {
                    burst.as_mut_slice().swap(a, b);
                    model.swap(a, b);
                },
            }
            prop_assert_eq!(burst.len(), model.len());
            prop_assert_eq!(burst.room(), BURST - model.len());
            prop_assert_eq!(numbers(&burst), Vec::from(model.clone()));
        }
        cache.free_burst(&mut burst);
        let pool = cache.pool();
        drop(cache);
        let count = pool.conservation();
        prop_assert!(count.holds() && count.in_flight == 0, "{count:?}");
    }
}

#[test]
fn a_panic_in_the_middle_of_a_retain_loses_no_mbuf() {
    for at in 0..8 {
        for in_keep in [true, false] {
            let mut cache = pool(8).cache(0);
            let mut burst = Burst::new();
            (0..8).for_each(|n| burst.push(numbered(&mut cache, n)).unwrap());
            let mut removed = Vec::new();
            let result = catch_unwind(AssertUnwindSafe(|| {
                burst.retain_or(
                    |_, mbuf| {
                        assert!(!(in_keep && number(mbuf) == at), "on purpose");
                        number(mbuf).is_multiple_of(2).then_some(()).ok_or(())
                    },
                    |mbuf, ()| {
                        let n = number(&mbuf);
                        removed.push(mbuf);
                        assert!(in_keep || n < at, "on purpose");
                    },
                );
            }));
            assert!(result.is_err());
            let mut all = numbers(&burst);
            all.extend(removed.iter().map(number));
            all.sort_unstable();
            assert_eq!(all, (0..8).collect::<Vec<_>>());
            removed.into_iter().for_each(|mbuf| cache.free(mbuf));
            cache.free_burst(&mut burst);
        }
    }
}

#[test]
fn a_leaked_drain_leaks_and_doubles_nothing() {
    let mut cache = pool(8).cache(0);
    let mut burst = Burst::new();
    (0..4).for_each(|n| burst.push(numbered(&mut cache, n)).unwrap());
    let mut drain = burst.drain_front(3);
    let first = drain.next().unwrap();
    std::mem::forget(drain);
    assert!(burst.is_empty());
    assert_eq!(number(&first), 0);
    cache.free(first);
}
