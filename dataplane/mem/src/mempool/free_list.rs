// SPDX-License-Identifier: Apache-2.0
//! [`FreeList`]: single free buffers of a mempool, shared by all workers beside the whole batches.

use crossbeam::utils::CachePadded;

use super::sync::{
    AtomicI64, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Treiber stack of single indices (R. K. Treiber, IBM RJ 5118, 1986), linked through an array of its
/// own: `next[i]` is the index below `i`. The head carries a tag that every change increments, so that
/// a head seen twice is the same stack (no ABA).
pub(crate) struct FreeList {
    /// Tag in the upper half, index in the lower.
    head: CachePadded<AtomicU64>,
    len: AtomicI64,
    next: Box<[AtomicU32]>,
}

/// No index.
const NONE: u32 = u32::MAX;

impl FreeList {
    pub(crate) fn new(buffers: u32) -> FreeList {
        FreeList {
            head: CachePadded::new(AtomicU64::new(u64::from(NONE))),
            len: AtomicI64::new(0),
            next: (0..buffers).map(|_| AtomicU32::new(NONE)).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Relaxed) <= 0
    }

    pub(crate) fn len(&self) -> i64 {
        self.len.load(Relaxed)
    }

    pub(crate) fn push(&self, index: u32) {
        let Some(next) = self.next.get(index as usize) else {
            return;
        };
        let mut head = self.head.load(Relaxed);
        loop {
            next.store(low(head), Relaxed);
            let new = tag_after(head) | u64::from(index);
            match self.head.compare_exchange_weak(head, new, Release, Relaxed) {
                Ok(_) => break,
                Err(seen) => head = seen,
            }
        }
        self.len.fetch_add(1, Relaxed);
    }

    pub(crate) fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Acquire);
        loop {
            let index = low(head);
            // Another thread may have popped `index` meanwhile and pushed it elsewhere: then this
            // reads nonsense and the exchange below fails, because the tag moved on.
            let below = self.next.get(index as usize)?.load(Relaxed);
            let new = tag_after(head) | u64::from(below);
            match self.head.compare_exchange_weak(head, new, AcqRel, Acquire) {
                Ok(_) => {
                    self.len.fetch_sub(1, Relaxed);
                    return Some(index);
                }
                Err(seen) => head = seen,
            }
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
fn low(head: u64) -> u32 {
    head as u32
}

fn tag_after(head: u64) -> u64 {
    (head >> 32).wrapping_add(1) << 32
}

/// Every interleaving of small cases:
/// `RUSTFLAGS="--cfg loom" cargo test -p sluice-mem --release --lib models`.
#[cfg(all(test, loom))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    fn drained(list: &FreeList) -> Vec<u32> {
        let mut all: Vec<u32> = std::iter::from_fn(|| list.pop()).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn no_index_is_lost_or_given_out_twice() {
        loom::model(|| {
            let list = Arc::new(FreeList::new(2));
            list.push(0);
            list.push(1);
            let other = {
                let list = list.clone();
                thread::spawn(move || list.pop())
            };
            let ours = list.pop();
            let theirs = other.join().unwrap();
            assert!(ours.is_some() && theirs.is_some() && ours != theirs);
            assert_eq!(list.pop(), None);
        });
    }

    /// ABA: one thread pops the top and the index below it and pushes the top back while another is about
    /// to pop it. To that one the top looks as before, but the index it saw below is gone.
    #[test]
    fn a_top_that_was_away_is_not_mistaken() {
        loom::model(|| {
            let list = Arc::new(FreeList::new(3));
            (0..3).for_each(|index| list.push(index));
            let other = {
                let list = list.clone();
                thread::spawn(move || {
                    let (top, below) = (list.pop(), list.pop());
                    if let Some(top) = top {
                        list.push(top);
                    }
                    below
                })
            };
            let ours = list.pop();
            let theirs = other.join().unwrap();
            let mut all = drained(&list);
            all.extend(ours);
            all.extend(theirs);
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        });
    }
}
