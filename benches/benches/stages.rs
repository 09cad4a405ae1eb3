// SPDX-License-Identifier: Apache-2.0
//! The stages of a pod's egress one by one, and the whole flow, on one core with no peer: a
//! generator as the sending pod, a port that swallows as the receiving one.
#![allow(
    missing_docs,
    reason = "criterion's macros make functions without docs"
)]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_benches::none_allocated;
use sluice_benches::scene::{BURST, fill, frames, generator_to_null};
use sluice_mem::Burst;
use sluice_packet::{InnerTag, parse};

/// Bursts that are made ready before the clock starts.
const BATCH: u64 = 16;

fn stages(c: &mut Criterion) {
    let frames = frames(100);
    let (mut worker, sender) = generator_to_null(100);
    let mut group = c.benchmark_group("stage");
    group.throughput(Throughput::Elements(BURST as u64));

    group.bench_function("parse", |b| {
        b.iter(|| {
            for frame in &frames[..BURST] {
                let _ = black_box(parse(frame, InnerTag::Allow));
            }
        });
    });
    // An untagged frame of an access pod is the same after each stage as before.
    let mut burst = fill(&mut worker, &frames);
    let mut round = || worker.parse(sender, &mut burst);
    none_allocated("read", &mut round);
    group.bench_function("read", |b| b.iter(&mut round));
    // Bursts of flows that are all known, in an order without pattern.
    for _ in 0..1000 {
        worker.round();
    }
    let mut bursts: Vec<Burst> = frames
        .chunks_exact(BURST)
        .map(|frames| {
            let mut burst = fill(&mut worker, frames);
            worker.parse(sender, &mut burst);
            burst
        })
        .collect();
    let mut next = 0;
    let mut round = || {
        next = (next + 1) % bursts.len();
        assert!(black_box(worker.lookup(&mut bursts[next])));
    };
    none_allocated("lookup", &mut round);
    group.bench_function("lookup_1024_flows", |b| b.iter(&mut round));
    let mut round = || {
        assert!(black_box(worker.lookup(&mut bursts[0])));
    };
    group.bench_function("lookup_32_flows", |b| b.iter(&mut round));
    for mut burst in bursts {
        worker.pools().free_burst(&mut burst);
    }
    let mut round = || worker.classify(sender, &mut burst);
    none_allocated("classify", &mut round);
    group.bench_function("classify_and_anti_spoof", |b| b.iter(&mut round));
    let mut round = || worker.judge(sender, &mut burst);
    none_allocated("judge", &mut round);
    group.bench_function("judge_100_rules", |b| b.iter(&mut round));
    worker.pools().free_burst(&mut burst);
    group.bench_function("route_judge_deliver", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations.div_ceil(BATCH) {
                let mut bursts: Vec<Burst> = (0..BATCH)
                    .map(|_| {
                        let mut burst = fill(&mut worker, &frames);
                        worker.classify(sender, &mut burst);
                        burst
                    })
                    .collect();
                let start = Instant::now();
                for burst in &mut bursts {
                    worker.dispatch(burst);
                }
                spent += start.elapsed();
            }
            spent.mul_f64(iterations as f64 / (iterations.div_ceil(BATCH) * BATCH) as f64)
        });
    });
    group.finish();
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("generator_pipeline_null");
    for rules in [1, 100, 1000] {
        let (mut worker, _) = generator_to_null(rules);
        let received = worker.round();
        assert!(received > 0);
        group.throughput(Throughput::Elements(received as u64));
        let mut round = || {
            black_box(worker.round());
        };
        none_allocated("round", &mut round);
        group.bench_function(format!("{rules}_rules"), |b| b.iter(&mut round));
    }
    group.finish();
}

criterion_group!(benches, stages, whole);
criterion_main!(benches);
