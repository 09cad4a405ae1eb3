// SPDX-License-Identifier: Apache-2.0
//! [`Mbuf`]: one buffer of a mempool, owned.
#![allow(
    unsafe_code,
    reason = "forms slices over pool memory; sound because a handle exists once"
)]

use std::fmt;
use std::mem;
use std::num::NonZeroU64;

use super::layout::{
    HEADROOM, INDEX_BITS, INDEX_MASK, LENGTH_MASK, LENGTH_SHIFT, OFFSET_SHIFT, POOL_BITS,
    POOL_MASK, Scratch, handle_of, index_of,
};
use super::registry;

/// Buffer of a [`Mempool`](crate::Mempool), owned, and the data in it: `len` bytes that begin
/// `headroom` bytes into the buffer.
///
/// An mbuf is linear: there is one handle per buffer and it cannot be cloned. Give it back with
/// [`Cache::free`](crate::Cache::free) or [`Burst`](crate::Burst) and `free_burst`. Dropping one is
/// safe but slow, and is counted as a stray.
///
/// A fresh mbuf has `headroom() == HEADROOM` and `len() == 0`; its bytes are whatever its last
/// user left there, so write before [`Mbuf::set_len`].
#[repr(transparent)]
pub struct Mbuf(NonZeroU64);

impl Mbuf {
    /// The handle of a fresh mbuf of pool `pool_id` without its index: `fresh | index` is an mbuf.
    pub(crate) const fn fresh(pool_id: u32) -> NonZeroU64 {
        let bits = (pool_id as u64) << INDEX_BITS | (HEADROOM as u64) << OFFSET_SHIFT;
        match NonZeroU64::new(bits) {
            Some(bits) => bits,
            None => unreachable!(),
        }
    }

    /// Makes the mbuf of a free buffer, given its index or its handle.
    ///
    /// # Safety
    /// `fresh` comes from [`Mbuf::fresh`] for a registered pool, `handle` is that of one of its
    /// buffers and was taken off its free buffers: no other handle for it exists.
    #[inline(always)]
    pub(crate) unsafe fn from_free(fresh: NonZeroU64, handle: u32) -> Mbuf {
        Mbuf(fresh | u64::from(handle))
    }

    /// Takes the mbuf apart without the drop: its handle, which the caller puts among the free
    /// buffers of pool [`Mbuf::pool_id`].
    #[inline(always)]
    pub(crate) fn into_handle(self) -> u32 {
        let handle = handle_of(self.bits());
        mem::forget(self);
        handle
    }

    /// The handle's bits, for comparing the pool of many mbufs at once.
    #[inline(always)]
    pub(crate) fn bits(&self) -> u64 {
        self.0.get()
    }

    /// The handle as a number, which says that the mbuf exists and does not own it.
    #[inline(always)]
    pub(crate) fn raw(&self) -> NonZeroU64 {
        self.0
    }

    /// Makes the mbuf of a number from [`Mbuf::raw`].
    ///
    /// # Safety
    /// The mbuf that the number is of was forgotten, and none was made from it since.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(bits: NonZeroU64) -> Mbuf {
        Mbuf(bits)
    }

    /// The number of its pool.
    #[inline(always)]
    pub(crate) fn pool_id(&self) -> usize {
        (self.bits() >> INDEX_BITS) as usize & ((1 << POOL_BITS) - 1)
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> u32 {
        index_of(handle_of(self.bits()))
    }

    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        (self.bits() >> OFFSET_SHIFT & LENGTH_MASK) as usize
    }

    /// Writes offset and length; both are below 2^14 as they lie within a buffer.
    #[inline(always)]
    fn place(&mut self, offset: usize, len: usize) {
        let kept = self.bits() & (INDEX_MASK | POOL_MASK);
        let bits = kept | (offset as u64) << OFFSET_SHIFT | (len as u64) << LENGTH_SHIFT;
        // SAFETY: the pool's number is never 0, so the bits never are.
        self.0 = unsafe { NonZeroU64::new_unchecked(bits) };
    }

    /// Gives a fresh mbuf its length: below 2^14, as it lies within a buffer.
    #[inline(always)]
    pub(crate) fn set_fresh_len(&mut self, len: usize) {
        debug_assert_eq!((self.offset(), self.len()), (HEADROOM, 0));
        self.0 |= (len as u64) << LENGTH_SHIFT;
    }

    /// Bytes of data.
    #[inline(always)]
    pub fn len(&self) -> usize {
        (self.bits() >> LENGTH_SHIFT) as usize
    }

    /// Whether there is no data.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes free before the data.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        self.offset()
    }

    /// Bytes from the start of the data to the end of the buffer: the most that
    /// [`Mbuf::set_len`] takes.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        registry::entry_of(self.bits()).buffer_bytes() - self.offset()
    }

    /// The data.
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        // SAFETY: `offset + len` lies within the buffer (kept by every method that changes them),
        // pool memory is initialised and never unmapped, and this is the buffer's only handle, so
        // nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    /// The data, to be changed.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len()) }
    }

    /// All bytes from the start of the data to the end of the buffer, to be written before
    /// [`Mbuf::set_len`]. They hold what the last user left (zeros in a new pool).
    #[inline(always)]
    pub fn room_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data_mut`; offset + capacity is the buffer's end.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.capacity()) }
    }

    /// Makes it fresh: no data, [`HEADROOM`] bytes before it.
    #[inline(always)]
    pub fn reset(&mut self) {
        self.place(HEADROOM, 0);
    }

    /// Says that `len` bytes are data now. False, and nothing changed, if that is more than
    /// [`Mbuf::capacity`].
    #[inline(always)]
    #[must_use]
    pub fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= self.capacity();
        if fits {
            self.place(self.offset(), len);
        }
        fits
    }

    /// Takes `n` bytes of headroom into the data, at its front; they hold anything. False, and
    /// nothing changed, if there are not so many.
    #[inline(always)]
    #[must_use]
    pub fn prepend(&mut self, n: usize) -> bool {
        let fits = n <= self.headroom();
        if fits {
            self.place(self.offset() - n, self.len() + n);
        }
        fits
    }

    /// Gives the first `n` bytes of data to the headroom. False, and nothing changed, if there are
    /// not so many.
    #[inline(always)]
    #[must_use]
    pub fn trim_front(&mut self, n: usize) -> bool {
        let fits = n <= self.len();
        if fits {
            self.place(self.offset() + n, self.len() - n);
        }
        fits
    }

    /// Keeps the first `len` bytes of data; nothing changes if there are no more than that.
    #[inline(always)]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.place(self.offset(), len);
        }
    }

    /// Makes `bytes` the data, from where the data starts now. False, and nothing changed, if they
    /// do not fit in [`Mbuf::capacity`].
    #[inline]
    #[must_use]
    pub fn copy_from(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.room_mut().get_mut(..bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.place(self.offset(), bytes.len());
        true
    }

    /// Appends `bytes` to the data. False, and nothing changed, if they do not fit.
    #[inline]
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let len = self.len();
        let Some(room) = self.room_mut().get_mut(len..) else {
            return false;
        };
        let Some(room) = room.get_mut(..bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.place(self.offset(), len + bytes.len());
        true
    }

    /// The mbuf's scratch: 128 bytes, aligned to 64, that go with it and mean what the caller
    /// wants. A fresh mbuf's scratch holds what its last user left there (zeros in a new pool).
    #[inline(always)]
    pub fn scratch(&self) -> &Scratch {
        // SAFETY: scratch memory has one aligned block per index, is initialised and never
        // unmapped; this is the buffer's only handle.
        unsafe { &*self.scratch_start() }
    }

    /// The scratch, to be changed.
    #[inline(always)]
    pub fn scratch_mut(&mut self) -> &mut Scratch {
        // SAFETY: as in `scratch`; `self` is borrowed mutably.
        unsafe { &mut *self.scratch_start() }
    }

    /// The data, and the scratch to be changed: both at once, for who reads the one and writes the
    /// other.
    #[inline(always)]
    pub fn data_and_scratch_mut(&mut self) -> (&[u8], &mut Scratch) {
        // SAFETY: as in `data`.
        let data = unsafe { std::slice::from_raw_parts(self.start(), self.len()) };
        // SAFETY: as in `scratch_mut`; buffers and scratch are disjoint memory.
        let scratch = unsafe { &mut *self.scratch_start() };
        (data, scratch)
    }

    /// Says that `len` bytes are data now, as [`Mbuf::set_len`], and gives them, to be written, with the
    /// scratch. `None`, and nothing changed, if that is more than [`Mbuf::capacity`].
    #[inline(always)]
    pub fn fill(&mut self, len: usize) -> Option<(&mut [u8], &mut Scratch)> {
        let entry = registry::entry_of(self.bits());
        let offset = self.offset();
        if len > entry.buffer_bytes() - offset {
            return None;
        }
        self.place(offset, len);
        let (buffer, scratch) = (entry.buffer(self.index()), entry.scratch(self.index()));
        // SAFETY: the offset lies within the buffer.
        let start = unsafe { buffer.add(offset) };
        // SAFETY: as in `data_mut`.
        let data = unsafe { std::slice::from_raw_parts_mut(start, len) };
        // SAFETY: as in `scratch_mut`; buffers and scratch are disjoint memory.
        let scratch = unsafe { &mut *scratch };
        Some((data, scratch))
    }

    /// The first byte of data.
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let buffer = registry::entry_of(self.bits()).buffer(self.index());
        // SAFETY: no buffer is at address 0.
        unsafe { std::hint::assert_unchecked(!buffer.is_null()) };
        // SAFETY: the offset lies within the buffer, and `buffer` carries the whole mapping's
        // provenance.
        unsafe { buffer.add(self.offset()) }
    }

    #[inline(always)]
    fn scratch_start(&self) -> *mut Scratch {
        registry::entry_of(self.bits()).scratch(self.index())
    }
}

impl Drop for Mbuf {
    /// The slow way home, for errors and shutdown: one by one, and counted.
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        registry::take_stray(self.pool_id(), self.index());
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("pool", &self.pool_id())
            .field("index", &self.index())
            .field("headroom", &self.headroom())
            .field("len", &self.len())
            .finish()
    }
}
