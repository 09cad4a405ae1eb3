// SPDX-License-Identifier: Apache-2.0
//! Every ioctl of VFIO and iommufd that this crate makes (Linux's include/uapi/linux/vfio.h and
//! iommufd.h), and the opening of their nodes. Unit tests of the crate run against the `fake`,
//! which has the same functions and keeps the state that the kernel would.

#[cfg(test)]
pub(crate) mod fake;
#[cfg(not(test))]
mod kernel;

#[cfg(test)]
pub(crate) use fake::*;
#[cfg(not(test))]
pub(crate) use kernel::*;

/// A region of a device: a BAR or its configuration space (`struct vfio_region_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub(crate) flags: u32,
    /// In bytes; 0 if the device has none.
    pub(crate) size: u64,
    /// Offset of the region in the device's file.
    pub(crate) offset: u64,
}
