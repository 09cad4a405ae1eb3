// SPDX-License-Identifier: Apache-2.0
//! [`Bus`]: how a device model reaches memory and raises interrupts.
#![allow(
    unsafe_code,
    reason = "copies to and from memory that the driver mapped for the device"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::EventfdFlags;

use crate::dma::{Mapping, Pages};
use crate::iova::{IovaSpace, PAGE};
use crate::{DmaMemory, Error, Interrupt, Iova, PciAddr};

/// An access of the device that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Memory that is not mapped, in whole or in part.
    NotMapped {
        /// First byte.
        iova: Iova,
        /// Length in bytes.
        len: usize,
        /// A write, not a read.
        write: bool,
    },
    /// The function is no bus master.
    NotMaster {
        /// First byte.
        iova: Iova,
    },
    /// An interrupt vector that is not enabled.
    NoVector(u16),
}

/// Operation of the driver on the function as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Bus mastering went on or off.
    BusMaster(bool),
    /// Reset of the function.
    Reset,
    /// Interrupt vectors enabled, by their number.
    Interrupts(u16),
    /// A ring was unmapped, that is, dropped.
    RingGone(Iova),
    /// The device was dropped.
    Closed,
}

/// Bus between an emulated device and the host: memory by [`Iova`], as far as the driver has
/// mapped it, and interrupts. Clones are the same bus.
#[derive(Clone)]
pub struct Bus {
    addr: PciAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    space: IovaSpace,
    /// Mapped areas by their first address.
    areas: BTreeMap<u64, Area>,
    master: bool,
    vectors: Vec<OwnedFd>,
    faults: Vec<Fault>,
    events: Vec<Event>,
}

/// Mapped area. The memory outlives the entry: a ring's [`RingMapping`] takes the entry away
/// before the pages go, and [`DmaMemory`] stays for the life of the process.
struct Area {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to no thread; it is touched under the bus's lock, atomically.
unsafe impl Send for Area {}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bus({})", self.addr)
    }
}

impl Bus {
    /// A bus with nothing mapped, whose addresses start at `base`.
    pub(super) fn new(addr: PciAddr, base: u64) -> Bus {
        let state = State {
            space: IovaSpace::new(std::slice::from_ref(&(base..=base + (1 << 36) - 1))),
            areas: BTreeMap::new(),
            master: false,
            vectors: Vec::new(),
            faults: Vec::new(),
            events: Vec::new(),
        };
        Bus {
            addr,
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device reads `buffer.len()` bytes at `iova`. False, with a fault and `buffer` as it was,
    /// if it may not.
    pub fn read(&self, iova: Iova, buffer: &mut [u8]) -> bool {
        let mut state = self.lock();
        let Some(at) = state.reach(iova, buffer.len(), false) else {
            return false;
        };
        if at.cast::<u64>().is_aligned() && buffer.len().is_multiple_of(8) {
            for (word, bytes) in buffer.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                // SAFETY: `reach` found `buffer.len()` bytes from `at` on in one area.
                let at = unsafe { at.cast::<u64>().add(word) };
                // SAFETY: the area is mapped in this process while the lock is held (see `Area`);
                // aligned as checked. Nobody holds references to these bytes (`DmaMemory`'s
                // contract, `DmaRing`).
                let word = unsafe { AtomicU64::from_ptr(at.as_ptr()) };
                *bytes = word.load(Acquire).to_ne_bytes();
            }
        } else {
            for (index, byte) in buffer.iter_mut().enumerate() {
                // SAFETY: as above.
                let at = unsafe { at.add(index) };
                // SAFETY: as above; bytes need no alignment.
                *byte = unsafe { AtomicU8::from_ptr(at.as_ptr()) }.load(Acquire);
            }
        }
        true
    }

    /// The device writes `bytes` at `iova`, in ascending order. False, with a fault and nothing
    /// written, if it may not.
    pub fn write(&self, iova: Iova, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        let Some(at) = state.reach(iova, bytes.len(), true) else {
            return false;
        };
        if at.cast::<u64>().is_aligned() && bytes.len().is_multiple_of(8) {
            for (word, bytes) in bytes.as_chunks::<8>().0.iter().enumerate() {
                // SAFETY: as in `read`.
                let at = unsafe { at.cast::<u64>().add(word) };
                // SAFETY: as in `read`; what a driver mapped is writable.
                let word = unsafe { AtomicU64::from_ptr(at.as_ptr()) };
                word.store(u64::from_ne_bytes(*bytes), Release);
            }
        } else {
            for (index, byte) in bytes.iter().enumerate() {
                // SAFETY: as above.
                let at = unsafe { at.add(index) };
                // SAFETY: as above; bytes need no alignment.
                unsafe { AtomicU8::from_ptr(at.as_ptr()) }.store(*byte, Release);
            }
        }
        true
    }

    /// The device reads a little-endian 64-bit word; `None` with a fault if it may not.
    pub fn read64(&self, iova: Iova) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(iova, &mut bytes)
            .then(|| u64::from_le_bytes(bytes))
    }

    /// The device raises interrupt `vector`. False, with a fault, if it is not enabled.
    pub fn signal(&self, vector: u16) -> bool {
        let mut state = self.lock();
        let signalled = state
            .vectors
            .get(usize::from(vector))
            .is_some_and(|fd| rustix::io::write(fd, &1u64.to_ne_bytes()).is_ok());
        if !signalled {
            state.faults.push(Fault::NoVector(vector));
        }
        signalled
    }

    /// Whether the function is a bus master.
    pub fn is_master(&self) -> bool {
        self.lock().master
    }

    /// Number of interrupt vectors enabled.
    pub fn vectors(&self) -> usize {
        self.lock().vectors.len()
    }

    /// Takes the accesses refused since the last call, oldest first. A driver in order leaves none.
    pub fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut self.lock().faults)
    }

    /// Takes the operations on the function since the last call, oldest first.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock().events)
    }

    pub(super) fn record(&self, event: Event) {
        self.lock().events.push(event);
    }

    pub(super) fn set_master(&self, on: bool) {
        let mut state = self.lock();
        state.master = on;
        state.events.push(Event::BusMaster(on));
    }

    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.master = false;
        state.vectors.clear();
        state.events.push(Event::Reset);
    }

    pub(super) fn enable_interrupts(&self, count: u16) -> Result<Vec<Interrupt>, Error> {
        let failed = |source: std::io::Error| Error::Step {
            device: self.addr,
            step: "eventfd",
            source,
        };
        let mut state = self.lock();
        let mut interrupts = Vec::new();
        let mut vectors = Vec::new();
        for _ in 0..count {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let fd = rustix::event::eventfd(0, flags).map_err(|errno| failed(errno.into()))?;
            vectors.push(fd.try_clone().map_err(failed)?);
            interrupts.push(Interrupt::new(fd));
        }
        state.vectors = vectors;
        state.events.push(Event::Interrupts(count));
        Ok(interrupts)
    }

    pub(super) fn map_memory(&self, memory: &dyn DmaMemory) -> Result<Iova, Error> {
        let (base, len) = memory.range();
        let mut state = self.lock();
        let known = state
            .areas
            .iter()
            .find(|(_, area)| area.base == base && area.len == len);
        match known {
            Some((&iova, _)) => Ok(Iova(iova)),
            None => state.map(base, len),
        }
    }

    pub(super) fn map_pages(&self, pages: &Arc<Pages>) -> Result<Box<dyn Mapping>, Error> {
        let (base, len) = pages.range();
        let iova = self.lock().map(base, len)?;
        Ok(Box::new(RingMapping {
            bus: self.clone(),
            iova,
        }))
    }
}

impl State {
    /// Address in this process of `len` bytes at `iova`, if the device may reach all of them.
    fn reach(&mut self, iova: Iova, len: usize, write: bool) -> Option<NonNull<u8>> {
        if !self.master {
            self.faults.push(Fault::NotMaster { iova });
            return None;
        }
        let found = self.areas.range(..=iova.0).next_back();
        let found = found.and_then(|(&start, area)| {
            let offset = usize::try_from(iova.0 - start).ok()?;
            let end = offset.checked_add(len)?;
            // SAFETY: `offset` is at most the area's length: still in the area or one past it.
            (end <= area.len).then(|| unsafe { area.base.add(offset) })
        });
        if found.is_none() {
            self.faults.push(Fault::NotMapped { iova, len, write });
        }
        found
    }

    fn map(&mut self, base: NonNull<u8>, len: usize) -> Result<Iova, Error> {
        // A page that stays unmapped behind each area.
        let iova = self
            .space
            .allocate(len as u64 + PAGE, PAGE)
            .ok_or(Error::NoIova { bytes: len })?;
        self.areas.insert(iova.0, Area { base, len });
        Ok(iova)
    }
}

/// A ring's area, taken from the bus when the ring goes. Its addresses are not used again, so that a
/// device that still uses them leaves a fault.
#[derive(Debug)]
struct RingMapping {
    bus: Bus,
    iova: Iova,
}

impl Mapping for RingMapping {
    fn iova(&self) -> Iova {
        self.iova
    }
}

impl Drop for RingMapping {
    fn drop(&mut self) {
        let mut state = self.bus.lock();
        state.areas.remove(&self.iova.0);
        state.events.push(Event::RingGone(self.iova));
    }
}
