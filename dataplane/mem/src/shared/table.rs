// SPDX-License-Identifier: Apache-2.0
//! [`SharedTable`]: the records of a ring in memory that is shared with a pod.
#![allow(
    unsafe_code,
    reason = "reads and writes without a bounds check what was checked when it was made"
)]

use super::copies;
use super::region::{OutOfRange, SharedRegion};
use crate::prefetch::{prefetch_line, prefetch_line_to_write};

/// Bytes of a record.
const RECORD: usize = 16;

/// A power of two of 16-byte records in a [`SharedRegion`], all of them inside: checked once. A
/// record's number is taken modulo how many there are, so that an access needs no check.
#[derive(Debug)]
pub struct SharedTable {
    region: SharedRegion,
    /// The first of them, aligned to its size.
    first: *mut u8,
    /// Mask of an index: the number of entries, a power of two, minus one.
    mask: u16,
}

// SAFETY: as of the region's handle, which it holds.
unsafe impl Send for SharedTable {}
// SAFETY: as above.
unsafe impl Sync for SharedTable {}

impl SharedTable {
    /// The `2^log2` records that begin at `offset` of `region`; `log2` is 15 at most.
    ///
    /// # Errors
    /// [`OutOfRange`]: not all of them are inside, or `offset` is no multiple of 16.
    pub fn new(region: SharedRegion, offset: usize, log2: u8) -> Result<SharedTable, OutOfRange> {
        let records = 1_usize << log2.min(15);
        let (len, region_len) = (records * RECORD, region.len());
        if !region.contains(offset, len) || !offset.is_multiple_of(RECORD) || log2 > 15 {
            return Err(OutOfRange {
                offset,
                len,
                region_len,
            });
        }
        #[allow(clippy::cast_possible_truncation, reason = "at most 2^15")]
        let mask = (records - 1) as u16;
        Ok(SharedTable {
            first: region.base().wrapping_add(offset),
            region,
            mask,
        })
    }

    /// The region that they lie in.
    #[inline(always)]
    pub fn region(&self) -> &SharedRegion {
        &self.region
    }

    /// Mask of an index: the number of entries, a power of two, minus one.
    #[inline(always)]
    pub fn mask(&self) -> u16 {
        self.mask
    }

    /// Reads a record, each byte once.
    #[inline(always)]
    pub fn read(&self, number: u16) -> [u8; RECORD] {
        // SAFETY: `at` is the address of a record of the region.
        unsafe { copies::load16(self.at(number)) }
    }

    /// Writes a record.
    #[inline(always)]
    pub fn write(&self, number: u16, bytes: [u8; RECORD]) {
        // SAFETY: `at` is the address of a record of the region.
        unsafe { copies::store16(self.at(number), bytes) };
    }

    /// Writes a record's first half, at once, and leaves the other.
    #[inline(always)]
    pub fn write_first_half(&self, number: u16, bytes: [u8; RECORD / 2]) {
        // SAFETY: `at` is the address of a record of the region, and aligned to one: mappings begin
        // on a page's boundary.
        unsafe {
            self.at(number)
                .cast::<u64>()
                .write_volatile(u64::from_ne_bytes(bytes));
        }
    }

    /// Hints that the line of a record will be read soon.
    #[inline(always)]
    pub fn prefetch(&self, number: u16) {
        prefetch_line(self.at(number));
    }

    /// Hints that the line of a record will be written soon.
    #[inline(always)]
    pub fn prefetch_to_write(&self, number: u16) {
        prefetch_line_to_write(self.at(number));
    }

    #[inline(always)]
    fn at(&self, number: u16) -> *mut u8 {
        self.first
            .wrapping_add(usize::from(number & self.mask) * RECORD)
    }
}
