// SPDX-License-Identifier: Apache-2.0
//! [`IovaSpace`]: which addresses of the devices' address space are free.
//!
//! The addresses come from what the IOMMU says it translates, never from a virtual address of the
//! process: a pointer that a driver writes into a descriptor by mistake then faults at the IOMMU
//! instead of working by chance, and one process's layout says nothing about another's.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::Iova;

/// The unit of everything here: x86's page.
pub(crate) const PAGE: u64 = 4096;

/// Window in which x86 takes writes of devices for interrupts (Intel SDM volume 3, section 11.11.1): never
/// memory. The kernel leaves it out of the ranges it reports since Linux 5.4.
const MSI_WINDOW: RangeInclusive<u64> = 0xfee0_0000..=0xfeef_ffff;

/// Range taken as translated when the kernel does not report one: the 39 bits of address that every
/// IOMMU has.
pub(crate) const UNREPORTED: RangeInclusive<u64> = 0..=(1 << 39) - 1;

/// Free ranges of the address space that devices see. Never gives out page 0 (so that an address of
/// zero in a descriptor is a mistake that shows) nor the window of the interrupts.
#[derive(Debug, Clone)]
pub(crate) struct IovaSpace {
    /// First byte to last byte of each free range: whole pages, apart from one another.
    free: BTreeMap<u64, u64>,
    /// Ranges that may be given out at all, in the form of `UNREPORTED`.
    usable: BTreeMap<u64, u64>,
}

impl IovaSpace {
    /// All of `ranges` (first and last byte) that may be given out, in whole pages.
    pub(crate) fn new(ranges: &[RangeInclusive<u64>]) -> IovaSpace {
        let usable = usable(ranges);
        IovaSpace {
            free: usable.clone(),
            usable,
        }
    }

    /// The lowest free `len` bytes (rounded up to pages) at a multiple of `align` (a power of two
    /// of at least a page); `None` if there is no such hole.
    pub(crate) fn allocate(&mut self, len: u64, align: u64) -> Option<Iova> {
        let len = len.max(1).checked_next_multiple_of(PAGE)?;
        let align = align.max(PAGE);
        let (start, last, at) = self.free.iter().find_map(|(&start, &last)| {
            let at = start.checked_next_multiple_of(align)?;
            (at.checked_add(len - 1)? <= last).then_some((start, last, at))
        })?;
        self.free.remove(&start);
        if start < at {
            self.free.insert(start, at - 1);
        }
        let end = at + (len - 1);
        if end < last {
            self.free.insert(end + 1, last);
        }
        Some(Iova(at))
    }

    /// Gives back what [`IovaSpace::allocate`] gave out for the same `len`.
    pub(crate) fn release(&mut self, at: Iova, len: u64) {
        let Some(len) = len.max(1).checked_next_multiple_of(PAGE) else {
            return;
        };
        let (mut start, mut last) = (at.0, at.0.saturating_add(len - 1));
        if let Some((&before, &end)) = self.free.range(..start).next_back()
            && end.checked_add(1) == Some(start)
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(end) = self.free.remove(&after)
        {
            last = end;
        }
        self.free.insert(start, last);
        // The ranges may have narrowed meanwhile.
        self.free = intersection(&self.free, &self.usable);
    }

    /// From now on gives out of `ranges` only: a group that joined may have brought holes with it,
    /// or one that left may have taken some with it. `used` is what is given out.
    pub(crate) fn narrow(&mut self, ranges: &[RangeInclusive<u64>], used: &[(Iova, u64)]) {
        self.usable = usable(ranges);
        self.free = self.usable.clone();
        for &(at, len) in used {
            let len = len.max(1).next_multiple_of(PAGE);
            cut(&mut self.free, at.0..=at.0.saturating_add(len - 1));
        }
    }
}

/// `ranges` in whole pages, merged, without page 0 and the interrupts' window.
fn usable(ranges: &[RangeInclusive<u64>]) -> BTreeMap<u64, u64> {
    let mut sorted: Vec<(u64, u64)> = ranges
        .iter()
        .filter(|range| !range.is_empty())
        .filter_map(|range| {
            let start = range.start().checked_next_multiple_of(PAGE)?;
            // The last byte of the last whole page.
            let last = match range.end().checked_add(1) {
                Some(end) => (end - end % PAGE).checked_sub(1)?,
                None => u64::MAX,
            };
            (start < last).then_some((start, last))
        })
        .collect();
    sorted.sort_unstable();
    let mut merged: BTreeMap<u64, u64> = BTreeMap::new();
    for (start, last) in sorted {
        match merged.last_entry() {
            Some(mut entry) if start <= entry.get().saturating_add(1) => {
                let reach = last.max(*entry.get());
                entry.insert(reach);
            }
            _ => {
                merged.insert(start, last);
            }
        }
    }
    cut(&mut merged, 0..=PAGE - 1);
    cut(&mut merged, MSI_WINDOW);
    merged
}

/// Takes `hole` out of `ranges`.
fn cut(ranges: &mut BTreeMap<u64, u64>, hole: RangeInclusive<u64>) {
    let touched: Vec<(u64, u64)> = ranges
        .range(..=*hole.end())
        .filter(|&(_, last)| last >= hole.start())
        .map(|(&start, &last)| (start, last))
        .collect();
    for (start, last) in touched {
        ranges.remove(&start);
        if start < *hole.start() {
            ranges.insert(start, hole.start() - 1);
        }
        if last > *hole.end() {
            ranges.insert(hole.end() + 1, last);
        }
    }
}

fn intersection(a: &BTreeMap<u64, u64>, b: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let mut both = BTreeMap::new();
    for (&start, &last) in a {
        for (&other_start, &other_last) in b {
            let (from, to) = (start.max(other_start), last.min(other_last));
            if from <= to {
                both.insert(from, to);
            }
        }
    }
    both
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holes() {
        let mut space = IovaSpace::new(&[0..=0xfedf_ffff, 0xfef0_0000..=u64::MAX]);
        // Page 0 is kept back.
        assert_eq!(space.allocate(1, PAGE), Some(Iova(PAGE)));
        // Does not fit below the window.
        assert_eq!(space.allocate(0xff00_0000, PAGE), Some(Iova(0xfef0_0000)));
        // Kernels that report no hole for the interrupts get one all the same.
        let mut space = IovaSpace::new(&[0xfedf_f000..=0xfef0_0fff]);
        assert_eq!(space.allocate(PAGE, PAGE), Some(Iova(0xfedf_f000)));
        assert_eq!(space.allocate(PAGE, PAGE), Some(Iova(0xfef0_0000)));
        assert_eq!(space.allocate(PAGE, PAGE), None);
    }

    #[test]
    fn ranges_that_are_no_pages() {
        let mut space = IovaSpace::new(&[0x1001..=0x2fff, 0x5000..=0x5ffe, 0x9000..=0x9000]);
        assert_eq!(space.allocate(1, PAGE), Some(Iova(0x2000)));
        assert_eq!(space.allocate(1, PAGE), None);
        assert_eq!(space.allocate(u64::MAX, PAGE), None);
        let mut reversed = IovaSpace::new(&[RangeInclusive::new(9, 3)]);
        assert_eq!(reversed.allocate(1, PAGE), None);
    }

    #[test]
    fn narrowed() {
        let mut space = IovaSpace::new(&[0x1000..=0xffff]);
        let first = space.allocate(0x2000, PAGE).unwrap();
        space.narrow(&[0x2000..=0x7fff], &[(first, 0x2000)]);
        assert_eq!(space.allocate(PAGE, PAGE), Some(Iova(0x3000)));
        space.release(first, 0x2000);
        // 0x1000 is no longer allowed, 0x2000 is free again.
        assert_eq!(space.allocate(PAGE, PAGE), Some(Iova(0x2000)));
        assert_eq!(space.allocate(0x4000, PAGE), Some(Iova(0x4000)));
        assert_eq!(space.allocate(PAGE, PAGE), None);
    }

    proptest! {
        /// Areas given out lie in the ranges, outside the window, on its alignment, apart from
        /// what else is out; and giving all back makes the space what it was.
        #[test]
        fn apart(
            holes in prop::collection::vec((0u64..1 << 20, 0u64..1 << 18), 0..4),
            steps in prop::collection::vec((1u64..40 * PAGE, 12u32..22, any::<bool>()), 1..60),
        ) {
            let mut ranges = BTreeMap::from([(0xfe80_0000u64, 0xff80_0000u64)]);
            for (at, len) in holes {
                cut(&mut ranges, 0xfe80_0000 + at..=0xfe80_0000 + at + len);
            }
            let ranges: Vec<_> = ranges.into_iter().map(|(start, last)| start..=last).collect();
            let mut space = IovaSpace::new(&ranges);
            let fresh = space.free.clone();
            let mut out: Vec<(Iova, u64)> = Vec::new();
            for (len, align, give_back) in steps {
                if give_back && !out.is_empty() {
                    let (at, len) = out.swap_remove(usize::try_from(len).unwrap() % out.len());
                    space.release(at, len);
                    continue;
                }
                let Some(at) = space.allocate(len, 1 << align) else { continue };
                let last = at.0 + len.next_multiple_of(PAGE) - 1;
                prop_assert_eq!(at.0 % (1 << align), 0);
                prop_assert!(ranges.iter().any(|r| *r.start() <= at.0 && last <= *r.end()));
                prop_assert!(last < *MSI_WINDOW.start() || at.0 > *MSI_WINDOW.end());
                for &(other, other_len) in &out {
                    let other_last = other.0 + other_len.next_multiple_of(PAGE) - 1;
                    prop_assert!(last < other.0 || other_last < at.0);
                }
                out.push((at, len));
            }
            for (at, len) in out {
                space.release(at, len);
            }
            prop_assert_eq!(space.free, fresh);
        }
    }
}
