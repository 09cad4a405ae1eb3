// SPDX-License-Identifier: Apache-2.0
//! Counts of an endpoint, written by its thread and read by its owner.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Event;

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

/// The counts, shared between the thread and the owner.
#[derive(Debug, Default)]
pub(super) struct SharedCounts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    counts: EndpointCounts,
    paused_until: Option<Instant>,
}

impl SharedCounts {
    /// Counts an event.
    pub(super) fn event(&self, event: &Event) {
        let counts = &mut self.lock().counts;
        match event {
            Event::Connected(_) => counts.made += 1,
            Event::Disconnected { reason, .. } if reason.is_violation() => counts.broken += 1,
            Event::Refused { .. } => counts.refused += 1,
            Event::Disconnected { .. } | Event::Waiting(_) => {}
        }
    }

    /// Counts a pause.
    pub(super) fn paused(&self, until: Instant) {
        let mut counted = self.lock();
        counted.counts.pauses += 1;
        counted.paused_until = Some(until);
    }

    /// Returns the counts at this moment.
    pub(super) fn read(&self) -> EndpointCounts {
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
