// SPDX-License-Identifier: Apache-2.0
//! Limits of rules: how many frames and bytes a second pass by one.

/// Limit of a rule. What it accepts beyond that is dropped; the rules behind it are not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Frames a second, at least 1; `None`: any number.
    pub frames: Option<u64>,
    /// Bytes of frames a second, at least 1; `None`: any number.
    pub bytes: Option<u64>,
    /// Milliseconds of these rates that may pass at once, 1 to 10,000.
    pub burst_ms: u32,
    /// Traffic that shares the rates.
    pub per: LimitScope,
}

/// Traffic that shares a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// Frames that the rule accepts at one attachment.
    Attachment,
    /// Frames that it accepts of one source address at one attachment.
    Source,
}

impl Limit {
    /// Burst of a limit that names none, in milliseconds.
    pub const BURST_MS: u32 = 100;
    /// Longest burst, in milliseconds.
    pub const MOST_BURST_MS: u32 = 10_000;
    /// Highest rate: a frame of 64 bytes on a link of 400 Gbit/s has less than its bytes.
    pub const MOST_PER_SECOND: u64 = 100_000_000_000;
}
