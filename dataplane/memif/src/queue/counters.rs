// SPDX-License-Identifier: Apache-2.0
//! Counters of the queues.

/// Counters of a receive queue since its connection began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RxCounters {
    /// Packets handed over.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
    /// Packets dropped because the sink had no room.
    pub no_room: u64,
    /// Packets without a byte, dropped.
    pub empty: u64,
}

/// Counters of a transmit queue since its connection began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TxCounters {
    /// Packets published or to be published next.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
    /// Packets that found no room.
    pub full: u64,
    /// Packets of no bytes, of more than 65535, or that the ring's buffers can never hold: dropped.
    pub unfit: u64,
}

/// Result of one call that adds several packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Packets added.
    pub packets: usize,
    /// Bytes of those packets.
    pub bytes: usize,
    /// Packets that can never fit: dropped.
    pub unfit: usize,
}
