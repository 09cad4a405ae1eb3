// SPDX-License-Identifier: Apache-2.0
//! [`Error`]: failures of EAL and of ports, with the lines that DPDK wrote about them.

use crate::log;

/// Failure of EAL or of a port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EAL did not start.
    #[error(
        "DPDK's EAL did not start ({text}): {lines}; it can be started once in the life of a process, so correct this and restart the engine"
    )]
    Eal {
        /// Text of DPDK for its error number.
        text: String,
        /// Lines that it wrote.
        lines: String,
    },
    /// EAL was started with other settings.
    #[error(
        "DPDK's EAL runs already with other cores or another size of memory: restart the engine for the new ones"
    )]
    OtherSettings,
    /// Thread that could not be made.
    #[error(
        "the thread of DPDK's EAL cannot be started: {0}; the limit of threads (ulimit -u, cgroup pids.max) applies"
    )]
    Thread(std::io::Error),
    /// Step on a device that failed.
    #[error("{device}: {step} failed: {text} ({number}){lines}")]
    Device {
        /// The device.
        device: String,
        /// Name of DPDK's function, or what was to be done.
        step: &'static str,
        /// Error number, positive.
        number: i32,
        /// Text of DPDK for it.
        text: String,
        /// Lines that DPDK wrote, each after a semicolon; may be empty.
        lines: String,
    },
    /// MTU that the device cannot have.
    #[error("{device}: an MTU of {mtu} bytes is not possible: its driver takes {least} to {most}")]
    Mtu {
        /// The device.
        device: String,
        /// The MTU asked for, in bytes.
        mtu: u32,
        /// Least MTU in bytes.
        least: u32,
        /// Largest MTU in bytes.
        most: u32,
    },
    /// Device whose DMA would go past the IOMMU.
    #[error(
        "{device}: DPDK uses physical addresses, with which the engine's packet memory cannot be used: bind the device to vfio-pci with an IOMMU (intel_iommu=on or amd_iommu=on)"
    )]
    NoIommu {
        /// The device.
        device: String,
    },
}

impl Error {
    /// Error of a step that returned a negative number, with the lines written since `since`.
    pub(crate) fn device(device: &str, step: &'static str, code: i32, since: &log::Since) -> Error {
        let number = code.saturating_abs();
        let lines: String = since
            .lines()
            .iter()
            .map(|line| format!("; {line}"))
            .collect();
        Error::Device {
            device: device.to_owned(),
            step,
            number,
            text: log::text_of(number),
            lines,
        }
    }
}
