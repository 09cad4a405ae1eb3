// SPDX-License-Identifier: Apache-2.0
//! Regions of a front end's memory: their files checked before they are mapped.
//!
//! A front end shares all of its memory: a virtual machine's, or the whole heap of a DPDK process. On
//! huge pages that file cannot be sealed, so unlike with memif it may shrink under us. What stands
//! between that and this process is [`sluice_mem::sigbus`]: the page that is gone becomes zeros, and
//! the connection ends with [`Fault::MemoryGone`](crate::Fault::MemoryGone).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::SealFlags;
use sluice_mem::SharedRegion;
use sluice_peer::checks::check;

use crate::refusal::Refusal;

/// `f_type` of ordinary shared memory (linux/magic.h).
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// `f_type` of memory on huge pages (linux/magic.h).
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Region of memory, as a front end describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionSpec {
    /// First address as descriptors name it: the guest's physical one.
    pub guest_address: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// First address as ring addresses name it: the front end's virtual one.
    pub user_address: u64,
    /// Offset in bytes of the first byte in the file.
    pub file_offset: u64,
}

impl RegionSpec {
    /// End of the region in its file.
    ///
    /// # Errors
    /// The region is empty, or one of its three ends is beyond the address space.
    fn end_in_file(&self) -> Result<u64, Refusal> {
        let wraps = Refusal::RegionWraps(*self);
        check!("region-wraps", self.bytes > 0, wraps);
        let end = |start: u64| start.checked_add(self.bytes);
        match (
            end(self.file_offset),
            end(self.guest_address),
            end(self.user_address),
        ) {
            (Some(end), Some(_), Some(_)) => Ok(end),
            _ => Err(Refusal::RegionWraps(*self)),
        }
    }

    /// Whether two regions share an address of one of the two kinds.
    pub(crate) fn overlaps(&self, other: &RegionSpec) -> bool {
        let overlap =
            |a: u64, b: u64| a < b.saturating_add(other.bytes) && b < a.saturating_add(self.bytes);
        overlap(self.guest_address, other.guest_address)
            || overlap(self.user_address, other.user_address)
    }
}

/// Mapped region.
#[derive(Debug, Clone)]
pub(crate) struct GuestRegion {
    pub(crate) spec: RegionSpec,
    pub(crate) memory: SharedRegion,
    /// Offset in `memory` of the region's first byte.
    pub(crate) start: usize,
    /// Bytes of the region.
    pub(crate) len: usize,
    /// Whether the file can still be made shorter.
    pub(crate) can_shrink: bool,
}

/// Checks a region's file and maps it from its beginning: the offset need not be a multiple of a huge
/// page.
///
/// The order matters: F_GET_SEALS fails at once for anything that is not shared memory and never asks
/// a file system (FUSE could answer never), and nothing is ever mapped beyond the file's end.
///
/// # Errors
/// The region or its file breaks a rule; see [`Refusal`].
pub(crate) fn map(spec: RegionSpec, fd: OwnedFd) -> Result<GuestRegion, Refusal> {
    let end = spec.end_in_file()?;
    let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|_| Refusal::RegionNotMemory)?;
    let unusable = |errno: rustix::io::Errno| Refusal::RegionUnusable(errno.to_string());
    // A signed word on some targets; the magic numbers fit 32 bits.
    let huge = match rustix::fs::fstatfs(fd.as_fd()).map_err(unusable)?.f_type as u64 & 0xffff_ffff
    {
        TMPFS_MAGIC => false,
        HUGETLBFS_MAGIC => true,
        _ => return Err(Refusal::RegionNotMemory),
    };
    let stat = rustix::fs::fstat(&fd).map_err(unusable)?;
    let actual = u64::try_from(stat.st_size).unwrap_or(0);
    check!(
        "region-short",
        actual >= end,
        Refusal::RegionShort { end, actual }
    );
    let page = if huge {
        u64::try_from(stat.st_blksize).unwrap_or(1).max(1)
    } else {
        1
    };
    // The kernel maps and unmaps whole huge pages only.
    let mapped = end.next_multiple_of(page);
    let too_large = || Refusal::RegionUnusable("larger than the address space".to_owned());
    let mapped = usize::try_from(mapped).map_err(|_| too_large())?;
    let start = usize::try_from(spec.file_offset).map_err(|_| too_large())?;
    let len = usize::try_from(spec.bytes).map_err(|_| too_large())?;
    let memory = SharedRegion::map_pages(fd, mapped, usize::try_from(page).unwrap_or(1))
        .map_err(|error| Refusal::RegionUnusable(error.to_string()))?;
    Ok(GuestRegion {
        spec,
        memory,
        start,
        len,
        can_shrink: !seals.contains(SealFlags::SHRINK),
    })
}
