//! PCI and SR-IOV on a node.

mod addr;
mod error;
pub mod seam;

// Devices driven through VFIO.
mod counted;
mod dma;
#[cfg(any(test, feature = "emulated"))]
pub mod emulated;
mod iova;

pub use addr::{BadPciAddr, PciAddr};
pub use error::Error;
pub use seam::{Descriptor, Descriptors, Device, DmaMemory, Interrupt, Iova, RegOffset, Registers};

pub use counted::{Counted, CountedRegisters, CountedRing, Counts, Tally};
pub use dma::DmaRing;
