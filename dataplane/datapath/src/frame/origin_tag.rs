// SPDX-License-Identifier: Apache-2.0
//! Origin of a frame, and the origin tag: the same in one word, with the version of the tables that
//! the flow cache compares along with the key.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AttachmentId, UplinkId};

/// Port that a frame came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A pod.
    Attachment(AttachmentId),
    /// The wire.
    Uplink(UplinkId),
}

/// An [`Origin`] in one word, with the version of its worker's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(crate) struct OriginTag(u64);

impl OriginTag {
    /// Number of versions that can be told apart; versions are below.
    pub(crate) const VERSIONS: u32 = 1 << (u64::BITS - OriginTag::VERSION_SHIFT);
    /// Lowest bit of the version, above the number of an attachment or uplink and two flags.
    const VERSION_SHIFT: u32 = 34;
    const FROM_UPLINK: u64 = 1 << 32;
    /// Set in no entry of the flow cache: the frame has a second tag, or is the engine's own.
    const NOT_CACHED: u64 = 1 << 33;

    /// Tags an origin with a version.
    #[inline]
    pub(crate) fn new(origin: Origin, version: u32) -> OriginTag {
        let number = match origin {
            Origin::Attachment(id) => u64::from(id.to_u32()),
            Origin::Uplink(id) => u64::from(id.0) | OriginTag::FROM_UPLINK,
        };
        OriginTag(number).with_version(version)
    }

    /// Returns the tag with another version.
    #[inline]
    pub(crate) fn with_version(self, version: u32) -> OriginTag {
        let origin = self.0 & ((1 << OriginTag::VERSION_SHIFT) - 1);
        OriginTag(origin | u64::from(version) << OriginTag::VERSION_SHIFT)
    }

    /// Reverses the tag's representation as a word of a flow's key.
    pub(crate) fn from_bits(bits: u64) -> OriginTag {
        OriginTag(bits)
    }

    /// Returns the version.
    pub(crate) fn version(self) -> u64 {
        self.0 >> OriginTag::VERSION_SHIFT
    }

    /// Returns the tag changed so that no entry of the flow cache has it.
    pub(crate) fn not_cached(self) -> OriginTag {
        OriginTag(self.0 | OriginTag::NOT_CACHED)
    }

    /// Returns the origin.
    #[inline]
    pub(crate) fn origin(self) -> Origin {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower bits are asked for"
        )]
        let (number, uplink) = (self.0 as u32, self.0 as u16);
        if self.0 & OriginTag::FROM_UPLINK != 0 {
            Origin::Uplink(UplinkId(uplink))
        } else {
            Origin::Attachment(AttachmentId::from_u32(number))
        }
    }
}
