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
//! Nothing here allocates on a worker, and no step is as long as the table: what follows from new
//! tables is done in the rounds after them where it is much.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Groups`]: learning, lookup, ageing |
//! | `table.rs` | the table of memberships, a hash table with chains |
//! | `group_room.rs` | its memory, which control makes |
//! | `filter.rs` | the sources that one member wants (IGMPv3, MLDv2) |
//! | `queriers.rs` | queriers, by whose times memberships age |
//! | `notices.rs` | what workers tell each other |

pub(crate) mod filter;
pub(crate) mod group_room;
pub(crate) mod notices;
pub(crate) mod queriers;
pub(crate) mod table;

use std::net::IpAddr;

use sluice_packet::FlowKey;
use sluice_packet::membership::{Query, Record, is_snooped, mac_of};

use super::tables::Tables;
use crate::ids::{AttachmentId, SegmentId, WorkerId};
use filter::Filter;
use group_room::GroupRoom;
use notices::{Notice, Peers};
use table::{GroupTable, Member, Node};

/// Memberships that housekeeping, or a round that follows tables, looks at.
const SWEEP: usize = 256;
/// Memberships that are looked at when tables change, and when memberships are listed. Fewer there
/// mostly are: then all is done at once.
const SWEEP_AT_ONCE: usize = 4096;
/// Workers that there can be.
const WORKERS: usize = 64;

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
    pub(crate) peers: Peers,
    /// Node at which housekeeping goes on.
    sweep: usize,
    /// Tellings of each other worker.
    tellings: [ToldBy; WORKERS],
    behind: Behind,
}

/// Tellings of all memberships by another worker, by their numbers.
#[derive(Debug, Clone, Copy, Default)]
struct ToldBy {
    /// The last that began.
    begun: u64,
    /// The last that ended: replicas that were told before it are over.
    ended: u64,
}

/// Work that is left since the tables, or what another worker has told, changed.
#[derive(Debug, Clone, Copy, Default)]
struct Behind {
    /// Nodes that are to be looked at: from the first to before the second.
    nodes: (usize, usize),
    /// Entries of [`Tables::static_groups`] that are to be added.
    given: (usize, usize),
}

impl Groups {
    /// Makes the memberships of a worker, none so far.
    pub(crate) fn new(owner: WorkerId, limit: usize) -> Groups {
        Groups {
            owner,
            limit,
            table: GroupTable::new(),
            peers: Peers::default(),
            sweep: 0,
            tellings: [ToldBy::default(); WORKERS],
            behind: Behind::default(),
        }
    }

    /// Number of chunks of memory that there are.
    pub(crate) fn chunks(&self) -> usize {
        self.table.chunks()
    }

    /// Follows new tables: takes over room for every attachment's memberships, forgets those of
    /// attachments that have gone, and adds those that control has given. [`Groups::go_on`] does what is
    /// more than [`SWEEP_AT_ONCE`].
    pub(crate) fn follow(&mut self, tables: &Tables, room: Option<&mut GroupRoom>) {
        if let Some(room) = room {
            self.table.take_room(room);
        }
        self.behind = Behind {
            nodes: (0, self.table.len()),
            given: (0, tables.static_groups.len()),
        };
        self.go_on(tables, SWEEP_AT_ONCE);
    }

    /// Whether there is work left for [`Groups::go_on`].
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        let Behind { nodes, given } = self.behind;
        nodes.0 < nodes.1 || given.0 < given.1
    }

    /// Does up to `most` steps of what is left: removes memberships that are over, and adds given ones.
    fn go_on(&mut self, tables: &Tables, most: usize) {
        self.table.split(most);
        let Behind { nodes, given } = &mut self.behind;
        let (at, end) = (nodes.0, nodes.1.min(nodes.0 + most));
        nodes.0 = end;
        let first = given.0;
        let last = given.1.min(first + most - (end - at));
        given.0 = last;
        for at in at..end {
            let node = self.table.node(at);
            if node.is_some_and(|node| self.is_gone(tables, node)) {
                self.table.remove(at);
            }
        }
        let given = tables.static_groups.get(first..last);
        for &(group, member) in given.unwrap_or_default() {
            self.table.insert(group, member, Filter::GIVEN, 0);
        }
    }

    /// Whether a membership is over: its attachment has gone, or its worker has told all and this was
    /// not among them.
    fn is_gone(&self, tables: &Tables, node: &Node) -> bool {
        let Member { id, owner } = node.member;
        let is_untold = owner != self.owner
            && !node.filter.is_given()
            && node.renewed_ms < self.telling(owner.index()).ended;
        is_untold || tables.attachment(id).is_none()
    }

    fn telling(&self, worker: usize) -> ToldBy {
        self.tellings.get(worker).copied().unwrap_or_default()
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

    /// Takes what the other workers have told, a burst of each at most, and goes on with what is left of
    /// following tables.
    #[inline]
    pub(crate) fn take_notices(&mut self, tables: &Tables) {
        for worker in 0..self.peers.len() {
            while let Some(notice) = self.peers.next(worker) {
                self.take_notice(tables, worker, notice);
            }
        }
        if self.is_behind() {
            self.go_on(tables, SWEEP);
        }
    }

    fn take_notice(&mut self, tables: &Tables, worker: usize, notice: Notice) {
        match notice {
            // What was told of an attachment that has gone meanwhile finds another one there.
            Notice::Joined(group, id) => {
                if let Some(entry) = tables.attachment(id) {
                    let owner = entry.owner;
                    let telling = self.telling(worker).begun;
                    self.table
                        .insert(group, Member { id, owner }, Filter::ANY, telling);
                }
            }
            Notice::Left(group, id) => {
                if let Some(node) = self.table.find_member(&group, id)
                    && !self.table.filter(node).is_given()
                {
                    self.table.remove(node);
                }
            }
            Notice::All => {
                if let Some(telling) = self.tellings.get_mut(worker) {
                    telling.begun += 1;
                }
            }
            Notice::Told => {
                if let Some(telling) = self.tellings.get_mut(worker) {
                    telling.ended = telling.begun;
                    self.behind.nodes = (0, self.table.len());
                }
            }
        }
    }

    /// Has the other workers told all memberships again, as an attachment that they took for gone is
    /// back. Housekeeping tells them.
    pub(crate) fn tell_all(&mut self) {
        self.peers.begin_again();
    }

    /// Ages some memberships of this worker's attachments, and goes on with telling all of them to the
    /// workers whose ring was full.
    pub(crate) fn housekeeping(&mut self, tables: &Tables, now_ms: u64) {
        self.table.split(SWEEP);
        for _ in 0..SWEEP.min(self.table.len()) {
            let at = self.sweep;
            self.sweep = if at + 1 < self.table.len() { at + 1 } else { 0 };
            let Some(node) = self.table.node(at).copied() else {
                continue;
            };
            if node.member.owner == self.owner && is_expired(tables, &node, now_ms) {
                self.table.remove(at);
                self.peers.tell(Notice::Left(node.group, node.member.id));
            }
        }
        self.peers.tell_again(&self.table, self.owner);
    }

    /// Appends memberships of this worker's attachments to `out`, from node `from` on, as far as its
    /// capacity and [`SWEEP_AT_ONCE`] nodes go. Returns the node to go on at.
    pub(crate) fn list(&self, from: usize, out: &mut Vec<(Group, AttachmentId)>) -> Option<usize> {
        for at in from..self.table.len() {
            if out.len() == out.capacity() || at - from >= SWEEP_AT_ONCE {
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

/// Notes a query from the wire or a querier among the pods: from now on memberships age by its
/// querier's times.
pub(crate) fn note_query(tables: &Tables, group: &Group, query: &Query, now_ms: u64) {
    if query.is_general
        && let Some(segment) = tables.segment(group.segment)
    {
        segment.queriers.note(group.is_v6(), query, now_ms);
    }
}

fn is_expired(tables: &Tables, node: &Node, now_ms: u64) -> bool {
    let segment = tables.segment(node.group.segment);
    let querier = segment.map(|segment| segment.queriers.get(node.group.is_v6()));
    !node.filter.is_given()
        && querier.is_some_and(|querier| querier.is_over(node.renewed_ms, now_ms))
}

#[cfg(test)]
mod tests;
