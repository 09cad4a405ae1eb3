//! Every interleaving of small cases, under the C11 memory model:
//! `RUSTFLAGS="--cfg loom" cargo test -p sluice-ring --release --test loom`.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use loom::thread;
use sluice_ring::spsc;

/// Loom follows what a box holds: a value read before it was handed over, or twice, is an error.
fn boxed(n: u32) -> Box<u32> {
    Box::new(n)
}

#[test]
fn single_values_pass_in_order_while_the_ring_wraps() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<Box<u32>>(2);
        let pushing = thread::spawn(move || {
            let mut pushed = 0;
            for n in 0..3 {
                if producer.push(boxed(pushed)).is_ok() {
                    pushed += 1;
                }
                assert!(pushed > 0 || n > 0);
            }
            pushed
        });
        let mut next = 0;
        for _ in 0..2 {
            if let Some(value) = consumer.pop() {
                assert_eq!(*value, next);
                next += 1;
            }
        }
        let pushed = pushing.join().unwrap();
        while let Some(value) = consumer.pop() {
            assert_eq!(*value, next);
            next += 1;
        }
        assert_eq!(next, pushed);
    });
}

#[test]
fn bursts_pass_in_order_while_the_ring_wraps() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<Box<u32>>(2);
        let pushing = thread::spawn(move || {
            let mut values = (0..4).map(boxed);
            let first = producer.push_burst(&mut values);
            assert_eq!(first, 2);
            first + producer.push_burst(&mut values)
        });
        let mut next = 0;
        for _ in 0..2 {
            consumer.pop_burst(2, |value| {
                assert_eq!(*value, next);
                next += 1;
            });
        }
        let pushed = pushing.join().unwrap();
        consumer.pop_burst(4, |value| {
            assert_eq!(*value, next);
            next += 1;
        });
        assert_eq!(next as usize, pushed);
    });
}

#[test]
fn slices_pass_in_order_while_the_ring_wraps() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<u32>(2);
        let pushing = thread::spawn(move || {
            assert_eq!(producer.push_slice(&[0, 1, 2]), 2);
            2 + producer.push_slice(&[2, 3])
        });
        let mut out = [9; 4];
        let mut popped = consumer.pop_slice(&mut out[..1]);
        popped += consumer.pop_slice(&mut out[popped..]);
        let pushed = pushing.join().unwrap();
        popped += consumer.pop_slice(&mut out[popped..]);
        assert_eq!(popped, pushed);
        assert!((0..).zip(&out[..popped]).all(|(n, &value)| n == value));
    });
}

#[test]
fn a_reservation_is_seen_whole_or_not_at_all() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<Box<u32>>(4);
        let pushing = thread::spawn(move || {
            let mut reservation = producer.reserve(3);
            (0..3).for_each(|n| reservation.put(boxed(n)).unwrap());
            reservation.commit_first(2);
            let mut called_off = producer.reserve(1);
            called_off.put(boxed(9)).unwrap();
        });
        let peek = consumer.peek(4);
        assert!(peek.is_empty() || peek.len() == 2);
        assert!(
            peek.iter()
                .enumerate()
                .all(|(n, value)| **value as usize == n)
        );
        let popped = peek.commit(1, |value| assert_eq!(*value, 0));
        pushing.join().unwrap();
        assert_eq!(consumer.len(), 2 - popped);
    });
}

#[test]
fn after_the_last_look_nothing_comes() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<Box<u32>>(2);
        let pushing = thread::spawn(move || producer.push(boxed(1)).unwrap());
        // Abandoned first, empty second: then the value cannot have been missed.
        let finished = consumer.is_abandoned() && consumer.is_empty();
        assert!(!finished);
        pushing.join().unwrap();
        assert!(consumer.is_abandoned());
        assert_eq!(consumer.pop().as_deref(), Some(&1));
    });
}

#[test]
fn what_is_left_is_dropped_once_whoever_goes_last() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<loom::sync::Arc<u32>>(2);
        let value = loom::sync::Arc::new(5);
        let kept = value.clone();
        let pushing = thread::spawn(move || {
            let _ = producer.push(value.clone());
            let _ = producer.push(value);
        });
        drop(consumer.pop());
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(loom::sync::Arc::strong_count(&kept), 1);
    });
}
