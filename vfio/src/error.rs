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
}
