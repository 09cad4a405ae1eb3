// SPDX-License-Identifier: Apache-2.0
//! Fast path of receiving: bursts of frames that take one descriptor each and lie in one region, as
//! nearly all do, are read, checked and copied in loops without other branches. Any other burst, and
//! any violation, is left to the general path, which reads the descriptors anew.

use sluice_peer::Sink;

use super::MAX_FRAME;
use super::ring::Ring;
use crate::fault::Fault;
use crate::memory::{Memory, Piece};
use crate::region::GuestRegion;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Reads and checks the descriptors of a burst: a buffer of one piece for each of `heads`, each with
/// more bytes than a header has. Returns their region; `None` if one of them is anything else.
#[inline(always)]
pub(super) fn scan<'memory>(
    ring: &Ring,
    memory: &'memory Memory,
    header: usize,
    heads: &[u16],
    pieces: &mut [Piece],
) -> Result<Option<&'memory GuestRegion>, Fault> {
    let Some(first) = heads.first() else {
        return Ok(None);
    };
    let first = ring.descriptor(*first)?;
    let found = memory.find(first.address, first.len);
    let Some(region) = found.and_then(|piece| memory.region(piece.region)) else {
        return Ok(None);
    };
    for (head, piece) in heads.iter().zip(pieces) {
        let descriptor = ring.descriptor(*head)?;
        let len = descriptor.len as usize;
        let whole = descriptor.flags == 0 && len > header && len - header <= MAX_FRAME;
        let Some(offset) = region.offset(descriptor.address, descriptor.len) else {
            return Ok(None);
        };
        if !whole {
            return Ok(None);
        }
        region.memory.prefetch(offset);
        region.memory.prefetch(offset + LINE);
        *piece = Piece {
            region: 0,
            offset,
            len: descriptor.len,
        };
    }
    Ok(Some(region))
}

/// Whether a header among those before the frames asks for an offload: flags and kind of
/// segmentation are its first two bytes, and all others mean nothing where those are 0.
#[inline(always)]
pub(super) fn any_offload(region: &GuestRegion, pieces: &[Piece]) -> Result<bool, Fault> {
    let mut all = 0;
    for piece in pieces {
        let mut start = [0; 2];
        region
            .memory
            .copy_in(piece.offset, &mut start)
            .map_err(|_| Fault::MemoryGone)?;
        all |= start[0] | start[1];
    }
    Ok(all != 0)
}

/// Copies checked frames out. Returns the number that found room, and their bytes.
#[inline(always)]
pub(super) fn copy(
    region: &GuestRegion,
    header: usize,
    pieces: &[Piece],
    sink: &mut impl Sink,
) -> Result<(usize, u64), Fault> {
    // A local: a copy out of shared memory may change any memory, as far as the compiler knows.
    let mut bytes = 0;
    let len = |piece: &Piece| piece.len as usize - header;
    let filled = sink.reserve_each(pieces, len, |piece, to| {
        bytes += to.len() as u64;
        region
            .memory
            .copy_in(piece.offset + header, to)
            .map_err(|_| Fault::MemoryGone)
    })?;
    Ok((filled, bytes))
}
