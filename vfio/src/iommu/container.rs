// SPDX-License-Identifier: Apache-2.0
//! VFIO's own container with its type 1 IOMMU: what every kernel with VFIO has.
#![allow(unsafe_code, reason = "gives devices access to memory")]

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};

use vfio_bindings::bindings::vfio;

use super::{Area, open_error};
use crate::ioctl;
use crate::iova::UNREPORTED;
use crate::{Error, HostTree, Iova, PciAddr};

/// A container. Its mappings vanish when its last group goes, so whoever owns it replays them when
/// [`Container::join`] says that the group was the first.
#[derive(Debug)]
pub(super) struct Container {
    fd: OwnedFd,
    groups: BTreeMap<u32, Group>,
}

#[derive(Debug)]
struct Group {
    fd: OwnedFd,
    /// Devices of it that are open here, above 0.
    devices: usize,
}

impl Container {
    /// A container without groups.
    pub(super) fn open(host: &HostTree) -> Result<Container, Error> {
        let path = host.dev.join("vfio/vfio");
        let fd = ioctl::open_node(&path).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                Error::VfioNotLoaded { module: "vfio-pci" }
            }
            _ => Error::Node { path, source },
        })?;
        match ioctl::has_extension(fd.as_fd(), vfio::VFIO_TYPE1v2_IOMMU) {
            Ok(true) => Ok(Container {
                fd,
                groups: BTreeMap::new(),
            }),
            _ => Err(Error::VfioNotLoaded {
                module: "vfio_iommu_type1",
            }),
        }
    }

    /// Whether no group is in it: nothing is mapped then, nor can be.
    pub(super) fn is_idle(&self) -> bool {
        self.groups.is_empty()
    }

    /// Puts `group`, of which `device` is one, into the container; true if it is the first.
    pub(super) fn join(
        &mut self,
        host: &HostTree,
        group: u32,
        device: PciAddr,
    ) -> Result<bool, Error> {
        if let Some(group) = self.groups.get_mut(&group) {
            group.devices += 1;
            return Ok(false);
        }
        let step = |step| {
            move |source| Error::Step {
                device,
                step,
                source,
            }
        };
        let node = host.group_node(group);
        let fd = ioctl::open_node(&node).map_err(|e| open_error(host, device, node, e))?;
        if !ioctl::group_is_viable(fd.as_fd()).map_err(step("VFIO_GROUP_GET_STATUS"))? {
            return Err(Error::NotViable {
                device,
                group,
                blockers: host.blockers(group),
            });
        }
        ioctl::set_container(fd.as_fd(), self.fd.as_fd())
            .map_err(step("VFIO_GROUP_SET_CONTAINER"))?;
        let first = self.groups.is_empty();
        if first && let Err(error) = ioctl::set_iommu(self.fd.as_fd(), vfio::VFIO_TYPE1v2_IOMMU) {
            let _ = ioctl::unset_container(fd.as_fd());
            return Err(step("VFIO_SET_IOMMU")(error));
        }
        self.groups.insert(group, Group { fd, devices: 1 });
        Ok(first)
    }

    /// Opens `device` of a group that joined.
    pub(super) fn device(&self, group: u32, device: PciAddr) -> io::Result<OwnedFd> {
        let group = self.groups.get(&group).ok_or(io::ErrorKind::NotFound)?;
        ioctl::group_device(group.fd.as_fd(), &device.to_string())
    }

    /// Notes that a device of `group` is closed; the last one takes the group out of the container.
    pub(super) fn leave(&mut self, group: u32) {
        let Some(entry) = self.groups.get_mut(&group) else {
            return;
        };
        entry.devices -= 1;
        if entry.devices == 0
            && let Some(group) = self.groups.remove(&group)
        {
            // Closing the node does the same, should this fail.
            let _ = ioctl::unset_container(group.fd.as_fd());
        }
    }

    /// Ranges that the IOMMUs of all groups translate.
    pub(super) fn ranges(&self) -> io::Result<Vec<RangeInclusive<u64>>> {
        let ranges = ioctl::iova_ranges(self.fd.as_fd())?;
        Ok(ranges.unwrap_or_else(|| vec![UNREPORTED]))
    }

    /// Lets the devices reach `area` at `iova`.
    ///
    /// # Safety
    /// As for [`ioctl::map_dma`].
    pub(super) unsafe fn map(&self, iova: Iova, area: &Area) -> io::Result<()> {
        // SAFETY: the caller says that the area stays mapped until it is unmapped here, without references.
        unsafe { ioctl::map_dma(self.fd.as_fd(), area.base, area.len as u64, iova.0) }
    }

    pub(super) fn unmap(&self, iova: Iova, len: usize) -> io::Result<()> {
        ioctl::unmap_dma(self.fd.as_fd(), iova.0, len as u64)
    }
}
