// SPDX-License-Identifier: Apache-2.0
//! memif, our own client against our own server: one way on one core and from core to core, and
//! forwarded from one pod to another through the whole pipeline.
#![allow(
    missing_docs,
    reason = "criterion's macros make functions without docs"
)]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_benches::links::{pair, pod_to_pod, receive, scratch, send};
use sluice_benches::none_allocated;
use sluice_benches::scene::{BURST, frames, policies};

fn one_way(c: &mut Criterion) {
    let mut group = c.benchmark_group("memif_one_way");
    group.sample_size(20);
    for bytes in [60, 1496] {
        let frame = vec![0x5a; bytes];
        let mut pair = pair();
        let (tx, rx) = (&mut pair.client.tx[0], &mut pair.server.rx[0]);
        let mut sink = scratch();
        group.throughput(Throughput::Elements(BURST as u64));
        let mut round = || {
            send(tx, &frame);
            black_box(receive(rx, &mut sink));
        };
        none_allocated("memif", &mut round);
        group.bench_function(format!("one_core_{bytes}"), |b| b.iter(&mut round));
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("core_to_core_{bytes}"), |b| {
            b.iter_custom(|iterations| {
                let stop = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            send(tx, &frame);
                        }
                    });
                    let start = Instant::now();
                    let mut left = iterations;
                    while left > 0 {
                        left = left.saturating_sub(receive(rx, &mut sink) as u64);
                    }
                    stop.store(true, Ordering::Relaxed);
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// From pod to pod through classify, anti-spoof, both pods' judges and deliver. The worker runs on
/// this thread, the pods on another.
fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("memif_forward_64");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1));
    for rules in [1, 100, 1000] {
        let (mut worker, mut pods) = pod_to_pod(policies(rules));
        let frames = frames(rules);
        group.bench_function(format!("{rules}_rules"), |b| {
            b.iter_custom(|iterations| {
                let stop = AtomicBool::new(false);
                let [sender, receiver] = &mut pods;
                let (sender, receiver) = (&mut sender.client, &mut receiver.client);
                let received = AtomicU32::new(0);
                let counter = &received;
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut next = frames.chunks_exact(BURST).cycle();
                        let mut sink = scratch();
                        while !stop.load(Ordering::Relaxed) {
                            let queue = &mut sender.tx[0];
                            if queue.room().unwrap() >= BURST {
                                for frame in next.next().into_iter().flatten() {
                                    queue.push(&[frame]).unwrap();
                                }
                                queue.publish().unwrap();
                            }
                            let got = receive(&mut receiver.rx[0], &mut sink);
                            counter.fetch_add(u32::try_from(got).unwrap(), Ordering::Relaxed);
                        }
                    });
                    let start = Instant::now();
                    let mut last = received.load(Ordering::Relaxed);
                    let mut left = iterations;
                    while left > 0 {
                        worker.round();
                        let now = received.load(Ordering::Relaxed);
                        left = left.saturating_sub(u64::from(now.wrapping_sub(last)));
                        last = now;
                    }
                    stop.store(true, Ordering::Relaxed);
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_way, forward);
criterion_main!(benches);
