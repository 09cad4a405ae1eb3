// SPDX-License-Identifier: Apache-2.0
//! Facts of one frame, kept in the mbuf's scratch, so that they go with the mbuf through bursts and
//! from worker to worker.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`FrameInfo`]: key, origin, segment, tag, destination |
//! | `answer.rs` | [`PackedAnswer`]: what the connection table said of the frame |
//! | `destination.rs` | [`Destination`] and its packed form |
//! | `origin_tag.rs` | the origin, in the word that the flow cache compares |
//! | `tagging.rs` | [`Tagging`]: the tag that a frame carries towards a pod |

pub(crate) mod answer;
pub(crate) mod destination;
pub(crate) mod origin_tag;
pub(crate) mod tagging;

use sluice_firewall::Direction;
#[cfg(doc)]
use sluice_mem::BufferWriter;
use sluice_mem::{Mbuf, Scratch};
use sluice_packet::{FlowKey, IpProto, VlanTag, role};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AttachmentId, FlowNumber, SegmentId};
use answer::PackedAnswer;
use destination::{Destination, KIND_MASK, PackedDestination, TO_ATTACHMENT, TO_UPLINK};
use origin_tag::{Origin, OriginTag};

/// Facts of one frame. Inside the engine a frame's outermost tag is never among its bytes: it is
/// here, whoever took it off: the NIC, the kernel or the parse stage.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameInfo {
    /// Fields that rules match on; valid after the parse stage.
    pub key: FlowKey,
    /// Origin and version. With the key a cache line, which the flow cache compares as a whole.
    origin_tag: OriginTag,
    /// Number of the attachment or uplink that the frame goes to; its kind is in `flags`.
    destination: u32,
    /// Segment; valid after the parse stage.
    segment: u32,
    /// TPID of the outermost tag, 0 for none.
    tpid: u16,
    /// TCI of the outermost tag.
    tci: u16,
    /// Kind of the destination, [`EXEMPT`], [`INNER`] and [`TO_MEMBERS`].
    flags: u16,
    /// Offset of the transport header, as [`FrameInfo::l4`] reads it.
    transport: u16,
    /// Entry of the frame's flow in its worker's flow cache, 0 for none.
    flow: u32,
    /// Answer of the connection table that waits for the judge stage.
    answer: PackedAnswer,
    /// Rest of the scratch.
    _rest: [u32; 10],
}

/// Flag of the engine's own answers.
const EXEMPT: u16 = 8;
/// Flag of frames with a second tag.
const INNER: u16 = 16;
/// Flag of frames that go to the members of their group alone.
const TO_MEMBERS: u16 = 256;

/// Bytes before the layer 3 header, without a second tag and with one.
const L3: u16 = 14;
const L3_BEHIND_INNER_TAG: u16 = 18;
/// Bytes before the transport header of a frame without second tag and IPv4 options.
const PLAIN_L4: u16 = 34;
/// Offset of no transport header.
const NO_TRANSPORT: u16 = u16::MAX;

impl FrameInfo {
    /// Returns the facts of `mbuf`'s frame.
    #[inline]
    pub fn of(mbuf: &Mbuf) -> &FrameInfo {
        zerocopy::transmute_ref!(mbuf.scratch())
    }

    /// Returns the facts of `mbuf`'s frame for writing.
    #[inline]
    pub fn of_mut(mbuf: &mut Mbuf) -> &mut FrameInfo {
        zerocopy::transmute_mut!(mbuf.scratch_mut())
    }

    /// Returns the frame's bytes for reading beside its facts for writing.
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

    /// Starts the facts as [`FrameInfo::begin`] does, for bytes that the port is about to write:
    /// takes what [`BufferWriter::fill`] or [`Mbuf::fill`] returned and gives the bytes back.
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
        // Sixteen adjacent bytes, for which two stores do.
        self.flags = 0;
        self.transport = 0;
        self.flow = 0;
        self.answer = PackedAnswer::NONE;
    }

    /// Notes origin and segment, which complete the key that the parse stage wrote.
    #[inline(always)]
    pub(crate) fn set_origin(&mut self, segment: SegmentId, origin_tag: OriginTag) {
        self.origin_tag = origin_tag;
        self.set_segment(segment);
    }

    /// Returns the outermost tag, if there is one.
    #[inline]
    pub fn tag(&self) -> Option<VlanTag> {
        (self.tpid != 0).then_some(VlanTag {
            tpid: self.tpid,
            tci: self.tci,
        })
    }

    /// Sets the outermost tag or takes it away.
    #[inline]
    pub fn set_tag(&mut self, tag: Option<VlanTag>) {
        (self.tpid, self.tci) = tag.map_or((0, 0), |tag| (tag.tpid, tag.tci));
    }

    /// Returns priority code point and drop eligibility: the upper four bits of a TCI, in place.
    #[inline]
    pub fn priority_bits(&self) -> u16 {
        self.tci & 0xf000
    }

    /// Returns the segment.
    #[inline]
    pub fn segment(&self) -> SegmentId {
        SegmentId::from_u32(self.segment)
    }

    /// Sets the segment.
    #[inline]
    pub fn set_segment(&mut self, segment: SegmentId) {
        self.segment = segment.to_u32();
    }

    /// Returns the destination.
    #[inline]
    pub fn destination(&self) -> Destination {
        self.packed_destination().unpack()
    }

    /// Sets the destination.
    #[inline]
    pub fn set_destination(&mut self, destination: Destination) {
        self.set_packed_destination(destination.pack());
    }

    /// Returns the destination in the form that the flow cache keeps and dispatch compares.
    #[inline]
    pub(crate) fn packed_destination(&self) -> PackedDestination {
        PackedDestination {
            kind: u32::from(self.flags & KIND_MASK),
            number: self.destination,
        }
    }

    /// Sets the destination from its packed form.
    #[inline]
    pub(crate) fn set_packed_destination(&mut self, destination: PackedDestination) {
        self.flags = self.flags & !KIND_MASK | destination.kind_bits();
        self.destination = destination.number;
    }

    /// Returns where the frame came from.
    #[inline]
    pub fn origin(&self) -> Origin {
        self.origin_tag.origin()
    }

    /// Returns the attachment whose policies judge the frame in `direction`, if there is one: its
    /// sender on egress, its receiver on ingress.
    #[inline]
    pub(crate) fn judged_at(&self, direction: Direction) -> Option<AttachmentId> {
        match (direction, self.origin(), self.destination()) {
            (Direction::Egress, Origin::Attachment(id), _)
            | (Direction::Ingress, _, Destination::Attachment(id)) => Some(id),
            _ => None,
        }
    }

    /// Changes the version of the origin tag to that of another worker's tables.
    #[inline]
    pub(crate) fn set_version(&mut self, version: u32) {
        self.origin_tag = self.origin_tag.with_version(version);
    }

    /// Returns the frame's flow in the flow cache of the worker that has the frame.
    #[inline]
    pub(crate) fn flow(&self) -> FlowNumber {
        FlowNumber::from_u32(self.flow)
    }

    /// Notes the frame's flow.
    #[inline]
    pub(crate) fn set_flow(&mut self, flow: FlowNumber) {
        self.flow = flow.to_u32();
    }

    /// Whether everything decided of the frame follows from its key and its origin.
    ///
    /// It does not for ARP, neighbour discovery, IGMP and DHCP (anti-spoofing reads their bodies), for frames
    /// with a second tag (the key has none), for floods (they have a rate limit), and for the
    /// engine's own answers (they are not judged).
    pub(crate) fn is_decided_by_key(&self) -> bool {
        self.goes_to_one() && self.is_decided_by_header()
    }

    /// Whether the frame goes to one attachment or out of one uplink.
    #[inline]
    pub(crate) fn goes_to_one(&self) -> bool {
        matches!(self.flags & KIND_MASK, TO_ATTACHMENT | TO_UPLINK)
    }

    /// Whether everything decided of the frame follows from its key and its origin, if it
    /// [goes to one](FrameInfo::goes_to_one).
    #[inline]
    pub(crate) fn is_decided_by_header(&self) -> bool {
        self.key.is_ip()
            && self.key.proto != IpProto::ICMPV6
            && !role::reads_body(&self.key)
            && self.flags & (INNER | EXEMPT) == 0
    }

    /// Returns key and origin tag as the words that the flow cache hashes and compares.
    #[inline(always)]
    pub(crate) fn flow_words(&self) -> &[u64; 8] {
        let [words, _]: &[[u64; 8]; 2] = zerocopy::transmute_ref!(self);
        words
    }

    /// Notes the answer of the connection table, for the stage that judges the frame next.
    pub(crate) fn set_answer(&mut self, answer: PackedAnswer) {
        self.answer = answer;
    }

    /// Takes the answer of the connection table, if one was noted.
    pub(crate) fn take_answer(&mut self) -> PackedAnswer {
        std::mem::take(&mut self.answer)
    }

    /// Whether a second tag is among the frame's bytes.
    #[inline]
    pub fn has_inner_tag(&self) -> bool {
        self.flags & INNER != 0
    }

    /// Notes whether a second tag is among the frame's bytes.
    pub fn set_inner_tag(&mut self, inner: bool) {
        if inner {
            self.flags |= INNER;
            self.origin_tag = self.origin_tag.not_cached();
        } else {
            self.flags &= !INNER;
        }
    }

    /// Returns the offset of what follows the EtherType.
    #[inline]
    pub(crate) fn l3(&self) -> u16 {
        if self.has_inner_tag() {
            L3_BEHIND_INNER_TAG
        } else {
            L3
        }
    }

    /// Returns the offset of the transport header; 0 if there is none to read.
    #[inline]
    pub(crate) fn l4(&self) -> u16 {
        match self.transport {
            // Nothing was noted: the parse stage's fast path, which knows one layout.
            0 => PLAIN_L4,
            NO_TRANSPORT => 0,
            offset => offset,
        }
    }

    /// Notes the offset of the transport header, 0 for none.
    #[inline]
    pub(crate) fn set_l4(&mut self, offset: u16) {
        self.transport = if offset == 0 { NO_TRANSPORT } else { offset };
    }

    /// Whether a flooded frame goes to the members of its group alone.
    pub(crate) fn is_to_members(&self) -> bool {
        self.flags & TO_MEMBERS != 0
    }

    /// Has a flooded frame go to the members of its group alone.
    pub(crate) fn set_to_members(&mut self) {
        self.flags |= TO_MEMBERS;
    }

    /// Whether the frame is the engine's own answer (a reject), which is not judged.
    #[inline]
    pub fn is_exempt(&self) -> bool {
        self.flags & EXEMPT != 0
    }

    /// Marks the frame as the engine's own answer.
    pub fn set_exempt(&mut self) {
        self.flags |= EXEMPT;
        self.origin_tag = self.origin_tag.not_cached();
        self.flow = 0;
    }
}
