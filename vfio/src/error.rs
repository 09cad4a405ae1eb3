// SPDX-License-Identifier: Apache-2.0
//! [`Error`]: failures between this process, the kernel and a device driven through VFIO.

use std::io;
use std::path::PathBuf;

use crate::PciAddr;
use crate::host_tree::Blocker;

/// Reason why a device could not be opened, driven or given memory.
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
        /// Answer of the kernel.
        source: io::Error,
    },

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
        /// Answer of the kernel.
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
    /// No such function.
    #[error("{device}: no such PCI device; \"lspci -D\" lists them")]
    NoDevice {
        /// The address.
        device: PciAddr,
    },
    /// No IOMMU stands before the device.
    #[error(
        "{device} is in no IOMMU group: the IOMMU is off. Switch it on in the firmware (VT-d, AMD-Vi) and boot with intel_iommu=on or amd_iommu=on"
    )]
    NoIommu {
        /// The device.
        device: PciAddr,
    },
    /// VFIO's mode without an IOMMU.
    #[error(
        "{device} is with VFIO without an IOMMU (enable_unsafe_noiommu_mode), where it could reach all memory: refused. Boot with intel_iommu=on or amd_iommu=on, and give a virtual machine a virtual IOMMU; for a pod that you trust with the whole node there is allowUnsafeNoIommu in mode vfio"
    )]
    UnsafeNoIommu {
        /// The device.
        device: PciAddr,
    },
    /// A module of the kernel is missing.
    #[error("the kernel's module {module} is not loaded: modprobe {module}")]
    VfioNotLoaded {
        /// Name of the module.
        module: &'static str,
    },
    /// The device is not VFIO's.
    #[error(
        "{device} is bound to {}, not to vfio-pci: cd /sys/bus/pci/devices/{device} && echo vfio-pci > driver_override && {}echo {device} > /sys/bus/pci/drivers_probe",
        driver.as_deref().unwrap_or("no driver"),
        if driver.is_some() { format!("echo {device} > driver/unbind && ") } else { String::new() }
    )]
    NotBound {
        /// The device.
        device: PciAddr,
        /// Driver that has the device, if any.
        driver: Option<String>,
    },
    /// Kernel drivers have other devices of the group.
    #[error(
        "{device}: its IOMMU group {group} cannot be used as long as a driver of the kernel has others of it: {}. Unbind them or bind them to vfio-pci",
        listed(blockers.iter().map(|Blocker { device, driver }| format!("{device} ({driver})")))
    )]
    NotViable {
        /// The device.
        device: PciAddr,
        /// The group's number.
        group: u32,
        /// The devices in the way.
        blockers: Vec<Blocker>,
    },
    /// Device that another process has open.
    #[error(
        "{device} is in use: {} is held by {}",
        node.display(),
        listed(holders.iter().cloned())
    )]
    DeviceBusy {
        /// The device.
        device: PciAddr,
        /// The node that cannot be opened.
        node: PathBuf,
        /// Programs with their pids, as far as this process may know.
        holders: Vec<String>,
    },
    /// iommufd without nodes of the devices.
    #[error(
        "{device} has no node under /dev/vfio/devices: iommufd needs Linux 6.6 with CONFIG_VFIO_DEVICE_CDEV; VFIO's container (/dev/vfio/vfio) works without"
    )]
    NoDeviceNode {
        /// The device.
        device: PciAddr,
    },
    /// A node of VFIO cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    Node {
        /// The node.
        path: PathBuf,
        /// Answer of the kernel.
        source: io::Error,
    },
    /// The limit of locked memory is too low.
    #[error(
        "devices can reach no more memory: {} bytes are needed ({locked} mapped, {bytes} more), {} may be locked. Raise RLIMIT_MEMLOCK (ulimit -l unlimited, or LimitMEMLOCK=infinity in the service), or give CAP_IPC_LOCK",
        locked.saturating_add(*bytes),
        limit.map_or("any number".to_owned(), |limit| limit.to_string())
    )]
    Memlock {
        /// Length of what was to be mapped.
        bytes: usize,
        /// Bytes that this process has mapped for devices already.
        locked: usize,
        /// The limit in bytes; none is no limit (memory has run out then).
        limit: Option<u64>,
    },
    /// Memory cannot be given to devices.
    #[error("{bytes} bytes cannot be mapped for devices: {source}")]
    Map {
        /// Length.
        bytes: usize,
        /// Answer of the kernel.
        source: io::Error,
    },
    /// The function cannot be reset, and so not be handed from one owner to the next.
    #[error("{device} cannot be reset (no FLR): such a device cannot be used")]
    NoReset {
        /// The device.
        device: PciAddr,
    },
    /// Too few interrupts.
    #[error("{device} has {has} MSI-X vectors, {count} were asked for")]
    NoVectors {
        /// The device.
        device: PciAddr,
        /// Vectors asked for.
        count: u16,
        /// Vectors there are.
        has: u32,
    },
}

/// Kind of an error, by what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be met on this node: ask for something else.
    Invalid,
    /// The object is in use: ask again later.
    Busy,
    /// The host failed.
    Host,
}

impl Error {
    /// Kind of the error: what to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoDevice { .. }
            | Error::NoIommu { .. }
            | Error::UnsafeNoIommu { .. }
            | Error::NoReset { .. } => ErrorKind::Invalid,
            Error::DeviceBusy { .. } => ErrorKind::Busy,
            _ => ErrorKind::Host,
        }
    }
}

/// Joins names with commas; says so if there is none.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "one that cannot be seen from here".to_owned();
    }
    names.join(", ")
}
