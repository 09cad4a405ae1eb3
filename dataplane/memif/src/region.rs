// SPDX-License-Identifier: Apache-2.0
//! Checks of the memory and the eventfds that a peer passes, before they are used.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::SealFlags;
use rustix::io::Errno;
use sluice_mem::SharedRegion;

use crate::refusal::Refusal;
use sluice_peer::checks::{check, disabled};

/// `f_type` of ordinary shared memory (linux/magic.h).
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// `f_type` of memory on huge pages (linux/magic.h).
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Region whose fd was checked; not mapped yet. The number of mappings of a process is limited, so a
/// peer gets its mappings when it connects, not when it announces them.
#[derive(Debug)]
pub(crate) struct CheckedRegion {
    fd: OwnedFd,
    len: usize,
    /// Whether the pages are freed with the mapping; not for unsealed memory, which may be a trusted
    /// peer's heap.
    removes: bool,
}

/// Checks a region's fd.
///
/// The order matters: F_GET_SEALS fails at once for anything that is not shared memory and never
/// asks a file system (FUSE could answer never), sealing comes before the size is looked at, and
/// nothing is ever mapped beyond the file's end.
///
/// # Errors
/// The region breaks a rule; see [`Refusal`].
pub(crate) fn check_memory(
    fd: OwnedFd,
    size: u64,
    allow_unsealed: bool,
) -> Result<CheckedRegion, Refusal> {
    let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|_| Refusal::RegionNotMemfd)?;
    let unusable = |errno: Errno| Refusal::RegionUnusable(errno.to_string());
    // A signed word on some targets; the magic numbers fit 32 bits.
    match rustix::fs::fstatfs(&fd).map_err(unusable)?.f_type as u64 & 0xffff_ffff {
        TMPFS_MAGIC => {}
        HUGETLBFS_MAGIC if !disabled("region-huge") => return Err(Refusal::RegionHuge),
        HUGETLBFS_MAGIC => {}
        _ => return Err(Refusal::RegionNotMemfd),
    }
    if !seals.contains(SealFlags::SHRINK) || !seals.contains(SealFlags::SEAL) {
        let wanted = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let sealed = rustix::fs::fcntl_add_seals(&fd, wanted).is_ok();
        let can_shrink = !sealed && !seals.contains(SealFlags::SHRINK);
        if can_shrink && !allow_unsealed && !disabled("region-sealed") {
            return Err(Refusal::RegionUnsealed);
        }
    }
    let actual = u64::try_from(rustix::fs::fstat(&fd).map_err(unusable)?.st_size).unwrap_or(0);
    check!(
        "region-short",
        actual >= size,
        Refusal::RegionShort {
            declared: size,
            actual,
        }
    );
    let len = usize::try_from(size)
        .map_err(|_| Refusal::RegionUnusable("larger than the address space".to_owned()))?;
    let removes = !allow_unsealed;
    Ok(CheckedRegion { fd, len, removes })
}

impl CheckedRegion {
    /// Maps the region.
    ///
    /// # Errors
    /// [`Refusal::RegionUnusable`].
    pub(crate) fn map(self) -> Result<SharedRegion, Refusal> {
        let map = if self.removes {
            SharedRegion::map_removing
        } else {
            SharedRegion::map
        };
        map(self.fd, self.len).map_err(|error| Refusal::RegionUnusable(error.to_string()))
    }
}

/// Checks that a ring's fd is an eventfd: writing to anything else could do anything.
///
/// # Errors
/// [`Refusal::NotEventfd`] with the kind of file it is.
pub(crate) fn check_eventfd(fd: BorrowedFd<'_>) -> Result<(), Refusal> {
    sluice_peer::check_eventfd(fd).map_err(Refusal::NotEventfd)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
    use std::os::fd::AsFd;

    fn map(fd: OwnedFd, size: u64, allow_unsealed: bool) -> Result<SharedRegion, Refusal> {
        check_memory(fd, size, allow_unsealed)?.map()
    }

    fn memory(flags: MemfdFlags, bytes: u64) -> OwnedFd {
        let fd = memfd_create("sluice-memif-test", flags).unwrap();
        ftruncate(&fd, bytes).unwrap();
        fd
    }

    #[test]
    fn a_memfd_is_sealed_and_mapped() {
        let fd = memory(MemfdFlags::ALLOW_SEALING, 8192);
        let ours = fd.try_clone().unwrap();
        let region = map(ours, 8192, false).unwrap();
        assert_eq!(region.len(), 8192);
        let seals = fcntl_get_seals(&fd).unwrap();
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
        assert!(ftruncate(&fd, 4096).is_err());
    }

    #[test]
    fn memory_already_sealed_is_taken_and_a_partial_region_too() {
        let fd = memory(MemfdFlags::ALLOW_SEALING, 8192);
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::SEAL).unwrap();
        assert_eq!(map(fd, 4096, false).unwrap().len(), 4096);
    }

    #[test]
    fn memory_that_can_shrink_is_refused_unless_allowed() {
        let unsealable = || memory(MemfdFlags::empty(), 8192);
        assert!(matches!(
            map(unsealable(), 8192, false),
            Err(Refusal::RegionUnsealed)
        ));
        assert!(map(unsealable(), 8192, true).is_ok());
        let frozen = memory(MemfdFlags::ALLOW_SEALING, 8192);
        fcntl_add_seals(&frozen, SealFlags::GROW | SealFlags::SEAL).unwrap();
        assert!(matches!(
            map(frozen, 8192, false),
            Err(Refusal::RegionUnsealed)
        ));
    }

    #[test]
    fn short_memory_is_refused() {
        let fd = memory(MemfdFlags::ALLOW_SEALING, 4096);
        assert!(matches!(
            map(fd, 8192, false),
            Err(Refusal::RegionShort {
                declared: 8192,
                actual: 4096
            })
        ));
    }

    #[test]
    fn huge_pages_are_refused() {
        // Creating it needs no huge page, only touching it would.
        match memfd_create("t", MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING) {
            Ok(fd) => {
                let _ = ftruncate(&fd, 2 << 20);
                assert!(matches!(map(fd, 2 << 20, true), Err(Refusal::RegionHuge)));
            }
            Err(errno) => eprintln!("SKIP huge_pages_are_refused: kernel without them ({errno})"),
        }
    }

    #[test]
    fn files_pipes_and_folders_are_not_memory() {
        let file = OwnedFd::from(tempfile::tempfile_in(".").unwrap());
        let folder = OwnedFd::from(std::fs::File::open("/").unwrap());
        let (pipe, _other) = std::io::pipe().unwrap();
        let event = eventfd(0, EventfdFlags::empty()).unwrap();
        for fd in [file, folder, OwnedFd::from(pipe), event] {
            // A file that lies on a tmpfs has seals, but none can be added.
            let refused = map(fd, 1, false).unwrap_err();
            assert!(
                matches!(refused, Refusal::RegionNotMemfd | Refusal::RegionUnsealed),
                "{refused}"
            );
        }
    }

    #[test]
    fn only_eventfds_pass_as_eventfds() {
        let event = eventfd(0, EventfdFlags::empty()).unwrap();
        assert!(check_eventfd(event.as_fd()).is_ok());
        let (pipe, _other) = std::io::pipe().unwrap();
        let refused = check_eventfd(pipe.as_fd()).unwrap_err();
        assert!(matches!(refused, Refusal::NotEventfd(what) if what.starts_with("pipe:")));
    }
}
