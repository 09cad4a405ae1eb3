// SPDX-License-Identifier: Apache-2.0
//! Fast path of receiving: bursts of packets that take one descriptor each and lie in one region, as
//! nearly all do, are read, checked and copied in loops without other branches. Any other burst, and
//! any violation, is left to the general path ([`super::scan`]), which reads the descriptors anew.

use sluice_mem::SharedRegion;

use super::own_buffers::OwnBuffers;
use super::ring::Ring;
use crate::fault::Fault;
use crate::layout::{Descriptor, MAX_PACKET};
use sluice_peer::{BURST, Sink};

/// Checked packet of one descriptor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Piece {
    offset: u32,
    /// 1 to [`MAX_PACKET`].
    len: u32,
}

/// Packets of a burst.
pub(super) type Pieces = [Piece; BURST];

/// Range in which a packet must lie.
pub(super) trait Bounds {
    /// Whether the packet of descriptor `slot`, `len` bytes from `offset` on, is in the range.
    fn hold(&self, slot: u16, offset: u32, len: u32) -> bool;
}

/// Bounds of a region of that many bytes.
pub(super) struct Within(pub(super) u64);

impl Bounds for Within {
    #[inline(always)]
    fn hold(&self, _: u16, offset: u32, len: u32) -> bool {
        u64::from(offset) + u64::from(len) <= self.0
    }
}

/// The server may move the data within the buffer of its slot, but not out of it.
impl Bounds for OwnBuffers {
    #[inline(always)]
    fn hold(&self, slot: u16, offset: u32, len: u32) -> bool {
        let shift = offset.wrapping_sub(self.offset(slot));
        u64::from(shift) + u64::from(len) <= u64::from(self.capacity)
    }
}

/// Reads and checks as many descriptors as there are `pieces`, from index `next` on. `false` if any of
/// them is not a whole packet in region `number`, which is `region`, and within `bounds`.
#[inline(always)]
pub(super) fn scan(
    ring: &Ring,
    next: u16,
    (number, region): (u16, &SharedRegion),
    bounds: &impl Bounds,
    pieces: &mut [Piece],
) -> bool {
    let mask = ring.mask();
    let mut at = next;
    for piece in pieces {
        let slot = at & mask;
        at = at.wrapping_add(1);
        let Descriptor {
            flags,
            region: its,
            length: len,
            offset,
        } = ring.read(slot);
        let whole = flags == 0 && its == number;
        let sound = len != 0 && len as usize <= MAX_PACKET && bounds.hold(slot, offset, len);
        if !(whole && sound) {
            return false;
        }
        region.prefetch(offset as usize);
        *piece = Piece { offset, len };
    }
    true
}

/// Copies checked packets out. Returns the number that found room, and their bytes.
#[inline(always)]
pub(super) fn copy(
    pieces: &[Piece],
    region: &SharedRegion,
    sink: &mut impl Sink,
) -> Result<(usize, u64), Fault> {
    // A local: a copy out of shared memory may change any memory, as far as the compiler knows.
    let mut bytes = 0;
    let len = |piece: &Piece| piece.len as usize;
    let filled = sink.reserve_each(pieces, len, |piece, to| {
        bytes += u64::from(piece.len);
        region
            .copy_in(piece.offset as usize, to)
            .map_err(|_| Fault::MemoryGone)
    })?;
    Ok((filled, bytes))
}
