//! What can go wrong between this process, the kernel and a device.

use std::io;
use std::path::PathBuf;

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
    /// A file of sysfs or of the journal could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// `read`, `write`, ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no such PCI function.
    #[error("there is no PCI device {0} on this node: `lspci -D` lists those there are")]
    NoDevice(PciAddr),
    /// The function is not a VF.
    #[error(
        "{0} is not an SR-IOV VF: name a VF (/sys/bus/pci/devices/PF/virtfn*), or its PF by if0"
    )]
    NotVf(PciAddr),
    /// There is no such netdev, or it is no PF.
    #[error(
        "there is no SR-IOV PF {0} on this node: if0 names the netdev of a NIC that has sriov_totalvfs"
    )]
    NoPf(String),
    /// The PF has no VFs.
    #[error(
        "PF {pf} has no VFs: make some with `echo N > /sys/class/net/{pf}/device/sriov_numvfs` (it can have {most})"
    )]
    NoVfs {
        /// The PF's netdev.
        pf: String,
        /// `sriov_totalvfs`.
        most: u32,
    },
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
    /// What is asked for contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// A VF whose PF has no netdev here: the PF's own driver is not loaded, or another has it.
    #[error("the PF {0} has no netdev here: bind it to its kernel driver")]
    PfWithoutNetdev(PciAddr),
    /// The PF is down, so its VFs are too.
    #[error("PF {0} is down, and its VFs with it: `ip link set {0} up`")]
    PfDown(String),
    /// Somebody else has the VF.
    #[error("VF {device} is taken: {holder}")]
    Busy {
        /// The VF.
        device: PciAddr,
        /// Who has it.
        holder: String,
    },
    /// No VF of the PF is free.
    #[error("no VF of PF {pf} is free: {why}")]
    Exhausted {
        /// The PF's netdev.
        pf: String,
        /// What becomes of each.
        why: String,
    },
    /// A lock was not to be had in time.
    #[error("{} is held by another call: try again later", path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
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
    /// The driver did not take the device.
    #[error(
        "driver {driver} does not take {device} (it has {has}): is it loaded? `modprobe {driver}`; `dmesg` may say why it refuses (vfio-pci needs an IOMMU: kernel parameter intel_iommu=on or amd_iommu=on)"
    )]
    NotBound {
        /// The device.
        device: PciAddr,
        /// The driver asked for.
        driver: String,
        /// The driver it has now.
        has: String,
    },
    /// A record of the journal cannot be read.
    #[error(
        "{} is not a readable record ({why}): its VF is kept out of use until somebody has looked at it and removed the file",
        path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Several steps failed, all of which were tried.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

/// What is to be done about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong: asking again does not help.
    Invalid,
    /// Not now: asking later may help.
    Busy,
    /// Something on the host failed that should have worked.
    Host,
}

impl Error {
    /// What is to be done about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoDevice(_)
            | Error::NotVf(_)
            | Error::NoPf(_)
            | Error::NoSuchVf { .. }
            | Error::Invalid(_)
            | Error::Setting { .. } => ErrorKind::Invalid,
            Error::NoVfs { .. }
            | Error::PfDown(_)
            | Error::Busy { .. }
            | Error::Exhausted { .. }
            | Error::Locked { .. } => ErrorKind::Busy,
            _ => ErrorKind::Host,
        }
    }

    /// All errors in one; none: fine.
    ///
    /// # Errors
    /// Those that were collected.
    pub(crate) fn collect(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(Error::Several(errors)),
        }
    }
}

/// A failed read or write of a file.
pub(crate) fn file(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { what, path, source }
}
