//! What can go wrong between this process, the kernel and a device.

use std::io;
use std::path::PathBuf;

use crate::PciAddr;
use crate::iommu::Blocker;

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
    /// The mode without an IOMMU is asked for, and VFIO has it not on.
    #[error(
        "{device} has no IOMMU before it and allowUnsafeNoIommu is set, but VFIO refuses such a device: echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, or better boot with intel_iommu=on or amd_iommu=on"
    )]
    NoUnsafeNoIommu {
        /// The device.
        device: PciAddr,
    },
    /// A module of the kernel is missing.
    #[error("the kernel's module {module} is not loaded: modprobe {module}")]
    VfioNotLoaded {
        /// Its name.
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
        /// Its driver.
        driver: Option<String>,
    },
    /// Other devices of the group are with drivers of the kernel.
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
    /// Another process has the device.
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
        /// What the kernel said.
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
        /// What this process has mapped for devices already.
        locked: usize,
        /// The limit in bytes; none is no limit (memory has run out then).
        limit: Option<u64>,
    },
    /// Memory cannot be given to devices.
    #[error("{bytes} bytes cannot be mapped for devices: {source}")]
    Map {
        /// Length.
        bytes: usize,
        /// What the kernel said.
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

    // -- PFs and VFs of the node.
    /// A file of sysfs could not be read, or a namespace entered.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// `read`, `open`, ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The function is not a VF.
    #[error(
        "{0} is not an SR-IOV VF: name a VF (/sys/bus/pci/devices/PF/virtfn*), or its PF by if0"
    )]
    NotVf(PciAddr),
    /// There is no such netdev, or it is no PF.
    #[error(
        "there is no SR-IOV PF {0} on this node: a PF is the netdev of a NIC that has sriov_totalvfs"
    )]
    NoPf(String),
    /// The PF has fewer VFs.
    #[error("PF {pf} has no VF {index}: it has {count}, from 0")]
    NoSuchVf {
        /// The PF's netdev.
        pf: String,
        /// The index asked for.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// The PF's driver refused a setting of a VF.
    #[error(
        "PF {pf} refuses {setting} for VF {index}: {why}; leave the key out, or see `dmesg` for what its driver says"
    )]
    Setting {
        /// The PF's netdev.
        pf: String,
        /// The VF's index.
        index: u32,
        /// Which setting, with its value.
        setting: String,
        /// What the kernel said.
        why: String,
    },
    // -- VFs change hands.
    /// Somebody has the VF.
    #[error("{device} is held by {holder}")]
    Busy {
        /// The VF.
        device: PciAddr,
        /// Who, for people.
        holder: String,
    },
    /// No VF of the PF is free.
    #[error("PF {pf} has no free VF: {why}")]
    Exhausted {
        /// The PF's netdev.
        pf: String,
        /// What each of them is.
        why: String,
    },
    /// The PF has no VFs at all.
    #[error("PF {pf} has no VFs: echo N > /sys/class/net/{pf}/device/sriov_numvfs makes N")]
    NoVfs {
        /// The PF's netdev.
        pf: String,
    },
    /// The PF is down: its VFs carry nothing, and their driver gets no answer.
    #[error("PF {pf} is down: ip link set {pf} up")]
    PfDown {
        /// The PF's netdev.
        pf: String,
    },
    /// The VF is of another PF than the one named.
    #[error("{device} is not a VF of {pf} but of {is}: name the one or the other")]
    OtherPf {
        /// The VF.
        device: PciAddr,
        /// The PF named.
        pf: String,
        /// Netdevs of the PF that it is of.
        is: String,
    },
    /// Another call works on the VF, or chooses one.
    #[error("another call still works on {what}")]
    Locked {
        /// The VF, or `allocation`.
        what: String,
    },
    /// A record of the VF journal makes no sense.
    #[error(
        "the record of {device} in the VF journal is torn ({why}): see what the VF is, put it back by hand, then remove vfs/{device}.json from the state directory"
    )]
    TornRecord {
        /// The VF.
        device: PciAddr,
        /// What the parser said.
        why: String,
    },
    /// A driver did not take the function.
    #[error(
        "{driver} does not take {device}; is it loaded, and does it know the device? `dmesg` says more"
    )]
    NotTaken {
        /// The function.
        device: PciAddr,
        /// The driver.
        driver: String,
    },
    /// A driver made no netdev of the VF.
    #[error("{device} has no netdev: {driver} makes none")]
    NoNetdev {
        /// The VF.
        device: PciAddr,
        /// Its driver.
        driver: String,
    },
    /// Several things failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and "))]
    Several(Vec<Error>),

    /// A question to the kernel, or an order, about a netdev failed.
    #[error("cannot {what} netdev {netdev}: {why}")]
    Netdev {
        /// What was tried.
        what: &'static str,
        /// The netdev.
        netdev: String,
        /// What the kernel said.
        why: String,
    },
}

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked cannot be done on this node: ask for something else.
    Invalid,
    /// Not now: ask again later.
    Busy,
    /// The host failed.
    Host,
}

impl Error {
    /// What is to be done about it. Several errors have the first one's.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoDevice { .. }
            | Error::NotVf(_)
            | Error::NoPf(_)
            | Error::NoSuchVf { .. }
            | Error::OtherPf { .. }
            | Error::NoIommu { .. }
            | Error::UnsafeNoIommu { .. }
            | Error::NoUnsafeNoIommu { .. }
            | Error::NoReset { .. }
            | Error::Setting { .. } => ErrorKind::Invalid,
            Error::Busy { .. }
            | Error::DeviceBusy { .. }
            | Error::Exhausted { .. }
            | Error::NoVfs { .. }
            | Error::PfDown { .. }
            | Error::Locked { .. } => ErrorKind::Busy,
            Error::Several(errors) => errors.first().map_or(ErrorKind::Host, Error::kind),
            _ => ErrorKind::Host,
        }
    }

    /// All of `errors` as one, or nothing if there is none.
    #[cfg(feature = "node")]
    pub(crate) fn collect(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }
}

/// A failed use of a file.
pub(crate) fn file(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { what, path, source }
}

/// One after another, or that nobody is known.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "one that cannot be seen from here".to_owned();
    }
    names.join(", ")
}
