// SPDX-License-Identifier: Apache-2.0
//! [`Depot`]: free buffers of a pool that are in no worker's cache, and the counters of those that are.
//! It is the depot of a magazine cache (Bonwick and Adams, "Magazines and Vmem", USENIX ATC 2001): full
//! batches change hands whole.

use std::sync::atomic::{
    AtomicI64, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, SeqCst},
    fence,
};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;
use sluice_ring::Mpmc;

use super::conservation::Conservation;
use super::free_list::FreeList;

/// Indices that change hands at once.
pub(crate) const BATCH: usize = 64;

/// A full batch.
pub(crate) type Batch = [u32; BATCH];

/// Counters of one cache: its owner writes, [`Depot::conservation`] reads.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Free buffers in the cache.
    pub(crate) free: AtomicU32,
    /// Buffers it took from the depot less those it gave back.
    net: AtomicI64,
}

/// Free buffers by index: full batches in a queue, the rest one by one in a stack.
pub(crate) struct Depot {
    batches: Mpmc<Batch>,
    singles: FreeList,
    /// Exchanges begun and ended, by which a reader knows that the books stood still.
    begun: CachePadded<AtomicU64>,
    ended: CachePadded<AtomicU64>,
    caches: Mutex<Vec<Arc<CachePadded<Books>>>>,
    /// `net` of caches that are gone.
    retired_net: AtomicI64,
    strays: AtomicU64,
}

impl Depot {
    /// A depot that holds all of `buffers`.
    pub(crate) fn new(buffers: u32) -> Depot {
        // Only full batches go in, so there can never be more than this.
        let most = (buffers as usize / BATCH).next_power_of_two().max(2);
        let batches = Mpmc::new(most).unwrap_or_else(|error| unreachable!("{error}"));
        let singles = FreeList::new(buffers);
        let mut first = 0;
        while first + narrow(BATCH) <= buffers {
            let mut batch = [0; BATCH];
            // Reversed: caches are stacks, so low addresses come out first.
            (first..)
                .zip(batch.iter_mut().rev())
                .for_each(|(index, slot)| *slot = index);
            let pushed = batches.push(batch);
            debug_assert!(pushed.is_ok());
            first += narrow(BATCH);
        }
        (first..buffers).rev().for_each(|index| singles.push(index));
        Depot {
            batches,
            singles,
            begun: CachePadded::default(),
            ended: CachePadded::default(),
            caches: Mutex::default(),
            retired_net: AtomicI64::new(0),
            strays: AtomicU64::new(0),
        }
    }

    /// Opens the books of a new cache.
    pub(crate) fn enrol(&self) -> Arc<CachePadded<Books>> {
        let books = Arc::new(CachePadded::default());
        self.caches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&books));
        books
    }

    /// Closes the books of a cache that gives back `stock`, all it holds.
    pub(crate) fn retire(&self, books: &Arc<CachePadded<Books>>, stock: &[u32]) {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange = self.exchange();
        stock.iter().for_each(|&index| self.singles.push(index));
        let net = books.net.load(Relaxed) - wide(stock.len());
        self.retired_net.fetch_add(net, Relaxed);
        caches.retain(|other| !Arc::ptr_eq(other, books));
        drop(exchange);
    }

    /// Fills the front of `room` with free buffers, at most [`BATCH`]; says how many.
    #[cold]
    pub(crate) fn take(&self, books: &Books, room: &mut [u32]) -> usize {
        if self.batches.is_empty() && self.singles.is_empty() {
            return 0;
        }
        let _exchange = self.exchange();
        let mut taken = 0;
        if let Some(whole) = room.first_chunk_mut::<BATCH>()
            && let Some(batch) = self.batches.pop()
        {
            *whole = batch;
            taken = BATCH;
        } else {
            for slot in room.iter_mut().take(BATCH) {
                let Some(index) = self.singles.pop() else {
                    break;
                };
                *slot = index;
                taken += 1;
            }
        }
        books.net.fetch_add(wide(taken), Relaxed);
        taken
    }

    /// Takes a batch back.
    #[cold]
    pub(crate) fn give(&self, books: &Books, batch: &Batch) {
        let _exchange = self.exchange();
        if self.batches.push(*batch).is_err() {
            batch.iter().for_each(|&index| self.singles.push(index));
        }
        books.net.fetch_sub(wide(BATCH), Relaxed);
    }

    /// Takes back one buffer that no cache wanted.
    pub(crate) fn put_stray(&self, index: u32) {
        let _exchange = self.exchange();
        self.singles.push(index);
        self.strays.fetch_add(1, Relaxed);
    }

    /// Counts. `free` is what lies in the depot and in the caches; `in_flight` is what the caches
    /// took out of the depot and neither hold nor gave back. A cache's own stock is read once and
    /// cancels out of the sum, so allocating and freeing need not stand still for it; exchanges
    /// with the depot must, and the counting is repeated until they did.
    pub(crate) fn conservation(&self, all: u32) -> Conservation {
        const ATTEMPTS: u32 = 10_000;
        let caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attempt = 0;
        loop {
            let ended = self.ended.load(Acquire);
            let strays = self.strays.load(Relaxed);
            let mut free = wide(self.batches.len() * BATCH) + self.singles.len();
            // A stray went out by some cache's books and came back past them.
            let mut out = self.retired_net.load(Relaxed) - strays.cast_signed();
            for books in caches.iter() {
                let stock = i64::from(books.free.load(Relaxed));
                free += stock;
                out += books.net.load(Relaxed) - stock;
            }
            fence(SeqCst);
            attempt += 1;
            if self.begun.load(Acquire) == ended || attempt == ATTEMPTS {
                let clamp = |n: i64| u32::try_from(n.max(0)).unwrap_or(u32::MAX);
                return Conservation {
                    all,
                    free: clamp(free),
                    in_flight: clamp(out),
                    strays,
                };
            }
            std::hint::spin_loop();
        }
    }

    fn exchange(&self) -> Exchange<'_> {
        self.begun.fetch_add(1, SeqCst);
        fence(SeqCst);
        Exchange { ended: &self.ended }
    }
}

/// While one lives, the books are in motion.
struct Exchange<'a> {
    ended: &'a AtomicU64,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.ended.fetch_add(1, SeqCst);
    }
}

fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_possible_truncation, reason = "used for BATCH only")]
const fn narrow(count: usize) -> u32 {
    count as u32
}
