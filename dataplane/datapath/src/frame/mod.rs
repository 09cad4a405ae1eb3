//! What the pipeline knows of a frame: kept in the mbuf's scratch, so that it goes with the mbuf
//! through bursts and from worker to worker.

pub(crate) mod origin;

#[cfg(doc)]
use sluice_mem::BufferWriter;
use sluice_mem::{Mbuf, Scratch};
use sluice_packet::{FlowKey, IpProto, VlanTag};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::frame::origin::{Mark, Source};
use crate::ids::{AttachmentId, FlowNumber, SegmentId, UplinkId};

/// Facts of one frame. Inside the engine a frame's outermost tag is never among its bytes: it is
/// here, whoever took it off: the NIC, the kernel or classify.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameInfo {
    /// What rules match on; valid after classify.
    pub key: FlowKey,
    /// Where it came from. Together with the key, a cache line: what the flow cache compares.
    mark: Mark,
    /// Where it goes, by `flags`: an attachment, an uplink or a segment.
    destination: u32,
    /// Segment; valid after classify.
    segment: u32,
    /// TPID of the outermost tag, 0 for none.
    tpid: u16,
    /// TCI of the outermost tag.
    tci: u16,
    flags: u16,
    /// Padding, spelt out.
    _unused: u16,
    /// The entry of its flow in its worker's flow cache, 0 for none.
    flow: u32,
    /// Up to the end of the scratch.
    _rest: [u32; 11],
}

const TO_ATTACHMENT: u16 = 1;
const TO_UPLINK: u16 = 2;
const TO_FLOOD: u16 = 3;
const TO_MASK: u16 = 3;
const EXEMPT: u16 = 8;
const INNER: u16 = 16;
const EGRESS_KNOWN: u16 = 32;
const INGRESS_KNOWN: u16 = 64;

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

/// A [`Destination`] as a frame's facts hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Goal {
    kind: u32,
    number: u32,
}

impl Goal {
    /// Nowhere yet.
    pub(crate) const UNKNOWN: Goal = Goal { kind: 0, number: 0 };

    /// The destination.
    #[inline]
    pub(crate) fn destination(self) -> Destination {
        #[allow(clippy::cast_possible_truncation, reason = "it was a flag of 16 bits")]
        match self.kind as u16 {
            TO_ATTACHMENT => Destination::Attachment(AttachmentId::from_u32(self.number)),
            TO_UPLINK => {
                Destination::Uplink(UplinkId(u16::try_from(self.number).unwrap_or(u16::MAX)))
            }
            TO_FLOOD => Destination::Flood,
            _ => Destination::Unknown,
        }
    }
}

impl FrameInfo {
    /// The facts of `mbuf`'s frame.
    #[inline]
    pub fn of(mbuf: &Mbuf) -> &FrameInfo {
        zerocopy::transmute_ref!(mbuf.scratch())
    }

    /// The same, to be changed.
    #[inline]
    pub fn of_mut(mbuf: &mut Mbuf) -> &mut FrameInfo {
        zerocopy::transmute_mut!(mbuf.scratch_mut())
    }

    /// The frame's bytes beside its facts, to be changed.
    #[inline]
    pub(crate) fn beside_data(mbuf: &mut Mbuf) -> (&[u8], &mut FrameInfo) {
        let (data, scratch) = mbuf.data_and_scratch_mut();
        (data, zerocopy::transmute_mut!(scratch))
    }

    /// Starts the facts of a frame that a port has just put into `mbuf`; `tag` is the outermost tag
    /// if the device took it off. Every port calls this for every frame it hands out.
    #[inline]
    pub fn begin(mbuf: &mut Mbuf, tag: Option<VlanTag>) {
        FrameInfo::of_mut(mbuf).start(tag);
    }

    /// As [`FrameInfo::begin`], for bytes that the port will write: what [`BufferWriter::fill`] or
    /// [`Mbuf::fill`] said is the mbuf's data, beside its scratch.
    #[inline(always)]
    pub(crate) fn begin_filling<'m>(
        (data, scratch): (&'m mut [u8], &'m mut Scratch),
    ) -> &'m mut [u8] {
        let info: &mut FrameInfo = zerocopy::transmute_mut!(scratch);
        info.start(None);
        data
    }

    #[inline(always)]
    fn start(&mut self, tag: Option<VlanTag>) {
        self.set_tag(tag);
        // Twelve bytes one behind the other, for which two stores do.
        self.flags = 0;
        self._unused = 0;
        self.flow = 0;
    }

    /// Adds to a key that has its VID where the frame came from, and its segment.
    #[inline(always)]
    pub(crate) fn describe(&mut self, segment: SegmentId, source: Mark) {
        self.mark = source;
        self.set_segment(segment);
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
        self.goal().destination()
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
        self.mark.source()
    }

    /// Makes its mark one of another version of the tables, as another worker counts them.
    pub(crate) fn set_version(&mut self, version: u32) {
        self.mark = self.mark.with_version(version);
    }

    /// Where it goes, to be kept, and to be compared with others'.
    #[inline]
    pub(crate) fn goal(&self) -> Goal {
        Goal {
            kind: u32::from(self.flags & TO_MASK),
            number: self.destination,
        }
    }

    /// Notes that the judges' decisions on its flow are known: it goes to `goal`, and is judged
    /// there only if `ingress` is false.
    #[inline]
    pub(crate) fn set_known(&mut self, goal: Goal, ingress: bool) {
        #[allow(clippy::cast_possible_truncation, reason = "two bits")]
        let kind = goal.kind as u16 & TO_MASK;
        let known = if ingress {
            EGRESS_KNOWN | INGRESS_KNOWN
        } else {
            EGRESS_KNOWN
        };
        self.flags = self.flags & !TO_MASK | kind | known;
        self.destination = goal.number;
    }

    /// Whether the flow cache knew that it may leave where it comes from, and where it goes.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.flags & EGRESS_KNOWN != 0
    }

    /// Whether the flow cache knew that its receiver takes it.
    #[inline]
    pub(crate) fn is_known_to_receiver(&self) -> bool {
        self.flags & INGRESS_KNOWN != 0
    }

    /// Its flow in the flow cache of the worker that it is with.
    pub(crate) fn flow(&self) -> FlowNumber {
        FlowNumber::from_u32(self.flow)
    }

    /// Notes its flow.
    pub(crate) fn set_flow(&mut self, flow: FlowNumber) {
        self.flow = flow.to_u32();
    }

    /// Whether all that is decided of it follows from its key and its source: the body of ARP and
    /// of neighbour discovery is looked at too, second tags are not in the key, a flood has a
    /// limit, and the engine's own answers are not judged.
    pub(crate) fn is_decided_by_key(&self) -> bool {
        let goes_to_one = matches!(self.flags & TO_MASK, TO_ATTACHMENT | TO_UPLINK);
        self.key.is_ip()
            && self.key.proto != IpProto::ICMPV6
            && goes_to_one
            && self.flags & (INNER | EXEMPT) == 0
    }

    /// What tells its flow from others, and ties it to one version of the tables: key and mark.
    #[inline(always)]
    pub(crate) fn flow_words(&self) -> &[u64; 8] {
        let [words, _]: &[[u64; 8]; 2] = zerocopy::transmute_ref!(self);
        words
    }

    /// Whether a second tag is among its bytes.
    pub fn has_inner_tag(&self) -> bool {
        self.flags & INNER != 0
    }

    /// Notes whether a second tag is among its bytes.
    pub fn set_inner_tag(&mut self, inner: bool) {
        if inner {
            self.flags |= INNER;
            self.mark = self.mark.unlike_any_flow();
        } else {
            self.flags &= !INNER;
        }
    }

    /// Whether it is the engine's own answer (a reject), which is not judged.
    pub fn is_exempt(&self) -> bool {
        self.flags & EXEMPT != 0
    }

    /// Marks it as the engine's own answer.
    pub fn set_exempt(&mut self) {
        self.flags |= EXEMPT;
        self.mark = self.mark.unlike_any_flow();
        self.flow = 0;
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
