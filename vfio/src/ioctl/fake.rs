// SPDX-License-Identifier: Apache-2.0
//! Fake ioctls for unit tests: a kernel in memory, one per test thread. A device is a memory
//! file with BAR 0 at its start and the configuration space behind it.
#![allow(unsafe_code, reason = "the signatures are the kernel module's")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use vfio_bindings::bindings::vfio;

use super::Region;

/// Offset of the configuration space in the fake device's file.
pub(crate) const CONFIG: u64 = 0x1_0000;

/// State of the fake kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Nodes that cannot be opened, with the errno.
    pub(crate) refused: BTreeMap<PathBuf, i32>,
    /// Whether groups are viable.
    pub(crate) viable: bool,
    /// Groups in the container.
    pub(crate) groups: usize,
    /// Whether the container has its IOMMU.
    pub(crate) iommu: bool,
    /// Mapped areas: address to length.
    pub(crate) mapped: BTreeMap<u64, u64>,
    /// Ranges that the IOMMU translates.
    pub(crate) ranges: Option<Vec<RangeInclusive<u64>>>,
    /// Bytes that may be locked.
    pub(crate) memlock: u64,
    /// MSI-X vectors.
    pub(crate) vectors: u32,
    /// Whether MSI-X is on.
    pub(crate) interrupting: bool,
    /// Calls at the device, oldest first.
    pub(crate) calls: Vec<String>,
    /// Number of resets still to be refused with EAGAIN.
    pub(crate) resets_refused: u32,
    /// Eventfd of release requests.
    pub(crate) request: Option<OwnedFd>,
}

impl Kernel {
    /// Asks for the device, as a driver does that is taken from it.
    pub(crate) fn ask_back(&self) {
        let fd = self.request.as_ref().unwrap();
        rustix::io::write(fd, &1u64.to_ne_bytes()).unwrap();
    }
}

impl Default for Kernel {
    fn default() -> Kernel {
        Kernel {
            refused: BTreeMap::new(),
            viable: true,
            groups: 0,
            iommu: false,
            mapped: BTreeMap::new(),
            ranges: Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1]),
            memlock: u64::MAX,
            vectors: 3,
            interrupting: false,
            calls: Vec::new(),
            resets_refused: 0,
            request: None,
        }
    }
}

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::default();
}

/// Looks at or changes the test thread's kernel.
pub(crate) fn kernel<R>(f: impl FnOnce(&mut Kernel) -> R) -> R {
    KERNEL.with(|kernel| f(&mut kernel.borrow_mut()))
}

fn errno<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

fn called(call: impl Into<String>) {
    kernel(|kernel| kernel.calls.push(call.into()));
}

pub(crate) fn open_node(path: &Path) -> io::Result<OwnedFd> {
    if let Some(number) = kernel(|kernel| kernel.refused.get(path).copied()) {
        return errno(number);
    }
    if path.components().any(|part| part.as_os_str() == "devices") {
        return device();
    }
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?)
}

fn device() -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("device", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&fd, CONFIG + 4096)?;
    rustix::io::pwrite(&fd, &[0x86, 0x80, 0xca, 0x10], CONFIG)?;
    Ok(fd)
}

pub(crate) fn has_extension(_container: BorrowedFd<'_>, extension: u32) -> io::Result<bool> {
    Ok(extension == vfio::VFIO_TYPE1v2_IOMMU)
}

pub(crate) fn set_iommu(_container: BorrowedFd<'_>, _kind: u32) -> io::Result<()> {
    kernel(|kernel| {
        if kernel.groups == 0 || kernel.iommu {
            return errno(libc::EINVAL);
        }
        kernel.iommu = true;
        Ok(())
    })
}

pub(crate) fn iova_ranges(
    _container: BorrowedFd<'_>,
) -> io::Result<Option<Vec<RangeInclusive<u64>>>> {
    Ok(kernel(|kernel| kernel.ranges.clone()))
}

fn map(base: NonNull<u8>, len: u64, iova: u64) -> io::Result<()> {
    kernel(|kernel| {
        let last = iova + (len - 1);
        let allowed = kernel.ranges.clone().unwrap_or(vec![0..=u64::MAX]);
        if !allowed
            .iter()
            .any(|r| r.contains(&iova) && r.contains(&last))
            || !base.as_ptr().addr().is_multiple_of(4096)
            || !(len | iova).is_multiple_of(4096)
        {
            return errno(libc::EINVAL);
        }
        if kernel.mapped.values().sum::<u64>() + len > kernel.memlock {
            return errno(libc::ENOMEM);
        }
        kernel.mapped.insert(iova, len);
        Ok(())
    })
}

pub(crate) unsafe fn map_dma(
    _container: BorrowedFd<'_>,
    base: NonNull<u8>,
    len: u64,
    iova: u64,
) -> io::Result<()> {
    if !kernel(|kernel| kernel.iommu) {
        return errno(libc::EINVAL);
    }
    map(base, len, iova)
}

pub(crate) fn unmap_dma(_container: BorrowedFd<'_>, iova: u64, len: u64) -> io::Result<()> {
    match kernel(|kernel| kernel.mapped.remove(&iova)) {
        Some(mapped) if mapped == len => Ok(()),
        _ => errno(libc::ENOENT),
    }
}

pub(crate) fn group_is_viable(_group: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(kernel(|kernel| kernel.viable))
}

pub(crate) fn set_container(_group: BorrowedFd<'_>, _container: BorrowedFd<'_>) -> io::Result<()> {
    kernel(|kernel| kernel.groups += 1);
    Ok(())
}

pub(crate) fn unset_container(_group: BorrowedFd<'_>) -> io::Result<()> {
    kernel(|kernel| {
        kernel.groups = kernel.groups.checked_sub(1).unwrap();
        if kernel.groups == 0 {
            kernel.iommu = false;
            kernel.mapped.clear();
        }
    });
    Ok(())
}

pub(crate) fn group_device(_group: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    called(format!("open {name}"));
    device()
}

pub(crate) fn device_flags(_device: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(vfio::VFIO_DEVICE_FLAGS_PCI | vfio::VFIO_DEVICE_FLAGS_RESET)
}

pub(crate) fn region(_device: BorrowedFd<'_>, index: u32) -> io::Result<Region> {
    let flags = vfio::VFIO_REGION_INFO_FLAG_READ | vfio::VFIO_REGION_INFO_FLAG_WRITE;
    let (flags, size, offset) = match index {
        vfio::VFIO_PCI_BAR0_REGION_INDEX => (flags | vfio::VFIO_REGION_INFO_FLAG_MMAP, 0x4000, 0),
        vfio::VFIO_PCI_CONFIG_REGION_INDEX => (flags, 256, CONFIG),
        _ => (0, 0, 0),
    };
    Ok(Region {
        flags,
        size,
        offset,
    })
}

pub(crate) fn vectors(_device: BorrowedFd<'_>, _index: u32) -> io::Result<u32> {
    Ok(kernel(|kernel| kernel.vectors))
}

pub(crate) fn set_vectors(
    _device: BorrowedFd<'_>,
    index: u32,
    eventfds: &[OwnedFd],
) -> io::Result<()> {
    called(format!("vectors {index} {}", eventfds.len()));
    kernel(|kernel| {
        if index == vfio::VFIO_PCI_REQ_IRQ_INDEX {
            kernel.request = eventfds.first().map(|fd| fd.try_clone().unwrap());
            return Ok(());
        }
        // As the kernel has it: what is off cannot be switched off.
        if eventfds.is_empty() && !kernel.interrupting {
            return errno(libc::EINVAL);
        }
        kernel.interrupting = !eventfds.is_empty();
        Ok(())
    })
}

pub(crate) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    let mut command = [0; 2];
    rustix::io::pread(device, &mut command, CONFIG + 4)?;
    called(format!("reset, bus master {}", command[0] >> 2 & 1));
    kernel(|kernel| match kernel.resets_refused.checked_sub(1) {
        Some(left) => {
            kernel.resets_refused = left;
            errno(libc::EAGAIN)
        }
        None => Ok(()),
    })
}

pub(crate) fn ioas_alloc(_iommu: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(7)
}

pub(crate) fn ioas_ranges(
    _iommu: BorrowedFd<'_>,
    _ioas: u32,
) -> io::Result<Vec<RangeInclusive<u64>>> {
    Ok(kernel(|kernel| kernel.ranges.clone()).unwrap_or_default())
}

pub(crate) unsafe fn ioas_map(
    _iommu: BorrowedFd<'_>,
    _ioas: u32,
    base: NonNull<u8>,
    len: u64,
    iova: u64,
) -> io::Result<()> {
    map(base, len, iova)
}

pub(crate) fn ioas_unmap(iommu: BorrowedFd<'_>, _ioas: u32, iova: u64, len: u64) -> io::Result<()> {
    unmap_dma(iommu, iova, len)
}

pub(crate) fn bind_and_attach(
    _device: BorrowedFd<'_>,
    _iommu: BorrowedFd<'_>,
    ioas: u32,
) -> io::Result<()> {
    called(format!("attach {ioas}"));
    Ok(())
}
