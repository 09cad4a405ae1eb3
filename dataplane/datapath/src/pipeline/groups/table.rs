// SPDX-License-Identifier: Apache-2.0
//! Table of memberships: a hash table whose chains lie in one block of nodes. Its memory grows when
//! control adds attachments and never while frames flow.

use std::hash::{BuildHasher, RandomState};

use super::Group;
use super::filter::Filter;
use crate::ids::{AttachmentId, WorkerId};

/// End of a chain.
const END: u32 = u32::MAX;

/// Attachment in a group, with the worker that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: AttachmentId,
    pub(crate) owner: WorkerId,
}

/// Membership of one attachment in one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) group: Group,
    pub(crate) member: Member,
    pub(crate) filter: Filter,
    /// Time of the last report; 0 in a replica, which does not age.
    pub(crate) renewed_ms: u64,
    /// Next node of the bucket, or next free one.
    next: u32,
    is_used: bool,
}

/// Memberships by group.
#[derive(Debug)]
pub(crate) struct GroupTable {
    /// Keeps pods from choosing groups that fall into one bucket.
    seed: u64,
    /// First node of each chain. A power of two of them, or none.
    buckets: Box<[u32]>,
    nodes: Vec<Node>,
    free: u32,
    /// Memberships of each attachment, by slot.
    held: Vec<u32>,
}

impl GroupTable {
    /// Makes a table without room.
    pub(crate) fn new() -> GroupTable {
        GroupTable {
            seed: RandomState::new().hash_one(0_u64),
            buckets: Box::default(),
            nodes: Vec::new(),
            free: END,
            held: Vec::new(),
        }
    }

    /// Makes room for `memberships` of attachments in the first `slots` slots. Allocates.
    pub(crate) fn reserve(&mut self, memberships: usize, slots: usize) {
        if self.held.len() < slots {
            self.held.resize(slots, 0);
        }
        if self.nodes.capacity() < memberships {
            self.nodes.reserve_exact(memberships - self.nodes.len());
        }
        let buckets = memberships.next_power_of_two();
        if self.buckets.len() < buckets {
            self.buckets = vec![END; buckets].into_boxed_slice();
            self.link_all();
        }
    }

    /// Number of nodes, used and free.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns a membership; `None` if the node is free.
    #[inline]
    pub(crate) fn node(&self, at: usize) -> Option<&Node> {
        self.nodes.get(at).filter(|node| node.is_used)
    }

    /// Returns the filter of a membership.
    pub(crate) fn filter(&self, at: usize) -> Filter {
        self.node(at).map_or(Filter::NOTHING, |node| node.filter)
    }

    /// Returns the number of groups that an attachment is in.
    pub(crate) fn held(&self, id: AttachmentId) -> usize {
        self.held.get(id.slot()).map_or(0, |&held| held as usize)
    }

    /// Returns the first node of a group.
    #[inline]
    pub(crate) fn find(&self, group: &Group) -> Option<usize> {
        let bucket = self.bucket(group)?;
        self.of_group(*self.buckets.get(bucket)?, group)
    }

    /// Returns the node of the same group that follows a node.
    #[inline]
    pub(crate) fn next_of_group(&self, at: usize) -> Option<usize> {
        let node = self.node(at)?;
        self.of_group(node.next, &node.group)
    }

    /// Returns the node of an attachment's membership in a group.
    pub(crate) fn find_member(&self, group: &Group, id: AttachmentId) -> Option<usize> {
        let mut at = self.find(group)?;
        while self.node(at)?.member.id != id {
            at = self.next_of_group(at)?;
        }
        Some(at)
    }

    /// Adds a membership, or changes the filter of the one that is there. `false`: there is no room.
    pub(crate) fn insert(
        &mut self,
        group: Group,
        member: Member,
        filter: Filter,
        now_ms: u64,
    ) -> bool {
        if let Some(at) = self.find_member(&group, member.id) {
            if !self.filter(at).is_given() {
                self.renew(at, filter, now_ms);
            }
            return true;
        }
        let Some(bucket) = self.bucket(&group) else {
            return false;
        };
        let node = Node {
            group,
            member,
            filter,
            renewed_ms: now_ms,
            next: self.buckets[bucket],
            is_used: true,
        };
        let Ok(end) = u32::try_from(self.nodes.len()) else {
            return false;
        };
        let at = if let Some(free) = self.nodes.get_mut(self.free as usize) {
            let at = std::mem::replace(&mut self.free, free.next);
            *free = node;
            at
        } else if self.nodes.len() < self.nodes.capacity() {
            self.nodes.push(node);
            end
        } else {
            return false;
        };
        self.buckets[bucket] = at;
        if let Some(held) = self.held.get_mut(member.id.slot()) {
            *held += 1;
        }
        true
    }

    /// Notes a report that renews a membership.
    pub(crate) fn renew(&mut self, at: usize, filter: Filter, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(at) {
            (node.filter, node.renewed_ms) = (filter, now_ms);
        }
    }

    /// Removes a membership.
    pub(crate) fn remove(&mut self, at: usize) {
        let Some(&Node {
            group,
            member,
            next,
            ..
        }) = self.node(at)
        else {
            return;
        };
        let Some(bucket) = self.bucket(&group) else {
            return;
        };
        let mut number = self.buckets[bucket];
        if number as usize == at {
            self.buckets[bucket] = next;
        } else {
            let before = loop {
                let Some(node) = self.nodes.get(number as usize) else {
                    return;
                };
                if node.next as usize == at {
                    break number as usize;
                }
                number = node.next;
            };
            number = std::mem::replace(&mut self.nodes[before].next, next);
        }
        self.nodes[at].is_used = false;
        self.nodes[at].next = std::mem::replace(&mut self.free, number);
        if let Some(held) = self.held.get_mut(member.id.slot()) {
            *held = held.saturating_sub(1);
        }
    }

    /// Removes the memberships for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Node) -> bool) {
        for at in 0..self.nodes.len() {
            if self.node(at).is_some_and(|node| !keep(node)) {
                self.remove(at);
            }
        }
    }

    /// Puts every membership into the chain of its bucket.
    fn link_all(&mut self) {
        for at in 0..self.nodes.len() {
            let Some(node) = self.node(at) else { continue };
            if let (Some(bucket), Ok(number)) = (self.bucket(&node.group), u32::try_from(at)) {
                self.nodes[at].next = std::mem::replace(&mut self.buckets[bucket], number);
            }
        }
    }

    /// Returns the first node of `group` in a chain.
    #[inline]
    fn of_group(&self, mut at: u32, group: &Group) -> Option<usize> {
        loop {
            let node = self.nodes.get(at as usize)?;
            if node.group == *group {
                return Some(at as usize);
            }
            at = node.next;
        }
    }

    /// Returns the bucket of a group; `None` if the table has no room.
    #[inline]
    fn bucket(&self, group: &Group) -> Option<usize> {
        let (head, tail) = group.address.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let hash = fold(self.seed ^ word(head), 0x9e37_79b9_7f4a_7c15);
        let hash = fold(hash ^ word(tail), 0xd6e8_feb8_6659_fd93);
        let hash = fold(
            hash ^ u64::from(group.segment.to_u32()),
            0xa076_1d64_78bd_642f,
        );
        let mask = self.buckets.len().checked_sub(1)?;
        Some(usize::try_from(hash).unwrap_or(0) & mask)
    }
}

/// Multiplies, and folds the product's halves into one: every bit of the result depends on all of
/// `word`.
#[inline]
fn fold(word: u64, factor: u64) -> u64 {
    let product = u128::from(word) * u128::from(factor);
    #[allow(clippy::cast_possible_truncation, reason = "the halves are asked for")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}
