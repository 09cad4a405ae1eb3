// SPDX-License-Identifier: Apache-2.0
//! State of a link, written by the thread that runs it and read by requests.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// State of a link, shared between its thread and requests.
#[derive(Debug, Default)]
pub struct LinkStatus(Mutex<LinkReport>);

/// State of a link at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// Whether the pod's side is there.
    pub up: bool,
    /// Name and program that the peer sent.
    pub peer: Option<String>,
    /// Reason of the last disconnect, or for not being connected yet.
    pub last_down: Option<String>,
}

impl LinkStatus {
    /// The pod's side is there.
    pub fn up(&self, peer: Option<String>) {
        let mut report = self.lock();
        report.up = true;
        report.peer = peer;
    }

    /// The pod's side is gone.
    pub fn down(&self, reason: &str) {
        let mut report = self.lock();
        report.up = false;
        report.peer = None;
        report.last_down = Some(reason.to_owned());
    }

    /// Notes why no peer is connected yet; ignored while one is.
    pub fn waiting(&self, reason: &str) {
        let mut report = self.lock();
        if !report.up {
            report.last_down = Some(reason.to_owned());
        }
    }

    /// Returns the state at this moment.
    pub fn report(&self) -> LinkReport {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LinkReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_stays_while_it_is_up() {
        let status = LinkStatus::default();
        status.waiting("nobody listens");
        assert_eq!(status.report().last_down.as_deref(), Some("nobody listens"));
        status.down("bad descriptor");
        status.up(Some("testpmd".into()));
        status.waiting("a second client was refused");
        let report = status.report();
        assert!(report.up);
        assert_eq!(report.peer.as_deref(), Some("testpmd"));
        assert_eq!(report.last_down.as_deref(), Some("bad descriptor"));
        status.down("closed");
        assert_eq!(status.report().peer, None);
    }
}
