// SPDX-License-Identifier: Apache-2.0
//! Health: whether attachments are accepted, and what an operator should look at.

use sluice_api::Health;
use sluice_datapath::{Engine, Snapshot};

use super::live::segment;
use super::{Control, locked};

impl Control {
    /// Returns whether attachments are accepted, and the problems that an operator should look at.
    pub fn health(&self) -> Health {
        let ready = self.is_ready();
        let draining = self.drain.is_on();
        let mut problems: Vec<String> = ready
            .as_ref()
            .err()
            .map(|error| error.message.clone())
            .into_iter()
            .collect();
        problems.extend(self.drain.problem());
        problems.extend(locked(&self.problems).values().cloned());
        problems.extend(self.uplink_problems());
        if let Ok(snapshot) = self.engine.with(Engine::snapshot) {
            problems.extend(silent_segments(&snapshot));
        }
        Health {
            ready: ready.is_ok() && !draining,
            degraded: ready.is_ok() && !draining && !problems.is_empty(),
            draining,
            problems,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        }
    }
}

/// Problems of segments that have attachments and no policy, so that they carry nothing.
fn silent_segments(snapshot: &Snapshot) -> Vec<String> {
    let silent = snapshot
        .segments
        .iter()
        .filter(|found| found.policy.is_none());
    silent
        .filter(|found| found.attachments > 0)
        .map(|found| {
            format!(
                "{} of {} has {} attachments and no policy, so it carries nothing: apply a policy \
                 for it",
                segment(found.vid),
                found.uplink,
                found.attachments
            )
        })
        .collect()
}
