// SPDX-License-Identifier: Apache-2.0
//! Mempool: allocation and release of buffers; mbufs from one core to another.

use std::hint::black_box;

use anyhow::Result;
use sluice_mem::{BufSize, Burst, Cache, HugePages, Mbuf, Mempool, PoolConfig};
use sluice_ring::spsc;

use crate::Options;
use crate::ring::{OBJECTS, two};
use crate::timing::one_core;

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    let pool = Mempool::new(PoolConfig {
        buffers: 16_383,
        size: BufSize::Small,
        numa_node: None,
        huge_pages: HugePages::Auto,
    })?;
    let mut cache = pool.cache(512);
    // A buffer and the mbuf that it becomes are one here: an mbuf is made by taking a buffer.
    for name in ["mempool_cache_getput_bulk1", "pktmbuf_alloc_free_single"] {
        one_core(name, 1_000_000, 1, || {
            if let Some(mbuf) = cache.alloc() {
                cache.free(black_box(mbuf));
            }
        });
    }
    bulk(&mut cache, "mempool_cache_getput_bulk8", 250_000, 8);
    bulk(&mut cache, "mempool_cache_getput_bulk32", 60_000, 32);
    bulk(&mut cache, "pktmbuf_allocbulk32_freebulk32", 60_000, 32);
    let mut burst = Burst::new();
    one_core("pktmbuf_allocbulk32_freeloop", 60_000, 32, || {
        cache.alloc_burst(&mut burst, 32);
        while let Some(mbuf) = burst.pop() {
            cache.free(black_box(mbuf));
        }
    });
    let mut bursts: [Burst; 16] = Default::default();
    for name in [
        "mempool_cache_get512_put512_by32",
        "pktmbuf_alloc512_free512_by32",
    ] {
        one_core(name, 3_750, 512, || {
            for burst in &mut bursts {
                cache.alloc_burst(burst, 32);
            }
            for burst in black_box(&mut bursts) {
                cache.free_burst(burst);
            }
        });
    }
    across(options, &pool)
}

fn bulk(cache: &mut Cache, name: &str, iterations: u32, per: u32) {
    let mut burst = Burst::new();
    one_core(name, iterations, per, || {
        cache.alloc_burst(&mut burst, per as usize);
        cache.free_burst(black_box(&mut burst));
    });
}

/// Measures mbufs that are allocated on one core, passed over a ring and freed on the other.
fn across(options: &Options, pool: &Mempool) -> Result<()> {
    let (mut producer, mut consumer) = spsc::<Mbuf>(1024);
    let (mut here, mut there) = (pool.cache(512), pool.cache(512));
    let mut waiting = Burst::new();
    let mut burst = Burst::new();
    two(
        options,
        ("pktmbuf_2t_alloc_ring_free_burst32", OBJECTS),
        move || {
            if waiting.is_empty() {
                there.alloc_burst(&mut waiting, 32);
            }
            let count = waiting.len();
            let mut mbufs = waiting.drain_front(count);
            let sent = producer.push_burst(&mut mbufs);
            let mut left = Burst::new();
            for mbuf in mbufs {
                let _ = left.push(mbuf);
            }
            waiting = left;
            sent
        },
        || {
            let taken = consumer.pop_burst(32, |mbuf| {
                let _ = burst.push(mbuf);
            });
            here.free_burst(&mut burst);
            taken
        },
    )
}
