// SPDX-License-Identifier: Apache-2.0
//! Clock of a worker: the kernel's coarse one, read every round, and its fine one, read at most once
//! a round and only if something is rationed.

use rustix::time::{ClockId, clock_gettime};

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Monotonic clock of one worker.
///
/// The coarse clock goes forward by the kernel's tick, 4 ms on most, so that a bucket that is filled
/// by it gets the tokens of a whole tick at once: how much of a burst passes would depend on where
/// in the tick it begins. Buckets are filled by the fine clock.
#[derive(Debug)]
pub(crate) struct Clock {
    source: Source,
    /// Fine time, once it was asked for in this round.
    fine_ns: Option<u64>,
}

/// Source of a clock's time.
#[derive(Debug)]
enum Source {
    Kernel,
    /// Set by hand, in nanoseconds.
    Stepped(u64),
}

impl Clock {
    /// Makes a clock of the kernel's time.
    pub(crate) fn new() -> Clock {
        Clock {
            source: Source::Kernel,
            fine_ns: None,
        }
    }

    /// Stops the clock at a time in nanoseconds, to be set again by hand.
    pub(crate) fn step_to(&mut self, nanos: u64) {
        *self = Clock {
            source: Source::Stepped(nanos),
            fine_ns: None,
        };
    }

    /// Begins a round: reads the coarse time, in milliseconds. A read costs a few nanoseconds and no
    /// system call.
    #[inline]
    pub(crate) fn begin_round(&mut self) -> u64 {
        self.fine_ns = None;
        match self.source {
            Source::Kernel => nanos_of(ClockId::MonotonicCoarse) / NANOS_PER_MILLI,
            Source::Stepped(nanos) => nanos / NANOS_PER_MILLI,
        }
    }

    /// Returns the fine time of this round, in nanoseconds: as of the first call in it.
    #[inline]
    pub(crate) fn now_ns(&mut self) -> u64 {
        let source = &self.source;
        *self.fine_ns.get_or_insert_with(|| match source {
            Source::Kernel => nanos_of(ClockId::Monotonic),
            Source::Stepped(nanos) => *nanos,
        })
    }
}

/// Reads one of the kernel's monotonic clocks.
fn nanos_of(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fine_time_stands_still_within_a_round() {
        let mut clock = Clock::new();
        clock.begin_round();
        let first = clock.now_ns();
        assert_eq!(clock.now_ns(), first);
        clock.begin_round();
        assert!(clock.now_ns() >= first);
    }

    #[test]
    fn both_times_are_of_one_clock() {
        let mut clock = Clock::new();
        let coarse_ms = clock.begin_round();
        assert!(clock.now_ns() >= coarse_ms * NANOS_PER_MILLI);
        clock.step_to(7_999_999);
        assert_eq!((clock.begin_round(), clock.now_ns()), (7, 7_999_999));
    }
}
