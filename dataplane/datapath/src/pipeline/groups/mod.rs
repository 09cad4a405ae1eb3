// SPDX-License-Identifier: Apache-2.0
//! Multicast snooping (RFC 4541): which attachments of a segment are in which groups, learned from
//! the IGMP and MLD reports that their pods send.
//!
//! The worker that owns an attachment learns what its pod reports, bounds it and ages it. Every
//! other worker keeps a replica of the memberships, since a frame to a group may come in at any of
//! them. What changes goes to each of them as a [`Notice`](notices::Notice) over a ring per pair of
//! workers; a report that renews what is known costs them nothing. A ring that was full is made up
//! for by sending all memberships again.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Groups`]: learning, lookup, ageing |
//! | `table.rs` | the table of memberships, a hash table of chains whose memory control sizes |
//! | `filter.rs` | the sources that one member wants (IGMPv3, MLDv2) |
//! | `queriers.rs` | queriers, by whose times memberships age |
//! | `notices.rs` | what workers tell each other |

pub(crate) mod filter;
pub(crate) mod notices;
pub(crate) mod queriers;
pub(crate) mod table;

use std::net::IpAddr;

use sluice_packet::FlowKey;
use sluice_packet::membership::{Query, Record, is_snooped, mac_of};

use super::tables::Tables;
use crate::ids::{AttachmentId, SegmentId, WorkerId};
use filter::Filter;
use notices::{Notice, Peers};
use queriers::Queriers;
use table::{GroupTable, Member, Node};

/// Memberships that housekeeping looks at in one call.
const SWEEP: usize = 256;

/// Group in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) segment: SegmentId,
    /// As in [`FlowKey::dst`].
    pub(crate) address: [u8; 16],
}

impl Group {
    /// Returns the group that a frame without inner tag goes to, if membership can decide who gets
    /// it. It cannot if the MAC address is not the group's: receivers would not agree on whose frame
    /// it is.
    pub(crate) fn of(segment: SegmentId, key: &FlowKey) -> Option<Group> {
        let decides = key.is_ip() && is_snooped(&key.dst) && key.dst_mac() == mac_of(&key.dst);
        decides.then_some(Group {
            segment,
            address: key.dst,
        })
    }

    /// Returns the group's address.
    pub(crate) fn ip(&self) -> IpAddr {
        match self.address {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => [a, b, c, d].into(),
            v6 => v6.into(),
        }
    }

    /// Whether the group is IPv6's.
    fn is_v6(&self) -> bool {
        self.address[0] == 0xff
    }
}

/// Result of learning from one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Nothing that another worker has to know.
    Nothing,
    /// The attachment is in the group from now on, or no longer.
    Changed,
    /// The attachment is in as many groups as it may, or changes them too often.
    Refused,
}

/// Memberships as one worker knows them.
pub(crate) struct Groups {
    owner: WorkerId,
    /// Groups that an attachment may be in.
    limit: usize,
    table: GroupTable,
    queriers: Queriers,
    pub(crate) peers: Peers,
    /// Node at which housekeeping goes on.
    sweep: usize,
}

impl Groups {
    /// Makes the memberships of a worker, none so far.
    pub(crate) fn new(owner: WorkerId, limit: usize) -> Groups {
        Groups {
            owner,
            limit,
            table: GroupTable::new(),
            queriers: Queriers::default(),
            peers: Peers::default(),
            sweep: 0,
        }
    }

    /// Follows new tables: makes room for every attachment's memberships, forgets those of attachments
    /// that have gone, and adds those that control has given. May allocate.
    pub(crate) fn follow(&mut self, tables: &Tables) {
        let there = |member: &Member| tables.attachment(member.id).is_some();
        self.table.retain(|node| there(&node.member));
        let attachments = tables.attachments.iter().flatten().count();
        let given = tables.static_groups.len();
        self.table
            .reserve(attachments * self.limit + given, tables.attachments.len());
        for &(group, member) in &tables.static_groups {
            self.table.insert(group, member, Filter::GIVEN, 0);
        }
        self.queriers.follow(tables);
    }

    /// Returns the first node of a group's chain if it has a member. [`Groups::member`] goes through
    /// the others.
    #[inline]
    pub(crate) fn find(&self, group: &Group) -> Option<usize> {
        self.table.find(group)
    }

    /// Whether an attachment is known to be in a group.
    pub(crate) fn is_member(&self, group: &Group, id: AttachmentId) -> bool {
        self.table.find_member(group, id).is_some()
    }

    /// Returns the member at a node, and the next node of the same group.
    #[inline]
    pub(crate) fn member(&self, node: usize) -> Option<(Member, Option<usize>)> {
        let found = self.table.node(node)?;
        Some((found.member, self.table.next_of_group(node)))
    }

    /// Learns from one record of a report of an attachment of this worker. `may_change` is asked once
    /// if the record changes whether the attachment is in the group.
    pub(crate) fn learn(
        &mut self,
        id: AttachmentId,
        segment: SegmentId,
        record: &Record<'_>,
        now_ms: u64,
        may_change: impl FnOnce() -> bool,
    ) -> Learned {
        if !is_snooped(&record.group) {
            return Learned::Nothing;
        }
        let group = Group {
            segment,
            address: record.group,
        };
        let known = self.table.find_member(&group, id);
        let before = known.map_or(Filter::NOTHING, |node| self.table.filter(node));
        let after = before.after(record);
        match (known, after.wants_any()) {
            (None, false) => Learned::Nothing,
            (Some(node), true) => {
                self.table.renew(node, after, now_ms);
                Learned::Nothing
            }
            (None, true) if self.table.held(id) >= self.limit || !may_change() => Learned::Refused,
            (None, true) => {
                let member = Member {
                    id,
                    owner: self.owner,
                };
                if !self.table.insert(group, member, after, now_ms) {
                    return Learned::Refused;
                }
                self.peers.tell(Notice::Joined(group, id));
                Learned::Changed
            }
            // Not to be in a group is never refused: it costs nobody anything.
            (Some(node), false) => {
                self.table.remove(node);
                self.peers.tell(Notice::Left(group, id));
                Learned::Changed
            }
        }
    }

    /// Notes a query from the wire or a querier among the pods: from now on memberships age by its querier's times.
    pub(crate) fn note_query(&mut self, group: Group, query: &Query, now_ms: u64) {
        if query.is_general {
            self.queriers
                .note(group.segment, group.is_v6(), query, now_ms);
        }
    }

    /// Takes what the other workers have told, a burst of each at most.
    #[inline]
    pub(crate) fn take_notices(&mut self, tables: &Tables) {
        for worker in 0..self.peers.len() {
            while let Some(notice) = self.peers.next(worker) {
                self.take_notice(tables, worker, notice);
            }
        }
    }

    fn take_notice(&mut self, tables: &Tables, worker: usize, notice: Notice) {
        match notice {
            // What was told of an attachment that has gone meanwhile finds another one there.
            Notice::Joined(group, id) => {
                if let Some(entry) = tables.attachment(id) {
                    let owner = entry.owner;
                    self.table
                        .insert(group, Member { id, owner }, Filter::ANY, 0);
                }
            }
            Notice::Left(group, id) => {
                if let Some(node) = self.table.find_member(&group, id)
                    && !self.table.filter(node).is_given()
                {
                    self.table.remove(node);
                }
            }
            Notice::Forget => self
                .table
                .retain(|node| node.member.owner.index() != worker || node.filter.is_given()),
        }
    }

    /// Has the other workers told all memberships again, as an attachment that they took for gone is
    /// back. Housekeeping tells them.
    pub(crate) fn tell_all(&mut self) {
        self.peers.begin_again();
    }

    /// Ages some memberships of this worker's attachments, and goes on with telling all of them to the
    /// workers whose ring was full.
    pub(crate) fn housekeeping(&mut self, now_ms: u64) {
        for _ in 0..SWEEP.min(self.table.len()) {
            let at = self.sweep;
            self.sweep = if at + 1 < self.table.len() { at + 1 } else { 0 };
            let Some(Node { group, member, .. }) = self.table.node(at).copied() else {
                continue;
            };
            if member.owner == self.owner && self.is_expired(at, &group, now_ms) {
                self.table.remove(at);
                self.peers.tell(Notice::Left(group, member.id));
            }
        }
        self.peers.tell_again(&self.table, self.owner);
    }

    fn is_expired(&self, node: usize, group: &Group, now_ms: u64) -> bool {
        let Some(node) = self.table.node(node) else {
            return false;
        };
        let querier = self.queriers.get(group.segment, group.is_v6());
        !node.filter.is_given()
            && querier.is_some_and(|querier| querier.is_over(node.renewed_ms, now_ms))
    }

    /// Appends memberships of this worker's attachments to `out`, from node `from` on, as far as its
    /// capacity goes. Returns the node to go on at.
    pub(crate) fn list(&self, from: usize, out: &mut Vec<(Group, AttachmentId)>) -> Option<usize> {
        for at in from..self.table.len() {
            if out.len() == out.capacity() {
                return Some(at);
            }
            if let Some(node) = self.table.node(at)
                && node.member.owner == self.owner
            {
                out.push((node.group, node.member.id));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
