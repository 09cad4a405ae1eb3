// SPDX-License-Identifier: Apache-2.0
//! Balance of the counters: every frame that came in went out, was dropped, or is on its way.

use crate::counters::{AttachmentCounts, UplinkCounts, WorkerCounts};

/// Sums over all uplinks, attachments and workers since the start, those that are gone included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Frames received by ports, those that a port had to drop at once included.
    pub received: u64,
    /// Copies that flooding made: one for each receiver, each worker and the wire.
    pub copied: u64,
    /// Answers to rejected frames, which the engine made.
    pub answered: u64,
    /// Frames sent by ports.
    pub sent: u64,
    /// Frames dropped, over all reasons.
    pub dropped: u64,
    /// Frames that ended by being flooded: their copies went on in their place.
    pub flooded: u64,
    /// Frames in the rings between workers, and in those to taps.
    pub in_flight: u64,
}

impl Balance {
    /// Returns frames in less frames out: 0 if every frame is accounted for, above 0 if some are
    /// missing, below 0 if some were counted twice.
    pub fn difference(&self) -> i64 {
        let entered = self.received.wrapping_add(self.copied);
        let entered = entered.wrapping_add(self.answered);
        let left = self.sent.wrapping_add(self.dropped);
        let left = left.wrapping_add(self.flooded).wrapping_add(self.in_flight);
        entered.wrapping_sub(left).cast_signed()
    }

    /// Whether every frame is accounted for.
    pub fn holds(&self) -> bool {
        self.difference() == 0
    }

    /// Adds another worker's sums.
    pub fn add(&mut self, other: &Balance) {
        let sum = |one: &mut u64, more: u64| *one = one.wrapping_add(more);
        sum(&mut self.received, other.received);
        sum(&mut self.copied, other.copied);
        sum(&mut self.answered, other.answered);
        sum(&mut self.sent, other.sent);
        sum(&mut self.dropped, other.dropped);
        sum(&mut self.flooded, other.flooded);
        // Each worker's is what it handed off less what it took over, so only the sum is a number of
        // frames.
        sum(&mut self.in_flight, other.in_flight);
    }

    /// Begins with a worker's own counts, and those of the ports that it had before.
    pub(crate) fn of_worker(counts: &WorkerCounts) -> Balance {
        let gone = counts.gone.traffic.read();
        // In and out at once.
        let lost = counts.gone.rx_lost.total() + counts.late.unread_drops().total();
        // Each is read once: their threads count on meanwhile.
        let late_sent = counts.late.traffic().tx_frames;
        let late_lost = counts.late.drops().total();
        let waiting = counts.pending.get();
        let waiting = waiting.wrapping_sub(late_sent).wrapping_sub(late_lost);
        Balance {
            received: gone.rx_frames.wrapping_add(lost),
            copied: counts.copies.get(),
            answered: counts.answers.get(),
            sent: gone.tx_frames.wrapping_add(late_sent),
            dropped: counts
                .drops
                .total()
                .wrapping_add(counts.drops_elsewhere.get())
                .wrapping_add(counts.gone.drops.total())
                .wrapping_add(late_lost)
                .wrapping_add(lost),
            flooded: counts.flooded.get(),
            in_flight: counts
                .handed_off
                .get()
                .wrapping_sub(counts.taken_over.get())
                .wrapping_add(waiting),
        }
    }

    /// Adds an uplink's counts.
    pub(crate) fn add_uplink(&mut self, counts: &UplinkCounts) {
        let (traffic, lost) = (counts.traffic.read(), counts.rx_lost.total());
        self.received += traffic.rx_frames + lost;
        self.sent += traffic.tx_frames;
        self.dropped += counts.drops.total() + lost;
    }

    /// Adds an attachment's counts.
    pub(crate) fn add_attachment(&mut self, counts: &AttachmentCounts) {
        let (traffic, lost) = (counts.traffic.read(), counts.rx_lost.total());
        self.received += traffic.rx_frames + lost;
        self.sent += traffic.tx_frames;
        self.dropped += counts.ingress_drops.total() + counts.egress_drops.total() + lost;
    }
}
