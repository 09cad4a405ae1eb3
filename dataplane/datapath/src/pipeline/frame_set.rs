// SPDX-License-Identifier: Apache-2.0
//! Set of positions in a burst.

use sluice_mem::BURST;

/// Some frames of a burst, by position: bit `n` for the `n`th.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FrameSet(u64);

const _: () = assert!(BURST <= 64, "a burst's frames fit a word");

impl FrameSet {
    /// Set of no frame.
    pub(crate) const EMPTY: FrameSet = FrameSet(0);

    /// Set of the first `frames` frames.
    #[inline]
    pub(crate) fn first(frames: usize) -> FrameSet {
        match frames {
            0 => FrameSet::EMPTY,
            some => FrameSet(u64::MAX >> (64 - some.min(64))),
        }
    }

    /// Returns the number of frames in the set.
    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether no frame is in the set.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the `n`th frame is in the set.
    #[inline]
    pub(crate) fn contains(self, n: usize) -> bool {
        self.0 & 1 << (n % 64) != 0
    }

    /// Adds the `n`th frame.
    #[inline]
    pub(crate) fn insert(&mut self, n: usize) {
        self.0 |= 1 << (n % 64);
    }

    /// Renumbers the set after the frames of `removed` were taken out of the burst.
    pub(crate) fn close_up(&mut self, removed: FrameSet) {
        let mut rest = removed.0;
        while rest != 0 {
            // The highest first, so that the numbers below are still right.
            let n = 63 - rest.leading_zeros();
            let below = (1 << n) - 1;
            self.0 = self.0 & below | self.0 >> 1 & !below;
            rest &= below;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_up_renumbers_as_removing_does() {
        for (members, removed) in [
            (0b1011_0010_u64, 0b0010_0001_u64),
            (u64::MAX, 1 << 63 | 1),
            (0x5555_5555_5555_5555, 0xf0f0_0000_0000_ffff),
            (7, 0),
        ] {
            let mut set = FrameSet(members);
            set.close_up(FrameSet(removed));
            let kept = (0..64).filter(|n| removed & 1 << n == 0);
            for (now, before) in kept.enumerate() {
                assert_eq!(set.contains(now), members & 1 << before != 0);
            }
        }
    }

    #[test]
    fn the_first_frames_are_those_below_a_number() {
        for frames in 0..=64 {
            let set = FrameSet::first(frames);
            assert_eq!(set.is_empty(), frames == 0);
            assert!((0..64).all(|n| set.contains(n) == (n < frames)));
        }
    }
}
