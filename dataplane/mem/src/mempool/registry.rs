// SPDX-License-Identifier: Apache-2.0
//! Registry of all pools of the process: finds a buffer's memory from the bits of its handle.
#![allow(
    unsafe_code,
    reason = "looks entries up by the bits of a handle; registered pools are never unmapped"
)]

use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use super::depot::Depot;
use super::layout::{BufSize, INDEX_BITS, MAX_POOLS, POOL_BITS, Scratch};
use crate::error::Error;

/// Sizes of buffers and strides: at most 10 KiB and some.
#[allow(
    clippy::cast_possible_truncation,
    reason = "sizes of BufSize are far below 2^32"
)]
const fn narrow(bytes: usize) -> u32 {
    bytes as u32
}

/// Addresses and sizes of a pool's buffers. Read for every access to an mbuf's bytes, written once.
#[derive(Debug)]
pub(crate) struct Entry {
    base: AtomicPtr<u8>,
    scratch: AtomicPtr<Scratch>,
    stride: AtomicU32,
    buffer_bytes: AtomicU32,
    depot: AtomicPtr<Depot>,
}

/// All pools by number. Untouched entries cost no memory. Whoever holds an mbuf got it through
/// something that orders it after the entry was written, so the loads may be relaxed.
static ENTRIES: [Entry; MAX_POOLS] = [const {
    Entry {
        base: AtomicPtr::new(ptr::null_mut()),
        scratch: AtomicPtr::new(ptr::null_mut()),
        stride: AtomicU32::new(0),
        buffer_bytes: AtomicU32::new(0),
        depot: AtomicPtr::new(ptr::null_mut()),
    }
}; MAX_POOLS];

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

pub(super) fn next_id() -> Result<u32, Error> {
    NEXT_ID
        .fetch_update(Relaxed, Relaxed, |id| {
            ((id as usize) < MAX_POOLS).then_some(id + 1)
        })
        .map_err(|_| Error::TooManyPools {
            max: narrow(MAX_POOLS - 1),
        })
}

/// The entry of a pool's number; out-of-range bits are ignored.
#[inline(always)]
pub(crate) fn entry(pool_id: usize) -> &'static Entry {
    &ENTRIES[pool_id & (MAX_POOLS - 1)]
}

/// The entry of the pool of a handle, of which these are the bits.
#[inline(always)]
pub(crate) fn entry_of(bits: u64) -> &'static Entry {
    // The pool's number times the size of an entry, in one shift. That is worth a line here: every
    // stage asks for it for every frame.
    const SIZE_BITS: u32 = size_of::<Entry>().ilog2();
    const { assert!(size_of::<Entry>().is_power_of_two() && MAX_POOLS == 1 << POOL_BITS) };
    #[allow(clippy::cast_possible_truncation, reason = "masked to a table's bytes")]
    let at = (bits >> (INDEX_BITS - SIZE_BITS)) as usize & ((MAX_POOLS - 1) << SIZE_BITS);
    // SAFETY: `at` is below the table's length in bytes.
    let entry = unsafe { ENTRIES.as_ptr().byte_add(at) };
    // SAFETY: `at` is where one of the entries begins; they live as long as the process.
    unsafe { &*entry }
}

/// Registers pool `id`, whose mapping begins at `base` and holds `buffers` buffers of `size` and then
/// their scratch. From now on handles of that pool lead to its buffers.
pub(super) fn register(id: u32, size: BufSize, buffers: u32, base: *mut u8, depot: &'static Depot) {
    let entry = entry(id as usize);
    let scratch = base.wrapping_add(size.stride() * buffers as usize);
    entry.stride.store(narrow(size.stride()), Relaxed);
    entry
        .buffer_bytes
        .store(narrow(size.buffer_bytes()), Relaxed);
    entry.scratch.store(scratch.cast(), Relaxed);
    entry.base.store(base, Relaxed);
    entry.depot.store(ptr::from_ref(depot).cast_mut(), Release);
}

impl Entry {
    /// First byte of the mapping.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.load(Relaxed)
    }

    /// Bytes of each buffer, headroom and data.
    #[inline(always)]
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes.load(Relaxed) as usize
    }

    /// The first byte of a buffer's headroom.
    #[inline(always)]
    pub(crate) fn buffer(&self, index: u32) -> *mut u8 {
        let offset = index as usize * self.stride.load(Relaxed) as usize;
        self.base.load(Relaxed).wrapping_add(offset)
    }

    /// Offset of a buffer's headroom, in bytes from the start of the mapping.
    #[inline(always)]
    pub(crate) fn offset(&self, index: u32) -> usize {
        index as usize * self.stride.load(Relaxed) as usize
    }

    /// A buffer's scratch.
    #[inline(always)]
    pub(crate) fn scratch(&self, index: u32) -> *mut Scratch {
        self.scratch.load(Relaxed).wrapping_add(index as usize)
    }
}

/// Puts a dropped mbuf back among the free buffers of its pool.
pub(crate) fn take_stray(pool_id: usize, index: u32) {
    let depot = entry(pool_id).depot.load(Acquire);
    // SAFETY: either null or set by `register` to a depot that is never dropped.
    if let Some(depot) = unsafe { depot.as_ref() } {
        depot.put_stray(index);
    }
}
