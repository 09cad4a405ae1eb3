// SPDX-License-Identifier: Apache-2.0
//! Gathers one packet into the buffers of a ring.

use sluice_mem::SharedRegion;

use super::ring::Ring;
use crate::fault::Fault;
use crate::layout::{Descriptor, FLAG_NEXT, MAX_CHAIN};
use sluice_peer::checks::check;

/// Descriptor of no bytes.
pub(super) const EMPTY: Descriptor = Descriptor {
    flags: 0,
    region: 0,
    length: 0,
    offset: 0,
};

/// Result of adding a packet: added, no room now, or no room ever.
pub(super) enum Fit {
    Yes,
    No,
    Never,
}

/// Reads and checks a buffer that the client posted.
#[inline(always)]
pub(super) fn posted<'region>(
    ring: &Ring,
    regions: &'region [SharedRegion],
    slot: u16,
) -> Result<(Descriptor, &'region SharedRegion), Fault> {
    let buffer = ring.read(slot);
    let Some(region) = regions.get(usize::from(buffer.region)) else {
        return Err(Fault::Region(buffer.region));
    };
    let end = u64::from(buffer.offset) + u64::from(buffer.length);
    check!(
        "posted-range",
        end <= region.len() as u64,
        Fault::Range {
            offset: buffer.offset,
            length: buffer.length,
        }
    );
    Ok((buffer, region))
}

/// Writer of one packet: its bytes into checked buffers, then their descriptors.
pub(super) struct Gather<'ring> {
    pub(super) ring: &'ring Ring,
    pub(super) first: u16,
    pub(super) mask: u16,
}

impl Gather<'_> {
    /// Writes the packet into one buffer, which is large enough.
    #[inline(always)]
    pub(super) fn single(
        &self,
        region: &SharedRegion,
        buffer: Descriptor,
        parts: &[&[u8]],
        len: usize,
    ) -> Result<(), Fault> {
        let mut offset = buffer.offset as usize;
        for part in parts {
            region
                .copy_out(offset, part)
                .map_err(|_| Fault::MemoryGone)?;
            offset += part.len();
        }
        #[allow(clippy::cast_possible_truncation, reason = "at most MAX_PACKET")]
        let length = len as u32;
        self.ring.write(
            self.first & self.mask,
            Descriptor {
                flags: 0,
                length,
                ..buffer
            },
        );
        Ok(())
    }

    /// Writes the packet into as many posted buffers as it takes, the first of which was read
    /// already. Returns their number, or why it does not fit.
    pub(super) fn fill_posted(
        &self,
        regions: &[SharedRegion],
        buffer: Descriptor,
        available: u16,
        parts: &[&[u8]],
        len: usize,
    ) -> Result<Result<usize, Fit>, Fault> {
        let most = usize::from(self.mask + 1).min(MAX_CHAIN);
        let mut buffers = [EMPTY; MAX_CHAIN];
        let mut count = 0_u16;
        let mut room = 0;
        for slot_buffer in buffers.iter_mut().take(most.min(usize::from(available))) {
            let slot = self.first.wrapping_add(count) & self.mask;
            *slot_buffer = if count == 0 {
                buffer
            } else {
                posted(self.ring, regions, slot)?.0
            };
            count += 1;
            room += slot_buffer.length as usize;
            if room >= len {
                break;
            }
        }
        if room < len {
            // With a full turn posted, or the longest chain, more would not help.
            let never = usize::from(count) == most;
            return Ok(Err(if never { Fit::Never } else { Fit::No }));
        }
        let nth = |n: u16| *buffers.get(usize::from(n)).unwrap_or(&EMPTY);
        self.chain(|region| regions.get(region), nth, parts, len)?;
        Ok(Ok(usize::from(count)))
    }

    /// Writes the packet over several buffers, of which `buffer(n)` is the n-th; together they hold at
    /// least `len` bytes.
    pub(super) fn chain<'region>(
        &self,
        region: impl Fn(usize) -> Option<&'region SharedRegion>,
        buffer: impl Fn(u16) -> Descriptor,
        parts: &[&[u8]],
        len: usize,
    ) -> Result<(), Fault> {
        let mut parts = parts.iter().copied();
        let mut part: &[u8] = &[];
        let mut left = len;
        let mut n = 0_u16;
        while left > 0 {
            let descriptor = buffer(n);
            let memory =
                region(usize::from(descriptor.region)).ok_or(Fault::Region(descriptor.region))?;
            let mut filled = 0;
            let room = left.min(descriptor.length as usize);
            while filled < room {
                if part.is_empty() {
                    // Their lengths sum up to `len`, so there is another.
                    part = parts.next().ok_or(Fault::MemoryGone)?;
                    continue;
                }
                let (now, later) = part.split_at(part.len().min(room - filled));
                memory
                    .copy_out(descriptor.offset as usize + filled, now)
                    .map_err(|_| Fault::MemoryGone)?;
                filled += now.len();
                part = later;
            }
            left -= room;
            #[allow(clippy::cast_possible_truncation, reason = "at most MAX_PACKET")]
            let length = room as u32;
            let flags = if left > 0 { FLAG_NEXT } else { 0 };
            let slot = self.first.wrapping_add(n) & self.mask;
            self.ring.write(
                slot,
                Descriptor {
                    flags,
                    length,
                    ..descriptor
                },
            );
            n += 1;
        }
        Ok(())
    }
}
