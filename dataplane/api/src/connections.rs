// SPDX-License-Identifier: Apache-2.0
//! Connections of a pod to its memif, and those that were refused.

use serde::{Deserialize, Serialize};

/// Connections of one memif since the engine took its attachment up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Connections made.
    pub made: u64,
    /// Connections among them that ended because the peer broke the protocol.
    pub broken: u64,
    /// Handshakes that failed: the peer was refused.
    pub refused: u64,
    /// Pauses after such failures, in which the engine took nobody.
    pub pauses: u64,
    /// Milliseconds that are left of such a pause; 0: there is none.
    pub pause_ms: u64,
    /// Reason of the last refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<String>,
    /// Seconds since the first refusal after the last connection was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_for: Option<u64>,
    /// Seconds since the last refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refused_ago: Option<u64>,
}
