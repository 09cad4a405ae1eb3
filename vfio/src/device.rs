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
use crate::{Descriptor, Device, DmaMemory, Error, Interrupt, Iova, PciAddr};

/// How often a reset is tried when the kernel is at the device itself, 10 ms apart.
const RESETS: u32 = 50;

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
            opened,
        };
        device.reset()?;
        // An access to a BAR while this is off would be a SIGBUS.
        device.command(COMMAND_MEMORY, 0)?;
        Ok(device)
    }

    /// Its IOMMU group.
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
        // First: the kernel puts the command register and MSI-X back after a reset as they were.
        self.set_bus_master(false)?;
        self.set_vectors(&[])?;
        let mut left = RESETS;
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
}

impl Drop for VfioDevice {
    fn drop(&mut self) {
        // Closing the file does the same once more, and by other ways where these fail.
        if let Err(error) = self.reset() {
            tracing::warn!("while closing: {error}");
        }
    }
}
