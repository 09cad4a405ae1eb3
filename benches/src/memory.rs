// SPDX-License-Identifier: Apache-2.0
//! Packet memory for a bench's worker.
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use sluice_mem::{BufSize, HugePages, Mempool, PoolConfig, Pools};

/// Creates a worker's mempools, on huge pages where they are configured.
///
/// # Panics
/// The memory cannot be had.
pub fn pools() -> Pools {
    let pool = |size, buffers| {
        Mempool::new(PoolConfig {
            buffers,
            size,
            numa_node: None,
            huge_pages: HugePages::Auto,
        })
        .unwrap()
    };
    Pools::new(pool(BufSize::Small, 8192), pool(BufSize::Large, 256), 512)
}
