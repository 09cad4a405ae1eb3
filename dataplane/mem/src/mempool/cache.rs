// SPDX-License-Identifier: Apache-2.0
//! [`Cache`]: one worker's stock of free buffers, the per-CPU layer of a magazine cache (Bonwick and
//! Adams, "Magazines and Vmem", USENIX ATC 2001).
#![allow(unsafe_code, reason = "turns handles from the free stack into mbufs")]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::utils::CachePadded;

use super::buffer_writer::BufferWriter;
use super::burst::Burst;
use super::depot::{BATCH, Batch, Books};
use super::layout::{POOL_MASK, index_of};
use super::mbuf::Mbuf;
use super::pool::Mempool;

/// A worker's stock of free buffers of one pool: the last one freed, whose lines are still in the
/// core's cache, is the first one allocated. It exchanges batches of 64 with the pool when it runs
/// empty or full, and gives everything back when dropped.
///
/// What lies in one worker's cache no other worker can allocate: give a pool at least the sum of
/// its caches' capacities more buffers than can be in flight.
pub struct Cache {
    /// Handles of free buffers; the first `len` are valid.
    stack: Box<[u32]>,
    len: usize,
    /// Handle of a fresh mbuf of this pool, without the index.
    fresh: NonZeroU64,
    books: Arc<CachePadded<Books>>,
    pool: Mempool,
    writer: BufferWriter,
    /// Marker: usable by one thread at a time.
    not_sync: PhantomData<Cell<()>>,
}

impl Cache {
    /// The least capacity: below this a cache could not take and give whole batches.
    pub const MIN_CAPACITY: usize = 2 * BATCH;

    pub(crate) fn new(pool: Mempool, capacity: usize) -> Cache {
        let capacity = capacity.clamp(Cache::MIN_CAPACITY, 1 << 20);
        Cache {
            stack: vec![0; capacity].into_boxed_slice(),
            len: 0,
            fresh: pool.fresh(),
            books: pool.depot().enrol(),
            pool,
            writer: BufferWriter::new(pool, pool.config().size),
            not_sync: PhantomData,
        }
    }

    /// The pool it belongs to.
    pub fn pool(&self) -> Mempool {
        self.pool
    }

    /// Writer for this cache's fresh mbufs.
    #[inline(always)]
    pub fn buffer_writer(&self) -> BufferWriter {
        self.writer
    }

    /// A fresh mbuf, or `None` if neither the cache nor the pool has one left.
    #[inline]
    pub fn alloc(&mut self) -> Option<Mbuf> {
        // An empty stack makes `top` wrap round, so one comparison covers both bounds.
        let top = self.len.wrapping_sub(1);
        let Some(&handle) = self.stack.get(top) else {
            return self.alloc_after_refill();
        };
        self.set_len(top);
        // SAFETY: `handle` has just left the free stack of the pool that `fresh` names.
        Some(unsafe { Mbuf::from_free(self.fresh, handle) })
    }

    #[cold]
    #[inline(never)]
    fn alloc_after_refill(&mut self) -> Option<Mbuf> {
        self.refill();
        let top = self.len.checked_sub(1)?;
        let handle = *self.stack.get(top)?;
        self.set_len(top);
        // SAFETY: as in `alloc`.
        Some(unsafe { Mbuf::from_free(self.fresh, handle) })
    }

    /// Appends `n` fresh mbufs to `burst`, or as many as it has room for or the pool has left; says
    /// how many.
    #[inline]
    pub fn alloc_burst(&mut self, burst: &mut Burst, n: usize) -> usize {
        let n = n.min(burst.room());
        if self.len < n {
            self.refill();
        }
        let keep = self.len.saturating_sub(n);
        let Some(handles) = self.stack.get(keep..self.len) else {
            return 0;
        };
        let taken = handles.len();
        // SAFETY: the handles leave the free stack with the next statement; nothing between can
        // panic.
        unsafe { burst.extend_fresh(self.fresh, handles) };
        self.set_len(keep);
        taken
    }

    /// Takes an mbuf back. One of another pool goes home the slow way, as a stray.
    #[inline]
    pub fn free(&mut self, mbuf: Mbuf) {
        if !self.owns(&mbuf) {
            return drop(mbuf);
        }
        if self.len == self.stack.len() {
            self.spill();
        }
        if let Some(slot) = self.stack.get_mut(self.len) {
            *slot = mbuf.into_handle();
            self.set_len(self.len + 1);
        }
    }

    /// Takes all mbufs of `burst` back. Those of another pool go home the slow way, as strays.
    #[inline]
    pub fn free_burst(&mut self, burst: &mut Burst) {
        if !self.free_if_all_owned(burst) {
            self.free_mixed(burst);
        }
    }

    /// Takes all mbufs of `burst` back if all are of this pool; else does nothing and says false.
    #[inline(always)]
    pub(crate) fn free_if_all_owned(&mut self, burst: &mut Burst) -> bool {
        let n = burst.len();
        // MIN_CAPACITY makes room after at most one batch.
        if self.stack.len() - self.len < n {
            self.spill();
        }
        // The handles go to the free end of the stack and count only if all are ours.
        let Some(slots) = self.stack.get_mut(self.len..self.len + n) else {
            return false;
        };
        let ours = burst.copy_handles(slots, self.fresh) & POOL_MASK == 0;
        if ours {
            burst.forget_all();
            self.set_len(self.len + n);
        }
        ours
    }

    #[cold]
    #[inline(never)]
    fn free_mixed(&mut self, burst: &mut Burst) {
        while let Some(mbuf) = burst.pop() {
            self.free(mbuf);
        }
    }

    /// Whether an mbuf is of this cache's pool; looks at the handle only.
    #[inline(always)]
    pub(crate) fn owns(&self, mbuf: &Mbuf) -> bool {
        (mbuf.bits() ^ self.fresh.get()) & POOL_MASK == 0
    }

    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the capacity is at most 2^20"
    )]
    fn set_len(&mut self, len: usize) {
        self.len = len;
        self.books.free.store(len as u32, Relaxed);
    }

    /// Gets a batch from the pool; the stack has room for one, as it holds less than a burst.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) {
        while self.len < BATCH {
            let Some(room) = self.stack.get_mut(self.len..) else {
                return;
            };
            let taken = self.pool.depot().take(&self.books, room);
            if taken == 0 {
                return;
            }
            self.set_len(self.len + taken);
        }
    }

    /// Gives the batch at the bottom, the one longest unused, back to the pool.
    #[cold]
    #[inline(never)]
    fn spill(&mut self) {
        if self.len < BATCH {
            return;
        }
        let Some(handles) = self.stack.first_chunk::<BATCH>() else {
            return;
        };
        let batch: Batch = handles.map(index_of);
        self.pool.depot().give(&self.books, &batch);
        self.stack.copy_within(BATCH..self.len, 0);
        self.set_len(self.len - BATCH);
    }
}

impl Mempool {
    /// Makes a cache of this pool's buffers for one worker. `capacity` is the number of free buffers it
    /// may hold back; it is raised to at least [`Cache::MIN_CAPACITY`].
    pub fn cache(self, capacity: usize) -> Cache {
        Cache::new(self, capacity)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let stock = self.stack.get_mut(..self.len).unwrap_or(&mut []);
        stock
            .iter_mut()
            .for_each(|handle| *handle = index_of(*handle));
        self.pool.depot().retire(&self.books, stock);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("pool", &self.pool)
            .field("free", &self.len)
            .field("capacity", &self.stack.len())
            .finish()
    }
}
