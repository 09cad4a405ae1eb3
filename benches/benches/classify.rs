// SPDX-License-Identifier: Apache-2.0
//! The compiled table: keys to first matching rule, and how long it takes to build.
#![allow(
    missing_docs,
    reason = "criterion's macros make functions without docs"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_benches::{Flows, keys, none_allocated, policy_of};
use sluice_firewall::{Direction, Table};

const RULES: [u16; 4] = [16, 100, 256, 1000];
const BURST: usize = 32;

fn judge(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify_burst_32");
    group.throughput(Throughput::Elements(BURST as u64));
    for rules in RULES {
        let table = Table::compile(&policy_of(rules), Direction::Egress);
        let keys = keys(&mut Flows::new(rules), 1024);
        let mut bursts = keys.chunks_exact(BURST).cycle();
        let mut round = || {
            for key in bursts.next().into_iter().flatten() {
                black_box(table.judge(key));
            }
        };
        none_allocated("classify", &mut round);
        group.bench_function(format!("{rules}_rules"), |b| b.iter(&mut round));
    }
    group.finish();
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify_build");
    group.sample_size(10);
    for rules in [1000, 10_000] {
        let policy = policy_of(rules);
        group.bench_function(format!("{rules}_rules"), |b| {
            b.iter(|| black_box(Table::compile(&policy, Direction::Egress)));
        });
    }
    group.finish();
}

criterion_group!(benches, judge, build);
criterion_main!(benches);
