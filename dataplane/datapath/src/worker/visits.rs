// SPDX-License-Identifier: Apache-2.0
//! Time that each visit of a pod's port takes, by the CPU's counter, and the budget of a visit.

use sluice_mem::cycles;

use crate::counters::WorkerCounts;

/// Microseconds that a visit may take: a burst that misses the flow cache and is judged by large
/// policies takes less than a fifth of it.
const BUDGET_US: u64 = 500;
/// Milliseconds over which the counter is compared with the clock before its rate is believed.
const CALIBRATION_MS: u64 = 100;

/// Stopwatch of a worker's visits.
#[derive(Debug)]
pub(super) struct Visits {
    /// Reading of the counter at the end of the last visit.
    last: u64,
    /// Budget of a visit in units of the counter; with the rate not known yet there is none.
    budget: u64,
    /// First reading of counter and clock.
    first: Option<(u64, u64)>,
}

impl Visits {
    /// Makes a stopwatch that does not know the counter's rate yet.
    pub(super) fn new() -> Visits {
        Visits {
            last: 0,
            budget: u64::MAX,
            first: None,
        }
    }

    /// Begins the first visit of a round. Returns the counter's reading.
    #[inline(always)]
    pub(super) fn begin(&mut self) -> u64 {
        self.last = cycles();
        self.last
    }

    /// Ends a visit, and begins the next. Returns what it took.
    #[inline(always)]
    pub(super) fn end(&mut self) -> u64 {
        let now = cycles();
        let took = now.wrapping_sub(self.last);
        self.last = now;
        // Another CPU's counter may be behind.
        if took > u64::MAX / 2 { 0 } else { took }
    }

    /// Returns the budget in units of the counter.
    #[inline(always)]
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// Compares the counter with the worker's clock.
    pub(super) fn calibrate(&mut self, now_ms: u64, counts: &WorkerCounts) {
        self.compare(cycles(), now_ms, counts);
    }

    fn compare(&mut self, now: u64, now_ms: u64, counts: &WorkerCounts) {
        let (first, first_ms) = *self.first.get_or_insert((now, now_ms));
        let elapsed_ms = now_ms.saturating_sub(first_ms);
        if elapsed_ms < CALIBRATION_MS {
            return;
        }
        let per_ms = now.wrapping_sub(first) / elapsed_ms;
        counts.cycles_per_ms.set(per_ms);
        self.budget = per_ms.saturating_mul(BUDGET_US) / 1000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_from_the_counters_rate() {
        let counts = WorkerCounts::default();
        let mut visits = Visits::new();
        visits.compare(1_000, 50, &counts);
        visits.compare(99_001_000, 149, &counts);
        assert_eq!(visits.budget(), u64::MAX, "too early");
        visits.compare(200_001_000, 150, &counts);
        assert_eq!(counts.cycles_per_ms.get(), 2_000_000);
        assert_eq!(visits.budget(), 1_000_000);
    }

    #[test]
    fn a_counter_that_runs_backwards_takes_no_time() {
        let mut visits = Visits::new();
        visits.last = cycles().wrapping_add(1 << 40);
        assert_eq!(visits.end(), 0);
    }
}
