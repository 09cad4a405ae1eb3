// SPDX-License-Identifier: Apache-2.0
//! [`Pools`]: a worker's caches of both buffer sizes.

use super::burst::Burst;
use super::cache::Cache;
use super::layout::BufSize;
use super::mbuf::Mbuf;
use super::pool::Mempool;

/// Caches of one worker: small buffers for most frames, large ones for the rest. An mbuf's owner is
/// found from its handle; no memory is touched for it.
#[derive(Debug)]
pub struct Pools {
    /// Buffers of [`BufSize::Small`].
    pub small: Cache,
    /// Buffers of [`BufSize::Large`].
    pub large: Cache,
}

impl Pools {
    /// Caches of `capacity` buffers each (the large one an eighth of it), over two pools.
    pub fn new(small: Mempool, large: Mempool, capacity: usize) -> Pools {
        Pools {
            small: small.cache(capacity),
            large: large.cache(capacity / 8),
        }
    }

    /// A fresh mbuf for `len_bytes` of data: a small one if they fit. `None` if that pool is
    /// exhausted or no buffer is so large.
    #[inline]
    pub fn alloc_for(&mut self, len_bytes: usize) -> Option<Mbuf> {
        if len_bytes <= BufSize::Small.data_bytes() {
            self.small.alloc()
        } else if len_bytes <= BufSize::Large.data_bytes() {
            self.large.alloc()
        } else {
            None
        }
    }

    /// Whether an mbuf is of the large pool, by its handle alone.
    #[inline(always)]
    pub fn is_large(&self, mbuf: &Mbuf) -> bool {
        self.large.owns(mbuf)
    }

    /// Takes an mbuf back. One of neither pool goes home the slow way, as a stray.
    #[inline]
    pub fn free(&mut self, mbuf: Mbuf) {
        if self.small.owns(&mbuf) {
            self.small.free(mbuf)
        } else {
            self.large.free(mbuf)
        }
    }

    /// Takes all mbufs of `burst` back, whatever their pools.
    #[inline]
    pub fn free_burst(&mut self, burst: &mut Burst) {
        if self.small.free_if_all_owned(burst) {
            return;
        }
        while let Some(mbuf) = burst.pop() {
            self.free(mbuf);
        }
    }
}
