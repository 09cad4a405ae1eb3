// SPDX-License-Identifier: Apache-2.0
//! [`BufferWriter`]: where a pool's buffers lie, looked up once for many mbufs.
#![allow(
    unsafe_code,
    reason = "forms slices over pool memory; sound because a handle exists once"
)]

use std::num::NonZeroU64;

use super::layout::{BufSize, HEADROOM, INDEX_BITS, Scratch};
use super::mbuf::Mbuf;
use super::pool::Mempool;
use super::registry::entry;

/// Fills fresh mbufs of one pool, faster than [`Mbuf::fill`], which looks for each mbuf's pool: that
/// costs more than the copy of a short frame.
#[derive(Debug, Clone, Copy)]
pub struct BufferWriter {
    fresh: NonZeroU64,
    /// The first buffer's data.
    first: *mut u8,
    stride: usize,
    scratch: *mut Scratch,
    room: usize,
}

// SAFETY: the memory is never unmapped, and is accessed through nothing but an mbuf's only handle.
unsafe impl Send for BufferWriter {}
// SAFETY: as above.
unsafe impl Sync for BufferWriter {}

impl BufferWriter {
    pub(crate) fn new(pool: Mempool, size: BufSize) -> BufferWriter {
        let entry = entry(pool.id());
        BufferWriter {
            fresh: pool.fresh(),
            first: entry.buffer(0).wrapping_add(HEADROOM),
            stride: entry.offset(1),
            scratch: entry.scratch(0),
            room: size.data_bytes(),
        }
    }

    /// Whether the mbuf is of this pool, fresh, and holds `len` bytes.
    #[inline(always)]
    pub fn fits(&self, mbuf: &Mbuf, len: usize) -> bool {
        (mbuf.bits() ^ self.fresh.get()) >> INDEX_BITS == 0 && len <= self.room
    }

    /// Says that `len` bytes are data now, and gives them, to be written, with the scratch. `None`, and
    /// nothing changed, if not [`BufferWriter::fits`].
    #[inline(always)]
    pub fn fill<'m>(
        &self,
        mbuf: &'m mut Mbuf,
        len: usize,
    ) -> Option<(&'m mut [u8], &'m mut Scratch)> {
        if !self.fits(mbuf, len) {
            return None;
        }
        let index = mbuf.bits() ^ self.fresh.get();
        #[allow(clippy::cast_possible_truncation, reason = "23 bits, as it fits")]
        let index = index as usize;
        mbuf.set_fresh_len(len);
        let data = self.first.wrapping_add(index * self.stride);
        let scratch = self.scratch.wrapping_add(index);
        // SAFETY: a fresh mbuf of this pool has its data where the pool's buffers have it, and room for
        // `room` bytes, initialised and never unmapped; this is the buffer's only handle, and it is
        // borrowed mutably.
        let data = unsafe { std::slice::from_raw_parts_mut(data, len) };
        // SAFETY: likewise of the scratch, which is disjoint memory.
        let scratch = unsafe { &mut *scratch };
        Some((data, scratch))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]
mod tests {
    use super::*;
    use crate::{HugePages, PoolConfig};

    fn pool(size: BufSize) -> Mempool {
        Mempool::new(PoolConfig {
            buffers: 512,
            size,
            numa_node: None,
            huge_pages: HugePages::Off,
        })
        .unwrap()
    }

    #[test]
    fn fills_what_the_mbuf_holds() {
        let mut cache = pool(BufSize::Small).cache(128);
        let writer = cache.buffer_writer();
        let mbufs: Vec<Mbuf> = (0..=255).map_while(|_: u8| cache.alloc()).collect();
        for (n, mut mbuf) in (0..=255).zip(mbufs) {
            let (data, scratch) = writer.fill(&mut mbuf, 60).unwrap();
            data.fill(n);
            scratch.0.fill(!n);
            assert_eq!((mbuf.headroom(), mbuf.len()), (HEADROOM, 60));
            assert_eq!(mbuf.data(), [n; 60]);
            assert_eq!(mbuf.scratch().0, [!n; 128]);
            cache.free(mbuf);
        }
    }

    #[test]
    fn refuses_what_is_too_long_and_what_is_not_fresh_or_not_of_its_pool() {
        let (mut cache, mut other) = (
            pool(BufSize::Small).cache(128),
            pool(BufSize::Large).cache(128),
        );
        let writer = cache.buffer_writer();
        let mut mbuf = cache.alloc().unwrap();
        let most = BufSize::Small.data_bytes();
        assert!(writer.fill(&mut mbuf, most + 1).is_none());
        assert_eq!(mbuf.len(), 0);
        assert_eq!(writer.fill(&mut mbuf, most).unwrap().0.len(), most);
        assert!(writer.fill(&mut mbuf, 1).is_none(), "it has data");
        mbuf.reset();
        assert!(mbuf.prepend(4) && mbuf.set_len(0));
        assert!(writer.fill(&mut mbuf, 1).is_none(), "its headroom is less");
        let mut foreign = other.alloc().unwrap();
        assert!(writer.fill(&mut foreign, 1).is_none());
        cache.free(mbuf);
        other.free(foreign);
    }
}
