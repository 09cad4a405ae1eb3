// SPDX-License-Identifier: Apache-2.0
//! Mempools, caches and mbufs: what is handed out once comes back once, whatever happens between.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;

use sluice_mem::{
    BURST, Backing, BufSize, Burst, Cache, Error, HEADROOM, HugePages, Mbuf, Mempool, PoolConfig,
    Pools,
};

fn pool(buffers: u32, size: BufSize) -> Mempool {
    let config = PoolConfig {
        buffers,
        size,
        numa_node: None,
        huge_pages: HugePages::Off,
    };
    Mempool::new(config).unwrap()
}

fn assert_in_flight(pool: Mempool, in_flight: u32) {
    let count = pool.conservation();
    assert!(count.holds(), "{count:?}");
    assert_eq!(count.in_flight, in_flight, "{count:?}");
    assert_eq!(count.free, count.all - in_flight, "{count:?}");
}

#[test]
fn every_buffer_is_handed_out_once_and_exhaustion_is_none() {
    // Not a multiple of the batch: some buffers lie loose in the depot.
    for buffers in [1, 5, 64, 65, 200, 1000] {
        let pool = pool(buffers, BufSize::Small);
        let mut cache = pool.cache(0);
        assert_in_flight(pool, 0);
        let mbufs: Vec<Mbuf> = std::iter::from_fn(|| cache.alloc()).collect();
        assert_eq!(mbufs.len(), buffers as usize);
        let starts: HashSet<*const u8> = mbufs.iter().map(|m| m.scratch().0.as_ptr()).collect();
        assert_eq!(starts.len(), mbufs.len(), "two mbufs share memory");
        assert_in_flight(pool, buffers);
        assert!(cache.alloc().is_none());
        assert_eq!(cache.alloc_burst(&mut Burst::new(), 8), 0);
        mbufs.into_iter().for_each(|mbuf| cache.free(mbuf));
        assert_in_flight(pool, 0);
        drop(cache);
        assert_in_flight(pool, 0);
        assert_eq!(pool.conservation().strays, 0);
    }
}

#[test]
fn buffers_are_disjoint_and_as_large_as_promised() {
    for size in [BufSize::Small, BufSize::Large] {
        let pool = pool(130, size);
        let mut cache = pool.cache(0);
        let mut mbufs: Vec<Mbuf> = std::iter::from_fn(|| cache.alloc()).collect();
        for (n, mbuf) in (0u8..).zip(&mut mbufs) {
            assert!(
                mbuf.room_mut().iter().all(|&byte| byte == 0),
                "a new pool is zeroed"
            );
            assert_eq!(
                (mbuf.capacity(), mbuf.headroom()),
                (size.data_bytes(), HEADROOM)
            );
            assert!(mbuf.set_len(mbuf.capacity()) && mbuf.prepend(HEADROOM));
            mbuf.data_mut().fill(n);
            mbuf.scratch_mut().0.fill(n);
        }
        for (n, mbuf) in (0u8..).zip(mbufs) {
            assert_eq!(mbuf.len(), HEADROOM + size.data_bytes());
            assert!(
                mbuf.data()
                    .iter()
                    .chain(&mbuf.scratch().0)
                    .all(|&byte| byte == n)
            );
            assert_eq!(mbuf.scratch().0.as_ptr().addr() % 64, 0);
            cache.free(mbuf);
        }
    }
}

#[test]
fn resizing_keeps_within_the_buffer() {
    let pool = pool(1, BufSize::Small);
    let mut cache = pool.cache(0);
    let mut mbuf = cache.alloc().unwrap();
    assert!(!mbuf.set_len(2049) && mbuf.is_empty());
    assert!(mbuf.copy_from(b"abcdef") && mbuf.append(b"gh"));
    assert_eq!(mbuf.data(), b"abcdefgh");
    assert!(mbuf.trim_front(2) && mbuf.data() == b"cdefgh" && mbuf.headroom() == HEADROOM + 2);
    assert!(!mbuf.trim_front(7) && mbuf.len() == 6);
    assert!(mbuf.prepend(1) && mbuf.data() == b"bcdefgh");
    mbuf.truncate(100);
    assert_eq!(mbuf.len(), 7);
    mbuf.truncate(3);
    assert_eq!(mbuf.data(), b"bcd");
    assert_eq!(mbuf.capacity(), 2047);
    assert!(!mbuf.copy_from(&[0; 2048]) && mbuf.data() == b"bcd");
    assert!(!mbuf.append(&[0; 2045]) && mbuf.append(&[7; 2044]) && mbuf.len() == 2047);
    assert!(!mbuf.prepend(HEADROOM + 2) && mbuf.prepend(HEADROOM + 1));
    assert_eq!(
        (mbuf.headroom(), mbuf.len(), mbuf.capacity()),
        (0, 2176, 2176)
    );
    assert!(!mbuf.set_len(usize::MAX) && !mbuf.prepend(usize::MAX) && !mbuf.trim_front(usize::MAX));
    assert!(mbuf.trim_front(2176) && mbuf.is_empty() && mbuf.capacity() == 0);
    mbuf.reset();
    assert_eq!((mbuf.headroom(), mbuf.len()), (HEADROOM, 0));
    cache.free(mbuf);
    let again = cache.alloc().unwrap();
    assert_eq!(
        (again.headroom(), again.len()),
        (HEADROOM, 0),
        "a fresh mbuf is fresh"
    );
    cache.free(again);
}

#[test]
fn a_cache_is_last_in_first_out() {
    let pool = pool(256, BufSize::Small);
    let mut cache = pool.cache(0);
    let (a, b) = (cache.alloc().unwrap(), cache.alloc().unwrap());
    let hot = b.scratch().0.as_ptr();
    cache.free(a);
    cache.free(b);
    assert_eq!(cache.alloc().unwrap().scratch().0.as_ptr(), hot);
}

#[test]
fn dropped_mbufs_come_back_and_are_counted() {
    let pool = pool(100, BufSize::Small);
    let mut cache = pool.cache(0);
    let mut burst = Burst::new();
    assert_eq!(cache.alloc_burst(&mut burst, 10), 10);
    drop(burst);
    drop(cache.alloc());
    assert_in_flight(pool, 0);
    assert_eq!(pool.conservation().strays, 11);
    let all: Vec<Mbuf> = std::iter::from_fn(|| cache.alloc()).collect();
    assert_eq!(all.len(), 100, "strays can be allocated again");
    all.into_iter().for_each(|mbuf| cache.free(mbuf));
    assert_in_flight(pool, 0);
}

#[test]
fn a_leaked_mbuf_stays_in_flight() {
    let pool = pool(10, BufSize::Small);
    let mut cache = pool.cache(0);
    std::mem::forget(cache.alloc());
    drop(cache);
    assert_in_flight(pool, 1);
}

#[test]
fn mbufs_find_their_own_pool() {
    let (small, large) = (pool(500, BufSize::Small), pool(100, BufSize::Large));
    let other = pool(10, BufSize::Small);
    let mut pools = Pools::new(small, large, 256);
    let mut foreign = other.cache(0);
    for _ in 0..20 {
        let mut burst = Burst::new();
        for len in [0, 64, 2048, 2049, 9000, 10240] {
            let mbuf = pools.alloc_for(len).unwrap();
            assert!(mbuf.capacity() >= len);
            burst.push(mbuf).unwrap();
        }
        assert!(pools.alloc_for(10241).is_none());
        assert_in_flight(small, 3);
        assert_in_flight(large, 3);
        pools.free(burst.swap_remove(1).unwrap());
        pools.free_burst(&mut burst);
        assert!(burst.is_empty());
    }
    pools.free(foreign.alloc().unwrap());
    for pool in [small, large, other] {
        assert_in_flight(pool, 0);
    }
    assert_eq!(other.conservation().strays, 1);
    assert_eq!(small.conservation().strays + large.conservation().strays, 0);
}

#[test]
fn mbufs_freed_by_another_worker_are_found_again() {
    let pool = pool(4096, BufSize::Small);
    let (send, receive) = mpsc::sync_channel::<Burst>(4);
    let frees = thread::spawn(move || {
        let mut cache = pool.cache(512);
        for (n, mut burst) in receive.into_iter().enumerate() {
            if n % 7 == 0 {
                drop(burst.pop());
            }
            cache.free_burst(&mut burst);
        }
    });
    let mut cache = pool.cache(512);
    for round in 0..5_000u32 {
        let mut burst = Burst::new();
        let wanted = 1 + round as usize % BURST;
        while burst.len() < wanted {
            let missing = wanted - burst.len();
            if cache.alloc_burst(&mut burst, missing) == 0 {
                thread::yield_now();
            }
        }
        send.send(burst).unwrap();
        if round % 100 == 0 {
            let count = pool.conservation();
            assert!(count.holds(), "while running: {count:?}");
        }
    }
    drop(send);
    frees.join().unwrap();
    drop(cache);
    assert_in_flight(pool, 0);
    assert!(pool.conservation().strays > 0);
}

#[test]
fn strays_from_many_threads_are_none_lost_and_none_doubled() {
    let pool = pool(300, BufSize::Small);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut cache = pool.cache(0);
                for _ in 0..3_000 {
                    let mut held = [cache.alloc(), cache.alloc()];
                    for mbuf in held.iter_mut().flatten() {
                        assert!(mbuf.copy_from(b"mine"));
                    }
                    thread::yield_now();
                    assert!(held.iter().flatten().all(|mbuf| mbuf.data() == b"mine"));
                }
            });
        }
    });
    assert_in_flight(pool, 0);
    let mut cache = pool.cache(0);
    let mbufs: Vec<Mbuf> = std::iter::from_fn(|| cache.alloc()).collect();
    let starts: HashSet<*const u8> = mbufs.iter().map(|m| m.scratch().0.as_ptr()).collect();
    assert_eq!((mbufs.len(), starts.len()), (300, 300));
}

#[test]
fn impossible_pools_are_refused_with_what_to_do() {
    let config = PoolConfig {
        buffers: 0,
        size: BufSize::Small,
        numa_node: None,
        huge_pages: HugePages::Off,
    };
    for buffers in [0, (1 << 23) + 1, u32::MAX] {
        let error = Mempool::new(PoolConfig { buffers, ..config }).unwrap_err();
        assert!(matches!(error, Error::BufferCount { .. }), "{error}");
        assert!(error.to_string().contains("1 to 8388608"), "{error}");
    }
    let error = Mempool::new(PoolConfig {
        buffers: 1,
        numa_node: Some(999),
        ..config
    });
    assert!(matches!(error, Err(Error::NoSuchNode { node: 999 })));
}

#[test]
fn huge_pages_are_used_if_there_are_any_and_never_missed() {
    let config = PoolConfig {
        buffers: 512,
        size: BufSize::Small,
        numa_node: Some(0),
        huge_pages: HugePages::Auto,
    };
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let free: u64 = std::fs::read_to_string(file).map_or(0, |n| n.trim().parse().unwrap());
    let pool = Mempool::new(config).unwrap();
    match pool.backing() {
        Backing::Huge => assert!(free > 0),
        // Somebody else may have taken some meanwhile.
        Backing::Ordinary => assert!(free < 4),
    }
    if free < 16 {
        let buffers = 1000 * (u32::try_from(free).unwrap() + 1);
        let too_large = Mempool::new(PoolConfig { buffers, ..config }).unwrap();
        assert_eq!(
            too_large.backing(),
            Backing::Ordinary,
            "more than there are"
        );
    }
    let mut cache: Cache = pool.cache(0);
    let mut mbuf = cache.alloc().unwrap();
    assert!(mbuf.copy_from(&[1; 2048]));
    cache.free(mbuf);
    assert_in_flight(pool, 0);
}

#[test]
fn data_and_scratch_are_apart() {
    let mut cache = pool(64, BufSize::Small).cache(0);
    let mut mbuf = cache.alloc().unwrap();
    assert!(mbuf.copy_from(&[7; 2048]));
    let (data, scratch) = mbuf.data_and_scratch_mut();
    scratch.0.fill(9);
    assert!(data.iter().all(|byte| *byte == 7));
    assert!(mbuf.scratch().0.iter().all(|byte| *byte == 9));
    assert!(mbuf.data().iter().all(|byte| *byte == 7));
    cache.free(mbuf);
}
