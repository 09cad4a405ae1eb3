//! What can go wrong between this process, the kernel and a device.

use std::io;

use crate::PciAddr;

/// Why a device, or a VF of this node, could not be had, changed or given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step at a device failed.
    #[error("{device}: {step} failed: {source}")]
    Step {
        /// The device.
        device: PciAddr,
        /// The step, by its system call or file.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },

    // -- Devices driven through VFIO.
    /// A device without that BAR, or one that cannot be mapped.
    #[error("{device}: there is no BAR {index} that can be mapped; is this the NIC meant?")]
    NoBar {
        /// The device.
        device: PciAddr,
        /// Number of the BAR.
        index: u8,
    },
    /// A ring of no descriptors, or of more than memory has room for.
    #[error("{device}: a ring cannot have {len} descriptors")]
    RingLength {
        /// The device.
        device: PciAddr,
        /// The length asked for.
        len: usize,
    },
    /// No memory for a ring.
    #[error("{device}: no memory for a ring of {bytes} bytes: {source}")]
    RingMemory {
        /// The device.
        device: PciAddr,
        /// Length of the ring.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address space that devices see is full.
    #[error(
        "the IOMMU translates no free range of {bytes} bytes: fewer or smaller pools, or fewer VFs in one process"
    )]
    NoIova {
        /// The length that did not fit.
        bytes: usize,
    },
}
