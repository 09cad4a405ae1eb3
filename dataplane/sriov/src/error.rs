// SPDX-License-Identifier: Apache-2.0
//! [`Error`]: failures of looking up, configuring, claiming and giving back VFs.

use sluice_host::{FileError, NetnsError};
use sluice_vfio::{ErrorKind, PciAddr};

/// Reason why a VF could not be found, configured, claimed or given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The VF cannot be driven through VFIO.
    #[error(transparent)]
    Vfio(#[from] sluice_vfio::Error),
    /// No such function.
    #[error("{device}: no such PCI device; \"lspci -D\" lists them")]
    NoDevice {
        /// The address.
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
    /// A file of sysfs, or of the VF journal, could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A network namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The function is not a VF.
    #[error(
        "{0} is not an SR-IOV VF: name a VF (/sys/bus/pci/devices/PF/virtfn*), or its PF by if0"
    )]
    NotVf(PciAddr),
    /// Netdev that does not exist or is not a PF.
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
        /// Number of VFs of the PF.
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
        /// Setting refused, with its value.
        setting: String,
        /// Answer of the kernel.
        why: String,
    },
    /// Somebody has the VF.
    #[error("{device} is held by {holder}")]
    Busy {
        /// The VF.
        device: PciAddr,
        /// Holder, for messages.
        holder: String,
    },
    /// No VF of the PF is free.
    #[error("PF {pf} has no free VF: {why}")]
    Exhausted {
        /// The PF's netdev.
        pf: String,
        /// Reason for each of the VFs.
        why: String,
    },
    /// The PF has no VFs at all.
    #[error("PF {pf} has no VFs: sluicectl vfs create {pf} N makes N")]
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
    /// Lock of a VF, or of the choice of one, held by another call past the deadline.
    #[error("another call is still working on {what}")]
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
        /// Message of the parser.
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
        /// Driver of the VF.
        driver: String,
    },
    /// Device other than the one on record.
    #[error(
        "what is at {device} now is not the VF that was there: another NIC, or another VF of the PF; delete the pod that had it"
    )]
    NotTheSame {
        /// The address.
        device: PciAddr,
    },
    /// The function is a VF where a PF is needed.
    #[error("{device} is a VF, of PF {pf}: name the PF")]
    IsVf {
        /// The function.
        device: PciAddr,
        /// PF that it is of.
        pf: PciAddr,
    },
    /// The function cannot have VFs.
    #[error(
        "{device} cannot have VFs: its NIC has no SR-IOV, or the firmware has it off (SR-IOV in the \
         BIOS setup, and in the NIC's own)"
    )]
    NoSriov {
        /// The function.
        device: PciAddr,
    },
    /// More VFs than the PF can have.
    #[error("PF {pf} can have {total} VFs, {count} were asked for (sriov_totalvfs)")]
    TooManyVfs {
        /// The PF.
        pf: String,
        /// Number asked for.
        count: u32,
        /// Number that it can have.
        total: u32,
    },
    /// VFs that somebody uses, where all of the PF would go.
    #[error(
        "PF {pf} has {now} VFs and gets {count} only by way of 0, and some are in use: {}; free them, \
         then try again",
        users.join("; ")
    )]
    VfsInUse {
        /// The PF.
        pf: String,
        /// Number of VFs that it has.
        now: u32,
        /// Number asked for.
        count: u32,
        /// Each VF with its user.
        users: Vec<String>,
    },
    /// The PF's driver did not make the VFs.
    #[error("cannot give PF {pf} {count} VFs: {why}; `dmesg` says more")]
    NumVfs {
        /// The PF.
        pf: PciAddr,
        /// Number asked for.
        count: u32,
        /// Answer of the kernel.
        why: String,
    },
    /// No driver has the PF.
    #[error("PF {pf} has no driver, which would make its VFs: load it (modprobe)")]
    NoPfDriver {
        /// The PF.
        pf: PciAddr,
    },
    /// PF that is asked for twice.
    #[error("PF {pf} is in {} twice, as {first} and as {second}: keep one", file.display())]
    PfTwice {
        /// The file.
        file: std::path::PathBuf,
        /// The PF.
        pf: PciAddr,
        /// First of its names there.
        first: String,
        /// Second of its names there.
        second: String,
    },
    /// File that says which PF has how many VFs, and that cannot be used.
    #[error("{}", problems.join("\n"))]
    VfsFile {
        /// Problems, each with file, line and column.
        problems: Vec<String>,
    },
    /// Several things failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and "))]
    Several(Vec<Error>),

    /// A question to the kernel, or an order, about a netdev failed.
    #[error("cannot {what} netdev {netdev}: {why}")]
    Netdev {
        /// Operation that failed, as a verb.
        what: &'static str,
        /// The netdev.
        netdev: String,
        /// Answer of the kernel.
        why: String,
    },
}

impl Error {
    /// Kind of the error: what to do about it. Several errors have the first one's kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Vfio(error) => error.kind(),
            Error::NoDevice { .. }
            | Error::NotVf(_)
            | Error::NoPf(_)
            | Error::NoSuchVf { .. }
            | Error::OtherPf { .. }
            | Error::NoUnsafeNoIommu { .. }
            | Error::IsVf { .. }
            | Error::NotTheSame { .. }
            | Error::NoSriov { .. }
            | Error::TooManyVfs { .. }
            | Error::PfTwice { .. }
            | Error::VfsFile { .. }
            | Error::Setting { .. } => ErrorKind::Invalid,
            Error::Busy { .. }
            | Error::Exhausted { .. }
            | Error::NoVfs { .. }
            | Error::PfDown { .. }
            | Error::VfsInUse { .. }
            | Error::Locked { .. } => ErrorKind::Busy,
            Error::Several(errors) => errors.first().map_or(ErrorKind::Host, Error::kind),
            _ => ErrorKind::Host,
        }
    }

    /// Joins `errors` into one; `Ok` if there is none.
    pub(crate) fn collect(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }
}
