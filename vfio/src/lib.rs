//! PCI and SR-IOV on a node.

mod addr;
mod error;
pub mod seam;

pub use addr::{BadPciAddr, PciAddr};
pub use error::Error;
pub use seam::{Descriptor, Descriptors, Device, DmaMemory, Interrupt, Iova, RegOffset, Registers};
