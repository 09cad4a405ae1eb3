// SPDX-License-Identifier: Apache-2.0
//! Counters of the queues.

/// Counters of a receive queue since its rings began to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RxCounters {
    /// Frames handed over.
    pub frames: u64,
    /// Bytes of those frames, without the header before each.
    pub bytes: u64,
    /// Frames dropped because the sink had no room.
    pub no_room: u64,
    /// Buffers that held no more than the header before a frame, dropped.
    pub empty: u64,
    /// Frames dropped because their header asks for a checksum or for segmentation, which was not
    /// offered.
    pub offload: u64,
}

/// Counters of a transmit queue since its rings began to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TxCounters {
    /// Frames published or to be published next.
    pub frames: u64,
    /// Bytes of those frames, without the header before each.
    pub bytes: u64,
    /// Frames that found no room.
    pub full: u64,
    /// Frames that are empty, longer than 65535 bytes, or that the pod's buffers can never hold: dropped.
    pub unfit: u64,
}

/// Result of one call that adds several frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Frames added.
    pub frames: usize,
    /// Bytes of those frames.
    pub bytes: usize,
    /// Frames that can never fit: dropped.
    pub unfit: usize,
}
