// SPDX-License-Identifier: Apache-2.0
//! The hardware seam: what a NIC driver sees of its device. [`crate::VfioDevice`] stands behind it
//! in life; tests put an emulated VF there, and counting wrappers count what crosses it.
//!
//! A driver is generic over [`Device`], so that a register access costs one instruction; which
//! device it is is chosen at run time, outside the loop.
//!
//! # Drop order
//! A driver first stops the device's queues, then drops the [`Device`] (which ends bus mastering
//! and resets the function), and only then gives memory that the device could reach another use.
//! Registers and rings keep what they stand on alive: dropping them in any order is sound.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sluice_mem::{DmaMemory, Iova};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Error, PciAddr};

/// Offset of a register in its BAR, in bytes; a multiple of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegOffset(pub u32);

/// The registers of one BAR. Accesses are volatile, little-endian, never merged, split or moved
/// past one another, and a write is made after all earlier stores to DMA memory. An offset outside
/// the BAR reads as all ones and writes nothing, as a PCI bus has it.
pub trait Registers: Send {
    /// Reads 32 bits.
    fn read32(&self, offset: RegOffset) -> u32;

    /// Writes 32 bits.
    fn write32(&self, offset: RegOffset, value: u32);

    /// Reads 64 bits at a multiple of eight.
    fn read64(&self, offset: RegOffset) -> u64;

    /// Writes 64 bits at a multiple of eight.
    fn write64(&self, offset: RegOffset, value: u64);
}

/// Type that can be a descriptor: plain bytes of 8 to 64, a multiple of eight, aligned to at most eight.
pub trait Descriptor: FromBytes + IntoBytes + Immutable + Copy + Send + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + Copy + Send + 'static> Descriptor for T {}

/// A ring of descriptors in DMA memory that host and device both write.
pub trait Descriptors<T: Descriptor>: Send {
    /// Number of descriptors.
    fn len(&self) -> usize;

    /// Whether there are none, which is never so.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Address of the first descriptor as the device sees it; aligned to 4096.
    fn iova(&self) -> Iova;

    /// Reads a descriptor, its last eight bytes first with acquire order, then the others: where the
    /// device says "done" in the last eight bytes, what it wrote before (the other bytes, and the
    /// frame) is seen too. `index` is taken modulo [`Descriptors::len`].
    fn load(&self, index: usize) -> T;

    /// Writes a descriptor in ascending order of its eight-byte words. `index` is taken modulo
    /// [`Descriptors::len`].
    fn store(&mut self, index: usize, descriptor: T);
}

/// Interrupt vector, as an eventfd that the kernel signals. The process alone holds it.
#[derive(Debug)]
pub struct Interrupt {
    fd: OwnedFd,
}

impl Interrupt {
    /// The vector that signals `fd`.
    pub fn new(fd: OwnedFd) -> Interrupt {
        Interrupt { fd }
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A PCI function that a driver in this process has to itself. Dropping it ends bus mastering and
/// resets the function.
pub trait Device: Send + 'static {
    /// Registers of one BAR.
    type Registers: Registers;
    /// Descriptor ring.
    type Ring<T: Descriptor>: Descriptors<T>;

    /// PCI address.
    fn addr(&self) -> PciAddr;

    /// PCI vendor and device id.
    fn ids(&self) -> (u16, u16);

    /// Maps BAR `index` (0 to 5).
    ///
    /// # Errors
    /// There is no such BAR, or it cannot be mapped.
    fn registers(&mut self, index: u8) -> Result<Self::Registers, Error>;

    /// Makes a ring of `len` zeroed descriptors that the device can reach.
    ///
    /// # Errors
    /// No memory, or no addresses left.
    fn ring<T: Descriptor>(&mut self, len: usize) -> Result<Self::Ring<T>, Error>;

    /// Lets the device reach `memory` and says where it sees the first byte. The same memory asked
    /// for again, by this device or another of the process, may get the same address.
    ///
    /// # Errors
    /// No addresses left, or the limit of locked memory.
    fn map(&mut self, memory: &dyn DmaMemory) -> Result<Iova, Error>;

    /// Enables MSI-X with `count` vectors from 0 on. Called at most once.
    ///
    /// # Errors
    /// The device has fewer, or the kernel refuses.
    fn interrupts(&mut self, count: u16) -> Result<Vec<Interrupt>, Error>;

    /// Lets the device read and write memory, or no longer.
    ///
    /// # Errors
    /// Its configuration space cannot be written.
    fn set_bus_master(&mut self, on: bool) -> Result<(), Error>;

    /// Resets the function (PCIe function-level reset); bus mastering and interrupts are off after.
    ///
    /// # Errors
    /// It cannot be reset.
    fn reset(&mut self) -> Result<(), Error>;
}
