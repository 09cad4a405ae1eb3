//! What the pipeline knows of a frame: kept in the mbuf's scratch, so that it goes with the mbuf
//! through bursts and from worker to worker.

use sluice_mem::Mbuf;
use sluice_packet::{FlowKey, VlanTag};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AttachmentId, SegmentId, UplinkId};

/// Facts of one frame. Inside the engine a frame's outermost tag is never among its bytes: it is
/// here, whoever took it off: the NIC, the kernel or classify.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameInfo {
    /// What rules match on; valid after classify.
    pub key: FlowKey,
    /// Where it goes, by `flags`: an attachment, an uplink or a segment.
    destination: u32,
    /// Where it came from, by `flags`: an attachment or an uplink.
    source: u32,
    /// Segment; valid after classify.
    segment: u32,
    /// TPID of the outermost tag, 0 for none.
    tpid: u16,
    /// TCI of the outermost tag.
    tci: u16,
    flags: u16,
    /// Padding, spelt out.
    _unused: [u16; 3],
}

const TO_ATTACHMENT: u16 = 1;
const TO_UPLINK: u16 = 2;
const TO_FLOOD: u16 = 3;
const TO_MASK: u16 = 3;
const FROM_UPLINK: u16 = 4;
const EXEMPT: u16 = 8;
const INNER: u16 = 16;

/// Where a frame goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Not known yet.
    Unknown,
    /// One attachment.
    Attachment(AttachmentId),
    /// Out of an uplink.
    Uplink(UplinkId),
    /// Every attachment of its segment but the one it came from.
    Flood,
}

/// Where a frame came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A pod.
    Attachment(AttachmentId),
    /// The wire.
    Uplink(UplinkId),
}

impl FrameInfo {
    /// The facts of `mbuf`'s frame.
    #[inline]
    pub fn of(mbuf: &Mbuf) -> &FrameInfo {
        let Ok((info, _)) = FrameInfo::ref_from_prefix(mbuf.scratch()) else {
            unreachable!(
                "the scratch is as large and as aligned as FrameInfo needs: a test says so"
            )
        };
        info
    }

    /// The same, to be changed.
    #[inline]
    pub fn of_mut(mbuf: &mut Mbuf) -> &mut FrameInfo {
        let Ok((info, _)) = FrameInfo::mut_from_prefix(mbuf.scratch_mut()) else {
            unreachable!(
                "the scratch is as large and as aligned as FrameInfo needs: a test says so"
            )
        };
        info
    }

    /// The frame's bytes beside its facts, to be changed.
    #[inline]
    pub(crate) fn beside_data(mbuf: &mut Mbuf) -> (&[u8], &mut FrameInfo) {
        let (data, scratch) = mbuf.data_and_scratch_mut();
        let Ok((info, _)) = FrameInfo::mut_from_prefix(scratch) else {
            unreachable!(
                "the scratch is as large and as aligned as FrameInfo needs: a test says so"
            )
        };
        (data, info)
    }

    /// Starts the facts of a frame that a port has just put into `mbuf`; `tag` is the outermost tag
    /// if the device took it off. Every port calls this for every frame it hands out.
    pub fn begin(mbuf: &mut Mbuf, tag: Option<VlanTag>) {
        let info = FrameInfo::of_mut(mbuf);
        let (tpid, tci) = tag.map_or((0, 0), |tag| (tag.tpid, tag.tci));
        info.tpid = tpid;
        info.tci = tci;
        info.flags = 0;
    }

    /// The outermost tag, if there is one.
    pub fn tag(&self) -> Option<VlanTag> {
        (self.tpid != 0).then_some(VlanTag {
            tpid: self.tpid,
            tci: self.tci,
        })
    }

    /// Sets or takes away the outermost tag.
    pub fn set_tag(&mut self, tag: Option<VlanTag>) {
        (self.tpid, self.tci) = tag.map_or((0, 0), |tag| (tag.tpid, tag.tci));
    }

    /// Its priority code point and drop eligibility, the upper four bits of a TCI, in place.
    pub fn priority_bits(&self) -> u16 {
        self.tci & 0xf000
    }

    /// Its segment.
    pub fn segment(&self) -> SegmentId {
        SegmentId::from_u32(self.segment)
    }

    /// Sets its segment.
    pub fn set_segment(&mut self, segment: SegmentId) {
        self.segment = segment.to_u32();
    }

    /// Where it goes.
    pub fn destination(&self) -> Destination {
        match self.flags & TO_MASK {
            TO_ATTACHMENT => Destination::Attachment(AttachmentId::from_u32(self.destination)),
            TO_UPLINK => Destination::Uplink(UplinkId(
                u16::try_from(self.destination).unwrap_or(u16::MAX),
            )),
            TO_FLOOD => Destination::Flood,
            _ => Destination::Unknown,
        }
    }

    /// Sets where it goes.
    pub fn set_destination(&mut self, destination: Destination) {
        let (kind, number) = match destination {
            Destination::Unknown => (0, 0),
            Destination::Attachment(id) => (TO_ATTACHMENT, id.to_u32()),
            Destination::Uplink(id) => (TO_UPLINK, u32::from(id.0)),
            Destination::Flood => (TO_FLOOD, 0),
        };
        self.flags = self.flags & !TO_MASK | kind;
        self.destination = number;
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        if self.flags & FROM_UPLINK != 0 {
            Source::Uplink(UplinkId(u16::try_from(self.source).unwrap_or(u16::MAX)))
        } else {
            Source::Attachment(AttachmentId::from_u32(self.source))
        }
    }

    /// Sets where it came from.
    pub fn set_source(&mut self, source: Source) {
        match source {
            Source::Attachment(id) => {
                self.flags &= !FROM_UPLINK;
                self.source = id.to_u32();
            }
            Source::Uplink(id) => {
                self.flags |= FROM_UPLINK;
                self.source = u32::from(id.0);
            }
        }
    }

    /// Whether a second tag is among its bytes.
    pub fn has_inner_tag(&self) -> bool {
        self.flags & INNER != 0
    }

    /// Notes whether a second tag is among its bytes.
    pub fn set_inner_tag(&mut self, inner: bool) {
        self.flags = if inner {
            self.flags | INNER
        } else {
            self.flags & !INNER
        };
    }

    /// Whether it is the engine's own answer (a reject), which is not judged.
    pub fn is_exempt(&self) -> bool {
        self.flags & EXEMPT != 0
    }

    /// Marks it as the engine's own answer.
    pub fn set_exempt(&mut self) {
        self.flags |= EXEMPT;
    }
}

/// How an attachment sees tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// Access: the pod never sees the segment's tag.
    Untagged,
    /// Trunk: every frame is tagged (TPID 0x8100) but those of the native segment.
    Tagged {
        /// The segment that is untagged towards the pod.
        native: Option<SegmentId>,
    },
}

impl Tagging {
    /// The tag that a frame carries on its way to the pod.
    pub fn tag_for(self, info: &FrameInfo) -> Option<VlanTag> {
        match self {
            Tagging::Untagged => None,
            Tagging::Tagged { native } if native == Some(info.segment()) => None,
            Tagging::Tagged { .. } => {
                let vid = info.segment().vid();
                (vid != 0).then_some(VlanTag {
                    tpid: 0x8100,
                    tci: info.priority_bits() | vid,
                })
            }
        }
    }
}
