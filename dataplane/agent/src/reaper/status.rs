// SPDX-License-Identifier: Apache-2.0
//! Status of the reaper, for metrics and the page.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Counts of the reaper since the agent's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReaperCounts {
    /// Runs that ended.
    pub runs_total: u64,
    /// Records and attachments that were released.
    pub released_total: u64,
    /// Records and attachments whose release failed; the next run tries again.
    pub failed_total: u64,
    /// End of the last run.
    pub last_run: Option<SystemTime>,
}

/// Status of the reaper.
#[derive(Debug, Default)]
pub struct ReaperStatus(Mutex<ReaperCounts>);

impl ReaperStatus {
    /// Returns the counts.
    pub fn counts(&self) -> ReaperCounts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds one run.
    pub fn add(&self, released: u64, failed: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.runs_total += 1;
        counts.released_total += released;
        counts.failed_total += failed;
        #[allow(
            clippy::disallowed_methods,
            reason = "people and Prometheus want the wall clock"
        )]
        let now = SystemTime::now();
        counts.last_run = Some(now);
    }
}
