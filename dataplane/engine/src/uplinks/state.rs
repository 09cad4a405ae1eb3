// SPDX-License-Identifier: Apache-2.0
//! State of an uplink's link as control last saw it, for status, health and ADD.

use std::time::{Duration, Instant};

use sluice_datapath::LinkState;

/// State of an uplink's link as control last saw it.
#[derive(Debug, Clone)]
pub struct UplinkState {
    /// State of the link.
    pub link: LinkState,
    /// Reason why it is not up, and what to do.
    pub reason: Option<String>,
    since: Instant,
}

impl UplinkState {
    /// Makes the state of a link that is up.
    pub fn up() -> UplinkState {
        UplinkState {
            link: LinkState::Up,
            reason: None,
            since: Instant::now(),
        }
    }

    /// Time for which the link has been in this state.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Notes the state of the link of `uplink`, and writes a line to the log if it is another one than
    /// before.
    pub fn note(&mut self, uplink: &str, link: LinkState, reason: Option<String>) {
        if self.link == link && self.reason == reason {
            return;
        }
        match &reason {
            None => tracing::info!("uplink {uplink} is {link}"),
            Some(reason) => tracing::error!("uplink {uplink} is {link}: {reason}"),
        }
        if self.link != link {
            self.since = Instant::now();
        }
        self.link = link;
        self.reason = reason;
    }

    /// Problem for an operator; `None` if the link is up.
    pub fn problem(&self, uplink: &str) -> Option<String> {
        (self.link != LinkState::Up).then(|| {
            let reason = self.reason.as_deref().unwrap_or("no reason is known");
            format!("uplink {uplink} is {}: {reason}", self.link)
        })
    }
}
