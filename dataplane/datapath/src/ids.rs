// SPDX-License-Identifier: Apache-2.0
//! Numbers of things, as types that cannot be mixed.

use std::fmt;

use sluice_packet::Vid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            /// As an index into a table.
            pub fn index(self) -> usize {
                usize::from(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A worker: 0 to 63.
    WorkerId(u8)
}
number! {
    /// An uplink of the engine.
    UplinkId(u16)
}

/// A segment: one VLAN of one uplink. The number says both, so it never means another segment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(u32);

/// Attachments an engine can have.
pub(crate) const MAX_ATTACHMENTS: usize = 4096;
/// Uplinks an engine can have: netdevs, and every VF that is one attachment's own.
pub(crate) const MAX_UPLINKS: usize = 256;

impl SegmentId {
    /// The segment of `vid` on `uplink`.
    pub fn new(uplink: UplinkId, vid: Vid) -> SegmentId {
        SegmentId(u32::from(uplink.0) << 12 | u32::from(vid.get()))
    }

    /// The reverse of [`SegmentId::to_u32`].
    pub fn from_u32(number: u32) -> SegmentId {
        SegmentId(number)
    }

    /// Both halves in one number.
    pub fn to_u32(self) -> u32 {
        self.0
    }

    /// Returns the uplink of the segment.
    pub fn uplink(self) -> UplinkId {
        UplinkId(u16::try_from(self.0 >> 12).unwrap_or(u16::MAX))
    }

    /// Returns the VID, 0 for the untagged segment.
    pub fn vid(self) -> u16 {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high]) & 0x0fff
    }
}

/// An attachment: a slot in the workers' tables and the slot's generation. A frame that was on its
/// way to an attachment that has gone finds another generation there, never another pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId {
    slot: u16,
    generation: u16,
}

impl AttachmentId {
    /// The attachment in `slot`, the `generation`th to be there.
    pub fn new(slot: u16, generation: u16) -> AttachmentId {
        AttachmentId { slot, generation }
    }

    /// Returns the index in the workers' tables.
    pub fn slot(self) -> usize {
        usize::from(self.slot)
    }

    /// Both halves in one number, for a frame's scratch and for people.
    pub fn to_u32(self) -> u32 {
        u32::from(self.generation) << 16 | u32::from(self.slot)
    }

    /// The reverse of [`AttachmentId::to_u32`].
    pub fn from_u32(number: u32) -> AttachmentId {
        let [s0, s1, g0, g1] = number.to_le_bytes();
        AttachmentId {
            slot: u16::from_le_bytes([s0, s1]),
            generation: u16::from_le_bytes([g0, g1]),
        }
    }
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_u32().fmt(f)
    }
}

/// Number of an entry of a worker's flow cache. It is valid only until the cache inserts another
/// flow, so the entry's key is compared again before it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowNumber(u32);

impl FlowNumber {
    /// No entry: the frame's flow missed.
    pub(crate) const NONE: FlowNumber = FlowNumber(0);

    /// Number of the entry at an index.
    pub(crate) fn of(entry: usize) -> FlowNumber {
        FlowNumber(u32::try_from(entry + 1).unwrap_or(0))
    }

    /// Returns the index of the entry.
    pub(crate) fn entry(self) -> Option<usize> {
        (self.0 as usize).checked_sub(1)
    }

    /// Returns the form that a frame's facts keep.
    pub(crate) fn to_u32(self) -> u32 {
        self.0
    }

    /// The reverse of [`FlowNumber::to_u32`].
    pub(crate) fn from_u32(number: u32) -> FlowNumber {
        FlowNumber(number)
    }
}
