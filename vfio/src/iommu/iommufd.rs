// SPDX-License-Identifier: Apache-2.0
//! iommufd (Linux 6.2) with VFIO's device nodes (Linux 6.6): what follows the container. Its
//! address space outlives the devices in it, so nothing is replayed.
#![allow(unsafe_code, reason = "gives devices access to memory")]

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};

use super::{Area, open_error};
use crate::ioctl;
use crate::{Error, HostTree, Iova, PciAddr};

/// Address space (IOAS) that all devices of the process share.
#[derive(Debug)]
pub(super) struct Iommufd {
    fd: OwnedFd,
    ioas: u32,
}

impl Iommufd {
    /// An empty address space.
    pub(super) fn open(host: &HostTree) -> Result<Iommufd, Error> {
        let path = host.dev.join("iommu");
        let fd = ioctl::open_node(&path).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                Error::VfioNotLoaded { module: "iommufd" }
            }
            _ => Error::Node {
                path: path.clone(),
                source,
            },
        })?;
        let ioas = ioctl::ioas_alloc(fd.as_fd()).map_err(|source| Error::Node { path, source })?;
        Ok(Iommufd { fd, ioas })
    }

    /// Opens `device` by its own node and attaches it.
    pub(super) fn device(
        &self,
        host: &HostTree,
        group: u32,
        device: PciAddr,
    ) -> Result<OwnedFd, Error> {
        let node = host
            .device_node(device)
            .ok_or(Error::NoDeviceNode { device })?;
        let fd = ioctl::open_node(&node).map_err(|e| open_error(host, device, node.clone(), e))?;
        match ioctl::bind_and_attach(fd.as_fd(), self.fd.as_fd(), self.ioas) {
            Ok(()) => Ok(fd),
            Err(source) => {
                let blockers = host.blockers(group);
                Err(match source.raw_os_error() {
                    _ if !blockers.is_empty() => Error::NotViable {
                        device,
                        group,
                        blockers,
                    },
                    Some(libc::EBUSY) => open_error(host, device, node, source),
                    _ => Error::Step {
                        device,
                        step: "VFIO_DEVICE_BIND_IOMMUFD",
                        source,
                    },
                })
            }
        }
    }

    /// Ranges that the IOMMUs of all devices translate.
    pub(super) fn ranges(&self) -> io::Result<Vec<RangeInclusive<u64>>> {
        ioctl::ioas_ranges(self.fd.as_fd(), self.ioas)
    }

    /// Lets the devices reach `area` at `iova`.
    ///
    /// # Safety
    /// As for [`ioctl::ioas_map`].
    pub(super) unsafe fn map(&self, iova: Iova, area: &Area) -> io::Result<()> {
        // SAFETY: the caller says that the area stays mapped until it is unmapped here, without references.
        unsafe {
            ioctl::ioas_map(
                self.fd.as_fd(),
                self.ioas,
                area.base,
                area.len as u64,
                iova.0,
            )
        }
    }

    pub(super) fn unmap(&self, iova: Iova, len: usize) -> io::Result<()> {
        ioctl::ioas_unmap(self.fd.as_fd(), self.ioas, iova.0, len as u64)
    }
}
