//! Where a frame came from, in the form in which the flow cache compares it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AttachmentId, UplinkId};

/// Where a frame came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A pod.
    Attachment(AttachmentId),
    /// The wire.
    Uplink(UplinkId),
}

/// A [`Source`] in one number, and the version of its worker's tables that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub(crate) struct Mark(u64);

impl Mark {
    /// Versions are below.
    pub(crate) const VERSIONS: u32 = 1 << (u64::BITS - Mark::VERSION_AT);
    /// Above the number of an attachment or an uplink, and two flags.
    const VERSION_AT: u32 = 34;
    const FROM_UPLINK: u64 = 1 << 32;
    /// No entry of the flow cache has it: the frame has a second tag, or is the engine's own.
    const OTHER: u64 = 1 << 33;

    /// That of a source.
    pub(crate) fn new(source: Source, version: u32) -> Mark {
        let number = match source {
            Source::Attachment(id) => u64::from(id.to_u32()),
            Source::Uplink(id) => u64::from(id.0) | Mark::FROM_UPLINK,
        };
        Mark(number).with_version(version)
    }

    /// The same of another version.
    pub(crate) fn with_version(self, version: u32) -> Mark {
        let source = self.0 & ((1 << Mark::VERSION_AT) - 1);
        Mark(source | u64::from(version) << Mark::VERSION_AT)
    }

    /// The mark of this number.
    pub(crate) fn from_bits(bits: u64) -> Mark {
        Mark(bits)
    }

    /// Its version.
    pub(crate) fn version(self) -> u64 {
        self.0 >> Mark::VERSION_AT
    }

    /// That of a frame which is of no flow that is known.
    pub(crate) fn unlike_any_flow(self) -> Mark {
        Mark(self.0 | Mark::OTHER)
    }

    /// The source.
    pub(crate) fn source(self) -> Source {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower bits are asked for"
        )]
        let (number, uplink) = (self.0 as u32, self.0 as u16);
        if self.0 & Mark::FROM_UPLINK != 0 {
            Source::Uplink(UplinkId(uplink))
        } else {
            Source::Attachment(AttachmentId::from_u32(number))
        }
    }
}
