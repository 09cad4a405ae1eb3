// SPDX-License-Identifier: Apache-2.0
//! Sizes of the bursts that a worker received from ports.

use sluice_mem::BURST;

use super::Count;

/// Classes of burst sizes: 1, 2 to 3, 4 to 7, ... frames; the last holds the full burst alone.
pub const BURST_CLASSES: usize = BURST.ilog2() as usize + 1;

/// Histogram of the bursts that a worker received, empty ones left out.
#[derive(Debug, Default)]
pub(crate) struct BurstCounts {
    classes: [Count; BURST_CLASSES],
    frames: Count,
}

impl BurstCounts {
    /// Counts a burst of `frames` frames, at least one.
    #[inline(always)]
    pub(crate) fn received(&self, frames: usize) {
        if let Some(class) = frames.checked_ilog2()
            && let Some(count) = self.classes.get(class as usize)
        {
            count.add(1);
            self.frames.add(frames as u64);
        }
    }

    /// Returns the number of bursts of each class.
    pub(crate) fn read(&self) -> [u64; BURST_CLASSES] {
        std::array::from_fn(|class| self.classes[class].get())
    }

    /// Returns the frames in all these bursts.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_in_the_class_of_its_size() {
        let counts = BurstCounts::default();
        for frames in [0, 1, 1, 2, 3, 4, 63, 64, 64, 64] {
            counts.received(frames);
        }
        assert_eq!(counts.read(), [2, 2, 1, 0, 0, 1, 3]);
        assert_eq!(counts.frames(), 2 + 5 + 4 + 63 + 3 * 64);
    }
}
