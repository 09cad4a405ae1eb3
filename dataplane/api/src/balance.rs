// SPDX-License-Identifier: Apache-2.0
//! Balance of the counters: every frame that came in went out, was dropped, or is on its way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/balance`: sums over all uplinks, attachments and workers since the start, those
/// that are gone included. Each worker adds its own up between two bursts, so that they are exact
/// while frames flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Whether every frame is accounted for.
    pub balanced: bool,
    /// Sums over all workers.
    pub total: BalanceSums,
    /// Sums of each worker, in order of their numbers: each is balanced for itself.
    pub workers: Vec<BalanceSums>,
    /// Frames dropped, by reason, over all ports and workers; read a moment later than the sums.
    pub drops: BTreeMap<String, u64>,
}

/// Sums of a balance: `received + copied + answered` is `sent + flooded + dropped + in_flight`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceSums {
    /// Frames received by ports, those that a port dropped at once included.
    pub received: u64,
    /// Copies that flooding made: one for each receiver, each other worker and the wire.
    pub copied: u64,
    /// Answers to rejected frames, which the engine made.
    pub answered: u64,
    /// Frames sent by ports.
    pub sent: u64,
    /// Frames that ended by being flooded: their copies went on in their place.
    pub flooded: u64,
    /// Frames dropped, over all reasons.
    pub dropped: u64,
    /// Frames on their way; of one worker: those it handed to others less those it took over, so that
    /// it can be below 0.
    pub in_flight: i64,
    /// Frames in less frames out: 0 if all are accounted for, above 0 if some are missing, below 0 if
    /// some were counted twice.
    pub difference: i64,
}
