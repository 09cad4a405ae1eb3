// SPDX-License-Identifier: Apache-2.0
//! Draining the engine, and having it read its configuration again.

use serde::{Deserialize, Serialize};

/// Answer of `POST /v1/drain` and `DELETE /v1/drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReply {
    /// Whether the engine drains now.
    pub draining: bool,
    /// Attachments that it serves.
    pub attachments: usize,
}

/// Answer of `POST /v1/reload`. With problems nothing was changed at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Settings that are in force now and were not before.
    #[serde(default)]
    pub changed: Vec<ChangedSetting>,
    /// Settings that the file has otherwise and that stay as they are.
    #[serde(default)]
    pub kept: Vec<KeptSetting>,
    /// Problems of the configuration file or the policies, `file:line:column: key: message`.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Number of policies in force.
    #[serde(default)]
    pub policies: usize,
}

/// Setting that a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSetting {
    /// Key in the configuration file, as in `idle.pause_after` or `uplinks.wire1`.
    pub key: String,
    /// Value before.
    pub was: String,
    /// Value in force.
    pub now: String,
}

/// Setting that a reload could not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSetting {
    /// Key in the configuration file.
    pub key: String,
    /// Value in force.
    pub running: String,
    /// Value in the file.
    pub wanted: String,
    /// Reason why it stays, and what would change it.
    pub why: String,
}
