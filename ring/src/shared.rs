// SPDX-License-Identifier: Apache-2.0
//! [`Shared`]: slots and indices that both sides of an SPSC ring see.
#![allow(
    unsafe_code,
    reason = "slots that are written by one side and read by the other"
)]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use crate::sync::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
    UnsafeCell,
};

/// The slots and the two indices. `tail - head` (wrapping) is 0 to capacity.
pub(crate) struct Shared<T> {
    /// Values popped so far, modulo the word size. Written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// Values pushed so far, modulo the word size. Written by the producer.
    tail: CachePadded<AtomicUsize>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    /// As many as the capacity, a power of two.
    slots: Box<[Slot<T>]>,
}

// SAFETY: a slot is accessed by one side at a time: by the producer when empty, by the consumer
// when full, handed over by a release store and an acquire load of an index. Values move between
// threads, hence `T: Send`; no two threads ever have a reference to the same one.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: owns its values; as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(capacity: usize) -> Shared<T> {
        debug_assert!(capacity.is_power_of_two());
        Shared {
            head: CachePadded::new(AtomicUsize::new(0)),
            tail: CachePadded::new(AtomicUsize::new(0)),
            producer_gone: AtomicBool::new(false),
            consumer_gone: AtomicBool::new(false),
            slots: (0..capacity).map(|_| Slot::empty()).collect(),
        }
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The consumer's index. Acquire: the consumer has finished with all slots below it.
    #[inline(always)]
    pub(crate) fn head(&self) -> usize {
        self.head.load(Acquire)
    }

    /// Release: the values below are out of their slots.
    #[inline(always)]
    pub(crate) fn set_head(&self, head: usize) {
        self.head.store(head, Release);
    }

    /// The producer's index. Acquire: the values below are in their slots.
    #[inline(always)]
    pub(crate) fn tail(&self) -> usize {
        self.tail.load(Acquire)
    }

    /// Release: the values below are in their slots.
    #[inline(always)]
    pub(crate) fn set_tail(&self, tail: usize) {
        self.tail.store(tail, Release);
    }

    /// Release: what the producer pushed before is seen by whoever sees this.
    pub(crate) fn set_producer_gone(&self) {
        self.producer_gone.store(true, Release);
    }

    pub(crate) fn producer_gone(&self) -> bool {
        self.producer_gone.load(Acquire)
    }

    pub(crate) fn set_consumer_gone(&self) {
        self.consumer_gone.store(true, Release);
    }

    pub(crate) fn consumer_gone(&self) -> bool {
        self.consumer_gone.load(Acquire)
    }

    /// Slot `index`, by its low bits.
    #[inline(always)]
    pub(crate) fn slot(&self, index: usize) -> &Slot<T> {
        let at = index & (self.slots.len() - 1);
        // SAFETY: the length is a power of two, so `at` is below it (the compiler cannot know that
        // and would check each one).
        unsafe { self.slots.get_unchecked(at) }
    }

    /// As [`parts`] of the slots.
    #[inline(always)]
    pub(crate) fn parts(&self, index: usize, n: usize) -> [&[Slot<T>]; 2] {
        parts(&self.slots, index, n)
    }

    /// The `n` slots from `index` on, if they do not wrap round the end: mostly they do not.
    #[inline(always)]
    pub(crate) fn run(&self, index: usize, n: usize) -> Option<&[Slot<T>]> {
        let at = index & (self.slots.len() - 1);
        self.slots.get(at..).and_then(|rest| rest.get(..n))
    }
}

/// `n` of `slots`, at most all, from `index` on, in order: they wrap round the end at most once. As two
/// slices and not one by one, so that loops over them are loops over plain memory and can be vectorised.
/// There is a power of two of slots.
#[inline(always)]
pub(crate) fn parts<S>(slots: &[S], index: usize, n: usize) -> [&[S]; 2] {
    debug_assert!(n <= slots.len() && slots.len().is_power_of_two());
    let at = index & (slots.len() - 1);
    let first = n.min(slots.len() - at);
    // SAFETY: `at + first` is at most the length.
    let start = unsafe { slots.get_unchecked(at..at + first) };
    // SAFETY: `n - first` is at most `at`.
    let wrapped = unsafe { slots.get_unchecked(..n - first) };
    [start, wrapped]
}

/// A place for one value.
pub(crate) struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Slot<T> {
    pub(crate) fn empty() -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Puts a value into it.
    ///
    /// # Safety
    /// The slot is empty and the caller's: the producer's, if fewer values than the capacity lie
    /// before it.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, value: T) {
        self.0.with_mut(|slot| {
            // SAFETY: the caller has the slot to itself.
            unsafe { (*slot).write(value) };
        });
    }

    /// Moves the value out of it.
    ///
    /// # Safety
    /// The slot is full and the caller's, which counts it as empty from now on.
    #[inline(always)]
    pub(crate) unsafe fn read(&self) -> T {
        self.0.with(|slot| {
            // SAFETY: the caller has the slot to itself.
            let slot = unsafe { &*slot };
            // SAFETY: the caller says that the slot is full, and counts it as empty from now on.
            unsafe { slot.assume_init_read() }
        })
    }

    /// The value in it.
    ///
    /// # Safety
    /// The slot is full and the caller's for as long as the reference lives.
    #[inline(always)]
    pub(crate) unsafe fn get(&self) -> &T {
        self.0.with(|slot| {
            // SAFETY: the caller has the slot to itself for as long as the reference lives.
            let slot = unsafe { &*slot };
            // SAFETY: the caller says that the slot is full.
            unsafe { slot.assume_init_ref() }
        })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Relaxed);
        let mut index = self.head.load(Relaxed);
        while index != tail {
            // SAFETY: both sides are gone; slots from head to tail are full.
            drop(unsafe { self.slot(index).read() });
            index = index.wrapping_add(1);
        }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, tail) = (self.head.load(Relaxed), self.tail.load(Relaxed));
        f.debug_struct("Shared")
            .field("capacity", &self.capacity())
            .field("head", &head)
            .field("tail", &tail)
            .finish()
    }
}
