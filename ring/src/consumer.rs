// SPDX-License-Identifier: Apache-2.0
//! [`Consumer`]: the side of an SPSC ring that pops.
#![allow(unsafe_code, reason = "reads the slots that belong to the consumer")]

use std::cell::Cell;
use std::marker::PhantomData;

use crate::shared::Shared;
use crate::sync::Arc;

/// The side of a ring that pops. `Send` and not `Sync`: it has one owner at a time.
#[derive(Debug)]
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Index of the next value to pop; `shared.head` is equal to it between calls.
    head: usize,
    /// The producer's index as last seen: at most `capacity` ahead of `head`, never behind it.
    seen_tail: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Consumer<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Consumer<T> {
        Consumer {
            shared,
            head: 0,
            seen_tail: 0,
            not_sync: PhantomData,
        }
    }

    /// Most values that the ring holds.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.shared.capacity()
    }

    /// At least `wanted` values if there are as many; looks at the producer only if what was last
    /// seen does not suffice.
    #[inline(always)]
    fn values_for(&mut self, wanted: usize) -> usize {
        let head = self.head;
        let values = self.seen_tail.wrapping_sub(head);
        if values >= wanted {
            return values;
        }
        let tail = self.shared.tail();
        self.seen_tail = tail;
        tail.wrapping_sub(head)
    }

    /// Values in the ring at this moment. The producer can only make them more.
    #[inline]
    pub fn len(&mut self) -> usize {
        self.values_for(usize::MAX)
    }

    /// Whether the ring is empty at this moment.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.values_for(1) == 0
    }

    /// Whether the producer has been dropped. What it pushed is still there; if this is true and
    /// the ring is empty *afterwards*, nothing will come any more.
    pub fn is_abandoned(&self) -> bool {
        self.shared.producer_gone()
    }

    /// Pops the oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.values_for(1) == 0 {
            return None;
        }
        let head = self.head;
        // SAFETY: the slot at `head` is full, and empty from here on.
        let value = unsafe { self.shared.slot(head).read() };
        self.head = head.wrapping_add(1);
        self.shared.set_head(self.head);
        Some(value)
    }

    /// Pops up to `max` values, oldest first, and gives each to `f`; their slots become free
    /// together at the end. Returns how many.
    #[inline]
    pub fn pop_burst(&mut self, max: usize, mut f: impl FnMut(T)) -> usize {
        let n = self.values_for(max).min(max);
        let first = self.head;
        let mut burst = Release {
            next: first,
            consumer: self,
        };
        for part in burst.consumer.shared.parts(first, n) {
            for slot in part {
                // SAFETY: the slot is one of `n` full ones, and empty from here on.
                let value = unsafe { slot.read() };
                burst.next = burst.next.wrapping_add(1);
                f(value);
            }
        }
        n
    }

    /// Pops values into `out` from its front, oldest first, until the ring is empty or `out` full.
    /// Returns how many. For plain values this is the fastest way.
    #[inline]
    pub fn pop_slice(&mut self, out: &mut [T]) -> usize
    where
        T: Copy,
    {
        let (n, head) = (out.len(), self.head);
        // As in `push_slice`.
        if self.values_for(n) >= n
            && let Some(run) = self.shared.run(head, n)
        {
            for (slot, out) in run.iter().zip(out) {
                // SAFETY: the slot is one of `n` full ones from `head` on, and empty from here on.
                *out = unsafe { slot.read() };
            }
            self.head = head.wrapping_add(n);
            self.shared.set_head(self.head);
            return n;
        }
        self.pop_some(out)
    }

    /// As [`Consumer::pop_slice`], where the slots wrap round or the values are too few.
    #[inline(never)]
    fn pop_some(&mut self, out: &mut [T]) -> usize
    where
        T: Copy,
    {
        let n = self.values_for(out.len()).min(out.len());
        let [start, wrapped] = self.shared.parts(self.head, n);
        let (first, second) = out.split_at_mut(start.len());
        for (part, out) in [(start, first), (wrapped, second)] {
            for (slot, out) in part.iter().zip(out) {
                // SAFETY: the slot is one of `n` full ones from `head` on, and empty from here on.
                *out = unsafe { slot.read() };
            }
        }
        self.head = self.head.wrapping_add(n);
        self.shared.set_head(self.head);
        n
    }

    /// Looks at up to `max` values, oldest first, without popping them; [`Peek::commit`] pops.
    #[inline]
    pub fn peek(&mut self, max: usize) -> Peek<'_, T> {
        let n = self.values_for(max).min(max);
        Peek { consumer: self, n }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.set_consumer_gone();
    }
}

/// Frees the slots below `next` when dropped, so that a closure that panics in the middle of a
/// burst does not have a value popped twice.
struct Release<'a, T> {
    consumer: &'a mut Consumer<T>,
    next: usize,
}

impl<T> Drop for Release<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.next != self.consumer.head {
            self.consumer.head = self.next;
            self.consumer.shared.set_head(self.next);
        }
    }
}

/// Values that are still in the ring; see [`Consumer::peek`].
#[derive(Debug)]
pub struct Peek<'a, T> {
    consumer: &'a mut Consumer<T>,
    n: usize,
}

impl<T> Peek<'_, T> {
    /// Number of values.
    #[inline]
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Value `at`, counted from the oldest.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        let index = self.consumer.head.wrapping_add(at);
        // SAFETY: the slot is full and ours until `self`, which is borrowed, is committed.
        (at < self.n).then(|| unsafe { self.consumer.shared.slot(index).get() })
    }

    /// The values, oldest first.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.n).filter_map(|at| self.get(at))
    }

    /// Pops the first `n` values (or all, if there are fewer) and gives each to `f`; the others stay
    /// in the ring. Returns how many.
    #[inline]
    pub fn commit(self, n: usize, f: impl FnMut(T)) -> usize {
        let n = n.min(self.n);
        self.consumer.pop_burst(n, f)
    }
}
