// SPDX-License-Identifier: Apache-2.0
//! Devices driven through VFIO.
//!
//! [`VfioDevice`] is a function that this process has to itself, [`Iommu`] the address space that its
//! devices see. NIC drivers know neither: they are generic over [`Device`] and its [`Registers`] and
//! [`Descriptors`], the hardware seam ([`seam`]), and hold no unsafe code. In tests emulated devices
//! stand behind it (feature `emulated`), and [`Counted`] counts the accesses that cross it.
//!
//! [`PciAddr`] and [`HostTree`] serve the crate `sluice-sriov` too, which finds, configures and claims
//! the VFs that are opened here.
//!
//! The unsafe code is in `ioctl` (the system calls), `bar` (mapped registers), `dma`
//! (rings in memory that devices write), `iommu` (what devices may reach) and `emulated::bus`. What
//! keeps it sound: a device reaches only what [`Iommu`] mapped, and what is mapped stays memory of
//! this process until it is unmapped.
//!
//! The kernel's structs are those of vfio-bindings and iommufd-bindings. vfio-ioctls, which wraps them
//! for virtual machine monitors, is not used: it brings vm-memory along for guests' memory that there
//! is none of here, keeps no mappings to put back when a container's last group has gone, and where
//! a reset fails it says nothing, where an access to configuration space fails it logs a line.

mod addr;
mod bar;
mod config_space;
mod counted;
mod device;
mod dma;
#[cfg(any(test, feature = "emulated"))]
pub mod emulated;
mod error;
mod host_tree;
mod ioctl;
mod iommu;
mod iova;
mod release;
pub mod seam;

pub use addr::{BadPciAddr, PciAddr};
pub use error::{Error, ErrorKind};
pub use seam::{Descriptor, Descriptors, Device, Interrupt, RegOffset, Registers};
pub use sluice_mem::{DmaMemory, Iova};

pub use bar::Bar;
pub use counted::{Counted, CountedRegisters, CountedRing, Counts, Tally};
pub use device::VfioDevice;
pub use dma::DmaRing;
pub use host_tree::{Blocker, HostTree};
pub use iommu::{Iommu, IommuKind};
pub use release::ReleaseRequest;
