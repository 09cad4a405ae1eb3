// SPDX-License-Identifier: Apache-2.0
//! [`Mpmc`]: a bounded queue for many producers and many consumers (D. Vyukov's bounded MPMC queue, with
//! bursts).
#![allow(unsafe_code, reason = "slots that are handed over by their turn")]

use std::fmt;

use crossbeam::utils::CachePadded;

use crate::CapacityError;
use crate::shared::{Slot, parts};
use crate::sync::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Bounded queue for any number of threads, which share it by reference: D. Vyukov's bounded MPMC queue,
/// extended by bursts that claim several positions at once. The sequence number of a slot is its *turn*.
///
/// Positions are claimed by moving an index, several at once; whoever has claimed a position has its slot
/// to itself, and says so by the slot's turn: position `i` may be pushed to while the turn of slot
/// `i mod capacity` is `i`, and popped from while it is `i + 1`. So a thread that is put off its core in the
/// middle keeps others only from the slots that it has claimed, not from those before and behind.
pub struct Mpmc<T> {
    /// The next position to pop.
    head: CachePadded<AtomicUsize>,
    /// The next position to push to.
    tail: CachePadded<AtomicUsize>,
    /// As many as the capacity, a power of two of at least 2.
    cells: Box<[Cell<T>]>,
}

struct Cell<T> {
    turn: AtomicUsize,
    slot: Slot<T>,
}

// SAFETY: a slot is accessed only by the thread that claimed its position, by a compare-exchange that one
// thread wins; slots change hands by a release store and an acquire load of their turn. Values move between
// threads, hence `T: Send`.
unsafe impl<T: Send> Sync for Mpmc<T> {}
// SAFETY: owns its values; as above.
unsafe impl<T: Send> Send for Mpmc<T> {}

impl<T> Mpmc<T> {
    /// An empty ring for `capacity` values, a power of two from 2 to 2^31.
    ///
    /// # Errors
    /// [`CapacityError`].
    pub fn new(capacity: usize) -> Result<Mpmc<T>, CapacityError> {
        if capacity < 2 || !capacity.is_power_of_two() || capacity > 1 << 31 {
            return Err(CapacityError { capacity });
        }
        let cell = |position| Cell {
            turn: AtomicUsize::new(position),
            slot: Slot::empty(),
        };
        Ok(Mpmc {
            head: CachePadded::new(AtomicUsize::new(0)),
            tail: CachePadded::new(AtomicUsize::new(0)),
            cells: (0..capacity).map(cell).collect(),
        })
    }

    /// Most values that it holds.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.cells.len()
    }

    /// Values that are in it, about: others push and pop meanwhile.
    #[inline]
    pub fn len(&self) -> usize {
        // The head first: it never passes the tail, so that the difference is never below zero.
        let head = self.head.load(Acquire);
        self.tail
            .load(Relaxed)
            .wrapping_sub(head)
            .min(self.capacity())
    }

    /// Whether it is empty, about.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pushes one value.
    ///
    /// # Errors
    /// The value itself, if the ring is full.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), T> {
        let (first, claimed) = self.claim(&self.tail, 0, 1);
        if claimed == 0 {
            return Err(value);
        }
        let cell = self.cell(first);
        // SAFETY: the position was claimed, so the empty slot is ours.
        unsafe { cell.slot.write(value) };
        cell.turn.store(first.wrapping_add(1), Release);
        Ok(())
    }

    /// Pops the oldest value.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        let (first, claimed) = self.claim(&self.head, 1, 1);
        if claimed == 0 {
            return None;
        }
        let cell = self.cell(first);
        // SAFETY: the position was claimed, so the full slot is ours; its turn says that it is empty now.
        let value = unsafe { cell.slot.read() };
        cell.turn
            .store(first.wrapping_add(self.capacity()), Release);
        Some(value)
    }

    /// Pushes copies of `values` from the front until the ring is full or they end, and returns how many.
    /// They are next to each other in the ring.
    #[inline]
    pub fn push_slice(&self, values: &[T]) -> usize
    where
        T: Copy,
    {
        let (first, claimed) = self.claim(&self.tail, 0, values.len());
        let [start, wrapped] = parts(&self.cells, first, claimed);
        let (values, later) = values.split_at(start.len());
        let mut turn = first;
        for (part, values) in [(start, values), (wrapped, later)] {
            for (cell, &value) in part.iter().zip(values) {
                // SAFETY: as in `push`.
                unsafe { cell.slot.write(value) };
                turn = turn.wrapping_add(1);
                cell.turn.store(turn, Release);
            }
        }
        claimed
    }

    /// Pops into `out` from the front until the ring is empty or `out` is full, and returns how many.
    #[inline]
    pub fn pop_slice(&self, out: &mut [T]) -> usize
    where
        T: Copy,
    {
        let (first, claimed) = self.claim(&self.head, 1, out.len());
        let [start, wrapped] = parts(&self.cells, first, claimed);
        let (out, later) = out.split_at_mut(start.len());
        let mut turn = first.wrapping_add(self.capacity());
        for (part, out) in [(start, out), (wrapped, later)] {
            for (cell, place) in part.iter().zip(out) {
                // SAFETY: as in `pop`.
                *place = unsafe { cell.slot.read() };
                cell.turn.store(turn, Release);
                turn = turn.wrapping_add(1);
            }
        }
        claimed
    }

    #[inline(always)]
    fn cell(&self, position: usize) -> &Cell<T> {
        let at = position & (self.cells.len() - 1);
        // SAFETY: the length is a power of two, so `at` is below it.
        unsafe { self.cells.get_unchecked(at) }
    }

    /// Claims up to `wanted` positions from `index` on, whose slots' turns are `ahead` of them: 0 to push,
    /// 1 to pop. The first one, and how many.
    #[inline(always)]
    fn claim(&self, index: &AtomicUsize, ahead: usize, wanted: usize) -> (usize, usize) {
        let wanted = wanted.min(self.capacity());
        let mut first = index.load(Relaxed);
        loop {
            let turn = first.wrapping_add(ahead);
            let ready = if wanted == 1 {
                at_turn(std::slice::from_ref(self.cell(first)), turn)
            } else {
                let [start, wrapped] = parts(&self.cells, first, wanted);
                let ready = at_turn(start, turn);
                if ready == start.len() {
                    ready + at_turn(wrapped, turn.wrapping_add(ready))
                } else {
                    ready
                }
            };
            if ready == 0 {
                let now = index.load(Relaxed);
                if now == first || wanted == 0 {
                    return (first, 0);
                }
                // Somebody else claimed it: that slot's turn says nothing of the ones behind.
                first = now;
                continue;
            }
            let next = first.wrapping_add(ready);
            // The slots themselves are handed over by their turns; the index only says who gets which.
            match index.compare_exchange_weak(first, next, Relaxed, Relaxed) {
                Ok(_) => return (first, ready),
                Err(now) => first = now,
            }
        }
    }
}

/// Number of `cells`, from the first on, that have the turns from `turn` on. Acquire: the accesses of the
/// previous owner to these slots are done.
#[inline(always)]
fn at_turn<T>(cells: &[Cell<T>], turn: usize) -> usize {
    /// Looked at with one branch.
    const TOGETHER: usize = 8;
    let difference = |n: usize, cell: &Cell<T>| cell.turn.load(Acquire) ^ turn.wrapping_add(n);
    let mut ready = 0;
    for some in cells.chunks_exact(TOGETHER) {
        let others = (ready..)
            .zip(some)
            .fold(0, |all, (n, cell)| all | difference(n, cell));
        if others != 0 {
            break;
        }
        ready += TOGETHER;
    }
    let rest = cells.get(ready..).unwrap_or_default();
    let same = (ready..)
        .zip(rest)
        .take_while(|(n, cell)| difference(*n, cell) == 0);
    ready + same.count()
}

impl<T> Drop for Mpmc<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// Without the values.
impl<T> fmt::Debug for Mpmc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpmc")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish()
    }
}
