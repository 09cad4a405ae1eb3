// SPDX-License-Identifier: Apache-2.0
//! Division of the mempools: what the rings between workers may hold, and the mbufs that there must be
//! for everything that can hold some.

use sluice_mem::BURST;

use crate::pipeline::handoff_ring::SPARSE_FRAMES;

/// Small mbufs that a worker's cache keeps at hand.
pub(crate) const CACHE_MBUFS: usize = 512;
/// Large mbufs that a worker's cache keeps at hand.
const LARGE_CACHE_MBUFS: usize = 128;
/// Mbufs that a worker has in its hands in the middle of a flow: a burst received, one collected for an
/// uplink, and the answers to a burst of each ring from another worker.
const IN_HAND: usize = 4 * BURST;
/// Small mbufs that a worker keeps and has in its hands.
const SMALL_KEPT: usize = CACHE_MBUFS + IN_HAND;
/// Large mbufs that a worker keeps and has in its hands.
const LARGE_KEPT: usize = LARGE_CACHE_MBUFS + 2 * BURST;
/// Frames of pods in the ring from one worker to another. Four rounds of the receiver empty it: a
/// longer one would only have frames wait longer.
const POD_FRAMES: usize = 256;
/// Frames of the wire in the ring from one worker to another, at least and at most.
const OTHER_FRAMES: (usize, usize) = (64, 1024);
/// Large mbufs in each of these rings, at least and at most.
const LARGE: (usize, usize) = (64, 512);

/// Frames of accounts that send little, in both rings from one worker to another.
const SPARSE: usize = 2 * SPARSE_FRAMES;

/// Sizes of the rings from one worker to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingSizes {
    /// Frames of pods, without those of [`SPARSE_FRAMES`].
    pub(crate) pods: usize,
    /// Frames of the wire, and answers.
    pub(crate) others: usize,
    /// Large mbufs among the frames of each ring.
    pub(crate) large: usize,
}

/// Ordered pairs of workers: each has two rings.
fn pairs(workers: usize) -> usize {
    workers * workers.saturating_sub(1)
}

impl RingSizes {
    /// The sizes with which the rings of all workers together hold at most half of the mbufs, and
    /// what the workers keep is left, where that is possible.
    pub(crate) fn for_pools(workers: usize, small: u32, large: u32) -> RingSizes {
        let pairs = pairs(workers).max(1);
        let part = |mbufs: u32, kept: usize| {
            let mbufs = mbufs as usize;
            mbufs.saturating_sub(kept).min(mbufs / 2) / pairs
        };
        let small = part(small, workers * SMALL_KEPT);
        let large = part(large, workers * LARGE_KEPT) / 2;
        let others = match small.saturating_sub(POD_FRAMES + SPARSE) {
            0 => 0,
            room => 1 << room.ilog2(),
        };
        RingSizes {
            pods: POD_FRAMES,
            others: others.clamp(OTHER_FRAMES.0, OTHER_FRAMES.1),
            large: large.clamp(LARGE.0, LARGE.1),
        }
    }
}

/// The fewest mbufs with which nobody can take another's: what caches, rings between workers and
/// devices can hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastMbufs {
    /// Small ones.
    pub small: u32,
    /// Large ones.
    pub large: u32,
}

impl LeastMbufs {
    /// For so many workers, and devices whose rings hold `in_devices` mbufs together, of either kind.
    pub fn new(workers: usize, in_devices: usize) -> LeastMbufs {
        let pairs = pairs(workers);
        let small = workers * SMALL_KEPT + pairs * (POD_FRAMES + OTHER_FRAMES.0 + SPARSE);
        let large = workers * LARGE_KEPT + pairs * 2 * LARGE.0;
        let count = |mbufs: usize| u32::try_from(mbufs).unwrap_or(u32::MAX);
        LeastMbufs {
            small: count(small + in_devices),
            large: count(large),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rings_hold_at_most_half_of_the_mbufs() {
        for workers in 2..=64 {
            for factor in [1, 2, 5] {
                let LeastMbufs { small, large } = LeastMbufs::new(workers, 0);
                let sizes = RingSizes::for_pools(workers, small * factor, large * factor);
                assert!(sizes.pods.is_power_of_two() && sizes.others.is_power_of_two());
                let held = pairs(workers) * (sizes.pods + sizes.others + SPARSE);
                let rest = workers * SMALL_KEPT;
                let all = (small * factor) as usize;
                assert!(
                    held + rest <= all,
                    "{workers} workers: {sizes:?}, {all} mbufs"
                );
                let held = pairs(workers) * 2 * sizes.large;
                let rest = workers * LARGE_KEPT;
                assert!(held + rest <= (large * factor) as usize);
            }
        }
    }

    #[test]
    fn one_worker_has_no_rings_and_needs_little() {
        let least = LeastMbufs::new(1, 1024);
        assert_eq!((least.small, least.large), (512 + 256 + 1024, 256));
    }
}
