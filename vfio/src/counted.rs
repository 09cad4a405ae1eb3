// SPDX-License-Identifier: Apache-2.0
//! [`Counted`]: a device that counts what a driver does at the seam, for claims such as "one doorbell
//! per burst". It stands around any [`Device`], emulated or real.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::{
    Descriptor, Descriptors, Device, DmaMemory, Error, Interrupt, Iova, PciAddr, RegOffset,
    Registers,
};

/// Registers below this offset are also counted one by one: 16 KB, a VF's whole BAR 0.
const COUNTED_BYTES: usize = 16384;

/// Numbers of accesses across the seam since the device was wrapped. A 64-bit register access counts once.
#[derive(Debug)]
pub struct Counts {
    register_reads: AtomicU64,
    register_writes: AtomicU64,
    descriptor_loads: AtomicU64,
    descriptor_stores: AtomicU64,
    /// Writes of each 32-bit register.
    writes_at: Box<[AtomicU64]>,
}

/// [`Counts`] at one moment; differences tell what one burst costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Registers read.
    pub register_reads: u64,
    /// Registers written.
    pub register_writes: u64,
    /// Descriptors read.
    pub descriptor_loads: u64,
    /// Descriptors written.
    pub descriptor_stores: u64,
}

impl Counts {
    fn new() -> Counts {
        Counts {
            register_reads: AtomicU64::new(0),
            register_writes: AtomicU64::new(0),
            descriptor_loads: AtomicU64::new(0),
            descriptor_stores: AtomicU64::new(0),
            writes_at: (0..COUNTED_BYTES / 4).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Returns all counts at this moment.
    pub fn tally(&self) -> Tally {
        Tally {
            register_reads: self.register_reads.load(Relaxed),
            register_writes: self.register_writes.load(Relaxed),
            descriptor_loads: self.descriptor_loads.load(Relaxed),
            descriptor_stores: self.descriptor_stores.load(Relaxed),
        }
    }

    /// Writes of the register at `offset`, a doorbell say; 0 for offsets of 16384 and above, which
    /// are counted in the tally only.
    pub fn writes_at(&self, offset: RegOffset) -> u64 {
        self.register(offset).map_or(0, |count| count.load(Relaxed))
    }

    fn register(&self, offset: RegOffset) -> Option<&AtomicU64> {
        self.writes_at.get(usize::try_from(offset.0 / 4).ok()?)
    }

    fn wrote(&self, offset: RegOffset) {
        self.register_writes.fetch_add(1, Relaxed);
        if let Some(count) = self.register(offset) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl Tally {
    /// Returns the accesses since `earlier`.
    pub fn since(self, earlier: Tally) -> Tally {
        Tally {
            register_reads: self.register_reads - earlier.register_reads,
            register_writes: self.register_writes - earlier.register_writes,
            descriptor_loads: self.descriptor_loads - earlier.descriptor_loads,
            descriptor_stores: self.descriptor_stores - earlier.descriptor_stores,
        }
    }
}

/// A [`Device`] whose registers and rings are counted.
#[derive(Debug)]
pub struct Counted<D> {
    inner: D,
    counts: Arc<Counts>,
}

impl<D: Device> Counted<D> {
    /// Counts what is done through `inner` from now on.
    pub fn new(inner: D) -> (Counted<D>, Arc<Counts>) {
        let counts = Arc::new(Counts::new());
        let counted = Counted {
            inner,
            counts: Arc::clone(&counts),
        };
        (counted, counts)
    }
}

/// The registers of a [`Counted`] device.
#[derive(Debug)]
pub struct CountedRegisters<R> {
    inner: R,
    counts: Arc<Counts>,
}

impl<R: Registers> Registers for CountedRegisters<R> {
    fn read32(&self, offset: RegOffset) -> u32 {
        self.counts.register_reads.fetch_add(1, Relaxed);
        self.inner.read32(offset)
    }

    fn write32(&self, offset: RegOffset, value: u32) {
        self.counts.wrote(offset);
        self.inner.write32(offset, value);
    }

    fn read64(&self, offset: RegOffset) -> u64 {
        self.counts.register_reads.fetch_add(1, Relaxed);
        self.inner.read64(offset)
    }

    fn write64(&self, offset: RegOffset, value: u64) {
        self.counts.wrote(offset);
        self.inner.write64(offset, value);
    }
}

/// A ring of a [`Counted`] device.
#[derive(Debug)]
pub struct CountedRing<R> {
    inner: R,
    counts: Arc<Counts>,
}

impl<T: Descriptor, R: Descriptors<T>> Descriptors<T> for CountedRing<R> {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn iova(&self) -> Iova {
        self.inner.iova()
    }

    fn load(&self, index: usize) -> T {
        self.counts.descriptor_loads.fetch_add(1, Relaxed);
        self.inner.load(index)
    }

    fn store(&mut self, index: usize, descriptor: T) {
        self.counts.descriptor_stores.fetch_add(1, Relaxed);
        self.inner.store(index, descriptor);
    }
}

impl<D: Device> Device for Counted<D> {
    type Registers = CountedRegisters<D::Registers>;
    type Ring<T: Descriptor> = CountedRing<D::Ring<T>>;

    fn addr(&self) -> PciAddr {
        self.inner.addr()
    }

    fn ids(&self) -> (u16, u16) {
        self.inner.ids()
    }

    fn registers(&mut self, index: u8) -> Result<Self::Registers, Error> {
        Ok(CountedRegisters {
            inner: self.inner.registers(index)?,
            counts: Arc::clone(&self.counts),
        })
    }

    fn ring<T: Descriptor>(&mut self, len: usize) -> Result<Self::Ring<T>, Error> {
        Ok(CountedRing {
            inner: self.inner.ring(len)?,
            counts: Arc::clone(&self.counts),
        })
    }

    fn map(&mut self, memory: &dyn DmaMemory) -> Result<Iova, Error> {
        self.inner.map(memory)
    }

    fn interrupts(&mut self, count: u16) -> Result<Vec<Interrupt>, Error> {
        self.inner.interrupts(count)
    }

    fn set_bus_master(&mut self, on: bool) -> Result<(), Error> {
        self.inner.set_bus_master(on)
    }

    fn reset(&mut self) -> Result<(), Error> {
        self.inner.reset()
    }
}
