// SPDX-License-Identifier: Apache-2.0
//! [`SharedRegion`]: memory that a pod writes to while we read it.
//!
//! The peer is hostile. It may change any byte at any moment, so no reference, slice or atomic
//! reference over this memory ever exists: bytes are copied out and only the copy is looked at; an
//! index or a descriptor is read once, by one load, and the value read is what is checked and used.
//! Formally Rust knows no memory that another process writes; volatile accesses and inline assembly
//! are what it offers for hardware, and a peer is no worse than hardware.
#![allow(
    unsafe_code,
    reason = "maps and copies from and to memory shared with a pod"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{self, Acquire, Relaxed, Release, SeqCst},
    fence,
};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::copies::{self, Width};
use super::sigbus::{MAX_REGIONS, Registration};
use crate::error::Error;
use crate::prefetch::{prefetch_line, prefetch_line_to_write};

/// An access that does not lie within the region, or a load or store of an integer that is not
/// aligned to its size. With a peer's numbers this is the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{len} bytes at offset {offset} are not inside the shared region of {region_len} bytes, or not aligned"
)]
pub struct OutOfRange {
    /// Offset of the access, in bytes from the start of the region.
    pub offset: usize,
    /// Length of the access in bytes.
    pub len: usize,
    /// Bytes of the region.
    pub region_len: usize,
}

/// A mapping shared with a pod. Clones are handles of the same mapping; the last one unmaps it.
#[derive(Debug, Clone)]
pub struct SharedRegion {
    base: *mut u8,
    len: usize,
    width: Width,
    dead: &'static AtomicBool,
    _mapping: Arc<Mapping>,
}

// SAFETY: the memory belongs to no thread. Every access is an opaque or volatile copy of bytes
// whose value nobody relies on, so that accesses of two threads are like those of two processes.
unsafe impl Send for SharedRegion {}
// SAFETY: as above.
unsafe impl Sync for SharedRegion {}

#[derive(Debug)]
struct Mapping {
    base: *mut u8,
    len: usize,
    /// Leaves the table before the range is unmapped and may become somebody else's.
    registration: Option<Registration>,
    /// Whether the pages go with the mapping. They are charged to whoever touched them first: a
    /// peer that keeps the fd would keep them at our expense, for each connection there ever was.
    removes: bool,
}

// SAFETY: owns the range and does nothing with it but to unmap it, from whatever thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.removes {
            // SAFETY: our own shared mapping, to which no handle is left; no reference into it was
            // ever made. What cannot be removed stays.
            let _ = unsafe { rustix::mm::madvise(self.base.cast(), self.len, Advice::LinuxRemove) };
        }
        self.registration = None;
        // SAFETY: mapped by `SharedRegion::new`; the last handle is gone, and no reference into it
        // was ever made.
        let unmapped = unsafe { rustix::mm::munmap(self.base.cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

impl SharedRegion {
    /// Maps the first `len` bytes of what a peer sent, readable and writable. Its pages are present
    /// once somebody has touched them; see [`SharedRegion::prefault`]. The caller has checked what
    /// kind of file it is, its seals, and that `len` is not more than the pod may use.
    ///
    /// # Errors
    /// [`Error`] if `len` is 0 or beyond the file's end, if too many regions are mapped, or if the
    /// kernel refuses.
    pub fn map(fd: OwnedFd, len: usize) -> Result<SharedRegion, Error> {
        SharedRegion::map_peers(fd, len, false, 1)
    }

    /// As [`SharedRegion::map`], and when the last handle goes the pages go too: for memory that
    /// serves nothing but this mapping, so that a peer that keeps the fd keeps no page that is
    /// charged to us.
    ///
    /// # Errors
    /// As [`SharedRegion::map`].
    pub fn map_removing(fd: OwnedFd, len: usize) -> Result<SharedRegion, Error> {
        SharedRegion::map_peers(fd, len, true, 1)
    }

    /// As [`SharedRegion::map`], of a file whose pages have `page_bytes`, a power of two: memory on huge
    /// pages, which the kernel maps, unmaps and lets be replaced only as whole ones. `len` must be a
    /// multiple of it.
    ///
    /// # Errors
    /// As [`SharedRegion::map`].
    pub fn map_pages(fd: OwnedFd, len: usize, page_bytes: usize) -> Result<SharedRegion, Error> {
        SharedRegion::map_peers(fd, len, false, page_bytes)
    }

    fn map_peers(
        fd: OwnedFd,
        len: usize,
        removes: bool,
        page_bytes: usize,
    ) -> Result<SharedRegion, Error> {
        let fail = |step| {
            move |errno: Errno| Error::Region {
                step,
                bytes: len,
                source: errno.into(),
            }
        };
        let file_bytes = rustix::fs::fstat(&fd)
            .map_err(fail("fstat"))?
            .st_size
            .cast_unsigned();
        // mmap would succeed and the first touch behind the end be a SIGBUS.
        if len == 0 || len as u64 > file_bytes {
            return Err(Error::RegionLength {
                bytes: len,
                file_bytes,
            });
        }
        SharedRegion::new(&fd, len, removes, page_bytes)
    }

    /// Makes shared memory for a peer: ordinary pages, all present, sealed so that nobody can
    /// change its size. The fd is for the peer; the region does not need it.
    ///
    /// # Errors
    /// [`Error`] if `len` is 0, if too many regions are mapped, or if the kernel refuses.
    pub fn create_sealed(name: &str, len: usize) -> Result<(SharedRegion, OwnedFd), Error> {
        let fail = |step| {
            move |errno: Errno| Error::Region {
                step,
                bytes: len,
                source: errno.into(),
            }
        };
        if len == 0 {
            return Err(Error::RegionLength {
                bytes: 0,
                file_bytes: 0,
            });
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create(name, flags).map_err(fail("memfd_create"))?;
        rustix::fs::ftruncate(&fd, len as u64).map_err(fail("ftruncate"))?;
        // Takes the pages, or fails here and not as a SIGBUS later.
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, len as u64)
            .map_err(fail("fallocate"))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals).map_err(fail("fcntl(F_ADD_SEALS)"))?;
        let region = SharedRegion::new(&fd, len, true, 1)?;
        region.prefault()?;
        Ok((region, fd))
    }

    fn new(
        fd: impl AsFd,
        len: usize,
        removes: bool,
        page_bytes: usize,
    ) -> Result<SharedRegion, Error> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0)
        };
        let base = match base {
            Ok(base) => base.cast::<u8>(),
            Err(errno) => {
                return Err(Error::Region {
                    step: "mmap",
                    bytes: len,
                    source: errno.into(),
                });
            }
        };
        let mut mapping = Mapping {
            base,
            len,
            registration: None,
            removes,
        };
        let Some(registration) = Registration::new(base.addr(), len, page_bytes) else {
            return Err(Error::TooManyRegions { max: MAX_REGIONS });
        };
        let dead = registration.dead();
        mapping.registration = Some(registration);
        Ok(SharedRegion {
            base,
            len,
            width: Width::detect(),
            dead,
            _mapping: Arc::new(mapping),
        })
    }

    /// Has every page present now, so that no worker takes a page fault. What the peer has not
    /// touched is then charged to the caller's memory cgroup: check `len` first.
    ///
    /// # Errors
    /// [`Error::Region`] if a page cannot be had.
    pub fn prefault(&self) -> Result<(), Error> {
        // SAFETY: our own mapping; populating changes no content.
        let result =
            unsafe { rustix::mm::madvise(self.base.cast(), self.len, Advice::LinuxPopulateWrite) };
        match result {
            // Before Linux 5.14 the first touch does it.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(Error::Region {
                step: "madvise",
                bytes: self.len,
                source: errno.into(),
            }),
        }
    }

    /// Bytes of the region.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a region has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether a page of it was taken away under us: what was read since may be zeros, and the peer
    /// is to be disconnected. Needs [`sigbus::install`](crate::sigbus::install).
    #[inline(always)]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// First byte of the mapping.
    #[inline(always)]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Whether `len` bytes at `offset` are inside.
    #[inline(always)]
    pub fn contains(&self, offset: usize, len: usize) -> bool {
        offset <= self.len && len <= self.len - offset
    }

    /// The address of `len` bytes at `offset`, all of them inside and aligned to `align`.
    #[inline(always)]
    fn at(&self, offset: usize, len: usize, align: usize) -> Result<*mut u8, OutOfRange> {
        // The base is on a page's boundary, so an offset is aligned if its address is.
        if self.contains(offset, len) && offset & (align - 1) == 0 {
            Ok(self.base.wrapping_add(offset))
        } else {
            Err(OutOfRange {
                offset,
                len,
                region_len: self.len,
            })
        }
    }

    /// Hints that the line at `offset` will be read soon. Out of range, nothing happens.
    #[inline(always)]
    pub fn prefetch(&self, offset: usize) {
        if let Ok(line) = self.at(offset, 1, 1) {
            prefetch_line(line);
        }
    }

    /// Hints that the line at `offset` will be written soon. Out of range, nothing happens.
    #[inline(always)]
    pub fn prefetch_to_write(&self, offset: usize) {
        if let Ok(line) = self.at(offset, 1, 1) {
            prefetch_line_to_write(line);
        }
    }

    /// Copies from `offset` of the region into all of `dst`.
    ///
    /// # Errors
    /// [`OutOfRange`], and nothing is copied.
    #[inline]
    pub fn copy_in(&self, offset: usize, dst: &mut [u8]) -> Result<(), OutOfRange> {
        let src = self.at(offset, dst.len(), 1)?;
        // SAFETY: `at` checked the source, the destination is private, so they do not overlap.
        unsafe { copies::from_shared(dst.as_mut_ptr(), src, dst.len(), self.width) };
        Ok(())
    }

    /// Copies all of `src` to `offset` of the region.
    ///
    /// # Errors
    /// [`OutOfRange`], and nothing is copied.
    #[inline]
    pub fn copy_out(&self, offset: usize, src: &[u8]) -> Result<(), OutOfRange> {
        let dst = self.at(offset, src.len(), 1)?;
        // SAFETY: `at` checked the destination, the source is private, so they do not overlap.
        unsafe { copies::to_shared(dst, src.as_ptr(), src.len(), self.width) };
        Ok(())
    }

    /// Reads 16 bytes (a descriptor), each byte once.
    ///
    /// # Errors
    /// [`OutOfRange`].
    #[inline]
    pub fn read16(&self, offset: usize) -> Result<[u8; 16], OutOfRange> {
        let src = self.at(offset, 16, 1)?;
        // SAFETY: `at` checked the source.
        Ok(unsafe { copies::load16(src) })
    }

    /// Writes 16 bytes (a descriptor).
    ///
    /// # Errors
    /// [`OutOfRange`], and nothing is written.
    #[inline]
    pub fn write16(&self, offset: usize, bytes: [u8; 16]) -> Result<(), OutOfRange> {
        let dst = self.at(offset, 16, 1)?;
        // SAFETY: `at` checked the destination.
        unsafe { copies::store16(dst, bytes) };
        Ok(())
    }

    /// Loads a u16 once, in the machine's byte order. `Acquire`: what the peer wrote before it is
    /// seen by later accesses; `SeqCst`: also not before earlier stores of this thread.
    ///
    /// # Errors
    /// [`OutOfRange`], also if `offset` is odd.
    #[inline]
    pub fn load_u16(&self, offset: usize, order: Ordering) -> Result<u16, OutOfRange> {
        let at = self.at(offset, 2, 2)?.cast::<u16>();
        before_load(order);
        // SAFETY: inside and aligned; a volatile load of an aligned u16 is one load.
        let value = unsafe { at.read_volatile() };
        after_load(order);
        Ok(value)
    }

    /// Stores a u16, in the machine's byte order. `Release`: what was accessed before is visible
    /// before it; `SeqCst`: also ordered before later loads of this thread.
    ///
    /// # Errors
    /// [`OutOfRange`], also if `offset` is odd.
    #[inline]
    pub fn store_u16(&self, offset: usize, value: u16, order: Ordering) -> Result<(), OutOfRange> {
        let at = self.at(offset, 2, 2)?.cast::<u16>();
        before_store(order);
        // SAFETY: inside and aligned; a volatile store of an aligned u16 is one store.
        unsafe { at.write_volatile(value) };
        after_store(order);
        Ok(())
    }

    /// Loads a u32 once; see [`SharedRegion::load_u16`].
    ///
    /// # Errors
    /// [`OutOfRange`], also if `offset` is no multiple of 4.
    #[inline]
    pub fn load_u32(&self, offset: usize, order: Ordering) -> Result<u32, OutOfRange> {
        let at = self.at(offset, 4, 4)?.cast::<u32>();
        before_load(order);
        // SAFETY: inside and aligned; a volatile load of an aligned u32 is one load.
        let value = unsafe { at.read_volatile() };
        after_load(order);
        Ok(value)
    }

    /// Stores a u32; see [`SharedRegion::store_u16`].
    ///
    /// # Errors
    /// [`OutOfRange`], also if `offset` is no multiple of 4.
    #[inline]
    pub fn store_u32(&self, offset: usize, value: u32, order: Ordering) -> Result<(), OutOfRange> {
        let at = self.at(offset, 4, 4)?.cast::<u32>();
        before_store(order);
        // SAFETY: inside and aligned; a volatile store of an aligned u32 is one store.
        unsafe { at.write_volatile(value) };
        after_store(order);
        Ok(())
    }
}

// Volatile accesses with fences around them, as atomics would need a reference. On x86-64 all but
// SeqCst cost nothing.

#[inline(always)]
fn before_load(order: Ordering) {
    if order == SeqCst {
        fence(SeqCst);
    }
}

#[inline(always)]
fn after_load(order: Ordering) {
    if order != Relaxed {
        fence(Acquire);
    }
}

#[inline(always)]
fn before_store(order: Ordering) {
    if order != Relaxed {
        fence(Release);
    }
}

#[inline(always)]
fn after_store(order: Ordering) {
    if order == SeqCst {
        fence(SeqCst);
    }
}
