// SPDX-License-Identifier: Apache-2.0
//! [`Producer`]: the side of an SPSC ring that pushes.
#![allow(unsafe_code, reason = "writes the slots that belong to the producer")]

use std::cell::Cell;
use std::marker::PhantomData;

use crate::shared::Shared;
use crate::sync::Arc;

/// The side of a ring that pushes. `Send` and not `Sync`: it has one owner at a time.
#[derive(Debug)]
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Index of the next slot to fill; `shared.tail` is equal to it between calls.
    tail: usize,
    /// The consumer's index as last seen, plus the capacity: what `tail` may reach. Never behind
    /// `tail`, and at most the capacity ahead of it.
    limit: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Producer<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Producer<T> {
        Producer {
            tail: 0,
            limit: shared.capacity(),
            shared,
            not_sync: PhantomData,
        }
    }

    /// Most values that the ring holds.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.shared.capacity()
    }

    /// At least `wanted` empty slots if there are as many; looks at the consumer only if what was
    /// last seen does not suffice.
    #[inline(always)]
    fn slots_for(&mut self, wanted: usize) -> usize {
        let tail = self.tail;
        let slots = self.limit.wrapping_sub(tail);
        if slots >= wanted {
            return slots;
        }
        let limit = self.shared.head().wrapping_add(self.capacity());
        self.limit = limit;
        limit.wrapping_sub(tail)
    }

    /// Empty slots at this moment. The consumer can only make them more.
    #[inline]
    pub fn slots(&mut self) -> usize {
        self.slots_for(usize::MAX)
    }

    /// Empty slots as far as is known without a look at the consumer: there may be more.
    #[inline(always)]
    pub fn slots_seen(&self) -> usize {
        self.limit.wrapping_sub(self.tail)
    }

    /// Whether the consumer has been dropped: what is pushed is never popped.
    pub fn is_abandoned(&self) -> bool {
        self.shared.consumer_gone()
    }

    /// Pushes one value.
    ///
    /// # Errors
    /// The value itself, if the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.slots_for(1) == 0 {
            return Err(value);
        }
        let tail = self.tail;
        // SAFETY: there is an empty slot, and it is the one at `tail`.
        unsafe { self.shared.slot(tail).write(value) };
        self.tail = tail.wrapping_add(1);
        self.shared.set_tail(self.tail);
        Ok(())
    }

    /// Pushes what `values` yields until the ring is full or `values` ends, and makes it visible at
    /// once. Returns how many; what did not fit has not been taken out of `values`.
    #[inline]
    pub fn push_burst(&mut self, values: &mut impl Iterator<Item = T>) -> usize {
        let (least, _) = values.size_hint();
        let empty = self.slots_for(least.max(1));
        let first = self.tail;
        let mut burst = Publish {
            next: first,
            producer: self,
        };
        'ring: for part in burst.producer.shared.parts(first, empty) {
            for slot in part {
                let Some(value) = values.next() else {
                    break 'ring;
                };
                // SAFETY: the slot is one of `empty` from `tail` on.
                unsafe { slot.write(value) };
                burst.next = burst.next.wrapping_add(1);
            }
        }
        burst.next.wrapping_sub(first)
    }

    /// Pushes copies of `values` from the front until the ring is full or they end, and makes them
    /// visible at once. Returns how many. For plain values this is the fastest way.
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> usize
    where
        T: Copy,
    {
        let (n, tail) = (values.len(), self.tail);
        // As many rounds as there are values, and no other number: where that is known it is no loop.
        if self.slots_for(n) >= n
            && let Some(run) = self.shared.run(tail, n)
        {
            for (slot, &value) in run.iter().zip(values) {
                // SAFETY: the slot is one of `n` empty ones from `tail` on.
                unsafe { slot.write(value) };
            }
            self.tail = tail.wrapping_add(n);
            self.shared.set_tail(self.tail);
            return n;
        }
        self.push_some(values)
    }

    /// As [`Producer::push_slice`], where the slots wrap round or are too few.
    #[inline(never)]
    fn push_some(&mut self, values: &[T]) -> usize
    where
        T: Copy,
    {
        let n = self.slots_for(values.len()).min(values.len());
        let [start, wrapped] = self.shared.parts(self.tail, n);
        let (first, second) = values.split_at(start.len());
        for (part, values) in [(start, first), (wrapped, second)] {
            for (slot, &value) in part.iter().zip(values) {
                // SAFETY: the slot is one of `n` empty ones from `tail` on.
                unsafe { slot.write(value) };
            }
        }
        self.tail = self.tail.wrapping_add(n);
        self.shared.set_tail(self.tail);
        n
    }

    /// Sets up to `n` empty slots aside, to be filled and then made visible together.
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Reservation<'_, T> {
        let granted = self.slots_for(n).min(n);
        Reservation {
            producer: self,
            granted,
            filled: 0,
        }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.set_producer_gone();
    }
}

/// Makes the values below `next` visible when dropped, so that an iterator that panics in the
/// middle of a burst leaks nothing.
struct Publish<'a, T> {
    producer: &'a mut Producer<T>,
    next: usize,
}

impl<T> Drop for Publish<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.next != self.producer.tail {
            self.producer.tail = self.next;
            self.producer.shared.set_tail(self.next);
        }
    }
}

/// Slots set aside by [`Producer::reserve`]. Values put here become visible with
/// [`Reservation::commit`]; without it they are dropped with the reservation.
#[derive(Debug)]
pub struct Reservation<'a, T> {
    producer: &'a mut Producer<T>,
    /// Slots set aside, from `producer.tail` on; the first `filled` hold values.
    granted: usize,
    filled: usize,
}

impl<T> Reservation<'_, T> {
    /// Slots set aside: what was asked for, or fewer if the ring has not as many.
    #[inline]
    pub fn slots(&self) -> usize {
        self.granted
    }

    /// Values put so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether none has been put.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Fills the next slot.
    ///
    /// # Errors
    /// The value itself, if all slots are filled.
    #[inline]
    pub fn put(&mut self, value: T) -> Result<(), T> {
        if self.filled == self.granted {
            return Err(value);
        }
        let index = self.producer.tail.wrapping_add(self.filled);
        // SAFETY: the slot is one of those set aside, and empty.
        unsafe { self.producer.shared.slot(index).write(value) };
        self.filled += 1;
        Ok(())
    }

    /// Makes all values put so far visible at once; says how many.
    #[inline]
    pub fn commit(mut self) -> usize {
        self.publish(self.filled)
    }

    /// Makes the first `n` values (or all, if there are fewer) visible at once and drops the
    /// others; says how many became visible.
    #[inline]
    pub fn commit_first(mut self, n: usize) -> usize {
        self.publish(n.min(self.filled))
    }

    #[inline(always)]
    fn publish(&mut self, n: usize) -> usize {
        self.producer.tail = self.producer.tail.wrapping_add(n);
        self.filled -= n;
        self.producer.shared.set_tail(self.producer.tail);
        n
    }
}

impl<T> Drop for Reservation<'_, T> {
    #[inline]
    fn drop(&mut self) {
        while self.filled > 0 {
            self.filled -= 1;
            let index = self.producer.tail.wrapping_add(self.filled);
            // SAFETY: the slot was filled, and the consumer has not been told.
            drop(unsafe { self.producer.shared.slot(index).read() });
        }
    }
}
