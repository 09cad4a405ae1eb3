// SPDX-License-Identifier: Apache-2.0
//! Memory table of a front end: its regions, and the translation of addresses.

use std::sync::Arc;

use sluice_mem::SharedRegion;
use sluice_peer::checks::{check, disabled};
use std::os::fd::OwnedFd;

use crate::refusal::Refusal;
use crate::region::{self, GuestRegion, RegionSpec};

/// Most regions at a time.
pub const MAX_REGIONS: usize = 32;

/// Bytes in the memory of a front end, found and checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Piece {
    /// Number of the region.
    pub(crate) region: u16,
    /// Offset in the region's mapping.
    pub(crate) offset: usize,
    /// Length in bytes.
    pub(crate) len: u32,
}

/// Regions as the rings see them: a new one for each change of the table.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Arc<[GuestRegion]>);

impl Memory {
    /// Mapping of region `number`.
    #[inline(always)]
    pub(crate) fn mapping(&self, number: u16) -> Option<&SharedRegion> {
        self.0.get(usize::from(number)).map(|region| &region.memory)
    }

    /// Region with this number, for bursts that lie in one.
    #[inline(always)]
    pub(crate) fn region(&self, number: u16) -> Option<&GuestRegion> {
        self.0.get(usize::from(number))
    }

    /// Finds `len` bytes at a guest's physical address. `None`: not all of them are in one region.
    #[inline(always)]
    pub(crate) fn find(&self, address: u64, len: u32) -> Option<Piece> {
        self.0.iter().zip(0..).find_map(|(region, number)| {
            Some(Piece {
                region: number,
                offset: region.offset(address, len)?,
                len,
            })
        })
    }

    /// Finds `len` bytes at an address of the front end's own, as rings are named by.
    pub(crate) fn find_user(&self, address: u64, len: usize) -> Option<(&SharedRegion, usize)> {
        self.0.iter().find_map(|region| {
            let at = usize::try_from(address.checked_sub(region.spec.user_address)?).ok()?;
            let inside = at <= region.len && len <= region.len - at;
            (inside || disabled("ring-range"))
                .then_some((&region.memory, region.start.wrapping_add(at)))
        })
    }

    /// Whether a page of any region was taken away under us.
    #[inline(always)]
    pub(crate) fn is_dead(&self) -> bool {
        self.0.iter().any(|region| region.memory.is_dead())
    }

    /// Shared memory in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|region| region.spec.bytes).sum()
    }

    /// Whether a region can still be made shorter by the front end.
    pub(crate) fn can_shrink(&self) -> bool {
        self.0.iter().any(|region| region.can_shrink)
    }
}

impl GuestRegion {
    /// Offset in the mapping of `len` bytes at a guest's physical address; `None`: not inside.
    #[inline(always)]
    pub(crate) fn offset(&self, address: u64, len: u32) -> Option<usize> {
        let at = address.wrapping_sub(self.spec.guest_address);
        let inside = at <= self.len as u64 && u64::from(len) <= self.len as u64 - at;
        if inside || disabled("buffer-range") {
            // Below the length of a mapping, so it fits.
            #[allow(clippy::cast_possible_truncation, reason = "inside the mapping")]
            Some(self.start.wrapping_add(at as usize))
        } else {
            None
        }
    }
}

/// Memory table, as the front end changes it.
#[derive(Debug)]
pub(crate) struct MemoryTable {
    regions: Vec<GuestRegion>,
    /// Most bytes of all regions.
    limit: u64,
}

impl MemoryTable {
    /// Empty table that takes `limit` bytes.
    pub(crate) fn new(limit: u64) -> MemoryTable {
        MemoryTable {
            regions: Vec::new(),
            limit,
        }
    }

    /// Replaces all regions. On an error none is left.
    ///
    /// # Errors
    /// A region is refused.
    pub(crate) fn replace(&mut self, regions: Vec<(RegionSpec, OwnedFd)>) -> Result<(), Refusal> {
        self.regions.clear();
        for (spec, fd) in regions {
            if let Err(refusal) = self.add(spec, fd) {
                self.regions.clear();
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Adds a region.
    ///
    /// # Errors
    /// It overlaps another, is one too many or too large, or its file is refused.
    pub(crate) fn add(&mut self, spec: RegionSpec, fd: OwnedFd) -> Result<(), Refusal> {
        check!(
            "region-count",
            self.regions.len() < MAX_REGIONS,
            Refusal::RegionCount
        );
        let used: u64 = self.regions.iter().map(|region| region.spec.bytes).sum();
        let asked = used.saturating_add(spec.bytes);
        check!(
            "memory-limit",
            asked <= self.limit,
            Refusal::MemoryLimit {
                asked,
                limit: self.limit
            }
        );
        // The mapping begins where the file does: what lies before the region takes address space.
        let mapped = spec.file_offset.saturating_add(spec.bytes);
        check!(
            "mapping-limit",
            mapped <= self.limit.saturating_mul(4),
            Refusal::MemoryLimit {
                asked: mapped,
                limit: self.limit
            }
        );
        let region = region::map(spec, fd)?;
        let other = self.regions.iter().find(|other| other.spec.overlaps(&spec));
        if let Some(other) = other.filter(|_| !disabled("region-overlap")) {
            return Err(Refusal::RegionOverlap(spec, other.spec));
        }
        self.regions.push(region);
        Ok(())
    }

    /// Removes the region of these addresses and this length.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn remove(&mut self, spec: &RegionSpec) -> Result<(), Refusal> {
        let found = self.regions.iter().position(|region| {
            let ours = &region.spec;
            ours.guest_address == spec.guest_address
                && ours.user_address == spec.user_address
                && ours.bytes == spec.bytes
        });
        match found {
            Some(at) => {
                self.regions.remove(at);
                Ok(())
            }
            None => Err(Refusal::RegionUnknown(*spec)),
        }
    }

    /// Forgets all regions.
    pub(crate) fn clear(&mut self) {
        self.regions.clear();
    }

    /// Regions as they are now.
    pub(crate) fn memory(&self) -> Memory {
        Memory(self.regions.clone().into())
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]
mod tests;
