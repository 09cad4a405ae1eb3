// SPDX-License-Identifier: Apache-2.0
//! Busy and idle time of a worker, by the CPU's counter: one reading a loop, which the visits of the
//! pods' ports need anyway.

use crate::counters::WorkerCounts;

/// Meter of a worker's busy and idle time.
///
/// A span reaches from one reading to the next: from the pods' visits of one loop, through its flush and
/// its commands, to the uplinks of the next loop. It is busy if any of these found a frame. A sleep is
/// idle time.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Reading at the end of the last span; `None` before the first.
    last: Option<u64>,
    /// Frames found since then.
    frames: usize,
}

impl Usage {
    /// Adds frames to those found in this span.
    #[inline(always)]
    pub(super) fn found(&mut self, frames: usize) {
        self.frames += frames;
    }

    /// Ends the span at the reading `now`, and begins the next.
    #[inline(always)]
    pub(super) fn end_span(&mut self, now: u64, counts: &WorkerCounts) {
        let frames = std::mem::take(&mut self.frames);
        let took = self.last.map_or(0, |last| now.wrapping_sub(last));
        self.last = Some(now);
        // Another CPU's counter may be behind.
        if took > u64::MAX / 2 {
            return;
        }
        if frames == 0 {
            counts.idle_cycles.add(took);
        } else {
            counts.busy_cycles.add(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_with_a_frame_is_busy_and_one_without_is_idle() {
        let counts = WorkerCounts::default();
        let mut usage = Usage::default();
        usage.found(3);
        usage.end_span(5_000, &counts);
        usage.end_span(5_100, &counts);
        usage.found(1);
        usage.end_span(5_130, &counts);
        usage.end_span(5_130 - 40, &counts);
        usage.end_span(5_100, &counts);
        assert_eq!(counts.busy_cycles.get(), 30);
        assert_eq!(counts.idle_cycles.get(), 110);
    }
}
