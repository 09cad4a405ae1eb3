// SPDX-License-Identifier: Apache-2.0
//! State of a link, written by the thread that runs it and read by requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::log_limit::LogLimit;

/// State of a link, shared between its thread and requests.
#[derive(Debug, Default)]
pub struct LinkStatus(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    report: LinkReport,
    log: LogLimit,
}

/// State of a link at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// Whether the pod's side is there.
    pub up: bool,
    /// Name and program that the peer sent.
    pub peer: Option<String>,
    /// Reason of the last disconnect, or for not being connected yet.
    pub last_down: Option<String>,
    /// Peers that were refused.
    pub refusals: Refusals,
    /// Log lines about this link that were left out.
    pub lines_left_out: u64,
}

/// Refusals of peers by a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Reason of the last one.
    pub last: Option<String>,
    /// Time of the first one since a connection was made.
    pub since: Option<Instant>,
    /// Time of the last one.
    pub last_at: Option<Instant>,
}

impl LinkStatus {
    /// The pod's side is there.
    pub fn up(&self, peer: Option<String>) {
        let report = &mut self.lock().report;
        report.up = true;
        report.peer = peer;
        report.refusals.since = None;
    }

    /// The pod's side is gone.
    pub fn down(&self, reason: &str) {
        let report = &mut self.lock().report;
        report.up = false;
        report.peer = None;
        report.last_down = Some(reason.to_owned());
    }

    /// Notes why no peer is connected yet; ignored while one is.
    pub fn waiting(&self, reason: &str) {
        let report = &mut self.lock().report;
        if !report.up {
            report.last_down = Some(reason.to_owned());
        }
    }

    /// Notes that a peer was refused, and why.
    pub fn refused(&self, reason: &str) {
        let now = Instant::now();
        let report = &mut self.lock().report;
        report.refusals = Refusals {
            last: Some(reason.to_owned()),
            since: report.refusals.since.or(Some(now)),
            last_at: Some(now),
        };
        if !report.up {
            report.last_down = Some(reason.to_owned());
        }
    }

    /// Whether a line about this link may be written to the log now.
    pub fn may_log(&self) -> bool {
        self.lock().log.take(Instant::now())
    }

    /// Returns how many lines were left out of the log, when it is time to say so.
    pub fn lines_left_out(&self) -> Option<u64> {
        self.lock().log.summary(Instant::now())
    }

    /// Returns the state at this moment.
    pub fn report(&self) -> LinkReport {
        let inner = self.lock();
        LinkReport {
            lines_left_out: inner.log.total(),
            ..inner.report.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
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
        status.refused("a second client was refused");
        let report = status.report();
        assert!(report.up);
        assert_eq!(report.peer.as_deref(), Some("testpmd"));
        assert_eq!(report.last_down.as_deref(), Some("bad descriptor"));
        let refusals = report.refusals;
        assert_eq!(
            refusals.last.as_deref(),
            Some("a second client was refused")
        );
        assert!(refusals.since.is_some() && refusals.since <= refusals.last_at);
        status.down("closed");
        assert_eq!(status.report().peer, None);
        status.up(None);
        assert_eq!(status.report().refusals.since, None);
    }

    #[test]
    fn lines_left_out_are_in_the_report() {
        let status = LinkStatus::default();
        let written = (0..100).filter(|_| status.may_log()).count();
        assert_eq!(status.report().lines_left_out, 100 - written as u64);
    }
}
