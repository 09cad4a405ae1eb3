// SPDX-License-Identifier: Apache-2.0
//! Memory of a front end: one file, seen at three addresses.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sluice_mem::SharedRegion;

use crate::region::RegionSpec;

/// First guest's physical address of the memory.
pub const GUEST: u64 = 0x1_0000_0000;
/// First address of the memory in the front end's own address space.
pub const USER: u64 = 0x7f00_0000_0000;

/// Memory of a front end.
#[derive(Debug)]
pub struct GuestMemory {
    fd: OwnedFd,
    region: SharedRegion,
    file_bytes: u64,
}

impl GuestMemory {
    /// Memory of `bytes` bytes, which can be made shorter, as that of DPDK on huge pages can.
    pub fn new(bytes: usize) -> GuestMemory {
        GuestMemory::with(MemfdFlags::CLOEXEC, bytes)
    }

    /// Memory of `bytes` bytes made with these flags.
    pub fn with(flags: MemfdFlags, bytes: usize) -> GuestMemory {
        let fd = memfd_create("sluice-guest", flags).unwrap();
        ftruncate(&fd, bytes as u64).unwrap();
        let region = SharedRegion::map(fd.try_clone().unwrap(), bytes).unwrap();
        GuestMemory {
            fd,
            region,
            file_bytes: bytes as u64,
        }
    }

    /// Memory of `bytes` bytes of which the front end itself has only the first page.
    pub fn with_sparse(bytes: u64) -> GuestMemory {
        let memory = GuestMemory::new(4096);
        memory.truncate(bytes);
        GuestMemory {
            file_bytes: bytes,
            ..memory
        }
    }

    /// Whole memory as a region.
    pub fn spec(&self) -> RegionSpec {
        RegionSpec {
            guest_address: GUEST,
            bytes: self.file_bytes,
            user_address: USER,
            file_offset: 0,
        }
    }

    /// Bytes of it, as the front end accesses them.
    pub fn region(&self) -> &SharedRegion {
        &self.region
    }

    /// Makes its file `bytes` long.
    pub fn truncate(&self, bytes: u64) {
        ftruncate(&self.fd, bytes).unwrap();
    }
}

impl AsFd for GuestMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
