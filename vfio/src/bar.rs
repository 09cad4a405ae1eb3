// SPDX-License-Identifier: Apache-2.0
//! [`Bar`]: the registers of one BAR of a VFIO device.
#![allow(unsafe_code, reason = "maps a BAR and accesses it")]

use std::fmt;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags};

use crate::ioctl::Region;
use crate::iommu::Opened;
use crate::{RegOffset, Registers};

/// Mapped BAR. It keeps the device's file open: the kernel gets the function back when the
/// device and all its `Bar`s are gone.
pub struct Bar {
    base: NonNull<u8>,
    /// In bytes.
    len: usize,
    _device: Arc<Opened>,
}

// SAFETY: the mapping belongs to no thread, and accesses to a device's registers may come from any.
unsafe impl Send for Bar {}

impl Bar {
    /// Maps `region` of `device`, which says that it can be mapped.
    pub(crate) fn map(device: &Arc<Opened>, region: Region) -> io::Result<Bar> {
        let len = usize::try_from(region.size).map_err(io::Error::other)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses. What it maps are registers
        // of a device that VFIO lets this process have: they can do harm to memory only through
        // DMA, which the IOMMU keeps to what `Iommu` mapped.
        let base = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                device.fd(),
                region.offset,
            )?
        };
        Ok(Bar {
            base: NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?,
            len,
            _device: Arc::clone(device),
        })
    }

    /// Length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// Address of the register of `bytes` bytes at `offset`; `None` if it is outside the BAR or not
    /// at a multiple of its size.
    #[inline]
    fn at(&self, offset: RegOffset, bytes: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset.0).ok()?;
        let inside = offset.is_multiple_of(bytes) && offset.checked_add(bytes)? <= self.len;
        // SAFETY: `offset` is below `len`, the length of the mapping.
        inside.then(|| unsafe { self.base.add(offset) })
    }
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bar({} bytes)", self.len)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; no pointer into it leaves this module. The kernel rounds
        // the length up as it did then.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

// Release is what a store fence is between memory and registers that the kernel maps uncached, as
// vfio-pci maps every BAR: on x86 such a write is not made before earlier ones (Intel SDM volume 3,
// section 9.2.2), and the fence keeps the compiler to it.
impl Registers for Bar {
    #[inline]
    fn read32(&self, offset: RegOffset) -> u32 {
        match self.at(offset, 4) {
            // SAFETY: `at` checked bounds and alignment; the mapping lives as long as `self`.
            Some(at) => u32::from_le(unsafe { at.cast::<u32>().read_volatile() }),
            None => u32::MAX,
        }
    }

    #[inline]
    fn write32(&self, offset: RegOffset, value: u32) {
        if let Some(at) = self.at(offset, 4) {
            fence(Ordering::Release);
            // SAFETY: as in `read32`.
            unsafe { at.cast::<u32>().write_volatile(value.to_le()) };
        }
    }

    #[inline]
    fn read64(&self, offset: RegOffset) -> u64 {
        match self.at(offset, 8) {
            // SAFETY: as in `read32`.
            Some(at) => u64::from_le(unsafe { at.cast::<u64>().read_volatile() }),
            None => u64::MAX,
        }
    }

    #[inline]
    fn write64(&self, offset: RegOffset, value: u64) {
        if let Some(at) = self.at(offset, 8) {
            fence(Ordering::Release);
            // SAFETY: as in `read32`.
            unsafe { at.cast::<u64>().write_volatile(value.to_le()) };
        }
    }
}
