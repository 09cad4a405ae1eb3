// SPDX-License-Identifier: Apache-2.0
//! MAC addresses under a mask.

use std::fmt;
use std::ops::RangeInclusive;

use sluice_packet::Mac;

/// Bits of a MAC address.
const BITS: u32 = 48;
/// Every bit of a MAC address.
const ALL: u64 = (1 << BITS) - 1;
/// Most free bits above the lowest fixed one. Each doubles the ranges of addresses that the mask
/// stands for, and a table has a boundary for each.
const MOST_SCATTERED: u32 = 8;

/// MAC addresses that agree with one in the bits of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaskedMac {
    value: u64,
    mask: u64,
}

impl MaskedMac {
    /// Broadcast address alone.
    pub const BROADCAST: MaskedMac = MaskedMac {
        value: ALL,
        mask: ALL,
    };
    /// Group addresses: those with the group bit (IEEE 802-2014, clause 8.2), broadcast among them.
    pub const MULTICAST: MaskedMac = MaskedMac {
        value: 1 << 40,
        mask: 1 << 40,
    };

    /// Addresses that agree with `mac` in the bits of `mask`; bits of `mac` outside it are ignored.
    ///
    /// `None` if more than eight bits above the lowest one of the mask are free: such a mask stands
    /// for more ranges of addresses than a rule may have.
    #[must_use]
    pub fn new(mac: Mac, mask: Mac) -> Option<MaskedMac> {
        let mask = number(mask);
        let masked = MaskedMac {
            value: number(mac) & mask,
            mask,
        };
        (masked.scattered().count_ones() <= MOST_SCATTERED).then_some(masked)
    }

    /// Addresses that agree with `mac` in their first `length` bits, 0 to 48; `None` above.
    #[must_use]
    pub fn with_prefix(mac: Mac, length: u32) -> Option<MaskedMac> {
        let free = BITS.checked_sub(length)?;
        let mask = (ALL >> free) << free;
        Some(MaskedMac {
            value: number(mac) & mask,
            mask,
        })
    }

    /// Whether `mac` is one of them.
    #[must_use]
    pub fn contains(self, mac: Mac) -> bool {
        number(mac) & self.mask == self.value
    }

    /// Lowest address: the one that was given, less what the mask leaves free.
    #[must_use]
    pub fn first(self) -> Mac {
        let [_, _, octets @ ..] = self.value.to_be_bytes();
        Mac::new(octets)
    }

    /// Addresses that are among these and not among those of `hole`, each in one of the results.
    pub(crate) fn minus(self, hole: MaskedMac) -> Vec<MaskedMac> {
        if (self.value ^ hole.value) & self.mask & hole.mask != 0 {
            return vec![self];
        }
        // For each bit that only the hole fixes, from the highest on: those that agree with the hole
        // above it and not in it.
        let mut left = Vec::new();
        let mut shared = self;
        for bit in (0..BITS).rev().map(|bit| 1 << bit) {
            if hole.mask & bit == 0 || self.mask & bit != 0 {
                continue;
            }
            shared.mask |= bit;
            shared.value |= hole.value & bit;
            left.push(MaskedMac {
                value: shared.value ^ bit,
                mask: shared.mask,
            });
        }
        left
    }

    /// Free bits above the lowest fixed one.
    fn scattered(self) -> u64 {
        let low = low_bits(self.mask);
        ALL & !self.mask & !low
    }

    /// Addresses as ranges of numbers, ascending and apart from each other.
    pub(crate) fn ranges(self) -> impl Iterator<Item = RangeInclusive<u64>> {
        let (low, scattered) = (low_bits(self.mask), self.scattered());
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let chosen = next?;
            // The next higher choice of scattered bits: carries run over the fixed ones.
            let higher = (chosen | !scattered).wrapping_add(1) & scattered;
            next = (higher != 0).then_some(higher);
            let first = self.value | chosen;
            Some(first..=first | low)
        })
    }
}

/// The address alone.
impl From<Mac> for MaskedMac {
    fn from(mac: Mac) -> MaskedMac {
        MaskedMac {
            value: number(mac),
            mask: ALL,
        }
    }
}

/// Formats as `tc-flower` reads it: the address, with a number of bits or a mask if it has one.
impl fmt::Display for MaskedMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first())?;
        let length = self.mask.count_ones();
        if self.mask == ALL {
            return Ok(());
        }
        if self.scattered() == 0 {
            return write!(f, "/{length}");
        }
        let [_, _, octets @ ..] = self.mask.to_be_bytes();
        write!(f, "/{}", Mac::new(octets))
    }
}

/// Number of a MAC address, in the order of its bytes.
pub(crate) fn number(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.octets();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// Bits below the lowest one of `mask`; all of them if it has none.
fn low_bits(mask: u64) -> u64 {
    match mask {
        0 => ALL,
        mask => (1 << mask.trailing_zeros()) - 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn mac(text: &str) -> Mac {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_hold_what_the_mask_lets_through() {
        let vendor = MaskedMac::with_prefix(mac("02:00:5e:11:22:33"), 24).unwrap();
        assert_eq!(vendor.to_string(), "02:00:5e:00:00:00/24");
        let ranges: Vec<_> = vendor.ranges().collect();
        assert_eq!(ranges, [0x0200_5e00_0000..=0x0200_5eff_ffff]);
        let all = MaskedMac::with_prefix(Mac::ZERO, 0).unwrap();
        assert_eq!(all.ranges().collect::<Vec<_>>(), [0..=ALL]);
        assert!(MaskedMac::with_prefix(Mac::ZERO, 49).is_none());
        let one = MaskedMac::from(mac("02:00:00:00:00:01"));
        assert_eq!(one.to_string(), "02:00:00:00:00:01");
        assert_eq!(
            one.ranges().collect::<Vec<_>>(),
            [0x0200_0000_0001..=0x0200_0000_0001]
        );
    }

    #[test]
    fn scattered_masks_are_several_ranges() {
        let ranges: Vec<_> = MaskedMac::MULTICAST.ranges().collect();
        assert_eq!(ranges.len(), 128);
        assert_eq!(ranges[0], 0x0100_0000_0000..=0x01ff_ffff_ffff);
        assert_eq!(ranges[127], 0xff00_0000_0000..=0xffff_ffff_ffff);
        assert!(MaskedMac::MULTICAST.contains(Mac::BROADCAST));
        assert!(!MaskedMac::MULTICAST.contains(mac("02:00:00:00:00:01")));
        assert_eq!(
            MaskedMac::MULTICAST.to_string(),
            "01:00:00:00:00:00/01:00:00:00:00:00"
        );
        // For every address, ranges and mask agree.
        let masked = MaskedMac::new(mac("00:10:00:00:00:03"), mac("ff:f0:ff:f0:ff:ff")).unwrap();
        let ranges: Vec<_> = masked.ranges().collect();
        assert_eq!(ranges.len(), 256);
        for number in [0x0010_0000_0003, 0x001f_000f_0003, 0x0020_0000_0003, 0] {
            let [_, _, octets @ ..] = u64::to_be_bytes(number);
            let in_ranges = ranges.iter().any(|range| range.contains(&number));
            assert_eq!(in_ranges, masked.contains(Mac::new(octets)), "{number:#x}");
        }
        assert!(MaskedMac::new(Mac::ZERO, mac("80:00:00:00:00:01")).is_none());
    }
}
