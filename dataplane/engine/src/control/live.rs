// SPDX-License-Identifier: Apache-2.0
//! Attachment that is being served.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Mutex;

use sluice_api::{
    AntiSpoof, AttachReply, AttachRequest, AttachmentStatus, Connections, Group, LinkState,
    SpoofedFrame,
};
use sluice_datapath::{Attached, GroupMembership, Snapshot, UplinkId};
use sluice_memif::EndpointCounts;
use sluice_packet::{Mac, Vid};

use super::counters::attachment_counters;
use super::locked;
use super::world::has_namespace;
use crate::links::{self, Link, LinkReport, Refusals};
use crate::log_identity::LogIdentity;
use crate::records::AttachmentRecord;

/// Attachment between its attach and its detach.
#[derive(Debug)]
pub(super) struct LiveAttachment {
    /// The record on disk: the request, and what it was given.
    pub(super) record: AttachmentRecord,
    /// Number and worker in the datapath.
    pub(super) attached: Attached,
    /// Uplink of this attachment alone: its VF.
    pub(super) vf: Option<UplinkId>,
    /// `None` once a detach has begun.
    pub(super) link: Mutex<Option<Link>>,
    /// First frame of each drop reason that the pod was not let send; the datapath tells of no second.
    pub(super) spoofed: Mutex<Vec<SpoofedFrame>>,
}

impl LiveAttachment {
    /// Request that the attachment was made by.
    pub(super) fn request(&self) -> &AttachRequest {
        &self.record.request
    }

    /// Identity of the attachment in log events.
    pub(super) fn log_identity(&self) -> LogIdentity {
        LogIdentity::new(self.request(), Some(self.attached.id.to_u32()))
    }

    /// Takes the link out, to be stopped.
    pub(super) fn take_link(&self) -> Option<Link> {
        locked(&self.link).take()
    }

    /// Answer to the request that made the attachment, and to every repetition of it.
    pub(super) fn reply(&self) -> AttachReply {
        AttachReply {
            id: self.attached.id.to_u32(),
            mac: self.record.mac.clone(),
            mtu: self.record.mtu,
            socket: links::socket(self.request()),
            pod_role: links::pod_role(self.request()),
            warnings: self.warnings(),
        }
    }

    /// Status, with the counters of `snapshot`, those of `groups` that are its own, and the MAC addresses
    /// that it has `learned`.
    pub(super) fn status(
        &self,
        snapshot: &Snapshot,
        groups: &[GroupMembership],
        learned: &[(Vid, Mac)],
    ) -> AttachmentStatus {
        let (link, connections) = match locked(&self.link).as_ref() {
            Some(link) => (link.report(), link.connections()),
            None => (LinkReport::default(), None),
        };
        let LinkReport {
            up,
            peer,
            last_down,
            refusals,
            lines_left_out,
        } = link;
        let found = snapshot
            .attachments
            .iter()
            .find(|found| found.id == self.attached.id);
        let is_there = has_namespace(&self.record);
        // The datapath alone knows whether frames flow.
        let up = up && is_there && found.is_some_and(|found| found.connected);
        let last_down = if is_there {
            last_down
        } else {
            Some("its network namespace is gone, and nobody has detached it".to_owned())
        };
        let mut link_locals: BTreeMap<u16, Vec<Ipv6Addr>> = BTreeMap::new();
        for (vid, address) in found.iter().flat_map(|found| &found.link_locals) {
            link_locals.entry(vid.get()).or_default().push(*address);
        }
        let mut macs: BTreeMap<u16, Vec<Mac>> = BTreeMap::new();
        for (vid, mac) in learned {
            macs.entry(vid.get()).or_default().push(*mac);
        }
        AttachmentStatus {
            id: self.attached.id.to_u32(),
            request: self.request().clone(),
            mac: self.record.mac.clone(),
            mtu: self.record.mtu,
            socket: links::socket(self.request()),
            worker: self.attached.worker,
            link: LinkState::of_peer(up),
            last_down,
            peer,
            link_locals,
            learned: macs,
            spoofed: locked(&self.spoofed).clone(),
            connections: connections.map(|counts| connections_of(&counts, refusals)),
            groups: groups
                .iter()
                .filter(|one| one.attachment == self.attached.id)
                .map(|one| Group {
                    vid: one.segment.vid(),
                    address: one.group,
                })
                .collect(),
            lines_left_out,
            counters: found.map(attachment_counters).unwrap_or_default(),
        }
    }

    /// Warnings for the caller: segments that carried nothing when the attachment was made, and frames
    /// that do not reach its VF.
    fn warnings(&self) -> Vec<String> {
        let segments = self.attached.segments_without_policy.iter();
        let without_policy = segments.map(|vid| {
            format!(
                "{} of {} has no policy, so it carries nothing: apply a policy for it \
                 (`sluicectl policies apply FILE`)",
                segment(*vid),
                self.request().uplink
            )
        });
        let request = self.request();
        let bridge = request.vf.as_ref();
        let bridge = bridge.filter(|_| request.anti_spoof == AntiSpoof::Off);
        let not_reached = bridge.map(|vf| {
            format!(
                "antiSpoof off: frames for further MAC addresses of the pod do not reach VF {}, which \
                 gets those for its own alone; use an uplink for a bridge",
                vf.address
            )
        });
        let unseen = self.record.netns_unseen.then(|| {
            format!(
                "the engine does not see the pod's network namespace at {}: the attachment works, and an \
                 engine that is started again will not find it; mount /run/netns into its container with \
                 `mountPropagation: HostToContainer`, and link /var/run to /run in its image",
                request.netns.path.display()
            )
        });
        without_policy.chain(not_reached).chain(unseen).collect()
    }
}

fn connections_of(counts: &EndpointCounts, refusals: Refusals) -> Connections {
    Connections {
        made: counts.made,
        broken: counts.broken,
        refused: counts.refused,
        pauses: counts.pauses,
        pause_ms: u64::try_from(counts.pause_left.as_millis()).unwrap_or(u64::MAX),
        last_refusal: refusals.last,
        refused_for: refusals.since.map(|since| since.elapsed().as_secs()),
        last_refused_ago: refusals.last_at.map(|last| last.elapsed().as_secs()),
    }
}

/// Name of a segment in messages.
pub(super) fn segment(vid: Vid) -> String {
    if vid.is_untagged() {
        "the untagged segment".to_owned()
    } else {
        format!("VLAN {vid}")
    }
}
