// SPDX-License-Identifier: Apache-2.0
//! [`VfioDevice`]: a PCI function that VFIO gives this process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::EventfdFlags;
use vfio_bindings::bindings::vfio;

use crate::bar::Bar;
use crate::config_space::{COMMAND_MASTER, COMMAND_MEMORY, ConfigSpace, DEVICE, VENDOR};
use crate::dma::DmaRing;
use crate::ioctl::{self, Region};
use crate::iommu::{Iommu, Opened};
use crate::{Descriptor, Device, DmaMemory, Error, Interrupt, Iova, PciAddr, ReleaseRequest};

/// Number of attempts at a reset, 10 ms apart, while the kernel itself is busy with the device.
const RESETS: u32 = 50;
/// Number of attempts at closing: where the kernel takes the device away it is busy until that is done.
const LAST_RESETS: u32 = 5;

/// A function bound to vfio-pci, open in this process alone.
///
/// # Drop order
/// Bus mastering off, interrupts off, the function reset, its file closed, its group out of the
/// address space: at no point can the device reach memory that is no longer meant for it. The last
/// two wait for the device's [`Bar`]s. Its rings and pools may go before or after.
#[derive(Debug)]
pub struct VfioDevice {
    addr: PciAddr,
    ids: (u16, u16),
    config: Region,
    /// Whether MSI-X is on.
    interrupting: bool,
    opened: Arc<Opened>,
}

impl VfioDevice {
    /// Opens the function at `addr` and resets it, so that it starts as after power-on.
    ///
    /// # Errors
    /// Each with what to do: no such device, IOMMU off, not bound to vfio-pci, its group not viable,
    /// held by another process; or the kernel refuses a step.
    pub fn open(addr: PciAddr, iommu: &Iommu) -> Result<VfioDevice, Error> {
        let opened = Arc::new(iommu.device(addr)?);
        let failed = |step| {
            move |source| Error::Step {
                device: addr,
                step,
                source,
            }
        };
        let flags = ioctl::device_flags(opened.fd()).map_err(failed("VFIO_DEVICE_GET_INFO"))?;
        if flags & vfio::VFIO_DEVICE_FLAGS_RESET == 0 {
            return Err(Error::NoReset { device: addr });
        }
        let config = ioctl::region(opened.fd(), vfio::VFIO_PCI_CONFIG_REGION_INDEX)
            .map_err(failed("VFIO_DEVICE_GET_REGION_INFO"))?;
        let space = ConfigSpace::new(opened.fd(), config);
        let id = |at| {
            space
                .read16(at)
                .map_err(failed("reading the configuration space"))
        };
        let ids = (id(VENDOR)?, id(DEVICE)?);
        let mut device = VfioDevice {
            addr,
            ids,
            config,
            interrupting: false,
            opened,
        };
        device.reset()?;
        // An access to a BAR while this is off would be a SIGBUS.
        device.command(COMMAND_MEMORY, 0)?;
        Ok(device)
    }

    /// Number of the device's IOMMU group.
    pub fn group(&self) -> u32 {
        self.opened.group()
    }

    /// Length of BAR `index` (0 to 5) in bytes; 0 if there is none.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn bar_bytes(&self, index: u8) -> Result<u64, Error> {
        Ok(self.bar(index)?.size)
    }

    /// Number of MSI-X vectors.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn vectors(&self) -> Result<u32, Error> {
        ioctl::vectors(self.opened.fd(), vfio::VFIO_PCI_MSIX_IRQ_INDEX)
            .map_err(self.failed("VFIO_DEVICE_GET_IRQ_INFO"))
    }

    /// Has the kernel signal when it wants the device back, and returns where. Without a call of this the
    /// kernel waits in silence.
    ///
    /// # Errors
    /// No eventfd is left, or the kernel refuses.
    pub fn release_request(&self) -> Result<ReleaseRequest, Error> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = rustix::event::eventfd(0, flags)
            .map_err(|errno| self.failed("eventfd")(errno.into()))?;
        let fds = [fd];
        ioctl::set_vectors(self.opened.fd(), vfio::VFIO_PCI_REQ_IRQ_INDEX, &fds)
            .map_err(self.failed("VFIO_DEVICE_SET_IRQS for release requests"))?;
        let [fd] = fds;
        Ok(ReleaseRequest::new(fd))
    }

    fn failed(&self, step: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let device = self.addr;
        move |source| Error::Step {
            device,
            step,
            source,
        }
    }

    fn bar(&self, index: u8) -> Result<Region, Error> {
        if index > 5 {
            return Err(Error::NoBar {
                device: self.addr,
                index,
            });
        }
        ioctl::region(self.opened.fd(), index.into())
            .map_err(self.failed("VFIO_DEVICE_GET_REGION_INFO"))
    }

    fn command(&self, set: u16, clear: u16) -> Result<(), Error> {
        ConfigSpace::new(self.opened.fd(), self.config)
            .command(set, clear)
            .map_err(self.failed("writing the PCI command register"))
    }

    fn reset_within(&mut self, attempts: u32) -> Result<(), Error> {
        // First: the kernel puts the command register and MSI-X back after a reset as they were.
        self.set_bus_master(false)?;
        // Where MSI-X is off, switching it off is an error.
        if self.interrupting {
            self.set_vectors(&[])?;
            self.interrupting = false;
        }
        let mut left = attempts;
        loop {
            match ioctl::reset(self.opened.fd()) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && left > 0 => {
                    left -= 1;
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(self.failed("VFIO_DEVICE_RESET")(error)),
            }
        }
    }

    fn set_vectors(&self, eventfds: &[OwnedFd]) -> Result<(), Error> {
        ioctl::set_vectors(self.opened.fd(), vfio::VFIO_PCI_MSIX_IRQ_INDEX, eventfds)
            .map_err(self.failed("VFIO_DEVICE_SET_IRQS for MSI-X"))
    }
}

impl Device for VfioDevice {
    type Registers = Bar;
    type Ring<T: Descriptor> = DmaRing<T>;

    fn addr(&self) -> PciAddr {
        self.addr
    }

    fn ids(&self) -> (u16, u16) {
        self.ids
    }

    fn registers(&mut self, index: u8) -> Result<Bar, Error> {
        let region = self.bar(index)?;
        if region.size == 0 || region.flags & vfio::VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return Err(Error::NoBar {
                device: self.addr,
                index,
            });
        }
        Bar::map(&self.opened, region).map_err(self.failed("mapping a BAR"))
    }

    fn ring<T: Descriptor>(&mut self, len: usize) -> Result<DmaRing<T>, Error> {
        DmaRing::new(self.addr, len, |pages| self.opened.iommu().map_pages(pages))
    }

    fn map(&mut self, memory: &dyn DmaMemory) -> Result<Iova, Error> {
        self.opened.iommu().map_memory(memory)
    }

    fn interrupts(&mut self, count: u16) -> Result<Vec<Interrupt>, Error> {
        let has = self.vectors()?;
        if count == 0 || u32::from(count) > has {
            return Err(Error::NoVectors {
                device: self.addr,
                count,
                has,
            });
        }
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfds = (0..count)
            .map(|_| rustix::event::eventfd(0, flags))
            .collect::<Result<Vec<OwnedFd>, _>>()
            .map_err(|errno| self.failed("eventfd")(errno.into()))?;
        self.set_vectors(&eventfds)?;
        self.interrupting = true;
        Ok(eventfds.into_iter().map(Interrupt::new).collect())
    }

    fn set_bus_master(&mut self, on: bool) -> Result<(), Error> {
        if on {
            self.command(COMMAND_MASTER, 0)
        } else {
            self.command(0, COMMAND_MASTER)
        }
    }

    fn reset(&mut self) -> Result<(), Error> {
        self.reset_within(RESETS)
    }
}

impl Drop for VfioDevice {
    fn drop(&mut self) {
        // Closing the file does the same once more, and by other ways where these fail.
        if let Err(error) = self.reset_within(LAST_RESETS) {
            tracing::warn!("while closing: {error}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::ioctl::fake::kernel;
    use crate::iommu::tests::{Node, VF};
    use crate::{RegOffset, Registers};

    fn open() -> (Node, Iommu, VfioDevice) {
        let node = Node::new();
        let iommu = node.iommu();
        let device = VfioDevice::open(VF.parse().unwrap(), &iommu).unwrap();
        (node, iommu, device)
    }

    fn calls() -> Vec<String> {
        kernel(|kernel| std::mem::take(&mut kernel.calls))
    }

    #[test]
    fn order_of_opening_and_closing() {
        let (_node, _iommu, mut device) = open();
        assert_eq!((device.ids(), device.group()), ((0x8086, 0x10ca), 7));
        assert_eq!(calls(), ["open 0000:01:10.0", "reset, bus master 0"]);
        let bar = device.registers(0).unwrap();
        device.set_bus_master(true).unwrap();
        let interrupts = device.interrupts(3).unwrap();
        assert_eq!(interrupts.len(), 3);
        assert_eq!(calls(), ["vectors 2 3"]);
        drop(device);
        // The group stays while a BAR is mapped: the kernel would call it busy.
        assert_eq!(calls(), ["vectors 2 0", "reset, bus master 0"]);
        assert_eq!(kernel(|kernel| kernel.groups), 1);
        drop(bar);
        assert_eq!(kernel(|kernel| kernel.groups), 0);
    }

    #[test]
    fn registers_within_the_bar() {
        let (_node, _iommu, mut device) = open();
        let bar = device.registers(0).unwrap();
        assert_eq!(bar.len_bytes(), 0x4000);
        bar.write64(RegOffset(0x3ff8), 0x1122_3344_5566_7788);
        bar.write32(RegOffset(0x3ff8), 0xaabb_ccdd);
        assert_eq!(bar.read32(RegOffset(0x3ffc)), 0x1122_3344);
        assert_eq!(bar.read64(RegOffset(0x3ff8)), 0x1122_3344_aabb_ccdd);
        for offset in [0x4000, 0x4004, 0x3ffe, u32::MAX - 3, u32::MAX] {
            bar.write32(RegOffset(offset), 0);
            bar.write64(RegOffset(offset), 0);
            assert_eq!(bar.read32(RegOffset(offset)), u32::MAX);
            assert_eq!(bar.read64(RegOffset(offset)), u64::MAX);
        }
        assert_eq!(bar.read64(RegOffset(0x3ff8)), 0x1122_3344_aabb_ccdd);
    }

    #[test]
    fn what_the_device_does_not_have() {
        let (_node, _iommu, mut device) = open();
        for index in [1, 5, 6, 255] {
            let error = device.registers(index).unwrap_err().to_string();
            assert!(error.contains(&format!("no BAR {index} ")), "{error}");
        }
        assert_eq!(device.bar_bytes(0).unwrap(), 0x4000);
        for count in [0, 4] {
            let error = device.interrupts(count).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("0000:01:10.0 has 3 MSI-X vectors, {count} were asked for")
            );
        }
    }

    #[test]
    fn the_kernel_may_ask_for_the_device() {
        let (_node, _iommu, device) = open();
        calls();
        let request = device.release_request().unwrap();
        assert_eq!(calls(), ["vectors 4 1"]);
        assert!(!request.is_made());
        kernel(|kernel| kernel.ask_back());
        assert!(request.is_made());
        // It goes with the device: MSI-X, which was never on, is not switched off.
        drop(device);
        assert_eq!(calls(), ["reset, bus master 0"]);
    }

    #[test]
    fn a_reset_that_has_to_wait() {
        let (_node, _iommu, mut device) = open();
        kernel(|kernel| kernel.resets_refused = 2);
        calls();
        device.reset().unwrap();
        assert_eq!(calls().len(), 3);
        kernel(|kernel| kernel.resets_refused = u32::MAX);
        let error = device.reset().unwrap_err().to_string();
        assert!(error.starts_with("0000:01:10.0: VFIO_DEVICE_RESET failed"));
        kernel(|kernel| kernel.resets_refused = 0);
    }
}
