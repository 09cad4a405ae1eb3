// SPDX-License-Identifier: Apache-2.0
//! An emulated device for the tests of drivers: a [`Device`] whose registers are a
//! [`RegisterModel`] that the test writes, and whose memory accesses go over a [`Bus`] that knows
//! nothing but what the driver mapped, as an IOMMU does.
//!
//! The model reacts to a register access before the access returns, on the driver's thread, so that
//! tests need neither threads nor waiting. What reaches the device from elsewhere (a frame from the
//! wire, a PF that goes down) a test brings in through [`Model::with`].
//!
//! The addresses handed out differ from device to device and are never virtual addresses, and
//! between any two areas lies a page that is not mapped: a driver that confuses devices or addresses,
//! or runs over an end, leaves a [`Fault`].

mod bus;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use bus::{Bus, Event, Fault};

use crate::dma::DmaRing;
use crate::{Descriptor, Device, DmaMemory, Error, Interrupt, Iova, PciAddr, RegOffset, Registers};

/// The device's side of its registers. Called under the device's lock: it must not touch the
/// [`EmulatedDevice`] or its [`EmulatedBar`]s, only the [`Bus`].
pub trait RegisterModel: Send + 'static {
    /// The driver reads the register at `offset`, a multiple of four within the BAR.
    fn read32(&mut self, offset: RegOffset, bus: &Bus) -> u32;

    /// The driver writes the register at `offset`, a multiple of four within the BAR.
    fn write32(&mut self, offset: RegOffset, value: u32, bus: &Bus);

    /// The function is reset: registers go to what they are after power-on.
    fn reset(&mut self, _bus: &Bus) {}

    /// Bus mastering goes on or off. The bus itself refuses accesses while it is off.
    fn bus_master(&mut self, _on: bool, _bus: &Bus) {}
}

/// A device that a [`RegisterModel`] stands behind: one BAR, number 0. Dropping it ends bus
/// mastering and resets it, in this order, as the real one's drop does.
pub struct EmulatedDevice<M: RegisterModel> {
    addr: PciAddr,
    ids: (u16, u16),
    model: Model<M>,
}

/// A test's hold on the model behind an [`EmulatedDevice`]; it goes on when the device is dropped.
pub struct Model<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    model: Mutex<M>,
    bus: Bus,
    /// Length of BAR 0.
    bar_bytes: u32,
}

impl<M> Clone for Model<M> {
    fn clone(&self) -> Model<M> {
        Model {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M> fmt::Debug for Model<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").finish_non_exhaustive()
    }
}

impl<M> Model<M> {
    fn lock(&self) -> MutexGuard<'_, M> {
        // A test that panicked inside its model has failed already.
        let model = &self.shared.model;
        model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` with the model and its bus, between the driver's register accesses.
    pub fn with<R>(&self, f: impl FnOnce(&mut M, &Bus) -> R) -> R {
        f(&mut self.lock(), &self.shared.bus)
    }

    /// The device's bus: what was refused, and what the driver did to the function.
    pub fn bus(&self) -> &Bus {
        &self.shared.bus
    }
}

impl<M: RegisterModel> EmulatedDevice<M> {
    /// A device at `addr` with vendor and device id `ids` and a BAR 0 of `bar_bytes`, off.
    pub fn new(addr: PciAddr, ids: (u16, u16), bar_bytes: u32, model: M) -> EmulatedDevice<M> {
        // Each device has its own 64 GB, so that no two ever hand out the same address.
        static DEVICES: AtomicU64 = AtomicU64::new(1);
        let base = (DEVICES.fetch_add(1, Relaxed) % 1024) << 36;
        let shared = Shared {
            model: Mutex::new(model),
            bus: Bus::new(addr, base),
            bar_bytes,
        };
        EmulatedDevice {
            addr,
            ids,
            model: Model {
                shared: Arc::new(shared),
            },
        }
    }

    /// A hold on the model, for the test.
    pub fn model(&self) -> Model<M> {
        self.model.clone()
    }
}

impl<M: RegisterModel> fmt::Debug for EmulatedDevice<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmulatedDevice({})", self.addr)
    }
}

impl<M: RegisterModel> Drop for EmulatedDevice<M> {
    fn drop(&mut self) {
        // Neither fails here.
        let _ = self.set_bus_master(false);
        let _ = self.reset();
        self.model.bus().record(Event::Closed);
    }
}

/// BAR 0 of an [`EmulatedDevice`]. 64-bit accesses are two of 32 bits, the lower half first.
pub struct EmulatedBar<M> {
    model: Model<M>,
}

impl<M> fmt::Debug for EmulatedBar<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatedBar").finish_non_exhaustive()
    }
}

impl<M> EmulatedBar<M> {
    fn has(&self, offset: RegOffset, bytes: u32) -> bool {
        let end = offset.0.checked_add(bytes);
        offset.0.is_multiple_of(bytes) && end.is_some_and(|end| end <= self.model.shared.bar_bytes)
    }
}

impl<M: RegisterModel> Registers for EmulatedBar<M> {
    fn read32(&self, offset: RegOffset) -> u32 {
        if !self.has(offset, 4) {
            return u32::MAX;
        }
        self.model.with(|model, bus| model.read32(offset, bus))
    }

    fn write32(&self, offset: RegOffset, value: u32) {
        if self.has(offset, 4) {
            self.model
                .with(|model, bus| model.write32(offset, value, bus));
        }
    }

    fn read64(&self, offset: RegOffset) -> u64 {
        if !self.has(offset, 8) {
            return u64::MAX;
        }
        let low = self.read32(offset);
        u64::from(self.read32(RegOffset(offset.0 + 4))) << 32 | u64::from(low)
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    fn write64(&self, offset: RegOffset, value: u64) {
        if self.has(offset, 8) {
            self.write32(offset, value as u32);
            self.write32(RegOffset(offset.0 + 4), (value >> 32) as u32);
        }
    }
}

impl<M: RegisterModel> Device for EmulatedDevice<M> {
    type Registers = EmulatedBar<M>;
    type Ring<T: Descriptor> = DmaRing<T>;

    fn addr(&self) -> PciAddr {
        self.addr
    }

    fn ids(&self) -> (u16, u16) {
        self.ids
    }

    fn registers(&mut self, index: u8) -> Result<EmulatedBar<M>, Error> {
        if index != 0 {
            return Err(Error::NoBar {
                device: self.addr,
                index,
            });
        }
        Ok(EmulatedBar {
            model: self.model(),
        })
    }

    fn ring<T: Descriptor>(&mut self, len: usize) -> Result<DmaRing<T>, Error> {
        DmaRing::new(self.addr, len, |pages| self.model.bus().map_pages(pages))
    }

    fn map(&mut self, memory: &dyn DmaMemory) -> Result<Iova, Error> {
        self.model.bus().map_memory(memory)
    }

    fn interrupts(&mut self, count: u16) -> Result<Vec<Interrupt>, Error> {
        self.model.bus().enable_interrupts(count)
    }

    fn set_bus_master(&mut self, on: bool) -> Result<(), Error> {
        let mut model = self.model.lock();
        self.model.bus().set_master(on);
        model.bus_master(on, self.model.bus());
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Error> {
        let mut model = self.model.lock();
        self.model.bus().reset();
        model.reset(self.model.bus());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
