//! PCI and SR-IOV on a node.

mod addr;
mod error;
pub mod links;
pub mod seam;
pub mod settings;
pub mod sysfs;

pub use addr::{BadPciAddr, PciAddr};
pub use error::{Error, ErrorKind};
pub use seam::{Descriptor, Descriptors, Device, DmaMemory, Interrupt, Iova, RegOffset, Registers};
