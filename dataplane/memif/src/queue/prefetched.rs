//! The buffers that a burst will fill, known ahead of it.

use sluice_mem::SharedRegion;

use super::gather::posted;
use super::own_buffers::OwnBuffers;
use super::ring::Ring;
use super::sink::BURST;
use crate::fault::Fault;
use crate::layout::{Descriptor, MAX_PACKET};

/// A buffer that the peer posted, read and checked once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Buffer {
    pub(super) offset: u32,
    /// Room for so many bytes, at most [`MAX_PACKET`].
    pub(super) room: u32,
}

/// The next buffers of a ring on which we send.
#[derive(Debug)]
pub(super) struct PrefetchedBuffers {
    /// As a server: those that are posted, each at its number modulo [`BURST`].
    buffers: Box<[Buffer; BURST]>,
    /// The region they lie in, all of them: one that lies in another is seen once it is the next.
    region: u16,
    /// So many from the next on. As a client this counts buffers that are on their way.
    seen: u16,
}

impl PrefetchedBuffers {
    /// Nothing is seen yet.
    pub(super) fn new() -> PrefetchedBuffers {
        PrefetchedBuffers {
            buffers: Box::new([Buffer::default(); BURST]),
            region: 0,
            seen: 0,
        }
    }

    /// How many are seen.
    #[inline(always)]
    pub(super) fn seen(&self) -> u16 {
        self.seen
    }

    /// The region that they lie in.
    #[inline(always)]
    pub(super) fn region(&self) -> u16 {
        self.region
    }

    /// Buffer `number`, if it is one of those seen.
    #[inline(always)]
    pub(super) fn buffer(&self, number: u16) -> Buffer {
        self.buffers[usize::from(number) % BURST]
    }

    /// The next `count` are filled.
    #[inline(always)]
    pub(super) fn used(&mut self, count: u16) {
        self.seen = self.seen.saturating_sub(count);
    }

    /// As a client: has our own buffers, up to `count` from number `next` on, on their way to this
    /// core, for writing.
    #[inline(always)]
    pub(super) fn prefetch_own(
        &mut self,
        mask: u16,
        (region, own): (&SharedRegion, &OwnBuffers),
        next: u16,
        count: u16,
    ) {
        for n in self.seen..count {
            let slot = next.wrapping_add(n) & mask;
            region.prefetch_to_write(own.offset(slot) as usize);
        }
        self.seen = self.seen.max(count);
    }

    /// As a server: reads and checks what is posted, up to `count` from number `next` on, and has these
    /// buffers on their way as well.
    ///
    /// # Errors
    /// One is not inside its region, or there is no such region.
    #[inline(always)]
    pub(super) fn prefetch_posted(
        &mut self,
        ring: &Ring,
        regions: &[SharedRegion],
        next: u16,
        count: u16,
    ) -> Result<(), Fault> {
        if self.seen >= count {
            return Ok(());
        }
        let mask = ring.mask();
        if self.seen == 0 {
            self.region = ring.read(next & mask).region;
        }
        let Some(region) = regions.get(usize::from(self.region)) else {
            return Err(Fault::Region(self.region));
        };
        let (number, bytes) = (self.region, region.len() as u64);
        let mut at = next.wrapping_add(self.seen);
        let end = next.wrapping_add(count);
        while at != end {
            let Descriptor {
                region: its,
                length,
                offset,
                ..
            } = ring.read(at & mask);
            if its != number || u64::from(offset) + u64::from(length) > bytes {
                // Either a fault, or for the general way.
                posted(ring, regions, at & mask)?;
                break;
            }
            region.prefetch_to_write(offset as usize);
            self.buffers[usize::from(at) % BURST] = Buffer {
                offset,
                room: length.min(MAX_ROOM),
            };
            at = at.wrapping_add(1);
        }
        self.seen = at.wrapping_sub(next);
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "65,535")]
const MAX_ROOM: u32 = MAX_PACKET as u32;
