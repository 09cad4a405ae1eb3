// SPDX-License-Identifier: Apache-2.0
//! The ring of byte strings against a `VecDeque`, and between two threads.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;

use proptest::prelude::*;
use sluice_ring::bytes_spsc;

const BYTES: usize = 1024;
const STRINGS: usize = 8;

#[derive(Debug, Clone)]
enum Op {
    /// Sets the first number of bytes aside, and pushes the second number of them.
    Push(usize, usize),
    /// Sets bytes aside and leaves it at that.
    CalledOff(usize),
    Pop,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..600usize, 0..600usize).prop_map(|(most, len)| Op::Push(most, len)),
        1 => (0..600usize).prop_map(Op::CalledOff),
        3 => Just(Op::Pop),
    ]
}

proptest! {
    #[test]
    fn strings_come_out_as_they_went_in(ops in proptest::collection::vec(op(), 0..200)) {
        let (mut producer, mut consumer) = bytes_spsc::<usize>(BYTES, STRINGS);
        let mut model: VecDeque<(Vec<u8>, usize)> = VecDeque::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Push(most, len) => match producer.reserve(most) {
                    Some(mut space) => {
                        let byte = u8::try_from(number % 251).unwrap();
                        space.bytes().fill(byte);
                        space.commit(len, number);
                        model.push_back((vec![byte; len.min(most)], number));
                    }
                    // Empty it takes whatever fits at all; there is no other promise of bytes.
                    None => prop_assert!(!model.is_empty()),
                },
                Op::CalledOff(most) => {
                    if let Some(mut space) = producer.reserve(most) {
                        space.bytes().fill(255);
                    }
                }
                Op::Pop => prop_assert_eq!(consumer.pop(), model.pop_front().is_some()),
            }
            prop_assert!(model.len() <= STRINGS);
            prop_assert_eq!(consumer.is_empty(), model.is_empty());
            let front = consumer.front().map(|(bytes, number)| (bytes.to_vec(), number));
            prop_assert_eq!(front, model.front().cloned());
        }
    }
}

#[test]
fn so_many_fit_and_no_more() {
    let (mut producer, mut consumer) = bytes_spsc::<()>(BYTES, STRINGS);
    assert!(producer.reserve(BYTES + 1).is_none());
    for _ in 0..STRINGS {
        producer.reserve(64).unwrap().commit(64, ());
    }
    assert!(producer.reserve(64).is_none());
    assert!(consumer.pop());
    assert!(producer.reserve(65).is_some());
    while consumer.pop() {}
    producer.reserve(BYTES).unwrap().commit(BYTES, ());
    assert!(producer.reserve(1).is_none());
    assert_eq!(consumer.front().unwrap().0.len(), BYTES);
}

#[test]
fn a_dropped_side_is_noticed() {
    let (producer, consumer) = bytes_spsc::<()>(64, 1);
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    drop(consumer);
    assert!(producer.is_abandoned());
}

#[test]
fn strings_of_another_thread_arrive_whole_and_in_order() {
    const COUNT: u32 = 20_000;
    let (mut producer, mut consumer) = bytes_spsc::<u32>(4096, 16);
    let pushing = std::thread::spawn(move || {
        for number in 0..COUNT {
            let len = usize::try_from(number * 31 % 1500).unwrap();
            let mut space = loop {
                match producer.reserve(1500) {
                    Some(space) => break space,
                    None => std::thread::yield_now(),
                }
            };
            space.bytes()[..len].fill(number.to_le_bytes()[0]);
            space.commit(len, number);
        }
    });
    for number in 0..COUNT {
        while consumer.is_empty() {
            std::thread::yield_now();
        }
        let (bytes, beside) = consumer.front().unwrap();
        assert_eq!(beside, number);
        assert_eq!(bytes.len(), usize::try_from(number * 31 % 1500).unwrap());
        assert!(bytes.iter().all(|&byte| byte == number.to_le_bytes()[0]));
        consumer.pop();
    }
    pushing.join().unwrap();
    assert!(consumer.is_empty());
}
