// SPDX-License-Identifier: Apache-2.0
//! The ioctls as the kernel has them.
#![allow(unsafe_code, reason = "ioctls")]

use std::ffi::{CString, c_int, c_ulong};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr::NonNull;

use iommufd_bindings as iommufd;
use rustix::fs::{Mode, OFlags};
use vfio_bindings::bindings::vfio;

use super::Region;

// All of both are _IO(';', number), without size or direction: the structs carry their own size.
const GET_API_VERSION: c_ulong = 0x3b64;
const CHECK_EXTENSION: c_ulong = 0x3b65;
const SET_IOMMU: c_ulong = 0x3b66;
const GROUP_GET_STATUS: c_ulong = 0x3b67;
const GROUP_SET_CONTAINER: c_ulong = 0x3b68;
const GROUP_UNSET_CONTAINER: c_ulong = 0x3b69;
const GROUP_GET_DEVICE_FD: c_ulong = 0x3b6a;
const DEVICE_GET_INFO: c_ulong = 0x3b6b;
const DEVICE_GET_REGION_INFO: c_ulong = 0x3b6c;
const DEVICE_GET_IRQ_INFO: c_ulong = 0x3b6d;
const DEVICE_SET_IRQS: c_ulong = 0x3b6e;
const DEVICE_RESET: c_ulong = 0x3b6f;
const IOMMU_GET_INFO: c_ulong = 0x3b70;
const IOMMU_MAP_DMA: c_ulong = 0x3b71;
const IOMMU_UNMAP_DMA: c_ulong = 0x3b72;
const DEVICE_BIND_IOMMUFD: c_ulong = 0x3b76;
const DEVICE_ATTACH_IOMMUFD_PT: c_ulong = 0x3b77;
const IOAS_ALLOC: c_ulong = 0x3b81;
const IOAS_IOVA_RANGES: c_ulong = 0x3b84;
const IOAS_MAP: c_ulong = 0x3b85;
const IOAS_UNMAP: c_ulong = 0x3b86;

/// An ioctl that takes a number.
fn by_value(fd: BorrowedFd<'_>, request: c_ulong, value: c_ulong) -> io::Result<c_int> {
    // SAFETY: callers in this module pass requests whose argument is a plain number.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, value) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// An ioctl that takes a pointer to a struct.
///
/// # Safety
/// `argument` is valid for reads and writes of what `request` takes, its size field covers no more than that, and what it points to, if
/// anything, is what the request makes of it.
unsafe fn by_pointer<T>(
    fd: BorrowedFd<'_>,
    request: c_ulong,
    argument: *mut T,
) -> io::Result<c_int> {
    // SAFETY: the caller says that `argument` is what `request` takes, and valid for it.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "structs of tens of bytes")]
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// Opens a node for reading and writing.
pub(crate) fn open_node(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Whether the container's kernel speaks this API and has the extension.
pub(crate) fn has_extension(container: BorrowedFd<'_>, extension: u32) -> io::Result<bool> {
    let version = by_value(container, GET_API_VERSION, 0)?;
    Ok(u32::try_from(version) == Ok(vfio::VFIO_API_VERSION)
        && by_value(container, CHECK_EXTENSION, extension.into())? > 0)
}

/// Gives the container, which has a group, its kind of IOMMU.
pub(crate) fn set_iommu(container: BorrowedFd<'_>, kind: u32) -> io::Result<()> {
    by_value(container, SET_IOMMU, kind.into()).map(drop)
}

/// The ranges that the container's IOMMU translates; `None` if the kernel does not say.
pub(crate) fn iova_ranges(
    container: BorrowedFd<'_>,
) -> io::Result<Option<Vec<RangeInclusive<u64>>>> {
    const FIXED: usize = size_of::<vfio::vfio_iommu_type1_info>();
    // In words of eight bytes, as the structs are aligned.
    let mut buffer = vec![0u64; FIXED.div_ceil(8)];
    loop {
        let bytes = u32::try_from(buffer.len() * 8).map_err(io::Error::other)?;
        buffer.fill(0);
        let info: *mut vfio::vfio_iommu_type1_info = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer is aligned to eight bytes, at least as long as the struct, and holds
        // plain integers.
        unsafe { (*info).argsz = bytes };
        // SAFETY: argsz is the buffer's length, beyond which the kernel writes nothing.
        unsafe { by_pointer(container, IOMMU_GET_INFO, info) }?;
        // SAFETY: as above.
        let info = unsafe { info.read() };
        if info.argsz > bytes {
            let words = usize::try_from(info.argsz)
                .map_err(io::Error::other)?
                .div_ceil(8);
            buffer.resize(words.min(1 << 17), 0);
            if words > 1 << 17 {
                return Err(io::Error::other("the kernel's answer has no end"));
            }
            continue;
        }
        if info.flags & vfio::VFIO_IOMMU_INFO_CAPS == 0 {
            return Ok(None);
        }
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
        return Ok(ranges_of(&bytes, info.cap_offset));
    }
}

/// The IOVA ranges in a chain of capabilities (`struct vfio_info_cap_header`), read by bytes so that
/// no offset of the kernel's is trusted.
fn ranges_of(bytes: &[u8], first: u32) -> Option<Vec<RangeInclusive<u64>>> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let mut at = usize::try_from(first).ok()?;
    // A chain that goes round is given up.
    for _ in 0..64 {
        if at == 0 {
            return None;
        }
        if u32::from(u16_at(at)?) == vfio::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE {
            let count = usize::try_from(u32_at(at + 8)?).ok()?;
            return (0..count)
                .map(|index| {
                    let at = at + 16 + index * 16;
                    Some(u64_at(at)?..=u64_at(at + 8)?)
                })
                .collect();
        }
        at = usize::try_from(u32_at(at + 4)?).ok()?;
    }
    None
}

/// Lets the devices of the container read and write `len` bytes at `base`, at `iova`.
///
/// # Safety
/// The range is mapped in this process, of whole pages, and stays so until it is unmapped from the
/// container or the container is closed; while it is mapped, no references to what devices write are
/// formed.
pub(crate) unsafe fn map_dma(
    container: BorrowedFd<'_>,
    base: NonNull<u8>,
    len: u64,
    iova: u64,
) -> io::Result<()> {
    let mut map = vfio::vfio_iommu_type1_dma_map {
        argsz: size::<vfio::vfio_iommu_type1_dma_map>(),
        flags: vfio::VFIO_DMA_MAP_FLAG_READ | vfio::VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: base.as_ptr().addr() as u64,
        iova,
        size: len,
    };
    // SAFETY: the struct of this request; the caller says that the memory stays mapped until it is unmapped
    // from the devices.
    unsafe { by_pointer(container, IOMMU_MAP_DMA, &mut map) }.map(drop)
}

/// Takes what was mapped at `iova` from the devices.
pub(crate) fn unmap_dma(container: BorrowedFd<'_>, iova: u64, len: u64) -> io::Result<()> {
    let mut unmap = vfio::vfio_iommu_type1_dma_unmap {
        argsz: size::<vfio::vfio_iommu_type1_dma_unmap>(),
        iova,
        size: len,
        ..Default::default()
    };
    // SAFETY: the struct of this request, with no bitmap behind it, for which no flag asks.
    unsafe { by_pointer(container, IOMMU_UNMAP_DMA, &mut unmap) }.map(drop)
}

/// Whether every device of the group is with VFIO or with no driver that could do DMA.
pub(crate) fn group_is_viable(group: BorrowedFd<'_>) -> io::Result<bool> {
    let mut status = vfio::vfio_group_status {
        argsz: size::<vfio::vfio_group_status>(),
        flags: 0,
    };
    // SAFETY: the struct of this request.
    unsafe { by_pointer(group, GROUP_GET_STATUS, &mut status) }?;
    Ok(status.flags & vfio::VFIO_GROUP_FLAGS_VIABLE != 0)
}

/// Puts the group into the container.
pub(crate) fn set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    let mut container: RawFd = container.as_raw_fd();
    // SAFETY: this request takes a pointer to a file descriptor.
    unsafe { by_pointer(group, GROUP_SET_CONTAINER, &mut container) }.map(drop)
}

/// Takes the group out of its container. The last one to go takes the mappings along.
pub(crate) fn unset_container(group: BorrowedFd<'_>) -> io::Result<()> {
    by_value(group, GROUP_UNSET_CONTAINER, 0).map(drop)
}

/// Opens a device of a group that is in a container with an IOMMU.
pub(crate) fn group_device(group: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(io::Error::other)?;
    // SAFETY: this request takes a string that ends in a zero.
    match unsafe { libc::ioctl(group.as_raw_fd(), GROUP_GET_DEVICE_FD, name.as_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the request returns a new descriptor that nobody else has.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// The device's `VFIO_DEVICE_FLAGS_*`.
pub(crate) fn device_flags(device: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = vfio::vfio_device_info {
        argsz: size::<vfio::vfio_device_info>(),
        ..Default::default()
    };
    // SAFETY: the struct of this request.
    unsafe { by_pointer(device, DEVICE_GET_INFO, &mut info) }?;
    Ok(info.flags)
}

/// A region of the device by its index (`VFIO_PCI_*_REGION_INDEX`).
pub(crate) fn region(device: BorrowedFd<'_>, index: u32) -> io::Result<Region> {
    let mut info = vfio::vfio_region_info {
        argsz: size::<vfio::vfio_region_info>(),
        index,
        ..Default::default()
    };
    // SAFETY: the struct of this request.
    unsafe { by_pointer(device, DEVICE_GET_REGION_INFO, &mut info) }?;
    Ok(Region {
        flags: info.flags,
        size: info.size,
        offset: info.offset,
    })
}

/// Number of vectors of the device's interrupt `index` (`VFIO_PCI_*_IRQ_INDEX`).
pub(crate) fn vectors(device: BorrowedFd<'_>, index: u32) -> io::Result<u32> {
    let mut info = vfio::vfio_irq_info {
        argsz: size::<vfio::vfio_irq_info>(),
        index,
        ..Default::default()
    };
    // SAFETY: the struct of this request.
    unsafe { by_pointer(device, DEVICE_GET_IRQ_INFO, &mut info) }?;
    Ok(info.count)
}

/// Most vectors that [`set_vectors`] takes at once: all that MSI-X has.
const MOST_VECTORS: usize = 2048;

#[repr(C)]
struct Vectors {
    head: [u32; 5],
    fds: [RawFd; MOST_VECTORS],
}

/// Enables the vectors of interrupt `index` from 0 on, each with its eventfd; with none, disables
/// them all.
pub(crate) fn set_vectors(
    device: BorrowedFd<'_>,
    index: u32,
    eventfds: &[OwnedFd],
) -> io::Result<()> {
    let count = u32::try_from(eventfds.len()).map_err(io::Error::other)?;
    let data = if count == 0 {
        vfio::VFIO_IRQ_SET_DATA_NONE
    } else {
        vfio::VFIO_IRQ_SET_DATA_EVENTFD
    };
    let mut fds = [0; MOST_VECTORS];
    if eventfds.len() > fds.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, fd) in fds.iter_mut().zip(eventfds) {
        *slot = fd.as_fd().as_raw_fd();
    }
    // `struct vfio_irq_set`: argsz, flags, index, start, count, then the descriptors.
    let flags = data | vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
    let mut vectors = Vectors {
        head: [
            size::<vfio::vfio_irq_set>() + count * 4,
            flags,
            index,
            0,
            count,
        ],
        fds,
    };
    // SAFETY: laid out as this request has it, with as many descriptors as it says, which argsz
    // covers; the kernel only reads it.
    unsafe { by_pointer(device, DEVICE_SET_IRQS, &mut vectors) }.map(drop)
}

/// Resets the function.
pub(crate) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    by_value(device, DEVICE_RESET, 0).map(drop)
}

/// Makes an address space in the iommufd; its id.
pub(crate) fn ioas_alloc(iommu: BorrowedFd<'_>) -> io::Result<u32> {
    let mut alloc = iommufd::iommu_ioas_alloc {
        size: size::<iommufd::iommu_ioas_alloc>(),
        ..Default::default()
    };
    // SAFETY: the struct of this request.
    unsafe { by_pointer(iommu, IOAS_ALLOC, &mut alloc) }?;
    Ok(alloc.out_ioas_id)
}

/// The ranges that may be mapped in an address space.
pub(crate) fn ioas_ranges(
    iommu: BorrowedFd<'_>,
    ioas: u32,
) -> io::Result<Vec<RangeInclusive<u64>>> {
    let mut ranges = vec![iommufd::iommu_iova_range::default(); 64];
    loop {
        let room = u32::try_from(ranges.len()).map_err(io::Error::other)?;
        let mut query = iommufd::iommu_ioas_iova_ranges {
            size: size::<iommufd::iommu_ioas_iova_ranges>(),
            ioas_id: ioas,
            num_iovas: room,
            allowed_iovas: ranges.as_mut_ptr().addr() as u64,
            ..Default::default()
        };
        // SAFETY: the struct of this request; `allowed_iovas` has room for `num_iovas` ranges.
        let result = unsafe { by_pointer(iommu, IOAS_IOVA_RANGES, &mut query) };
        let count = usize::try_from(query.num_iovas).map_err(io::Error::other)?;
        match result {
            Ok(_) => {
                ranges.truncate(count);
                return Ok(ranges
                    .iter()
                    .map(|range| range.start..=range.last)
                    .collect());
            }
            Err(error)
                if error.raw_os_error() == Some(libc::EMSGSIZE)
                    && count > ranges.len()
                    && count < 1 << 16 =>
            {
                ranges.resize(count, Default::default());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Lets the devices of the address space read and write `len` bytes at `base`, at `iova`.
///
/// # Safety
/// As for [`map_dma`], with the address space in the container's place.
pub(crate) unsafe fn ioas_map(
    iommu: BorrowedFd<'_>,
    ioas: u32,
    base: NonNull<u8>,
    len: u64,
    iova: u64,
) -> io::Result<()> {
    let mut map = iommufd::iommu_ioas_map {
        size: size::<iommufd::iommu_ioas_map>(),
        flags: iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
            | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE
            | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE,
        ioas_id: ioas,
        user_va: base.as_ptr().addr() as u64,
        length: len,
        iova,
        ..Default::default()
    };
    // SAFETY: the struct of this request; the caller says that the memory stays mapped until it is unmapped
    // from the devices.
    unsafe { by_pointer(iommu, IOAS_MAP, &mut map) }.map(drop)
}

/// Takes what was mapped at `iova` from the devices of the address space.
pub(crate) fn ioas_unmap(iommu: BorrowedFd<'_>, ioas: u32, iova: u64, len: u64) -> io::Result<()> {
    let mut unmap = iommufd::iommu_ioas_unmap {
        size: size::<iommufd::iommu_ioas_unmap>(),
        ioas_id: ioas,
        iova,
        length: len,
    };
    // SAFETY: the struct of this request.
    unsafe { by_pointer(iommu, IOAS_UNMAP, &mut unmap) }.map(drop)
}

/// Binds a device's own node to the iommufd and attaches it to the address space.
pub(crate) fn bind_and_attach(
    device: BorrowedFd<'_>,
    iommu: BorrowedFd<'_>,
    ioas: u32,
) -> io::Result<()> {
    // The size of Linux 6.6: later ones end in a pointer that is not used here.
    let mut bind = vfio::vfio_device_bind_iommufd {
        argsz: 16,
        iommufd: iommu.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: the struct of this request; argsz is less than its size.
    unsafe { by_pointer(device, DEVICE_BIND_IOMMUFD, &mut bind) }?;
    // The size of Linux 6.6: later ones end in a PASID that is not used here.
    let mut attach = vfio::vfio_device_attach_iommufd_pt {
        argsz: 12,
        pt_id: ioas,
        ..Default::default()
    };
    // SAFETY: as above.
    unsafe { by_pointer(device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach) }.map(drop)
}
