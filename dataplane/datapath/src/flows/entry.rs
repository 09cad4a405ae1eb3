// SPDX-License-Identifier: Apache-2.0
//! Entry of the flow cache: a flow's key, its destination and the verdicts on it.

use zerocopy::{FromZeros, Immutable, KnownLayout};

use crate::frame::FrameInfo;
use crate::frame::destination::PackedDestination;
use crate::frame::origin_tag::{Origin, OriginTag};

/// Policies that judge at one attachment at most: the VLAN's and its own.
const POLICIES: usize = 2;

/// Verdict of one attachment's policies on a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(u32)]
pub(crate) enum FlowVerdict {
    /// Not known: the policies are to be asked.
    Unknown = 0,
    /// Frames of the flow pass.
    Accept = 1,
    /// Frames of the flow are dropped.
    Deny = 2,
}

/// Verdict of one attachment's policies on a flow, with the rules that count its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct CachedVerdict {
    /// Rule slots that count each frame; `u32::MAX`, which is no slot's number, for none.
    counters: [u32; POLICIES],
    verdict: FlowVerdict,
}

impl CachedVerdict {
    /// Verdict that is not known.
    pub(crate) const UNKNOWN: CachedVerdict = CachedVerdict {
        counters: [u32::MAX; POLICIES],
        verdict: FlowVerdict::Unknown,
    };
    /// Verdict where no policy judges, as on an uplink's side.
    pub(crate) const ACCEPT: CachedVerdict = CachedVerdict {
        verdict: FlowVerdict::Accept,
        ..CachedVerdict::UNKNOWN
    };

    /// Verdict of policies that count in `counters`.
    pub(crate) fn new(verdict: FlowVerdict, counters: [Option<usize>; POLICIES]) -> CachedVerdict {
        let number = |slot: Option<usize>| {
            slot.and_then(|slot| u32::try_from(slot).ok())
                .unwrap_or(u32::MAX)
        };
        CachedVerdict {
            counters: counters.map(number),
            verdict,
        }
    }

    /// Returns the verdict itself.
    #[inline]
    pub(crate) fn verdict(self) -> FlowVerdict {
        self.verdict
    }

    /// Returns the rule slots that count a frame; `u32::MAX`, which is no slot's number, for none.
    #[inline(always)]
    pub(crate) fn counters(&self) -> [u32; POLICIES] {
        self.counters
    }
}

/// Destination of a flow's frames and the verdicts on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FlowAction {
    pub(crate) destination: PackedDestination,
    /// Longest frame in bytes that the entry speaks for; longer ones are misses. 0 where the destination is
    /// to be confirmed first: so the others pay nothing for it.
    pub(crate) max_frame: u32,
    /// Not 0 if both verdicts accept. A word, since it is tested for every frame.
    accepted: u32,
    /// Verdict at the pod that the flow comes from; [`CachedVerdict::ACCEPT`] for the wire.
    pub(crate) egress: CachedVerdict,
    /// Verdict at the pod that the flow goes to, if this worker owns it.
    pub(crate) ingress: CachedVerdict,
    /// Longest frame of an entry that is to be confirmed; 0 of any other.
    unconfirmed: u32,
    /// Epoch and second in which the entry was last confirmed; an epoch is never 0.
    confirmed: [u32; 2],
}

impl FlowAction {
    /// Makes the action of two verdicts.
    pub(crate) fn new(
        destination: PackedDestination,
        max_frame: u32,
        egress: CachedVerdict,
        ingress: CachedVerdict,
    ) -> FlowAction {
        let accepted = [egress, ingress].map(CachedVerdict::verdict) == [FlowVerdict::Accept; 2];
        FlowAction {
            destination,
            max_frame,
            accepted: accepted.into(),
            egress,
            ingress,
            unconfirmed: 0,
            confirmed: [0; 2],
        }
    }

    /// Returns the action as one whose destination is to be confirmed, since it may be learned to be
    /// another.
    pub(crate) fn to_be_confirmed(self) -> FlowAction {
        FlowAction {
            max_frame: 0,
            unconfirmed: self.max_frame,
            ..self
        }
    }

    /// Whether a frame of `bytes` may go by this action once its destination is confirmed.
    pub(crate) fn may_be_confirmed(&self, bytes: usize) -> bool {
        bytes <= self.unconfirmed as usize
    }

    /// Whether the destination was confirmed in this epoch and second.
    pub(crate) fn is_confirmed(&self, epoch: u32, second: u32) -> bool {
        self.confirmed == [epoch, second]
    }

    /// Whether both verdicts accept.
    #[inline(always)]
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted != 0
    }
}

/// Entry of one flow: the first cache line is its key, the second its action; a pair of lines, which the CPU
/// fetches together.
#[derive(Debug, Clone, Copy, FromZeros, Immutable, KnownLayout)]
#[repr(C, align(128))]
pub(super) struct FlowEntry {
    key: KeyLine,
    action: FlowAction,
    /// Reference bit of the CLOCK algorithm: not 0 if a frame hit since the hand last passed.
    referenced: u32,
}

/// Key and origin tag, as [`FrameInfo::flow_words`] returns them.
#[derive(Debug, Clone, Copy, FromZeros, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct KeyLine([u64; 8]);

const _: () = assert!(size_of::<FlowEntry>() == 128);

/// Attachment that a flow is charged to: its sender, or the receiver of a flow from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowOwner {
    origin: OriginTag,
    /// Destination of a flow from the wire.
    receiver: PackedDestination,
}

impl FlowOwner {
    fn new(origin_tag: OriginTag, destination: PackedDestination) -> FlowOwner {
        let origin = origin_tag.with_version(0);
        let receiver = match origin.origin() {
            Origin::Uplink(_) => destination,
            Origin::Attachment(_) => PackedDestination::UNKNOWN,
        };
        FlowOwner { origin, receiver }
    }
}

impl FlowEntry {
    /// Returns who owns the entry.
    pub(super) fn owner(&self) -> FlowOwner {
        let [.., origin_tag] = self.key.0;
        FlowOwner::new(OriginTag::from_bits(origin_tag), self.action.destination)
    }

    /// Makes the entry of the flow of `info`; its reference bit is clear until a frame hits it.
    pub(super) fn new(info: &FrameInfo, action: FlowAction) -> FlowEntry {
        FlowEntry {
            key: KeyLine(*info.flow_words()),
            action,
            referenced: 0,
        }
    }

    /// Whether the entry is of this frame's flow, and of the version of its origin tag.
    #[inline(always)]
    pub(super) fn is_of(&self, info: &FrameInfo) -> bool {
        // Without a branch, as nearly always all are equal, and without a call.
        let [a, b, c, d, e, f, g, h] = &self.key.0;
        let [p, q, r, s, t, u, v, w] = info.flow_words();
        let low = (a ^ p) | (b ^ q) | (c ^ r) | (d ^ s);
        let high = (e ^ t) | (f ^ u) | (g ^ v) | (h ^ w);
        low | high == 0
    }

    /// Whether the entry is of this version: entries of others are free.
    pub(super) fn is_version(&self, version: u32) -> bool {
        let [.., origin_tag] = self.key.0;
        OriginTag::from_bits(origin_tag).version() == u64::from(version)
    }

    /// Sets the reference bit.
    #[inline(always)]
    pub(super) fn reference(&mut self) {
        // It is set nearly always: then the line is only read.
        if self.referenced == 0 {
            self.referenced = 1;
        }
    }

    /// Clears the reference bit and returns whether it was set.
    pub(super) fn take_reference(&mut self) -> bool {
        std::mem::take(&mut self.referenced) != 0
    }

    /// Returns the action.
    #[inline(always)]
    pub(super) fn action(&self) -> &FlowAction {
        &self.action
    }

    /// Adds the receiver's verdict, and the longest frame that the receiver takes.
    pub(super) fn set_ingress(&mut self, ingress: CachedVerdict, max_frame: u32) {
        let FlowAction {
            destination,
            max_frame: before,
            egress,
            unconfirmed,
            ..
        } = self.action;
        let action = |before| FlowAction::new(destination, max_frame.min(before), egress, ingress);
        self.action = match unconfirmed {
            0 => action(before),
            before => action(before).to_be_confirmed(),
        };
    }

    /// Notes that the destination was confirmed.
    pub(super) fn confirm(&mut self, epoch: u32, second: u32) {
        self.action.confirmed = [epoch, second];
    }

    /// Whether the destination is to be confirmed.
    pub(super) fn is_to_be_confirmed(&self) -> bool {
        self.action.unconfirmed != 0
    }
}
