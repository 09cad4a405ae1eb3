//! PCI and SR-IOV on a node.
//!
//! *Devices driven through VFIO.* [`VfioDevice`] is a function that this process has to itself,
//! [`Iommu`] the address space that its devices see. NIC drivers know neither: they are generic over
//! [`Device`] and its [`Registers`] and [`Descriptors`], the hardware seam ([`seam`]), and hold no
//! unsafe code. In tests emulated devices stand behind it (feature `emulated`), and
//! [`Counted`] counts what crosses it.
//!
//! *PFs and VFs of the node.* [`sysfs`] finds them, [`links`] asks about and changes what a PF lays
//! down for a VF ([`settings`]) and moves netdevs between network namespaces, through rtnetlink.
//! [`claim`] takes a VF for a pod, writes down what it was, and puts it back. This half is control's
//! (feature `node`); drivers are built without it.
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
#[cfg(feature = "node")]
pub mod claim;
mod error;
#[cfg(feature = "node")]
pub mod links;
pub mod seam;
#[cfg(feature = "node")]
pub mod settings;
pub mod sysfs;

// Devices driven through VFIO.
mod bar;
mod config_space;
mod counted;
mod device;
mod dma;
#[cfg(any(test, feature = "emulated"))]
pub mod emulated;
mod ioctl;
mod iommu;
mod iova;

pub use addr::{BadPciAddr, PciAddr};
pub use error::{Error, ErrorKind};
pub use seam::{Descriptor, Descriptors, Device, DmaMemory, Interrupt, Iova, RegOffset, Registers};

pub use bar::Bar;
pub use counted::{Counted, CountedRegisters, CountedRing, Counts, Tally};
pub use device::VfioDevice;
pub use dma::DmaRing;
pub use iommu::{Blocker, Iommu, IommuKind};
