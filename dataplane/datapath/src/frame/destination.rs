// SPDX-License-Identifier: Apache-2.0
//! Destination of a frame, as a type to match on and as the two words that its facts hold.

use zerocopy::{FromZeros, Immutable, KnownLayout};

use crate::ids::{AttachmentId, UplinkId};

/// Destination of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Not decided yet.
    Unknown,
    /// An attachment, whichever worker owns it.
    Attachment(AttachmentId),
    /// Out of an uplink, whichever worker polls it.
    Uplink(UplinkId),
    /// Every attachment of the frame's segment but its sender, and the wire if a pod sent it. Of a frame
    /// to a unicast address, the promiscuous attachments.
    Flood,
    /// Every attachment of the frame's segment that this worker owns: another worker floods the
    /// frame, and this is the copy for this one.
    LocalFlood,
}

/// Bits of [`PackedDestination`]'s kind, which are the lowest of a frame's flags.
pub(super) const KIND_MASK: u16 = 7;
pub(super) const TO_ATTACHMENT: u16 = 1;
pub(super) const TO_UPLINK: u16 = 2;
const TO_FLOOD: u16 = 3;
const TO_LOCAL_FLOOD: u16 = 4;

/// A [`Destination`] as the flow cache and a frame's facts hold it: two words, compared as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct PackedDestination {
    pub(super) kind: u32,
    pub(super) number: u32,
}

impl PackedDestination {
    /// Packed form of [`Destination::Unknown`].
    pub(crate) const UNKNOWN: PackedDestination = PackedDestination { kind: 0, number: 0 };

    /// Returns the destination as a type to match on.
    #[inline]
    pub(crate) fn unpack(self) -> Destination {
        match self.kind_bits() {
            TO_ATTACHMENT => Destination::Attachment(AttachmentId::from_u32(self.number)),
            TO_UPLINK => {
                Destination::Uplink(UplinkId(u16::try_from(self.number).unwrap_or(u16::MAX)))
            }
            TO_FLOOD => Destination::Flood,
            TO_LOCAL_FLOOD => Destination::LocalFlood,
            _ => Destination::Unknown,
        }
    }

    /// Returns the kind as bits of a frame's flags.
    #[inline]
    pub(super) fn kind_bits(self) -> u16 {
        #[allow(clippy::cast_possible_truncation, reason = "three bits of 16 flags")]
        let kind = self.kind as u16;
        kind & KIND_MASK
    }
}

impl Destination {
    /// Returns the packed form.
    #[inline]
    pub(crate) fn pack(self) -> PackedDestination {
        let (kind, number) = match self {
            Destination::Unknown => (0, 0),
            Destination::Attachment(id) => (TO_ATTACHMENT, id.to_u32()),
            Destination::Uplink(id) => (TO_UPLINK, u32::from(id.0)),
            Destination::Flood => (TO_FLOOD, 0),
            Destination::LocalFlood => (TO_LOCAL_FLOOD, 0),
        };
        PackedDestination {
            kind: u32::from(kind),
            number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_destination_survives_packing() {
        for destination in [
            Destination::Unknown,
            Destination::Attachment(AttachmentId::new(4095, u16::MAX)),
            Destination::Uplink(UplinkId(255)),
            Destination::Flood,
            Destination::LocalFlood,
        ] {
            assert_eq!(destination.pack().unpack(), destination);
        }
    }
}
