// SPDX-License-Identifier: Apache-2.0
//! [`Posted`]: an mbuf that a device may read or write.
#![allow(
    unsafe_code,
    reason = "vouches for the pools' memory towards devices: it is never unmapped"
)]

use std::mem;
use std::num::NonZeroU64;
use std::ptr::NonNull;

use super::mbuf::Mbuf;
use super::pool::Mempool;
use super::registry;
use crate::DmaMemory;

// SAFETY: a pool's mapping is of whole pages, readable, writable and never unmapped. References to
// buffers are formed through an `Mbuf` alone, and a driver has a `Posted` in its place while a
// descriptor names the buffer.
unsafe impl DmaMemory for Mempool {
    fn range(&self) -> (NonNull<u8>, usize) {
        let (base, bytes) = self.mapping();
        // `Mempool::new` stores the address that the kernel gave; 0 is none of them.
        (NonNull::new(base).unwrap_or(NonNull::dangling()), bytes)
    }
}

/// An mbuf whose bytes a device may read or write: nobody looks at them before the device is done and
/// the mbuf is reclaimed. There is one handle per buffer, as with [`Mbuf`].
///
/// Reclaim it only once the device has said that it is done with the descriptor, or has been reset.
/// Dropping one gives the buffer back the slow way: that, too, is for after the reset.
#[derive(Debug)]
#[repr(transparent)]
#[must_use = "a buffer that is not posted to a device goes back to its pool the slow way"]
pub struct Posted(Mbuf);

impl Mbuf {
    /// Gives up the host's right to the bytes: for a descriptor that a device is about to get.
    #[inline(always)]
    pub fn post(self) -> Posted {
        Posted(self)
    }
}

impl Posted {
    /// Offset of the data, in bytes from the start of its pool's memory
    /// ([`DmaMemory::range`]). Of a fresh mbuf: where it will begin.
    #[inline(always)]
    pub fn offset(&self) -> u64 {
        let buffer = registry::entry(self.0.pool_id()).offset(self.0.index());
        (buffer + self.0.offset()) as u64
    }

    /// Whether it is of this pool.
    #[inline(always)]
    pub fn is_of(&self, pool: Mempool) -> bool {
        self.0.pool_id() == pool.id()
    }

    /// Bytes of data.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no data, as before a device has received into it.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First byte of the buffer, which is that of its headroom, and the buffer's length in bytes.
    #[inline(always)]
    pub fn buffer(&self) -> (NonNull<u8>, usize) {
        let entry = registry::entry(self.0.pool_id());
        let start = entry.buffer(self.0.index());
        // No buffer is at address 0.
        let start = NonNull::new(start).unwrap_or(NonNull::dangling());
        (start, entry.buffer_bytes())
    }

    /// Offset of the data, in bytes from the start of the buffer.
    #[inline(always)]
    pub fn data_offset(&self) -> usize {
        self.0.offset()
    }

    /// Gives up the handle for a number, never 0, for a driver that keeps one with its descriptor.
    #[inline(always)]
    pub fn into_raw(self) -> NonZeroU64 {
        let bits = self.0.raw();
        mem::forget(self);
        bits
    }

    /// Makes the handle again from its number.
    ///
    /// # Safety
    /// The number comes from [`Posted::into_raw`] of this process, and no handle was made from it since.
    #[inline(always)]
    pub unsafe fn from_raw(bits: NonZeroU64) -> Posted {
        // SAFETY: the caller says that it is the number of a handle that was given up, and that there is no other.
        Posted(unsafe { Mbuf::from_raw(bits) })
    }

    /// The mbuf as it was posted. What a device received is data after [`Mbuf::set_len`].
    #[inline(always)]
    pub fn reclaim(self) -> Mbuf {
        self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{BufSize, HEADROOM, HugePages, PoolConfig};

    fn pool() -> Mempool {
        Mempool::new(PoolConfig {
            buffers: 256,
            size: BufSize::Small,
            numa_node: None,
            huge_pages: HugePages::Off,
        })
        .unwrap()
    }

    #[test]
    fn offsets_lead_to_the_bytes() {
        let pool = pool();
        let (base, bytes) = pool.range();
        assert!(bytes.is_multiple_of(4096));
        let mut cache = pool.cache(128);
        let mut seen = Vec::new();
        for number in 0..200u8 {
            let mut mbuf = cache.alloc().unwrap();
            assert!(mbuf.copy_from(&[number; 60]));
            let address = mbuf.data().as_ptr() as usize;
            let posted = mbuf.post();
            assert!(posted.is_of(pool));
            let offset = usize::try_from(posted.offset()).unwrap();
            assert_eq!(base.as_ptr() as usize + offset, address);
            assert!(offset + BufSize::Small.data_bytes() <= bytes);
            seen.push(posted);
        }
        assert_eq!(pool.conservation().in_flight, 200, "posted ones are in use");
        for (number, posted) in (0..).zip(seen) {
            let mut mbuf = posted.reclaim();
            assert_eq!(mbuf.data(), [number; 60]);
            assert!(mbuf.prepend(4) && mbuf.headroom() == HEADROOM - 4);
            cache.free(mbuf);
        }
        let mbuf = cache.alloc().unwrap();
        let at = mbuf.data().as_ptr();
        let posted = mbuf.post();
        let (start, bytes) = posted.buffer();
        assert_eq!(
            start
                .as_ptr()
                .wrapping_add(posted.data_offset())
                .cast_const(),
            at
        );
        assert_eq!(bytes, HEADROOM + BufSize::Small.data_bytes());
        let number = posted.into_raw();
        // SAFETY: the number was made just now, and this is the only handle from it.
        let again = unsafe { Posted::from_raw(number) };
        assert_eq!(again.buffer().0, start);
        drop(again);
        let conservation = pool.conservation();
        assert!(
            conservation.holds() && conservation.strays == 1,
            "{conservation:?}"
        );
    }
}
