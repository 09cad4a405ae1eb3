// SPDX-License-Identifier: Apache-2.0
//! Memory that devices reach: [`Pages`] of this process's own, and [`DmaRing`], a ring of
//! descriptors in them.
#![allow(
    unsafe_code,
    reason = "maps pages, and reads and writes them while a device does"
)]

use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::iova::PAGE;
use crate::{Descriptor, Descriptors, Error, Iova, PciAddr};

/// Whole zeroed pages, anonymous and private, present from the start. A child process does not get
/// them: copy-on-write after a fork could leave the device writing to pages that are no longer ours.
#[derive(Debug)]
pub(crate) struct Pages {
    base: NonNull<u8>,
    /// In bytes, a multiple of the page size, above 0.
    len: usize,
}

// SAFETY: the mapping belongs to no thread; what reads and writes it does so by atomics.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least `bytes` of them.
    pub(crate) fn new(bytes: usize) -> rustix::io::Result<Pages> {
        let page = usize::try_from(PAGE).unwrap_or(4096);
        let len = bytes
            .max(1)
            .checked_next_multiple_of(page)
            .ok_or(rustix::io::Errno::NOMEM)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, flags)? };
        let pages = Pages {
            base: NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?,
            len,
        };
        // SAFETY: exactly the mapping made above; the advice changes no content.
        unsafe { rustix::mm::madvise(base, len, Advice::LinuxDontFork)? };
        Ok(pages)
    }

    /// First byte and length in bytes.
    pub(crate) fn range(&self) -> (NonNull<u8>, usize) {
        (self.base, self.len)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped. Pointers into it live in `DmaRing`, which keeps it, and
        // in the tables of mapped memory, whose entry `DmaRing` drops first.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Mapping of pages into the address space of devices; dropping it unmaps them.
pub(crate) trait Mapping: Send + fmt::Debug {
    /// Address of the first byte as devices see it.
    fn iova(&self) -> Iova;
}

/// A ring of descriptors in memory of its own, mapped for the devices of this process while it
/// lives. Dropping it takes it from the devices first: one that still uses it then faults at the
/// IOMMU, and nobody's memory changes.
///
/// Pages of 4 KB serve: the longest ring of the NICs at hand is 512 KB, and pools have huge ones.
#[derive(Debug)]
pub struct DmaRing<T> {
    // Dropped before `pages`: fields are dropped in this order.
    mapping: Box<dyn Mapping>,
    pages: Arc<Pages>,
    /// Number of descriptors, above 0.
    len: usize,
    holds: PhantomData<T>,
}

impl<T: Descriptor> DmaRing<T> {
    /// A ring of `len` descriptors whose pages `map` lets the devices reach.
    pub(crate) fn new(
        device: PciAddr,
        len: usize,
        map: impl FnOnce(&Arc<Pages>) -> Result<Box<dyn Mapping>, Error>,
    ) -> Result<DmaRing<T>, Error> {
        const {
            let bytes = size_of::<T>();
            assert!(bytes >= 8 && bytes <= 64 && bytes.is_multiple_of(8) && align_of::<T>() <= 8);
        }
        let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes > 0);
        let bytes = bytes.ok_or(Error::RingLength { device, len })?;
        let pages = Pages::new(bytes).map_err(|errno| Error::RingMemory {
            device,
            bytes,
            source: errno.into(),
        })?;
        let pages = Arc::new(pages);
        Ok(DmaRing {
            mapping: map(&pages)?,
            pages,
            len,
            holds: PhantomData,
        })
    }

    /// Word `word` (below `size_of::<T>() / 8`) of descriptor `index` modulo the length.
    #[inline]
    fn word(&self, index: usize, word: usize) -> &AtomicU64 {
        // The branch costs less than a division, and drivers count within the ring anyway.
        let index = if index < self.len {
            index
        } else {
            index % self.len
        };
        let at = self.pages.base.cast::<u64>();
        // SAFETY: `new` made the pages at least `len * size_of::<T>()` bytes long, `index` is below
        // `len`, and callers keep `word` within T; so this is one aligned word of the mapping, which
        // `self` keeps alive. Everything in this process that touches it does so atomically; the
        // device writes it as another core would.
        let at = unsafe { at.add(index * (size_of::<T>() / 8) + word) };
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(at.as_ptr()) }
    }
}

impl<T: Descriptor> Descriptors<T> for DmaRing<T> {
    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    fn iova(&self) -> Iova {
        self.mapping.iova()
    }

    #[inline]
    fn load(&self, index: usize) -> T {
        let mut descriptor = T::new_zeroed();
        let (words, _) = descriptor.as_mut_bytes().as_chunks_mut::<8>();
        let Some((last, others)) = words.split_last_mut() else {
            return descriptor;
        };
        // Acquire: "done" in the last word makes what the device wrote before visible below.
        *last = self.word(index, others.len()).load(Acquire).to_ne_bytes();
        for (at, word) in others.iter_mut().enumerate() {
            *word = self.word(index, at).load(Relaxed).to_ne_bytes();
        }
        descriptor
    }

    #[inline]
    fn store(&mut self, index: usize, descriptor: T) {
        let (words, _) = descriptor.as_bytes().as_chunks::<8>();
        for (at, word) in words.iter().enumerate() {
            // Release keeps the words in order, and after the frame that they announce.
            self.word(index, at)
                .store(u64::from_ne_bytes(*word), Release);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nowhere;
    impl Mapping for Nowhere {
        fn iova(&self) -> Iova {
            Iova(0x5000)
        }
    }

    #[test]
    fn descriptors_come_back() {
        let device = "0000:01:10.0".parse().unwrap();
        let mut ring = DmaRing::<[u64; 2]>::new(device, 300, |_| Ok(Box::new(Nowhere))).unwrap();
        assert_eq!((ring.len(), ring.iova()), (300, Iova(0x5000)));
        assert_eq!(ring.load(299), [0, 0]);
        for index in 0..300u64 {
            ring.store(usize::try_from(index).unwrap(), [index, !index]);
        }
        assert_eq!(ring.load(299), [299, !299]);
        // Modulo the length, which is no power of two.
        assert_eq!(ring.load(301), [1, !1]);
        ring.store(300, [7, 8]);
        assert_eq!(ring.load(0), [7, 8]);
    }

    #[test]
    fn lengths_that_cannot_be() {
        let device = "0000:01:10.0".parse().unwrap();
        for len in [0, usize::MAX, usize::MAX / 16] {
            let ring = DmaRing::<[u64; 2]>::new(device, len, |_| Ok(Box::new(Nowhere)));
            assert!(ring.is_err(), "{len}");
        }
    }
}
