// SPDX-License-Identifier: Apache-2.0
//! Mempool: a buffer out and in again, one by one and in bulk; the mbuf that it becomes.
#![allow(
    missing_docs,
    reason = "criterion's macros make functions without docs"
)]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_benches::none_allocated;
use sluice_mem::{BufSize, Burst, HugePages, Mempool, PoolConfig};

fn pool() -> Mempool {
    Mempool::new(PoolConfig {
        buffers: 8192,
        size: BufSize::Small,
        numa_node: None,
        huge_pages: HugePages::Auto,
    })
    .unwrap()
}

fn one(c: &mut Criterion) {
    let mut cache = pool().cache(512);
    let mut group = c.benchmark_group("mempool_get_put");
    group.throughput(Throughput::Elements(1));
    let mut round = || {
        let mbuf = cache.alloc().unwrap();
        cache.free(black_box(mbuf));
    };
    none_allocated("mempool_get_put/1", &mut round);
    group.bench_function("1", |b| b.iter(&mut round));
    group.finish();
}

fn bulk(c: &mut Criterion) {
    let mut cache = pool().cache(512);
    let mut group = c.benchmark_group("mempool_get_put");
    group.throughput(Throughput::Elements(32));
    let mut burst = Burst::new();
    let mut round = || {
        cache.alloc_burst(&mut burst, 32);
        black_box(&mut burst);
        cache.free_burst(&mut burst);
    };
    none_allocated("mempool_get_put/32", &mut round);
    group.bench_function("32", |b| b.iter(&mut round));
    group.finish();
}

/// As a port does: mbufs out, each given its length, and in again.
fn mbuf(c: &mut Criterion) {
    let mut cache = pool().cache(512);
    let mut group = c.benchmark_group("mbuf_alloc_free");
    group.throughput(Throughput::Elements(32));
    let mut burst = Burst::new();
    let mut round = || {
        cache.alloc_burst(&mut burst, 32);
        for mbuf in burst.iter_mut() {
            black_box(mbuf.set_len(60));
        }
        cache.free_burst(&mut burst);
    };
    none_allocated("mbuf_alloc_free/32", &mut round);
    group.bench_function("32", |b| b.iter(&mut round));
    group.finish();
}

criterion_group!(benches, one, bulk, mbuf);
criterion_main!(benches);
