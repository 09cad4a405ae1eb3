// SPDX-License-Identifier: Apache-2.0
//! Buffers that the next burst will fill, read, checked and prefetched ahead of it.

use sluice_mem::SharedRegion;

use super::gather::posted;
use super::own_buffers::OwnBuffers;
use super::ring::Ring;
use crate::fault::Fault;
use crate::layout::{Descriptor, MAX_PACKET};
use sluice_peer::BURST;

/// Buffer that the peer posted, read and checked once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Buffer {
    pub(super) offset: u32,
    /// Length in bytes, at most [`MAX_PACKET`].
    pub(super) room: u32,
}

/// Next buffers of a ring on which we send.
#[derive(Debug)]
pub(super) struct PrefetchedBuffers {
    /// As a server: the posted buffers, each at its index modulo [`BURST`].
    buffers: Box<[Buffer; BURST]>,
    /// Region in which all of them lie: a buffer in another region is read once it is the next.
    region: u16,
    /// Number of buffers that were read and prefetched, from the next on. As a client, nothing is
    /// read: prefetched only.
    seen: u16,
}

impl PrefetchedBuffers {
    /// Nothing read yet.
    pub(super) fn new() -> PrefetchedBuffers {
        PrefetchedBuffers {
            buffers: Box::new([Buffer::default(); BURST]),
            region: 0,
            seen: 0,
        }
    }

    /// Number of buffers that were read and prefetched.
    #[inline(always)]
    pub(super) fn seen(&self) -> u16 {
        self.seen
    }

    /// Region in which they lie.
    #[inline(always)]
    pub(super) fn region(&self) -> u16 {
        self.region
    }

    /// Buffer at index `number`, which must be one of those that were read.
    #[inline(always)]
    pub(super) fn buffer(&self, number: u16) -> Buffer {
        self.buffers[usize::from(number) % BURST]
    }

    /// Takes note that the next `count` are filled.
    #[inline(always)]
    pub(super) fn used(&mut self, count: u16) {
        self.seen = self.seen.saturating_sub(count);
    }

    /// As a client: prefetches our own buffers for writing, up to `count` from index `next` on.
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

    /// As a server: reads and checks the posted descriptors, up to `count` from index `next` on, and
    /// prefetches their buffers for writing.
    ///
    /// # Errors
    /// A descriptor names an unknown region or bytes outside its region.
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
                // Either a fault, or a buffer of another region, for the general path.
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
