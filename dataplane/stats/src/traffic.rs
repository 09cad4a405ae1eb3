// SPDX-License-Identifier: Apache-2.0
//! Frames and bytes through one port.

/// Frames and bytes through one port since it was opened, seen from the engine: `rx` is what the
/// engine received. Bytes count from the Ethernet header on, tags included, frame check sequence not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Traffic {
    /// Frames received from the port.
    pub rx_frames: u64,
    /// Bytes of the frames received.
    pub rx_bytes: u64,
    /// Frames sent to the port.
    pub tx_frames: u64,
    /// Bytes of the frames sent.
    pub tx_bytes: u64,
}
