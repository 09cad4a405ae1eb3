// SPDX-License-Identifier: Apache-2.0
//! Ring in shared memory, every access checked by [`SharedRegion`].

use std::sync::atomic::{Ordering, fence};

use sluice_mem::{OutOfRange, SharedRegion, SharedTable};

use crate::fault::Fault;
use crate::layout::{
    COOKIE, COOKIE_AT, DESCRIPTORS_AT, Descriptor, FLAG_MASK_INT, FLAGS_AT, HEAD_AT, RingSpec,
    TAIL_AT,
};

/// Descriptors of 16 bytes in a cache line.
const DESCRIPTORS_A_LINE: u16 = 4;

/// Ring whose [`RingSpec`] was checked against its region.
#[derive(Debug)]
pub(crate) struct Ring {
    descriptors: SharedTable,
    base: usize,
}

/// Error of an access outside the region: unreachable, since the ring lies inside; an error is safer
/// than a panic.
fn gone(_: OutOfRange) -> Fault {
    Fault::MemoryGone
}

impl Ring {
    pub(crate) fn new(region: SharedRegion, spec: &RingSpec) -> Result<Ring, Fault> {
        let base = spec.offset as usize;
        let descriptors = SharedTable::new(region, base + DESCRIPTORS_AT, spec.log2);
        Ok(Ring {
            descriptors: descriptors.map_err(gone)?,
            base,
        })
    }

    #[inline(always)]
    fn region(&self) -> &SharedRegion {
        self.descriptors.region()
    }

    /// Descriptors, 2 to 16384.
    #[inline(always)]
    pub(crate) fn size(&self) -> u16 {
        self.mask() + 1
    }

    /// Mask that turns an index into a slot.
    #[inline(always)]
    pub(crate) fn mask(&self) -> u16 {
        self.descriptors.mask()
    }

    /// Writes an empty ring: cookie, indices 0.
    pub(crate) fn format(&self, masked: bool) -> Result<(), Fault> {
        let flags = if masked { FLAG_MASK_INT } else { 0 };
        let store = |at, value| {
            self.region()
                .store_u16(self.base + at, value, Ordering::Relaxed)
                .map_err(gone)
        };
        store(FLAGS_AT, flags)?;
        store(HEAD_AT, 0)?;
        store(TAIL_AT, 0)?;
        self.region()
            .store_u32(self.base + COOKIE_AT, COOKIE, Ordering::Release)
            .map_err(gone)
    }

    pub(crate) fn cookie(&self) -> Result<u32, Fault> {
        self.region()
            .load_u32(self.base + COOKIE_AT, Ordering::Acquire)
            .map_err(gone)
    }

    /// Reads the head, which the peer moves. The acquire makes the descriptors before it visible.
    #[inline(always)]
    pub(crate) fn peer_head(&self) -> Result<u16, Fault> {
        self.alive()?;
        self.region()
            .load_u16(self.base + HEAD_AT, Ordering::Acquire)
            .map_err(gone)
    }

    /// Reads the tail, which the peer moves. The acquire makes the descriptors before it visible.
    #[inline(always)]
    pub(crate) fn peer_tail(&self) -> Result<u16, Fault> {
        self.alive()?;
        self.region()
            .load_u16(self.base + TAIL_AT, Ordering::Acquire)
            .map_err(gone)
    }

    /// Moves the head; the release makes the descriptors before it visible first.
    #[inline(always)]
    pub(crate) fn publish_head(&self, head: u16) -> Result<(), Fault> {
        self.region()
            .store_u16(self.base + HEAD_AT, head, Ordering::Release)
            .map_err(gone)
    }

    /// Moves the tail; the release makes the descriptors before it visible first.
    #[inline(always)]
    pub(crate) fn publish_tail(&self, tail: u16) -> Result<(), Fault> {
        self.region()
            .store_u16(self.base + TAIL_AT, tail, Ordering::Release)
            .map_err(gone)
    }

    /// Whether the consumer wants an interrupt; for a producer, right after publishing.
    ///
    /// The fence puts the publication before the look at the flag; the consumer's fence in
    /// [`Ring::set_masked`] puts its flag before its last look at the index. So at least one of
    /// the two sees the other's store, and no wake-up is lost.
    #[inline(always)]
    pub(crate) fn wants_interrupt(&self) -> Result<bool, Fault> {
        fence(Ordering::SeqCst);
        let flags = self
            .region()
            .load_u16(self.base + FLAGS_AT, Ordering::Relaxed)
            .map_err(gone)?;
        Ok(flags & FLAG_MASK_INT == 0)
    }

    /// Sets whether we, as the consumer, poll and want no interrupts.
    pub(crate) fn set_masked(&self, masked: bool) -> Result<(), Fault> {
        let flags = if masked { FLAG_MASK_INT } else { 0 };
        self.region()
            .store_u16(self.base + FLAGS_AT, flags, Ordering::Relaxed)
            .map_err(gone)?;
        if !masked {
            fence(Ordering::SeqCst);
        }
        Ok(())
    }

    /// Prefetches the descriptors of `count` slots from `first` on for reading.
    #[inline(always)]
    pub(crate) fn prefetch(&self, first: u16, count: u16) {
        self.each_line(first, count, |slot| self.descriptors.prefetch(slot));
    }

    /// Prefetches the descriptors of `count` slots from `first` on for writing.
    #[inline(always)]
    pub(crate) fn prefetch_to_write(&self, first: u16, count: u16) {
        self.each_line(first, count, |slot| {
            self.descriptors.prefetch_to_write(slot);
        });
    }

    #[inline(always)]
    fn each_line(&self, first: u16, count: u16, visit: impl Fn(u16)) {
        let mut at = first;
        let mut left = count;
        while left > 0 {
            visit(at);
            let line = DESCRIPTORS_A_LINE - at % DESCRIPTORS_A_LINE;
            at = at.wrapping_add(line);
            left = left.saturating_sub(line);
        }
    }

    /// Reads a descriptor once. Slots are taken modulo [`Ring::size`].
    #[inline(always)]
    pub(crate) fn read(&self, slot: u16) -> Descriptor {
        Descriptor::decode(self.descriptors.read(slot))
    }

    /// Writes a descriptor.
    #[inline(always)]
    pub(crate) fn write(&self, slot: u16, descriptor: Descriptor) {
        self.descriptors.write(slot, descriptor.encode());
    }

    /// Writes the half of a descriptor with the packet's length, and leaves the half with its offset.
    #[inline(always)]
    pub(crate) fn write_length(&self, slot: u16, descriptor: Descriptor) {
        let [a, b, c, d, e, f, g, h, ..] = descriptor.encode();
        let half = [a, b, c, d, e, f, g, h];
        self.descriptors.write_first_half(slot, half);
    }

    #[inline(always)]
    fn alive(&self) -> Result<(), Fault> {
        if self.region().is_dead() {
            Err(Fault::MemoryGone)
        } else {
            Ok(())
        }
    }
}
