// SPDX-License-Identifier: Apache-2.0
//! Counts of an endpoint, written by its thread and read by its owner.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts of one endpoint since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointCounts {
    /// Connections made: handshakes that both sides finished.
    pub made: u64,
    /// Connections among them that ended because the peer broke the protocol.
    pub broken: u64,
    /// Handshakes that failed.
    pub refused: u64,
    /// Pauses after failures, in which no peer was accepted or called.
    pub pauses: u64,
    /// Time that is left of the pause at this moment; zero without one.
    pub pause_left: Duration,
}

/// Counts shared between an endpoint's thread and its owner.
#[derive(Debug, Default)]
pub struct SharedCounts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    counts: EndpointCounts,
    paused_until: Option<Instant>,
}

impl SharedCounts {
    /// Counts a connection that was made.
    pub fn made(&self) {
        self.lock().counts.made += 1;
    }

    /// Counts a connection that ended because the peer broke the protocol.
    pub fn broken(&self) {
        self.lock().counts.broken += 1;
    }

    /// Counts a handshake that failed.
    pub fn refused(&self) {
        self.lock().counts.refused += 1;
    }

    /// Counts a pause.
    pub fn paused(&self, until: Instant) {
        let mut counted = self.lock();
        counted.counts.pauses += 1;
        counted.paused_until = Some(until);
    }

    /// Returns the counts at this moment.
    pub fn read(&self) -> EndpointCounts {
        let counted = self.lock();
        let left = counted
            .paused_until
            .map(|until| until.saturating_duration_since(Instant::now()));
        EndpointCounts {
            pause_left: left.unwrap_or_default(),
            ..counted.counts
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
