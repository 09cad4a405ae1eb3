//! How a link is, written by whoever runs it and read by whoever asks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a link is, shared between its thread and those who ask.
#[derive(Debug, Default)]
pub struct LinkStatus(Mutex<LinkReport>);

/// How a link was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// Whether the pod's side is there.
    pub up: bool,
    /// What the peer calls itself.
    pub peer: Option<String>,
    /// Why it went down last, or why it is not up yet.
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

    /// Why it is not up yet. While it is up this is no news.
    pub fn waiting(&self, reason: &str) {
        let mut report = self.lock();
        if !report.up {
            report.last_down = Some(reason.to_owned());
        }
    }

    /// How it is.
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
