// SPDX-License-Identifier: Apache-2.0
//! Counts of frames whose end a port tells later, from a thread of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use sluice_stats::Traffic;

use crate::drops::{DropCounts, DropReason};

/// Ends of the frames that ports took as [pending](crate::Sent::pending). An attachment's port writes them, and
/// the port before while that one ends; they outlive both.
#[derive(Debug, Default)]
pub struct LateCounts {
    tx_frames: AtomicU64,
    tx_bytes: AtomicU64,
    drops: DropCounts,
    /// Frames from pods that lay in their ports when these ended: in and out at once.
    unread: DropCounts,
    /// The worker's, over all its attachments, those that are gone included.
    sum: OnceLock<Arc<LateCounts>>,
}

impl LateCounts {
    /// Has everything counted at `sum` too, from now on; the first sum stays.
    pub(crate) fn add_to(&self, sum: &Arc<LateCounts>) {
        let _ = self.sum.set(Arc::clone(sum));
    }

    /// Counts a frame that the pod has.
    pub(crate) fn sent(&self, bytes: usize) {
        for counts in [Some(self), self.sum.get().map(Arc::as_ref)] {
            let Some(counts) = counts else { continue };
            counts.tx_frames.fetch_add(1, Ordering::Relaxed);
            counts.tx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Counts a frame that was lost.
    pub(crate) fn lost(&self, reason: DropReason) {
        self.drops.add_beside_others(reason, 1);
        if let Some(sum) = self.sum.get() {
            sum.drops.add_beside_others(reason, 1);
        }
    }

    /// Counts frames from the pod that no worker took.
    pub(crate) fn unread(&self, frames: u64) {
        if frames == 0 {
            return;
        }
        for counts in [Some(self), self.sum.get().map(Arc::as_ref)] {
            let Some(counts) = counts else { continue };
            let unread = &counts.unread;
            unread.add_beside_others(DropReason::LinkDown, frames);
        }
    }

    /// Returns the frames and bytes that pods have.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            tx_frames: self.tx_frames.load(Ordering::Relaxed),
            tx_bytes: self.tx_bytes.load(Ordering::Relaxed),
            ..Traffic::default()
        }
    }

    /// Returns the counts of the frames that were lost.
    pub fn drops(&self) -> &DropCounts {
        &self.drops
    }

    /// Returns the counts of the frames from pods that no worker took.
    pub fn unread_drops(&self) -> &DropCounts {
        &self.unread
    }

    /// Returns the number of frames whose end is known.
    pub fn ended(&self) -> u64 {
        let lost = self.drops.total();
        self.tx_frames.load(Ordering::Relaxed).wrapping_add(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_keeps_the_sum_of_its_attachments() {
        let sum = Arc::default();
        for bytes in [60, 100] {
            let attachment = LateCounts::default();
            attachment.add_to(&sum);
            attachment.sent(bytes);
            attachment.lost(DropReason::LinkDown);
            attachment.unread(3);
            assert_eq!(attachment.ended(), 2);
        }
        assert_eq!(sum.ended(), 4);
        assert_eq!(sum.traffic().tx_bytes, 160);
        assert_eq!(sum.drops().get(DropReason::LinkDown), 2);
        assert_eq!(sum.unread_drops().get(DropReason::LinkDown), 6);
    }
}
