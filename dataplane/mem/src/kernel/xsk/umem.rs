// SPDX-License-Identifier: Apache-2.0
//! A mempool as the packet memory (UMEM) of AF_XDP sockets, and the mbufs that the kernel has.
//!
//! Chunks are the pool's own buffers, so received frames need no copy on our side of the kernel: the pool's
//! stride is no power of two, for which the kernel has unaligned chunks. Each buffer is in one place at a
//! time: a [`Posted`] lies in the table here while a ring names its buffer.

use crate::mempool::layout::BufSize;
use crate::{HEADROOM, Mbuf, Mempool, Posted};

/// Bits of an address of the receive ring that name the chunk; above them lies the data's offset in it
/// (XSK_UNALIGNED_BUF_OFFSET_SHIFT).
const CHUNK_BITS: u32 = 48;
/// Bytes that the kernel leaves free before a received frame (XDP_PACKET_HEADROOM).
pub(super) const XDP_HEADROOM: usize = 256;

/// Mbufs of one pool that the kernel has, found by their buffers' addresses.
#[derive(Debug)]
pub(super) struct Umem {
    pool: Mempool,
    stride: u64,
    /// Mbuf of each buffer of the pool, if the kernel has it.
    posted: Box<[Option<Posted>]>,
    /// Number of mbufs in the table.
    held: usize,
}

impl Umem {
    pub(super) fn new(pool: Mempool) -> Umem {
        let config = pool.config();
        Umem {
            pool,
            stride: config.size.stride() as u64,
            posted: (0..config.buffers).map(|_| None).collect(),
            held: 0,
        }
    }

    /// Bytes of a chunk: a buffer without what only spaces buffers.
    pub(super) fn chunk_bytes(size: BufSize) -> usize {
        size.buffer_bytes()
    }

    /// Longest frame that the kernel can put into a chunk, in bytes.
    pub(super) fn longest(size: BufSize) -> usize {
        size.buffer_bytes() - XDP_HEADROOM
    }

    pub(super) fn pool(&self) -> Mempool {
        self.pool
    }

    /// Number of mbufs that the kernel has.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Gives the kernel an mbuf to fill. Returns its chunk's address.
    ///
    /// # Errors
    /// The mbuf itself, if it is of another pool.
    #[inline]
    pub(super) fn lend(&mut self, mut mbuf: Mbuf) -> Result<u64, Mbuf> {
        mbuf.reset();
        self.keep(mbuf).map(|(chunk, _)| chunk)
    }

    /// Gives the kernel an mbuf to send. Returns its data's address.
    ///
    /// # Errors
    /// The mbuf itself, if it is of another pool.
    #[inline]
    pub(super) fn lend_data(&mut self, mbuf: Mbuf) -> Result<u64, Mbuf> {
        self.keep(mbuf).map(|(_, data)| data)
    }

    #[inline]
    fn keep(&mut self, mbuf: Mbuf) -> Result<(u64, u64), Mbuf> {
        let posted = mbuf.post();
        if !posted.is_of(self.pool) {
            return Err(posted.reclaim());
        }
        let data = posted.offset();
        let index = data / self.stride;
        let Some(place) = usize::try_from(index)
            .ok()
            .and_then(|index| self.posted.get_mut(index))
        else {
            return Err(posted.reclaim());
        };
        debug_assert!(place.is_none(), "a buffer has one handle");
        *place = Some(posted);
        self.held += 1;
        Ok((index * self.stride, data))
    }

    /// Takes the mbuf back that a completion names; `None` if the kernel had none there.
    #[inline]
    pub(super) fn reclaim(&mut self, addr: u64) -> Option<Mbuf> {
        let index = (addr & ((1 << CHUNK_BITS) - 1)) / self.stride;
        let place = self.posted.get_mut(usize::try_from(index).ok()?)?;
        let posted = place.take()?;
        self.held -= 1;
        Some(posted.reclaim())
    }

    /// Takes a received mbuf back, its data being what the descriptor says.
    ///
    /// # Errors
    /// The mbuf, if there is one, of a descriptor that leads out of its buffer.
    #[inline]
    pub(super) fn received(&mut self, addr: u64, len: u32) -> Result<Mbuf, Option<Mbuf>> {
        let mut mbuf = self.reclaim(addr).ok_or(None)?;
        let chunk = addr & ((1 << CHUNK_BITS) - 1);
        let in_buffer = chunk % self.stride + (addr >> CHUNK_BITS);
        let (Ok(start), Ok(len)) = (usize::try_from(in_buffer), usize::try_from(len)) else {
            return Err(Some(mbuf));
        };
        let Some(before) = start.checked_sub(HEADROOM) else {
            return Err(Some(mbuf));
        };
        if mbuf.set_len(before + len) && mbuf.trim_front(before) {
            Ok(mbuf)
        } else {
            Err(Some(mbuf))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{HugePages, PoolConfig};

    fn pool(size: BufSize) -> Mempool {
        Mempool::new(PoolConfig {
            buffers: 128,
            size,
            numa_node: None,
            huge_pages: HugePages::Off,
        })
        .unwrap()
    }

    #[test]
    fn an_mbuf_comes_back_once_and_by_its_own_address() {
        let pool = pool(BufSize::Small);
        let mut cache = pool.cache(32);
        let mut umem = Umem::new(pool);
        let mbuf = cache.alloc().unwrap();
        let index = u64::from(mbuf.index());
        let chunk = umem.lend(mbuf).unwrap();
        assert_eq!(
            (chunk, umem.held()),
            (index * BufSize::Small.stride() as u64, 1)
        );
        let filled = chunk | (XDP_HEADROOM as u64) << CHUNK_BITS;
        let mbuf = umem.received(filled, 60).unwrap();
        assert_eq!((mbuf.headroom(), mbuf.len()), (XDP_HEADROOM, 60));
        cache.free(mbuf);
        assert!(matches!(umem.received(filled, 60), Err(None)), "twice");
        assert_eq!(umem.held(), 0);
        drop(cache);
        assert!(pool.conservation().holds());
    }

    #[test]
    fn a_descriptor_that_leads_out_of_its_buffer_is_refused() {
        let pool = pool(BufSize::Small);
        let mut cache = pool.cache(32);
        let mut umem = Umem::new(pool);
        let longest = u32::try_from(Umem::longest(BufSize::Small)).unwrap();
        for (offset, len, good) in [
            (XDP_HEADROOM, longest, true),
            (XDP_HEADROOM, longest + 1, false),
            (XDP_HEADROOM, u32::MAX, false),
            (HEADROOM - 1, 60, false),
            (HEADROOM, 60, true),
            (0xffff, 60, false),
        ] {
            let chunk = umem.lend(cache.alloc().unwrap()).unwrap();
            let answer = umem.received(chunk | (offset as u64) << CHUNK_BITS, len);
            assert_eq!(answer.is_ok(), good, "offset {offset}, {len} bytes");
            cache.free(answer.unwrap_or_else(Option::unwrap));
        }
        let far = u64::from(pool.config().buffers) * BufSize::Small.stride() as u64;
        assert!(matches!(umem.received(far, 60), Err(None)));
        assert!(umem.reclaim((1 << CHUNK_BITS) - 1).is_none());
    }

    #[test]
    fn an_mbuf_of_another_pool_is_handed_back() {
        let (pool, other) = (pool(BufSize::Small), pool(BufSize::Large));
        let mut umem = Umem::new(pool);
        let mut cache = other.cache(32);
        let stranger = umem.lend_data(cache.alloc().unwrap()).unwrap_err();
        cache.free(stranger);
        assert_eq!(umem.held(), 0);
    }
}
