// SPDX-License-Identifier: Apache-2.0
//! The four rings of an AF_XDP socket, each in a mapping of its own (include/uapi/linux/if_xdp.h,
//! Documentation/networking/af_xdp.rst in the kernel's source).
//!
//! All are single-producer single-consumer rings whose indices run freely over 32 bits. Of the fill and
//! the send ring we are the producer, of the receive and the completion ring the consumer.
#![allow(unsafe_code, reason = "indices and entries that the kernel shares")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::xdp::XdpRingOffset;

/// Offset in the socket's file at which the receive ring is mapped.
pub(super) const RX_RING: u64 = 0;
/// Offset of the send ring.
pub(super) const TX_RING: u64 = 0x8000_0000;
/// Offset of the fill ring.
pub(super) const FILL_RING: u64 = 0x1_0000_0000;
/// Offset of the completion ring.
pub(super) const COMPLETION_RING: u64 = 0x1_8000_0000;

/// Flag of the fill and the send ring: the kernel goes on only after a system call.
const NEED_WAKEUP: u32 = 1;

/// Entry of a ring: plain data, which any bytes are.
///
/// # Safety
/// Every bit pattern is a value, and there is no padding.
pub(super) unsafe trait Entry: Copy {}

// SAFETY: an integer.
unsafe impl Entry for u64 {}
// SAFETY: integers without padding between them, as the assertion says.
unsafe impl Entry for Descriptor {}

/// Entry of the receive and the send ring: `struct xdp_desc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Descriptor {
    /// Chunk's offset in the memory, and from bit 48 on the data's offset in the chunk.
    pub(super) addr: u64,
    /// Bytes of data.
    pub(super) len: u32,
    /// Bit 0: the frame goes on in the next descriptor.
    pub(super) options: u32,
}
const _: () = assert!(size_of::<Descriptor>() == 16);

/// Mapped ring of `E`.
#[derive(Debug)]
struct Mapped<E> {
    base: *mut u8,
    bytes: usize,
    producer: *mut u32,
    consumer: *mut u32,
    flags: Option<*mut u32>,
    entries: *mut E,
    /// Number of entries less one; the number is a power of two.
    mask: u32,
    kind: PhantomData<E>,
}

// SAFETY: owns its mapping; all accesses go through the owner, and `&self` methods read atomics only.
unsafe impl<E: Entry> Send for Mapped<E> {}

impl<E: Entry> Mapped<E> {
    fn map(fd: &OwnedFd, at: u64, offsets: &XdpRingOffset, entries: u32) -> io::Result<Mapped<E>> {
        let invalid = || io::Error::other("the kernel named an impossible place in a ring");
        let place = |offset: u64| usize::try_from(offset).map_err(|_| invalid());
        let (producer, consumer) = (place(offsets.producer)?, place(offsets.consumer)?);
        let first = place(offsets.desc)?;
        let flags = offsets.flags.map(place).transpose()?;
        let bytes = (entries as usize)
            .checked_mul(size_of::<E>())
            .and_then(|bytes| bytes.checked_add(first))
            .ok_or_else(invalid)?;
        // The kernel is believed about where things are, and not about what its layout could be.
        let words = [producer, consumer, flags.unwrap_or(producer)];
        if !entries.is_power_of_two()
            || !first.is_multiple_of(align_of::<E>())
            || words.iter().any(|word| word % 4 != 0 || word + 4 > bytes)
        {
            return Err(invalid());
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let how = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, protection, how, fd, at)? };
        let base = base.cast::<u8>();
        Ok(Mapped {
            base,
            bytes,
            producer: base.wrapping_add(producer).cast(),
            consumer: base.wrapping_add(consumer).cast(),
            flags: flags.map(|flags| base.wrapping_add(flags).cast()),
            entries: base.wrapping_add(first).cast(),
            mask: entries - 1,
            kind: PhantomData,
        })
    }

    #[inline(always)]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: an aligned word of our mapping, checked by `map`; both sides access it atomically.
        unsafe { AtomicU32::from_ptr(self.producer) }
    }

    #[inline(always)]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer.
        unsafe { AtomicU32::from_ptr(self.consumer) }
    }

    /// Whether the kernel asks for a system call; always where it has no such flag.
    #[inline(always)]
    fn needs_wakeup(&self) -> bool {
        match self.flags {
            // SAFETY: as for the producer.
            Some(flags) => unsafe { AtomicU32::from_ptr(flags) }.load(Relaxed) & NEED_WAKEUP != 0,
            None => true,
        }
    }

    #[inline(always)]
    fn entry(&self, index: u32) -> *mut E {
        self.entries.wrapping_add((index & self.mask) as usize)
    }
}

impl<E> Drop for Mapped<E> {
    fn drop(&mut self) {
        // SAFETY: what `map` mapped; no reference into it lives longer than a call.
        let unmapped = unsafe { rustix::mm::munmap(self.base.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Ring that we write and the kernel reads: fill or send.
#[derive(Debug)]
pub(super) struct Producer<E: Entry> {
    ring: Mapped<E>,
    /// Index of the next entry to write.
    next: u32,
    /// Index up to which the kernel was last seen to have read.
    read: u32,
}

impl<E: Entry> Producer<E> {
    /// Maps a ring of `entries`, a power of two, which is what the socket was told.
    pub(super) fn map(
        fd: &OwnedFd,
        at: u64,
        offsets: &XdpRingOffset,
        entries: u32,
    ) -> io::Result<Producer<E>> {
        let ring = Mapped::map(fd, at, offsets, entries)?;
        let next = ring.producer().load(Relaxed);
        let read = ring.consumer().load(Acquire);
        Ok(Producer { ring, next, read })
    }

    /// Number of entries that can be written now.
    #[inline(always)]
    pub(super) fn room(&mut self) -> u32 {
        self.read = self.ring.consumer().load(Acquire);
        self.entries() - self.unread()
    }

    /// Number of entries that the kernel has not read, as last seen.
    #[inline(always)]
    pub(super) fn unread(&self) -> u32 {
        // A consumer index that ran ahead would make room for more than there is.
        self.next.wrapping_sub(self.read).min(self.entries())
    }

    /// Number of entries of the ring.
    #[inline(always)]
    pub(super) fn entries(&self) -> u32 {
        self.ring.mask + 1
    }

    /// Writes the next entry; the kernel sees it after [`Producer::publish`]. For as many as
    /// [`Producer::room`] said.
    #[inline(always)]
    pub(super) fn push(&mut self, entry: E) {
        // SAFETY: within the ring by the mask; the kernel reads entries below its view of the producer
        // index only, and this one is above it.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the kernel what was pushed.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        self.ring.producer().store(self.next, Release);
    }

    /// Whether the kernel asks for a system call before it goes on.
    #[inline(always)]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// Ring that the kernel writes and we read: receive or completion.
#[derive(Debug)]
pub(super) struct Consumer<E: Entry> {
    ring: Mapped<E>,
    /// Index of the next entry to read.
    next: u32,
    /// Index up to which the kernel was last seen to have written.
    written: u32,
}

impl<E: Entry> Consumer<E> {
    /// Maps a ring of `entries`, a power of two, which is what the socket was told.
    pub(super) fn map(
        fd: &OwnedFd,
        at: u64,
        offsets: &XdpRingOffset,
        entries: u32,
    ) -> io::Result<Consumer<E>> {
        let ring: Mapped<E> = Mapped::map(fd, at, offsets, entries)?;
        let next = ring.consumer().load(Relaxed);
        Ok(Consumer {
            ring,
            next,
            written: next,
        })
    }

    /// Whether an entry is waiting.
    #[inline(always)]
    pub(super) fn is_waiting(&self) -> bool {
        self.ring.producer().load(Acquire) != self.next
    }

    /// Takes the next entry; the kernel may write over it after [`Consumer::give_back`].
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<E> {
        if self.written == self.next {
            self.written = self.ring.producer().load(Acquire);
            if self.written == self.next {
                return None;
            }
        }
        // SAFETY: within the ring by the mask; written by the kernel before the index that was loaded with
        // acquire, and not written over before it is given back.
        let entry = unsafe { self.ring.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the entries that were taken back to the kernel.
    #[inline(always)]
    pub(super) fn give_back(&mut self) {
        self.ring.consumer().store(self.next, Release);
    }
}
