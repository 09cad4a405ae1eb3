// SPDX-License-Identifier: Apache-2.0
//! Forwarding and policy tables of all workers: one immutable value, built by control and
//! swapped by workers between bursts. Whatever a burst needs to know is of one version.

use std::sync::Arc;

use sluice_firewall::{PolicyIndex, PolicySet};
#[cfg(doc)]
use sluice_packet::FlowKey;
use sluice_packet::{Mac, Vid};

use crate::counters::{AttachmentCounts, RuleCounts};
use crate::ids::{AttachmentId, SegmentId, UplinkId, WorkerId};
use crate::pipeline::flood_limits::FloodBuckets;
use crate::pipeline::fragments::PieceTable;
use crate::pipeline::groups::Group;
use crate::pipeline::groups::queriers::Queriers;
use crate::pipeline::groups::table::Member as GroupMember;
use crate::pipeline::identity::Identity;
use crate::pipeline::learned::{Holder, LearnedTable};
use crate::pipeline::macs::MacTable;
use crate::pipeline::token_bucket::TokenBucket;
use crate::pipeline::tx_shares::Credit;

/// Tables of one version.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The policies.
    pub(crate) policies: Arc<PolicySet>,
    /// Whether a stateful policy judges at an attachment.
    pub(crate) is_stateful: bool,
    /// Per worker, its counts for `policies`.
    pub(crate) rule_counts: Arc<[RuleCounts]>,
    /// By number.
    pub(crate) uplinks: Vec<Option<UplinkTable>>,
    /// In no order; found through the uplinks.
    pub(crate) segments: Vec<SegmentTable>,
    /// By slot.
    pub(crate) attachments: Vec<Option<AttachmentEntry>>,
    /// Groups that attachments are in whether or not they report it.
    pub(crate) static_groups: Vec<(Group, GroupMember)>,
}

/// Uplink as all workers see it.
#[derive(Debug, Clone)]
pub(crate) struct UplinkTable {
    /// Worker that polls the uplink.
    pub(crate) worker: WorkerId,
    /// TPIDs of outermost tags; the first is sent.
    pub(crate) tpids: Arc<[u16]>,
    /// The segment of untagged frames.
    pub(crate) native: Vid,
    /// Whether that is a port VLAN: a tag that comes in is a second one.
    pub(crate) port_vlan: bool,
    /// The largest frame without tag, in bytes.
    pub(crate) max_frame: usize,
    /// VID to index into [`Tables::segments`]; [`NO_SEGMENT`] for none. 4096 long.
    pub(crate) by_vid: Box<[u16]>,
    /// Credits of each worker that does not poll the uplink.
    pub(crate) credits: Arc<[Credit]>,
    /// First pieces of the datagrams that come from it to groups; outlives this version.
    pub(crate) pieces: Arc<PieceTable>,
}

/// No attachment is in the VLAN.
pub(crate) const NO_SEGMENT: u16 = u16::MAX;

/// A VLAN of an uplink that has attachments.
#[derive(Debug)]
pub(crate) struct SegmentTable {
    /// Number of the segment.
    pub(crate) id: SegmentId,
    /// VLAN policy; `None`: nothing passes.
    pub(crate) policy: Option<PolicyIndex>,
    /// Whether a stateful policy judges at one of its attachments.
    pub(crate) is_stateful: bool,
    /// Attachments by MAC address.
    pub(crate) macs: MacTable,
    /// Addresses and attachments of this VLAN on all uplinks of the network.
    pub(crate) network: Arc<NetworkVlan>,
    /// Attachments with their owners.
    pub(crate) members: Box<[Member]>,
    /// Attachments that are to hear of all groups: routers and queriers.
    pub(crate) routers: Box<[Member]>,
    /// Attachments that get what is for an address that nobody here has.
    pub(crate) promiscuous: Box<[Member]>,
    /// MAC addresses beyond the attachments' own; outlives this version of the tables. `None`: nobody
    /// may send from such.
    pub(crate) learned: Option<Arc<LearnedTable>>,
    /// Flood limits of the wire here, which the worker that polls the uplink takes from. Outlives
    /// this version of the tables.
    pub(crate) wire_floods: Arc<FloodBuckets>,
    /// Copies that the wire's frames to known groups may take here; taken from and kept as those.
    pub(crate) wire_groups: Arc<TokenBucket>,
    /// Copies that the wire's frames to addresses that nobody has may take; likewise.
    pub(crate) wire_unknown: Arc<TokenBucket>,
    /// Routers whose queries hosts answer here; kept as those.
    pub(crate) queriers: Arc<Queriers>,
}

/// A VLAN of a network. Its uplinks lead to the same hosts, so addresses are unique among the
/// attachments of all of them.
#[derive(Debug)]
pub(crate) struct NetworkVlan {
    /// Addresses that attachments have from their beginning, as [`FlowKey::src`] has them, in order.
    pub(crate) given: Box<[([u8; 16], AttachmentId)]>,
    /// Attachments by MAC address; empty where none may send from others than its own.
    pub(crate) macs: MacTable,
    /// Attachments, on whichever uplink.
    pub(crate) members: Box<[AttachmentId]>,
}

/// An attachment in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) id: AttachmentId,
    pub(crate) owner: WorkerId,
}

/// Attachment as all workers see it.
#[derive(Debug, Clone)]
pub(crate) struct AttachmentEntry {
    pub(crate) id: AttachmentId,
    pub(crate) uplink: UplinkId,
    pub(crate) identity: Arc<Identity>,
    pub(crate) owner: WorkerId,
    pub(crate) own_policy: OwnPolicy,
    /// For frames that another worker than the owner drops.
    pub(crate) counts: Arc<AttachmentCounts>,
}

/// An attachment's policy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnPolicy {
    /// No policy of its own: the VLAN's decides alone.
    None,
    /// Policy that must accept too.
    Policy(PolicyIndex),
    /// Policy that is not in the set: nothing passes.
    Missing,
}

impl Tables {
    /// The uplink of that number.
    pub(crate) fn uplink(&self, id: UplinkId) -> Option<&UplinkTable> {
        self.uplinks.get(id.index())?.as_ref()
    }

    /// The segment, if it has attachments.
    pub(crate) fn segment(&self, id: SegmentId) -> Option<&SegmentTable> {
        self.segment_of(id.uplink(), id.vid())
    }

    /// The segment of a VLAN of an uplink, if it has attachments.
    pub(crate) fn segment_of(&self, uplink: UplinkId, vid: u16) -> Option<&SegmentTable> {
        let index = *self.uplink(uplink)?.by_vid.get(usize::from(vid))?;
        self.segments.get(usize::from(index))
    }

    /// Returns the attachment that has a MAC address in a segment: as its own, else learned.
    #[inline]
    pub(crate) fn owner_of(&self, segment: &SegmentTable, mac: [u8; 6]) -> Option<AttachmentId> {
        let own = segment.macs.get(mac);
        own.or_else(|| self.learner_of(segment.learned.as_deref()?, Mac(mac)))
    }

    /// Returns the attachment that has learned a MAC address.
    #[cold]
    fn learner_of(&self, table: &LearnedTable, mac: Mac) -> Option<AttachmentId> {
        match table.holder(mac)? {
            Holder::Slot(slot) => {
                let entry = self.attachments.get(usize::from(slot))?.as_ref();
                entry.map(|entry| entry.id)
            }
            Holder::Wire => None,
        }
    }

    /// The attachment, if it is still there.
    pub(crate) fn attachment(&self, id: AttachmentId) -> Option<&AttachmentEntry> {
        self.attachments
            .get(id.slot())?
            .as_ref()
            .filter(|entry| entry.id == id)
    }
}
