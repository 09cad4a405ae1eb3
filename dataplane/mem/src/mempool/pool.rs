// SPDX-License-Identifier: Apache-2.0
//! [`Mempool`]: equal buffers in one mapping that lives as long as the process.

use std::fmt;
use std::num::NonZeroU64;

use super::conservation::Conservation;
use super::depot::Depot;
use super::layout::{BufSize, MAX_BUFFERS, SCRATCH_BYTES};
use super::mbuf::Mbuf;
use super::registry;
use crate::backing::{self, Backing, HugePages};
use crate::error::Error;

/// Configuration of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Number of buffers, 1 to 8,388,608.
    pub buffers: u32,
    /// Size of each.
    pub size: BufSize,
    /// NUMA node that the memory shall lie on; `None`: wherever the creating thread runs.
    pub numa_node: Option<u32>,
    /// Whether to use huge pages.
    pub huge_pages: HugePages,
}

/// A pool of equal buffers. The handle is `Copy`; the memory lives as long as the process, which is
/// what makes an [`Mbuf`] sound without a lifetime or a reference count.
#[derive(Clone, Copy)]
pub struct Mempool {
    inner: &'static Inner,
}

struct Inner {
    id: u32,
    config: PoolConfig,
    backing: Backing,
    /// Length of the mapping, whole pages.
    mapped_bytes: usize,
    depot: Depot,
}

const _: () = assert!(usize::BITS == 64, "a pool's bytes are counted in usize");

impl Mempool {
    /// Makes a pool and touches all its memory once, so that no worker takes a page fault on it.
    ///
    /// # Errors
    /// [`Error`] if the number of buffers is out of range, the node does not exist or the kernel
    /// refuses the memory. Missing huge pages are no error: see [`HugePages::Auto`].
    pub fn new(config: PoolConfig) -> Result<Mempool, Error> {
        let PoolConfig {
            buffers,
            size,
            numa_node,
            huge_pages,
        } = config;
        if buffers == 0 || buffers > MAX_BUFFERS {
            return Err(Error::BufferCount {
                buffers,
                max: MAX_BUFFERS,
            });
        }
        let stride = size.stride();
        let buffers_bytes = stride * buffers as usize;
        let bytes = buffers_bytes + SCRATCH_BYTES * buffers as usize;
        let id = registry::next_id()?;
        let (base, backing) = backing::map(bytes, numa_node, huge_pages)?;
        let inner: &'static Inner = Box::leak(Box::new(Inner {
            id,
            config,
            backing,
            mapped_bytes: backing::mapped_bytes(bytes, backing),
            depot: Depot::new(buffers),
        }));
        registry::register(id, size, buffers, base, &inner.depot);
        Ok(Mempool { inner })
    }

    /// Counts all buffers at this moment, while workers go on.
    pub fn conservation(self) -> Conservation {
        self.inner.depot.conservation(self.inner.config.buffers)
    }

    /// Configuration that the pool was made with.
    pub fn config(self) -> PoolConfig {
        self.inner.config
    }

    /// Kind of pages that the pool lies on.
    pub fn backing(self) -> Backing {
        self.inner.backing
    }

    /// The mapping: its first byte and its length.
    pub(crate) fn mapping(self) -> (*mut u8, usize) {
        let base = registry::entry(self.id()).base();
        (base, self.inner.mapped_bytes)
    }

    /// Number of the pool, from 1.
    pub(crate) fn id(self) -> usize {
        self.inner.id as usize
    }

    pub(crate) fn depot(self) -> &'static Depot {
        &self.inner.depot
    }

    /// Handle of a fresh mbuf of this pool, without its index.
    pub(crate) fn fresh(self) -> NonZeroU64 {
        Mbuf::fresh(self.inner.id)
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("id", &self.inner.id)
            .field("config", &self.inner.config)
            .field("backing", &self.inner.backing)
            .finish()
    }
}
