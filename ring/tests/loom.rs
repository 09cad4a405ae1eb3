// SPDX-License-Identifier: Apache-2.0
//! Every interleaving of small cases, under the C11 memory model:
//! `RUSTFLAGS="--cfg loom" cargo test -p sluice-ring --release --test loom`.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use loom::sync::Arc;
use loom::thread;
use sluice_ring::{Mpmc, Sleeper, bytes_spsc, spsc};

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

#[test]
fn what_many_push_is_popped_once_each() {
    loom::model(|| {
        let ring = Arc::new(Mpmc::<Box<u32>>::new(2).unwrap());
        let pushing = [1, 2].map(|n| {
            let ring = ring.clone();
            thread::spawn(move || ring.push(boxed(n)).unwrap())
        });
        let mut sum = ring.pop().map_or(0, |value| *value);
        for pushing in pushing {
            pushing.join().unwrap();
        }
        while let Some(value) = ring.pop() {
            sum += *value;
        }
        assert_eq!(sum, 3);
    });
}

#[test]
fn what_many_pop_is_popped_once_each_while_the_ring_wraps() {
    loom::model(|| {
        let ring = Arc::new(Mpmc::<u32>::new(2).unwrap());
        assert_eq!(ring.push_slice(&[1, 2, 9]), 2);
        let popping = {
            let ring = ring.clone();
            thread::spawn(move || {
                let mut out = [0; 2];
                let popped = ring.pop_slice(&mut out);
                // The slots it emptied can be filled again while another still pops.
                let pushed = ring.push(4).is_ok();
                (out[..popped].iter().sum::<u32>(), pushed)
            })
        };
        let mut sum = ring.pop().unwrap_or(0);
        let (theirs, pushed) = popping.join().unwrap();
        while let Some(value) = ring.pop() {
            sum += value;
        }
        assert_eq!(sum + theirs, 3 + if pushed { 4 } else { 0 });
    });
}

#[test]
fn what_is_left_in_a_ring_of_many_is_dropped_once() {
    loom::model(|| {
        let value = Arc::new(5);
        let kept = value.clone();
        let ring = Arc::new(Mpmc::new(2).unwrap());
        let pushing = {
            let ring = ring.clone();
            thread::spawn(move || drop(ring.push(value)))
        };
        drop(ring.pop());
        drop(ring);
        pushing.join().unwrap();
        assert_eq!(Arc::strong_count(&kept), 1);
    });
}

#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<u32>(2);
        let sleeper = Arc::new(Sleeper::new());
        let pushing = {
            let sleeper = sleeper.clone();
            thread::spawn(move || {
                producer.push(1).unwrap();
                sleeper.needs_waking()
            })
        };
        sleeper.park();
        let sleeps = consumer.is_empty();
        let woken = pushing.join().unwrap();
        assert!(!sleeps || woken, "it sleeps, and nobody wakes it");
    });
}

/// The consumer's eventfd is a flag under a lock here, as it is in the kernel: whoever claims a wake-up sets it,
/// and the consumer takes it back before it looks.
#[test]
fn no_claimed_wake_up_is_lost_over_two_sleeps() {
    use loom::sync::Mutex;
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::<u32>(2);
        let sleeper = Arc::new(Sleeper::new());
        let event = Arc::new(Mutex::new(false));
        let pushing = {
            let (sleeper, event) = (sleeper.clone(), event.clone());
            thread::spawn(move || {
                for n in 0..2 {
                    producer.push(n).unwrap();
                    if sleeper.claim() {
                        *event.lock().unwrap() = true;
                    }
                }
            })
        };
        let mut sleeps = false;
        for _ in 0..2 {
            *event.lock().unwrap() = false;
            while consumer.pop().is_some() {}
            sleeper.park();
            sleeps = consumer.is_empty();
            if sleeps && !*event.lock().unwrap() {
                break;
            }
            sleeper.unpark();
        }
        pushing.join().unwrap();
        let waits = sleeps && !consumer.is_empty();
        let is_woken = *event.lock().unwrap();
        assert!(!waits || is_woken, "it sleeps over what was pushed");
    });
}

#[test]
fn bytes_are_read_whole_and_not_written_while_they_are_read() {
    loom::model(|| {
        let (mut producer, mut consumer) = bytes_spsc::<u8>(192, 2);
        let pushing = thread::spawn(move || {
            let mut pushed = 0;
            for n in 0..3u8 {
                if let Some(mut space) = producer.reserve(65) {
                    space.bytes().fill(n);
                    space.commit(65, n);
                    pushed += 1;
                } else {
                    break;
                }
            }
            pushed
        });
        let mut next = 0;
        let mut take = |consumer: &mut sluice_ring::BytesConsumer<u8>| {
            if let Some((bytes, n)) = consumer.front() {
                assert_eq!(n, next);
                assert!(bytes.len() == 65 && bytes.iter().all(|&byte| byte == n));
                next += 1;
                consumer.pop();
            }
        };
        take(&mut consumer);
        take(&mut consumer);
        let pushed = pushing.join().unwrap();
        while !consumer.is_empty() {
            take(&mut consumer);
        }
        assert_eq!(next, pushed);
    });
}

/// A reference peer of a memif reads the flag without a fence: it may miss that the consumer sleeps. Then
/// the next look, when the sleep's time is up, finds what came; so the loss is the length of one sleep.
#[test]
fn a_peer_without_a_fence_costs_one_sleep_at_most() {
    use std::sync::atomic::{AtomicBool as Plain, Ordering::Relaxed};
    static LOST: Plain = Plain::new(false);
    loom::model(|| {
        use loom::sync::atomic::{AtomicBool, Ordering, fence};
        let (mut producer, mut consumer) = spsc::<u32>(2);
        let asleep = Arc::new(AtomicBool::new(false));
        let pushing = {
            let asleep = asleep.clone();
            thread::spawn(move || {
                producer.push(1).unwrap();
                asleep.load(Ordering::Relaxed)
            })
        };
        asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sleeps = consumer.is_empty();
        let woken = pushing.join().unwrap();
        if sleeps && !woken {
            LOST.store(true, Relaxed);
            assert_eq!(
                consumer.pop(),
                Some(1),
                "the look after the sleep finds nothing"
            );
        }
    });
    assert!(
        LOST.load(Relaxed),
        "the model does not show what the fence is for"
    );
}

/// Publication of tables: control hands new ones over by one ring and gets the old ones back by another, and
/// nobody but the worker reads them meanwhile.
#[test]
fn retired_tables_are_never_read_and_never_leaked() {
    loom::model(|| {
        let (mut commands, mut orders) = spsc::<Arc<u32>>(2);
        let (mut answers, mut replies) = spsc::<Arc<u32>>(2);
        let old = Arc::new(1);
        let counted = old.clone();
        let worker = thread::spawn(move || {
            let mut tables = old;
            for _ in 0..2 {
                // A burst is judged by what is there now.
                assert!(*tables == 1 || *tables == 2);
                if let Some(new) = orders.pop() {
                    let retired = std::mem::replace(&mut tables, new);
                    answers.push(retired).unwrap();
                }
            }
            *tables
        });
        commands.push(Arc::new(2)).unwrap();
        let retired = replies.pop();
        if let Some(retired) = retired {
            // Nobody else has it any more: it may be taken apart.
            assert_eq!(Arc::strong_count(&retired), 2);
        }
        worker.join().unwrap();
        drop((commands, replies));
        assert_eq!(Arc::strong_count(&counted), 1);
    });
}
