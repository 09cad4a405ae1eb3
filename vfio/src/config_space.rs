// SPDX-License-Identifier: Apache-2.0
//! [`ConfigSpace`]: a function's PCI configuration space through VFIO, which lets through what is
//! harmless and emulates the rest (a VF's vendor and device id, for one).

use std::io;
use std::os::fd::BorrowedFd;

use crate::ioctl::Region;

/// Vendor id (PCI Local Bus Specification 3.0, section 6.1).
pub(crate) const VENDOR: u64 = 0;
/// Device id.
pub(crate) const DEVICE: u64 = 2;
/// The command register (section 6.2.2).
pub(crate) const COMMAND: u64 = 4;
/// The function answers accesses to its BARs.
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
/// The function may read and write memory, and send message-signalled interrupts.
pub(crate) const COMMAND_MASTER: u16 = 1 << 2;

/// The configuration space of an open device.
pub(crate) struct ConfigSpace<'a> {
    fd: BorrowedFd<'a>,
    region: Region,
}

impl<'a> ConfigSpace<'a> {
    /// The space that is `region` of the device's file.
    pub(crate) fn new(fd: BorrowedFd<'a>, region: Region) -> ConfigSpace<'a> {
        ConfigSpace { fd, region }
    }

    fn place(&self, at: u64) -> io::Result<u64> {
        let end = at.checked_add(2).filter(|&end| end <= self.region.size);
        end.and_then(|_| self.region.offset.checked_add(at))
            .ok_or(io::ErrorKind::InvalidInput.into())
    }

    /// Reads the 16 bits at `at`.
    pub(crate) fn read16(&self, at: u64) -> io::Result<u16> {
        let mut bytes = [0; 2];
        match rustix::io::pread(self.fd, &mut bytes, self.place(at)?)? {
            2 => Ok(u16::from_le_bytes(bytes)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Writes the 16 bits at `at`.
    pub(crate) fn write16(&self, at: u64, value: u16) -> io::Result<()> {
        match rustix::io::pwrite(self.fd, &value.to_le_bytes(), self.place(at)?)? {
            2 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Sets and clears bits of the command register.
    pub(crate) fn command(&self, set: u16, clear: u16) -> io::Result<()> {
        let command = self.read16(COMMAND)?;
        let wanted = command & !clear | set;
        if wanted == command {
            return Ok(());
        }
        self.write16(COMMAND, wanted)
    }
}
