// SPDX-License-Identifier: Apache-2.0
//! Values without exceptions.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::{Vid, VidRange};

use crate::masked_mac::MaskedMac;

/// Value that stands for several things, of which some can be taken away.
pub(crate) trait Divisible: Sized {
    /// Values that stand together for what this one does and `hole` does not.
    fn minus(self, hole: &Self) -> Vec<Self>;
}

/// Values that stand together for what `values` do and `holes` do not.
pub(crate) fn without<T: Divisible>(values: Vec<T>, holes: &[T]) -> Vec<T> {
    holes.iter().fold(values, |left, hole| {
        let left = left.into_iter();
        left.flat_map(|value| value.minus(hole)).collect()
    })
}

impl Divisible for IpNet {
    fn minus(self, hole: &IpNet) -> Vec<IpNet> {
        if hole.contains(&self) {
            return Vec::new();
        }
        if !self.contains(hole) {
            return vec![self];
        }
        // Halves, of which one has the hole.
        let halves = self.subnets(self.prefix_len() + 1);
        let halves = halves.into_iter().flatten();
        halves.flat_map(|half| half.minus(hole)).collect()
    }
}

impl Divisible for RangeInclusive<u16> {
    fn minus(self, hole: &RangeInclusive<u16>) -> Vec<RangeInclusive<u16>> {
        if hole.end() < self.start() || self.end() < hole.start() {
            return vec![self];
        }
        let below = hole.start().checked_sub(1).map(|end| *self.start()..=end);
        let above = hole.end().checked_add(1).map(|start| start..=*self.end());
        let left = [below, above].into_iter().flatten();
        left.filter(|range| !range.is_empty()).collect()
    }
}

impl Divisible for VidRange {
    fn minus(self, hole: &VidRange) -> Vec<VidRange> {
        let numbers = |range: VidRange| range.first().get()..=range.last().get();
        let left = numbers(self).minus(&numbers(*hole)).into_iter();
        let vids = left.filter_map(|range| {
            let (first, last) = (Vid::new(*range.start()), Vid::new(*range.end()));
            VidRange::new(first?, last?).ok()
        });
        vids.collect()
    }
}

impl Divisible for MaskedMac {
    fn minus(self, hole: &MaskedMac) -> Vec<MaskedMac> {
        MaskedMac::minus(self, *hole)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use sluice_packet::Mac;

    #[test]
    fn prefixes() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let left = |nets: Vec<IpNet>, holes: &[IpNet]| -> Vec<String> {
            let left = without(nets, holes);
            left.iter().map(ToString::to_string).collect()
        };
        let nets = vec![net("10.0.0.0/8"), net("fd00::/8")];
        assert_eq!(
            left(nets.clone(), &[net("10.128.0.0/10"), net("fd00::/9")]),
            ["10.0.0.0/9", "10.192.0.0/10", "fd80::/9"]
        );
        assert_eq!(left(nets, &[net("0.0.0.0/0")]), ["fd00::/8"]);
        let one = left(vec![net("10.0.0.0/30")], &[net("10.0.0.1/32")]);
        assert_eq!(one, ["10.0.0.0/32", "10.0.0.2/31"]);
    }

    #[test]
    fn ranges() {
        assert_eq!(without(vec![0..=9], &[3..=4]), [0..=2, 5..=9]);
        assert_eq!(without(vec![0..=9, 20..=29], &[5..=24]), [0..=4, 25..=29]);
        let all = vec![0..=u16::MAX];
        assert_eq!(without(all.clone(), &[0..=0]), [1..=u16::MAX]);
        assert_eq!(without(all.clone(), &[9..=u16::MAX]), [0..=8]);
        assert_eq!(without(all.clone(), &all), []);
    }

    #[test]
    fn macs() {
        let group = vec![MaskedMac::MULTICAST];
        let left = without(group, &[MaskedMac::BROADCAST]);
        assert!(left.iter().all(|one| !one.contains(Mac::BROADCAST)));
        for octets in [
            [1, 0, 0, 0, 0, 0],
            [0x33, 0x33, 0, 0, 0, 1],
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xfe],
        ] {
            let found = left.iter().filter(|one| one.contains(Mac::new(octets)));
            assert_eq!(found.count(), 1, "{octets:x?}");
        }
        assert!(
            left.iter()
                .all(|one| !one.contains(Mac::new([2, 0, 0, 0, 0, 1])))
        );
        let vendor = MaskedMac::with_prefix(Mac::new([2, 0, 0, 0, 0, 0]), 24).unwrap();
        assert_eq!(without(vec![vendor], &[MaskedMac::MULTICAST]), [vendor]);
        assert_eq!(without(vec![vendor], &[vendor]), []);
    }
}
