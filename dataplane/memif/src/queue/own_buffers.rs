// SPDX-License-Identifier: Apache-2.0
//! Buffers of the rings that we allocated, as a client.

use crate::layout::Descriptor;

/// Layout of the buffers of one of our own rings: buffer n at `first + n * stride`, each of
/// `capacity` bytes. Kept privately, so that no offset is ever taken from the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnBuffers {
    pub(crate) first: u32,
    pub(crate) stride: u32,
    pub(crate) capacity: u32,
}

impl OwnBuffers {
    /// Offset of the buffer of slot `slot`, which is below the ring's size.
    #[inline(always)]
    pub(crate) fn offset(&self, slot: u16) -> u32 {
        // The allocation was checked to end below 4 GiB.
        self.first
            .wrapping_add(self.stride.wrapping_mul(u32::from(slot)))
    }

    /// Descriptor that posts the buffer of slot `slot`.
    #[inline(always)]
    pub(crate) fn buffer(&self, slot: u16) -> Descriptor {
        Descriptor {
            flags: 0,
            region: 0,
            length: self.capacity,
            offset: self.offset(slot),
        }
    }
}
