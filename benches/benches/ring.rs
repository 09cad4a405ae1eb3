// SPDX-License-Identifier: Apache-2.0
//! Rings: one thread in and out, for one and for many at each end; and core to core.
#![allow(
    missing_docs,
    reason = "criterion's macros make functions without docs"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_benches::none_allocated;
use sluice_ring::{Mpmc, spsc};

const BURSTS: [usize; 3] = [1, 8, 32];

fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring_spsc_one_thread");
    for burst in BURSTS {
        let (mut producer, mut consumer) = spsc::<u64>(1024);
        let (values, mut out) = ([7; 32], [0; 32]);
        let mut round = || {
            producer.push_slice(black_box(&values[..burst]));
            consumer.pop_slice(black_box(&mut out[..burst]))
        };
        none_allocated("ring", || {
            black_box(round());
        });
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_function(burst.to_string(), |b| b.iter(&mut round));
    }
    group.finish();
}

fn of_many(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring_mpmc_one_thread");
    for burst in BURSTS {
        let Ok(ring) = Mpmc::<u64>::new(1024) else {
            return;
        };
        let (values, mut out) = ([7; 32], [0; 32]);
        let mut round = || {
            ring.push_slice(black_box(&values[..burst]));
            ring.pop_slice(black_box(&mut out[..burst]))
        };
        none_allocated("ring", || {
            black_box(round());
        });
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_function(burst.to_string(), |b| b.iter(&mut round));
    }
    group.finish();
}

fn core_to_core(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring_spsc_core_to_core");
    group.sample_size(20);
    for burst in BURSTS {
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_function(burst.to_string(), |b| {
            b.iter_custom(|iterations| {
                let (mut producer, mut consumer) = spsc::<u64>(1024);
                let stop = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let values = [7; 32];
                        while !stop.load(Ordering::Relaxed) {
                            producer.push_slice(&values[..burst]);
                        }
                    });
                    let start = Instant::now();
                    let mut left = iterations * burst as u64;
                    let mut out = [0; 32];
                    while left > 0 {
                        let taken = consumer.pop_slice(black_box(&mut out[..burst]));
                        left = left.saturating_sub(taken as u64);
                    }
                    stop.store(true, Ordering::Relaxed);
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_thread, of_many, core_to_core);
criterion_main!(benches);
