// SPDX-License-Identifier: Apache-2.0
//! Layout of buffers and handles: sizes of the two kinds of buffers, and the bits of an mbuf's handle.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes before the data of a fresh mbuf, for what is prepended: tags, headers of a reject.
pub const HEADROOM: usize = 128;

/// Bytes of an mbuf's scratch: two cache lines.
pub const SCRATCH_BYTES: usize = 128;

/// An mbuf's scratch: bytes that go with it and mean what the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Scratch(pub [u8; SCRATCH_BYTES]);

// A handle, from bit 0: index in the pool, pool, offset of the data in the buffer, length of the
// data. Offset and length travel in the handle, so allocating, freeing and resizing an mbuf touch
// no memory of it.
pub(crate) const INDEX_BITS: u32 = 23;
pub(crate) const POOL_BITS: u32 = 13;
pub(crate) const OFFSET_SHIFT: u32 = INDEX_BITS + POOL_BITS;
const LENGTH_BITS: u32 = 14;
pub(crate) const LENGTH_SHIFT: u32 = OFFSET_SHIFT + LENGTH_BITS;
pub(crate) const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;
pub(crate) const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
pub(crate) const POOL_MASK: u64 = ((1 << POOL_BITS) - 1) << INDEX_BITS;

const _: () = assert!(INDEX_BITS <= u32::BITS);
const _: () = assert!(LENGTH_SHIFT + LENGTH_BITS == u64::BITS);
const _: () = assert!(BufSize::Large.buffer_bytes() < 1 << LENGTH_BITS);

/// Most buffers of one pool.
pub(crate) const MAX_BUFFERS: u32 = 1 << INDEX_BITS;
/// Most pools of one process, and one more: number 0 is never given out.
pub(crate) const MAX_POOLS: usize = 1 << POOL_BITS;
pub(crate) const CACHE_LINE: usize = 64;

/// Size of a buffer by the data that it holds, [`HEADROOM`] not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufSize {
    /// 2048 bytes: any frame of a network with an MTU of 1500.
    Small,
    /// 10240 bytes: jumbo frames.
    Large,
}

impl BufSize {
    /// Bytes of data that a fresh mbuf has room for.
    pub const fn data_bytes(self) -> usize {
        match self {
            BufSize::Small => 2048,
            BufSize::Large => 10240,
        }
    }

    /// Bytes of a buffer: headroom and data.
    pub(crate) const fn buffer_bytes(self) -> usize {
        HEADROOM + self.data_bytes()
    }

    /// Bytes from one buffer to the next: an odd number of cache lines, so that the first lines of
    /// consecutive frames spread over all sets of a cache and not over a few of them.
    pub(crate) const fn stride(self) -> usize {
        let lines = self.buffer_bytes().div_ceil(CACHE_LINE);
        (lines | 1) * CACHE_LINE
    }
}

/// The lower half of a handle: the index, and above it bits of the pool's number, which are the same
/// for all buffers of a pool. Caches keep handles, as masking each would cost as much as copying it.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
pub(crate) fn handle_of(bits: u64) -> u32 {
    bits as u32
}

/// The index in a handle.
#[inline(always)]
pub(crate) fn index_of(handle: u32) -> u32 {
    handle & ((1 << INDEX_BITS) - 1)
}
