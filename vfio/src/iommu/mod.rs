// SPDX-License-Identifier: Apache-2.0
//! [`Iommu`]: the address space that all devices of this process share, and what is mapped in it.
//!
//! Memory is mapped once, for every VF: a pool costs its pages in the IOMMU and in the limit of
//! locked memory once however many VFs use it. VFIO's container is taken where there is one, iommufd
//! else. A container forgets its mappings with its last group; they are recorded here and put
//! back when the next group comes.
#![allow(
    unsafe_code,
    reason = "keeps the promise that mapped memory outlives its mapping"
)]

mod container;
mod iommufd;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::Resource;

use crate::dma::{Mapping, Pages};
use crate::iova::{IovaSpace, PAGE, UNREPORTED};
use crate::{DmaMemory, Error, HostTree, Iova, PciAddr};
use container::Container;
use iommufd::Iommufd;

/// From this length on areas lie on its multiples, so that the IOMMU can use large pages.
const LARGE: u64 = 2 << 20;

/// Interface of the kernel that an [`Iommu`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IommuKind {
    /// The container where the kernel has it, else iommufd.
    #[default]
    Auto,
    /// VFIO's container with its type 1 IOMMU.
    Container,
    /// iommufd and the devices' own nodes.
    Iommufd,
}

/// The devices' address space; clones are the same one. Open one per process: each has its own
/// mappings, and the limit of locked memory counts them all.
#[derive(Clone)]
pub struct Iommu {
    shared: Arc<Shared>,
}

struct Shared {
    host: HostTree,
    state: Mutex<State>,
}

struct State {
    backend: Backend,
    space: IovaSpace,
    /// Areas that are mapped, or will be when a group comes.
    areas: BTreeMap<Iova, Area>,
}

enum Backend {
    Container(Container),
    Iommufd(Iommufd),
}

/// Memory that is mapped. It outlives its entry: rings take theirs away before their pages go
/// ([`RingMapping`]), and [`DmaMemory`] stays for the life of the process.
#[derive(Debug, Clone)]
struct Area {
    base: NonNull<u8>,
    /// In bytes, whole pages.
    len: usize,
}

// SAFETY: nothing here reads or writes through the pointer; it is an address for the kernel.
unsafe impl Send for Area {}

impl fmt::Debug for Iommu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Iommu")
            .field("kind", &state.kind())
            .field("areas", &state.areas.len())
            .finish_non_exhaustive()
    }
}

impl Iommu {
    /// An address space without devices.
    ///
    /// # Errors
    /// [`Error::VfioNotLoaded`], or the node cannot be opened.
    pub fn open(kind: IommuKind) -> Result<Iommu, Error> {
        Iommu::open_in(HostTree::default(), kind)
    }

    pub(crate) fn open_in(host: HostTree, kind: IommuKind) -> Result<Iommu, Error> {
        let container = || Container::open(&host).map(Backend::Container);
        let iommufd = || Iommufd::open(&host).map(Backend::Iommufd);
        let backend = match kind {
            IommuKind::Container => container()?,
            IommuKind::Iommufd => iommufd()?,
            // Where neither is there, what is said of the container serves most.
            IommuKind::Auto => container().or_else(|error| iommufd().map_err(|_| error))?,
        };
        let state = State {
            backend,
            space: IovaSpace::new(&[UNREPORTED]),
            areas: BTreeMap::new(),
        };
        Ok(Iommu {
            shared: Arc::new(Shared {
                host,
                state: Mutex::new(state),
            }),
        })
    }

    /// Interface in use; never [`IommuKind::Auto`].
    pub fn kind(&self) -> IommuKind {
        self.lock().kind()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves the state whole before the next can panic.
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens `device` and puts its group into the address space.
    pub(crate) fn device(&self, device: PciAddr) -> Result<Opened, Error> {
        let host = &self.shared.host;
        let group = host.group(device)?;
        let mut state = self.lock();
        let fd = state.open_device(host, group, device)?;
        drop(state);
        let opened = Opened {
            fd: Some(fd),
            group,
            iommu: self.clone(),
        };
        self.lock().refresh(device)?;
        Ok(opened)
    }

    /// Maps memory that stays for the life of the process, once.
    pub(crate) fn map_memory(&self, memory: &dyn DmaMemory) -> Result<Iova, Error> {
        let (base, len) = memory.range();
        let mut state = self.lock();
        let known = state
            .areas
            .iter()
            .find(|(_, area)| area.base == base && area.len == len);
        match known {
            Some((&iova, _)) => Ok(iova),
            // SAFETY: `DmaMemory`'s implementer vouches for the range.
            None => unsafe { state.map(Area { base, len }) },
        }
    }

    /// Maps `pages` until what is returned is dropped.
    pub(crate) fn map_pages(&self, pages: &Arc<Pages>) -> Result<Box<dyn Mapping>, Error> {
        let (base, len) = pages.range();
        // SAFETY: the mapping returned keeps the pages, and unmaps them before it lets them go; they
        // are accessed atomically only.
        let iova = unsafe { self.lock().map(Area { base, len })? };
        Ok(Box::new(RingMapping {
            iommu: self.clone(),
            iova,
            _pages: Arc::clone(pages),
        }))
    }
}

impl State {
    fn kind(&self) -> IommuKind {
        match self.backend {
            Backend::Container(_) => IommuKind::Container,
            Backend::Iommufd(_) => IommuKind::Iommufd,
        }
    }

    fn open_device(
        &mut self,
        host: &HostTree,
        group: u32,
        device: PciAddr,
    ) -> Result<OwnedFd, Error> {
        let container = match &mut self.backend {
            Backend::Iommufd(iommufd) => return iommufd.device(host, group, device),
            Backend::Container(container) => container,
        };
        let first = container.join(host, group, device)?;
        let opened = if first { self.replay() } else { Ok(()) };
        let Backend::Container(container) = &mut self.backend else {
            unreachable!("the backend is chosen once")
        };
        let opened = opened.and_then(|()| {
            container
                .device(group, device)
                .map_err(|source| Error::Step {
                    device,
                    step: "VFIO_GROUP_GET_DEVICE_FD",
                    source,
                })
        });
        if opened.is_err() {
            container.leave(group);
        }
        opened
    }

    /// Puts back what the last group took along.
    fn replay(&self) -> Result<(), Error> {
        for (&iova, area) in &self.areas {
            // SAFETY: what is in the table is still there (see `Area`).
            unsafe { self.give(iova, area) }
                .map_err(|source| map_error(source, area.len, self.locked(iova)))?;
        }
        Ok(())
    }

    /// Bytes mapped below `iova`.
    fn locked(&self, iova: Iova) -> usize {
        self.areas.range(..iova).map(|(_, area)| area.len).sum()
    }

    /// Asks anew what is translated: a device brings its IOMMU's limits along.
    fn refresh(&mut self, device: PciAddr) -> Result<(), Error> {
        let ranges = match &self.backend {
            Backend::Container(container) => container.ranges(),
            Backend::Iommufd(iommufd) => iommufd.ranges(),
        };
        let ranges = ranges.map_err(|source| Error::Step {
            device,
            step: "asking which addresses the IOMMU translates",
            source,
        })?;
        let used: Vec<(Iova, u64)> = self
            .areas
            .iter()
            .map(|(&iova, area)| (iova, area.len as u64))
            .collect();
        self.space.narrow(&ranges, &used);
        Ok(())
    }

    /// # Safety
    /// The area is mapped in this process and stays so until it is unmapped here; no references are
    /// formed to what devices write of it.
    unsafe fn map(&mut self, area: Area) -> Result<Iova, Error> {
        let len = area.len as u64;
        let align = if len >= LARGE { LARGE } else { PAGE };
        let iova = self
            .space
            .allocate(len, align)
            .ok_or(Error::NoIova { bytes: area.len })?;
        let idle = matches!(&self.backend, Backend::Container(c) if c.is_idle());
        if !idle
            // SAFETY: the caller says that the area stays mapped until it is unmapped here, without references.
            && let Err(source) = unsafe { self.give(iova, &area) }
        {
            self.space.release(iova, len);
            let locked = self.areas.values().map(|area| area.len).sum();
            return Err(map_error(source, area.len, locked));
        }
        self.areas.insert(iova, area);
        Ok(iova)
    }

    /// # Safety
    /// As for `map`.
    unsafe fn give(&self, iova: Iova, area: &Area) -> io::Result<()> {
        match &self.backend {
            // SAFETY: the caller says that the area stays mapped until it is unmapped here, without references.
            Backend::Container(container) => unsafe { container.map(iova, area) },
            // SAFETY: the caller says that the area stays mapped until it is unmapped here, without references.
            Backend::Iommufd(iommufd) => unsafe { iommufd.map(iova, area) },
        }
    }

    fn unmap(&mut self, iova: Iova) {
        let Some(area) = self.areas.remove(&iova) else {
            return;
        };
        let unmapped = match &self.backend {
            Backend::Container(container) if container.is_idle() => Ok(()),
            Backend::Container(container) => container.unmap(iova, area.len),
            Backend::Iommufd(iommufd) => iommufd.unmap(iova, area.len),
        };
        match unmapped {
            Ok(()) => self.space.release(iova, area.len as u64),
            // The kernel keeps the pages pinned as long as they are mapped, so that the device
            // reaches nobody else's memory; the addresses stay taken.
            Err(error) => tracing::warn!("memory at {iova} could not be unmapped: {error}"),
        }
    }
}

/// A ring's pages, unmapped when it is dropped.
struct RingMapping {
    iommu: Iommu,
    iova: Iova,
    _pages: Arc<Pages>,
}

impl fmt::Debug for RingMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingMapping({})", self.iova)
    }
}

impl Mapping for RingMapping {
    fn iova(&self) -> Iova {
        self.iova
    }
}

impl Drop for RingMapping {
    fn drop(&mut self) {
        self.iommu.lock().unmap(self.iova);
    }
}

/// An open device. Dropped, it is closed, and then its group leaves the address space if it was the
/// last of it.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Open file of the device; `None` only during drop.
    fd: Option<OwnedFd>,
    group: u32,
    iommu: Iommu,
}

impl Opened {
    /// The device's file.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("taken by drop alone"),
        }
    }

    /// The address space it is in.
    pub(crate) fn iommu(&self) -> &Iommu {
        &self.iommu
    }

    /// Number of the IOMMU group of the device.
    pub(crate) fn group(&self) -> u32 {
        self.group
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut state = self.iommu.lock();
        // Before the group goes, or the kernel says that it is busy.
        self.fd = None;
        if let Backend::Container(container) = &mut state.backend {
            container.leave(self.group);
        }
    }
}

/// Makes the error of a VFIO node that cannot be opened.
fn open_error(host: &HostTree, device: PciAddr, path: PathBuf, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EBUSY) => Error::DeviceBusy {
            device,
            holders: host.holders(&path),
            node: path,
        },
        _ => Error::Node { path, source },
    }
}

/// Makes the error of `bytes` that could not be mapped while `locked` were.
fn map_error(source: io::Error, bytes: usize, locked: usize) -> Error {
    if source.raw_os_error() == Some(libc::ENOMEM) {
        let limit = rustix::process::getrlimit(Resource::Memlock).current;
        return Error::Memlock {
            bytes,
            locked,
            limit,
        };
    }
    Error::Map { bytes, source }
}
