//! PCI and SR-IOV on a node.

mod addr;
mod error;
pub mod seam;

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
pub use error::Error;
pub use seam::{Descriptor, Descriptors, Device, DmaMemory, Interrupt, Iova, RegOffset, Registers};

pub use bar::Bar;
pub use counted::{Counted, CountedRegisters, CountedRing, Counts, Tally};
pub use device::VfioDevice;
pub use dma::DmaRing;
pub use iommu::{Blocker, Iommu, IommuKind};
