// SPDX-License-Identifier: Apache-2.0
//! An attachment as the worker that owns it sees it.

use std::sync::Arc;

use sluice_mem::BufSize;
use sluice_packet::{Vid, VlanTag};

use super::room::FloodDebt;
use crate::counters::AttachmentCounts;
use crate::frame::FrameInfo;
use crate::frame::tagging::Tagging;
use crate::ids::{AttachmentId, SegmentId, UplinkId};
use crate::limits::{Limits, Rate};
use crate::pipeline::flood_limits::FloodBuckets;
use crate::pipeline::identity::Identity;
use crate::pipeline::record_limits::RecordLimits;
use crate::pipeline::rule_limits::RuleLimits;
use crate::pipeline::token_bucket::TokenBucket;
use crate::ports::seam::PodPort;
use crate::spec::{AttachmentSpec, VlanSet};

/// Rejects that an attachment's rules may cause.
const REJECTS: Rate = Rate::new(1_000, 100);
/// Groups that a pod may join: each is told to every other worker.
const JOINS: Rate = Rate::new(100, 256);

/// MAC addresses that a pod may begin to send from: all workers look at the table again after each. A
/// bridge that starts, or fails over, has all of its own at once.
const LEARNING: Rate = Rate::new(100, 256);

/// Link-local addresses that a pod may ask for: all others of its VLAN are looked at.
const CLAIMS: Rate = Rate::new(10, 16);

/// Bytes of an Ethernet header without tags.
pub(crate) const ETHERNET_HEADER_BYTES: usize = 14;

/// Bytes of a frame beyond its IP packet at most: header and two tags.
const FRAME_OVERHEAD: usize = ETHERNET_HEADER_BYTES + 2 * VlanTag::LEN;

/// Attachment of a worker, with its port, its rate limits and its counters.
pub(crate) struct Attachment {
    pub(crate) id: AttachmentId,
    pub(crate) identity: Arc<Identity>,
    pub(crate) vlans: Vlans,
    pub(crate) tagging: Tagging,
    pub(crate) qinq: bool,
    /// Whether the priority of the pod's tags is kept.
    pub(crate) keeps_priority: bool,
    /// The largest frame in bytes, without any tag.
    pub(crate) max_frame: usize,
    pub(crate) port: Option<Box<dyn PodPort>>,
    pub(crate) counts: Arc<AttachmentCounts>,
    pub(crate) rejects: TokenBucket,
    pub(crate) floods: FloodBuckets,
    pub(crate) records: RecordLimits,
    /// Token buckets of rules with a limit.
    pub(crate) rule_limits: RuleLimits,
    /// Rate limit of joining groups.
    pub(crate) joins: TokenBucket,
    /// Limit of the link-local addresses that are looked for among all others'.
    pub(crate) claims: TokenBucket,
    /// Most MAC addresses besides its own that it may have learned.
    pub(crate) macs: usize,
    /// Limit of those that it begins to send from.
    pub(crate) learning: TokenBucket,
    /// Something was delivered since the last flush.
    pub(crate) dirty: bool,
    pub(crate) uplink: UplinkId,
    /// Whether its frames may need large mbufs.
    pub(crate) is_jumbo: bool,
    pub(crate) debt: FloodDebt,
    /// Whether the last visit of its port took as many frames as there was room for.
    pub(crate) wants_more: bool,
    /// Time until which its connections may begin with their third frame: a SYN has found no room lately.
    pub(crate) flooded_until_ms: u64,
    /// Number of its connections in its worker's table, which the worker gives it.
    pub(crate) tracked_as: u16,
}

/// Segments that a pod's frames can be in, by their tag.
#[derive(Debug)]
pub(crate) enum Vlans {
    Access(SegmentId),
    Trunk {
        allowed: Box<[SegmentId]>,
        native: Option<SegmentId>,
    },
}

impl Vlans {
    /// The segment of untagged frames.
    #[inline]
    pub(crate) fn untagged(&self) -> Option<SegmentId> {
        match self {
            Vlans::Access(segment) => Some(*segment),
            Vlans::Trunk { native, .. } => *native,
        }
    }

    fn new(set: &VlanSet, uplink: UplinkId) -> Vlans {
        let segment = |vid: &Vid| SegmentId::new(uplink, *vid);
        match set {
            VlanSet::Access(vid) => Vlans::Access(segment(vid)),
            VlanSet::Trunk { vids, native } => {
                let mut allowed: Vec<_> = vids.iter().map(segment).collect();
                allowed.sort_unstable();
                Vlans::Trunk {
                    allowed: allowed.into(),
                    native: native.as_ref().map(segment),
                }
            }
        }
    }
}

impl Attachment {
    pub(crate) fn new(
        id: AttachmentId,
        spec: &AttachmentSpec,
        identity: Arc<Identity>,
        counts: Arc<AttachmentCounts>,
        limits: &Limits,
    ) -> Attachment {
        let vlans = Vlans::new(&spec.vlans, spec.uplink);
        let tagging = match &vlans {
            Vlans::Access(_) => Tagging::Untagged,
            Vlans::Trunk { native, .. } => Tagging::Tagged { native: *native },
        };
        Attachment {
            id,
            identity,
            vlans,
            tagging,
            qinq: spec.qinq,
            keeps_priority: spec.keeps_priority,
            max_frame: usize::try_from(spec.mtu).unwrap_or(usize::MAX / 2) + ETHERNET_HEADER_BYTES,
            port: None,
            counts,
            rejects: TokenBucket::new(REJECTS),
            floods: FloodBuckets::new(&limits.attachment),
            records: RecordLimits::new(),
            rule_limits: RuleLimits::new(),
            joins: TokenBucket::new(JOINS),
            claims: TokenBucket::new(CLAIMS),
            macs: limits.macs.into(),
            learning: TokenBucket::new(LEARNING),
            dirty: false,
            uplink: spec.uplink,
            is_jumbo: spec.mtu as usize + FRAME_OVERHEAD > BufSize::Small.data_bytes(),
            debt: FloodDebt::default(),
            wants_more: false,
            flooded_until_ms: 0,
            tracked_as: u16::MAX,
        }
    }

    /// Whether a frame of `bytes`, without the outermost tag, is over the MTU.
    pub(crate) fn is_too_long(&self, bytes: usize, inner_tag: bool) -> bool {
        bytes > self.max_frame + if inner_tag { VlanTag::LEN } else { 0 }
    }

    /// Whether a frame with an inner tag may go to the pod: it takes such, and the segment's own
    /// tag is in front. Bare, the inner one would name another VLAN of the trunk.
    pub(crate) fn takes_inner_tag(&self, info: &FrameInfo) -> bool {
        let bare_on_trunk =
            matches!(self.tagging, Tagging::Tagged { .. }) && self.tagging.tag_for(info).is_none();
        self.qinq && !bare_on_trunk
    }
}
