// SPDX-License-Identifier: Apache-2.0
//! Table of memberships: a hash table with chains, whose memory control makes and the worker takes
//! over in pieces ([`GroupRoom`]).
//!
//! It grows by linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing", VLDB
//! 1980): buckets are split one after the other, a few at each insertion and in each housekeeping, so
//! that no single step is as long as the table.

use std::hash::{BuildHasher, RandomState};

use super::Group;
use super::filter::Filter;
use super::group_room::{CHUNK, Chunk, GroupRoom};
use crate::ids::{AttachmentId, MAX_ATTACHMENTS, SegmentId, WorkerId};

/// End of a chain.
pub(super) const END: u32 = u32::MAX;
/// Buckets that an insertion splits: more than the one that keeps up with it.
const SPLITS: usize = 2;

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
    /// Time of the last report. In a replica, which does not age, the number of the telling in which it
    /// was told.
    pub(crate) renewed_ms: u64,
    /// Next node of the bucket, or next free one.
    next: u32,
    is_used: bool,
}

impl Node {
    /// Makes a node that is not in use.
    pub(super) fn free() -> Node {
        Node {
            group: Group {
                segment: SegmentId::from_u32(0),
                address: [0; 16],
            },
            member: Member {
                id: AttachmentId::from_u32(0),
                owner: WorkerId(0),
            },
            filter: Filter::NOTHING,
            renewed_ms: 0,
            next: END,
            is_used: false,
        }
    }
}

/// Memberships by group.
#[derive(Debug)]
pub(crate) struct GroupTable {
    /// Keeps pods from choosing groups that fall into one bucket.
    seed: u64,
    /// Nodes, and as many buckets.
    chunks: Vec<Chunk>,
    /// Buckets in use.
    buckets: usize,
    /// Nodes that were ever in use.
    len: usize,
    free: u32,
    /// Memberships of each attachment, by slot.
    held: Box<[u32]>,
}

impl GroupTable {
    /// Makes a table without room.
    pub(crate) fn new() -> GroupTable {
        GroupTable {
            seed: RandomState::new().hash_one(0_u64),
            chunks: Vec::new(),
            buckets: 0,
            len: 0,
            free: END,
            held: vec![0; MAX_ATTACHMENTS].into(),
        }
    }

    /// Number of chunks that the table has.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Takes room over that control has made, and leaves in it what is not needed any more. Nothing is
    /// allocated, freed or moved but the list of chunks.
    pub(crate) fn take_room(&mut self, room: &mut GroupRoom) {
        room.extend(&mut self.chunks);
        if self.len == 0 {
            self.buckets = self.capacity();
        }
    }

    /// Number of nodes that there is memory for.
    fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Number of nodes, used and free.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns a membership; `None` if the node is free.
    #[inline]
    pub(crate) fn node(&self, at: usize) -> Option<&Node> {
        self.any_node(at).filter(|node| node.is_used)
    }

    #[inline]
    fn any_node(&self, at: usize) -> Option<&Node> {
        self.chunks.get(at / CHUNK)?.nodes.get(at % CHUNK)
    }

    #[inline]
    fn node_mut(&mut self, at: usize) -> Option<&mut Node> {
        self.chunks.get_mut(at / CHUNK)?.nodes.get_mut(at % CHUNK)
    }

    /// Returns the first node of a bucket's chain.
    #[inline]
    fn head(&self, bucket: usize) -> u32 {
        let chunk = self.chunks.get(bucket / CHUNK);
        chunk
            .and_then(|chunk| chunk.buckets.get(bucket % CHUNK))
            .map_or(END, |&head| head)
    }

    /// Puts a node, or the end of the chain, in front of a bucket's chain. Returns what was there.
    #[inline]
    fn replace_head(&mut self, bucket: usize, head: u32) -> u32 {
        let chunk = self.chunks.get_mut(bucket / CHUNK);
        match chunk.and_then(|chunk| chunk.buckets.get_mut(bucket % CHUNK)) {
            Some(slot) => std::mem::replace(slot, head),
            None => END,
        }
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
        self.of_group(self.head(bucket), group)
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
        self.split(SPLITS);
        let Some(bucket) = self.bucket(&group) else {
            return false;
        };
        let at = match self.any_node(self.free as usize) {
            Some(free) => {
                let next = free.next;
                std::mem::replace(&mut self.free, next)
            }
            None if self.len < self.capacity() => match u32::try_from(self.len) {
                Ok(END) | Err(_) => return false,
                Ok(at) => {
                    self.len += 1;
                    at
                }
            },
            None => return false,
        };
        let next = self.replace_head(bucket, at);
        if let Some(node) = self.node_mut(at as usize) {
            *node = Node {
                group,
                member,
                filter,
                renewed_ms: now_ms,
                next,
                is_used: true,
            };
        }
        if let Some(held) = self.held.get_mut(member.id.slot()) {
            *held += 1;
        }
        true
    }

    /// Notes a report that renews a membership.
    pub(crate) fn renew(&mut self, at: usize, filter: Filter, now_ms: u64) {
        if let Some(node) = self.node_mut(at) {
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
        let mut number = self.head(bucket);
        if number as usize == at {
            self.replace_head(bucket, next);
        } else {
            let before = loop {
                let Some(node) = self.any_node(number as usize) else {
                    return;
                };
                if node.next as usize == at {
                    break number as usize;
                }
                number = node.next;
            };
            if let Some(node) = self.node_mut(before) {
                number = std::mem::replace(&mut node.next, next);
            }
        }
        let free = std::mem::replace(&mut self.free, number);
        if let Some(node) = self.node_mut(at) {
            (node.is_used, node.next) = (false, free);
        }
        if let Some(held) = self.held.get_mut(member.id.slot()) {
            *held = held.saturating_sub(1);
        }
    }

    /// Splits up to `count` buckets, as long as there are fewer in use than there is memory for.
    pub(crate) fn split(&mut self, count: usize) {
        for _ in 0..count {
            if self.buckets >= self.capacity() {
                return;
            }
            let new = self.buckets;
            self.buckets += 1;
            let Some(level) = new.checked_ilog2() else {
                // The first one.
                continue;
            };
            let mut at = self.replace_head(new - (1 << level), END);
            while let Some(&Node { group, next, .. }) = self.any_node(at as usize) {
                let bucket = self.bucket(&group).unwrap_or(0);
                let head = self.replace_head(bucket, at);
                if let Some(node) = self.node_mut(at as usize) {
                    node.next = head;
                }
                at = next;
            }
        }
    }

    /// Returns the first node of `group` in a chain.
    #[inline]
    fn of_group(&self, mut at: u32, group: &Group) -> Option<usize> {
        loop {
            let node = self.any_node(at as usize)?;
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
        // Those that are not split yet have what belongs to buckets that are not in use.
        let mask = self.buckets.checked_next_power_of_two()?.checked_sub(1)?;
        let bucket = usize::try_from(hash).unwrap_or(0) & mask;
        match bucket {
            _ if self.buckets == 0 => None,
            behind if behind >= self.buckets => Some(behind & (mask >> 1)),
            bucket => Some(bucket),
        }
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
