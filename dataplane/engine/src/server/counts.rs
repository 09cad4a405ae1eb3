// SPDX-License-Identifier: Apache-2.0
//! Counts of the control socket: peers and requests that got nothing.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sluice_api::RequestStatus;

use crate::log_limit::LogLimit;

/// Counts of the control socket since the engine started.
#[derive(Debug, Default)]
pub struct RequestCounts {
    answered: AtomicU64,
    refused: AtomicU64,
    turned_away: AtomicU64,
    timed_out: AtomicU64,
    log: Mutex<LogLimit>,
}

impl RequestCounts {
    /// A request was answered, one way or the other.
    pub(super) fn answered(&self) {
        add(&self.answered);
    }

    /// A peer that may not ask was refused.
    pub(super) fn refused(&self, why: &dyn Display) {
        add(&self.refused);
        self.warn(format_args!("a control request was refused: {why}"));
    }

    /// A connection was closed because there were too many.
    pub(super) fn turned_away(&self, why: &dyn Display) {
        add(&self.turned_away);
        self.warn(format_args!("a control connection was closed: {why}"));
    }

    /// A connection was closed because its peer was too slow.
    pub(super) fn timed_out(&self, why: &dyn Display) {
        add(&self.timed_out);
        self.warn(format_args!("a control connection was closed: {why}"));
    }

    /// Says how many lines were left out of the log, when it is time to.
    pub(crate) fn say_what_was_left_out(&self) {
        let lines = self.log().summary(Instant::now());
        if let Some(lines) = lines {
            tracing::warn!(
                "{lines} further lines about control connections were left out; `sluicectl status \
                 --json` counts the connections"
            );
        }
    }

    /// Returns the counts for the status.
    pub(crate) fn status(&self) -> RequestStatus {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RequestStatus {
            answered: get(&self.answered),
            refused: get(&self.refused),
            turned_away: get(&self.turned_away),
            timed_out: get(&self.timed_out),
            lines_left_out: self.log().total(),
        }
    }

    fn warn(&self, line: std::fmt::Arguments<'_>) {
        if self.log().take(Instant::now()) {
            tracing::warn!("{line}");
        }
    }

    fn log(&self) -> MutexGuard<'_, LogLimit> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
