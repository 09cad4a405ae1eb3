// SPDX-License-Identifier: Apache-2.0
//! Flow cache: a set-associative cache from a flow's key to its destination and verdicts.
//!
//! Each worker has one, which nobody else touches. A flow is one
//! [`FlowKey`](sluice_packet::FlowKey) from one origin. Its entry says where its frames go and how
//! the policies on the way decide, so that one lookup stands for anti-spoofing, the MAC table and up
//! to four policy tables. Every frame is counted by the rules that decided on its flow all the same.
//!
//! The cache has eight ways and 16-bit tags (`bucket.rs`), a keyed hash (`hash.rs`) and replaces by
//! the CLOCK algorithm. Pods choose the flows, so it is bounded in every way:
//!
//! * An entry is of one version of the tables: a change of the tables empties the cache.
//! * It begins small, so that the entries of few flows lie on few pages. When a bucket is full, the
//!   number of buckets in use doubles and the cache is emptied, up to the size that was asked for.
//! * A full bucket replaces an entry of the attachment that has the most in it ("longest queue drop",
//!   Wei, Coyle and Hsiao, 1991): a pod that makes up flows pushes out its own, however many it has
//!   frames in, and none of a neighbour that has fewer. Among those it is one that was not hit since
//!   the hand last passed it, if there is one.
//! * At most [`INSERTS_PER_BURST`] flows are inserted of a burst: a burst of nothing but new flows
//!   costs little more than without a cache.
//! * The hash is keyed, so no pod can aim at another's bucket.
//! * Where MAC addresses are learned, an entry's destination is confirmed before it is used
//!   ([`FlowAction::to_be_confirmed`]).
//! * Only flows that the key alone decides are kept: no ARP or neighbour discovery (their bodies are
//!   read), no second tags, nothing that is flooded, rejected or logged.

mod bucket;
mod entry;
mod hash;

use std::io;

use sluice_mem::{Array, BURST, Mbuf};
use zerocopy::FromZeros;

use crate::frame::FrameInfo;
use crate::frame::origin_tag::OriginTag;
use crate::ids::FlowNumber;
use bucket::{Bucket, WAYS, Ways};
pub(crate) use entry::{CachedVerdict, FlowAction, FlowVerdict};
use entry::{FlowEntry, FlowOwner};
use hash::{Hasher, index, tag};

/// Buckets in use after the tables have changed.
const FIRST_BUCKETS: usize = 128;
/// Flows inserted of one burst at most.
pub(crate) const INSERTS_PER_BURST: u32 = 8;

/// Flow cache of one worker.
#[derive(Debug)]
pub(crate) struct FlowCache {
    hasher: Hasher,
    /// All buckets: a power of two, or none, and then every lookup is a miss.
    buckets: Array<Bucket>,
    /// Mask of the buckets in use: their number, a power of two, minus one; 0 when the cache is off.
    mask: usize,
    /// Entries of all buckets: way `w` of bucket `b` is entry `b * WAYS + w`.
    entries: Array<FlowEntry>,
    /// Version of the tables; entries of any other are free.
    version: u32,
    /// Flows that may still be inserted of this burst.
    left: u32,
}

/// Index of the bucket in which a flow can be, with the flow's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketIndex {
    bucket: u32,
    tag: u16,
}

/// Bucket index and tag of each frame of a burst.
#[derive(Debug)]
pub(crate) struct BucketIndexes {
    buckets: [u32; BURST],
    tags: [u16; BURST],
}

impl BucketIndexes {
    /// Makes the indexes of a burst that is not parsed yet.
    #[inline(always)]
    pub(crate) fn new() -> BucketIndexes {
        BucketIndexes {
            buckets: [0; BURST],
            tags: [0; BURST],
        }
    }

    /// Computes the indexes of frames whose keys are there.
    pub(crate) fn of(flows: &FlowCache, frames: &[Mbuf]) -> BucketIndexes {
        let mut indexes = BucketIndexes::new();
        for (n, mbuf) in frames.iter().enumerate() {
            indexes.set(n, flows.bucket_index(FrameInfo::of(mbuf)));
        }
        indexes
    }

    /// Sets the index of the `n`th frame, below [`BURST`].
    #[inline(always)]
    pub(crate) fn set(&mut self, n: usize, index: BucketIndex) {
        self.buckets[n % BURST] = index.bucket;
        self.tags[n % BURST] = index.tag;
    }
}

/// Entries that the flows of a burst's frames can be in.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// First entry of each frame's bucket that has its tag.
    first: [u32; BURST],
    /// Further ways of each bucket with the same tag, hardly ever any.
    rest: [Ways; BURST],
}

impl FlowCache {
    /// Makes a cache of at least `entries` entries, 132 bytes each with their tags; with 0 the cache
    /// is off.
    ///
    /// # Errors
    /// The memory cannot be mapped.
    pub(crate) fn new(entries: usize) -> io::Result<FlowCache> {
        let buckets = match entries {
            0 => 0,
            some => some.div_ceil(WAYS).next_power_of_two(),
        };
        Ok(FlowCache {
            hasher: Hasher::new(),
            mask: buckets.min(FIRST_BUCKETS).saturating_sub(1),
            buckets: Array::zeroed(buckets)?,
            entries: Array::zeroed(buckets * WAYS)?,
            version: 1,
            left: 0,
        })
    }

    /// Whether the cache keeps anything.
    pub(crate) fn is_on(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// Removes every flow and begins small again: the tables changed.
    pub(crate) fn clear(&mut self) {
        self.restart(self.buckets.len().min(FIRST_BUCKETS));
    }

    /// Returns the number of entries in the buckets in use.
    pub(crate) fn capacity(&self) -> usize {
        if self.is_on() {
            (self.mask + 1) * WAYS
        } else {
            0
        }
    }

    /// Removes every flow and begins with `capacity` entries: a power of two of buckets.
    pub(crate) fn clear_to(&mut self, capacity: usize) {
        self.restart(capacity / WAYS);
    }

    /// Begins a new version, with `buckets` buckets in use.
    fn restart(&mut self, buckets: usize) {
        self.mask = buckets.saturating_sub(1);
        self.version += 1;
        if self.version == OriginTag::VERSIONS {
            // After 2^30 versions the oldest entries would become valid again.
            self.version = 1;
            self.entries.fill(FlowEntry::new_zeroed());
        }
    }

    /// Returns the version for the origin tags of the next burst. It changes with the tables and
    /// when the cache grows.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Computes the bucket index of a frame's flow and prefetches the bucket.
    #[inline(always)]
    pub(crate) fn bucket_index(&self, info: &FrameInfo) -> BucketIndex {
        let hash = self.hasher.hash(info);
        let at = self.bucket_of(hash);
        self.buckets.prefetch(at);
        #[allow(clippy::cast_possible_truncation, reason = "32 bits of a hash, masked")]
        BucketIndex {
            bucket: at as u32,
            tag: tag(hash),
        }
    }

    #[inline(always)]
    fn bucket_of(&self, hash: u64) -> usize {
        index(hash) & self.mask
    }

    /// Compares the tags of `frames` frames and prefetches the first entry that each can be in. Like
    /// [`FlowCache::bucket_index`] it runs over all frames before the next step runs for any, so
    /// that their CPU cache misses overlap.
    #[inline(always)]
    pub(crate) fn candidates(&mut self, indexes: &BucketIndexes, frames: usize) -> Candidates {
        self.left = INSERTS_PER_BURST;
        let mut found = Candidates {
            first: [0; BURST],
            rest: [Ways::default(); BURST],
        };
        for n in 0..frames.min(BURST) {
            let at = indexes.buckets[n] as usize;
            if let Some(bucket) = self.buckets.get(at) {
                let ways = bucket.ways(indexes.tags[n]);
                let entry = at * WAYS + ways.first();
                self.entries.prefetch(entry);
                #[allow(clippy::cast_possible_truncation, reason = "no cache is so large")]
                let first = entry as u32;
                found.first[n] = first;
                found.rest[n] = ways.rest();
            }
        }
        found
    }

    /// Looks up the `n`th frame's flow. A hit sets the entry's reference bit and returns its number
    /// and action.
    #[inline(always)]
    pub(crate) fn lookup(
        &mut self,
        candidates: &Candidates,
        n: usize,
        info: &FrameInfo,
    ) -> Option<(usize, &FlowAction)> {
        let at = candidates.first[n % BURST] as usize;
        if self.entries.get(at)?.is_of(info) {
            return self.hit(at);
        }
        self.lookup_rest(at, candidates.rest[n % BURST], info)
    }

    /// Looks up a flow in the bucket of the entry `first`, among `ways`.
    #[cold]
    fn lookup_rest(
        &mut self,
        first: usize,
        mut ways: Ways,
        info: &FrameInfo,
    ) -> Option<(usize, &FlowAction)> {
        while !ways.is_empty() {
            let at = first / WAYS * WAYS + ways.first();
            if self.entries.get(at)?.is_of(info) {
                return self.hit(at);
            }
            ways = ways.rest();
        }
        None
    }

    #[inline(always)]
    fn hit(&mut self, at: usize) -> Option<(usize, &FlowAction)> {
        let entry = self.entries.get_mut(at)?;
        entry.reference();
        Some((at, entry.action()))
    }

    /// Inserts a frame's flow. Returns its number and whether it is new: a burst may have many
    /// frames of a flow that missed, and a frame too long for its entry misses as well. `None` if
    /// the flow is not kept, or not of this burst.
    pub(crate) fn insert(
        &mut self,
        info: &FrameInfo,
        action: FlowAction,
    ) -> Option<(FlowNumber, bool)> {
        if !info.is_decided_by_key() {
            return None;
        }
        let hash = self.hasher.hash(info);
        let (at, all_in_use) = (self.bucket_of(hash), self.mask + 1 >= self.buckets.len());
        let bucket = self.buckets.get_mut(at)?;
        let base = at * WAYS;
        let entries = self.entries.get_mut(base..base + WAYS)?;
        let mut ways = bucket.ways(tag(hash));
        while !ways.is_empty() {
            let way = ways.first();
            if let Some(entry) = entries.get_mut(way)
                && entry.is_of(info)
            {
                // What was learned has changed: the frame goes elsewhere now.
                if entry.is_to_be_confirmed() {
                    *entry = FlowEntry::new(info, action);
                }
                return Some((FlowNumber::of(base + way), false));
            }
            ways = ways.rest();
        }
        self.left = self.left.checked_sub(1)?;
        let version = self.version;
        let free = entries.iter().position(|entry| !entry.is_version(version));
        let way = match free {
            Some(way) => way,
            None if !all_in_use => {
                // The origin tags of this burst are of the version that ends here: its flows are
                // inserted when they come again.
                self.restart(2 * (self.mask + 1));
                self.left = 0;
                return None;
            }
            None => {
                let replaceable = replaceable(entries, FlowEntry::new(info, action).owner());
                bucket.evict(|way| !replaceable[way] || entries[way].take_reference())
            }
        };
        bucket.set_tag(way, tag(hash));
        entries[way] = FlowEntry::new(info, action);
        Some((FlowNumber::of(base + way), true))
    }

    /// Returns the action of an entry.
    #[cold]
    pub(crate) fn action(&self, at: usize) -> Option<&FlowAction> {
        self.entries.get(at).map(FlowEntry::action)
    }

    /// Notes that the destination of an entry was confirmed, and returns its action.
    #[cold]
    pub(crate) fn confirm(&mut self, at: usize, epoch: u32, second: u32) -> Option<&FlowAction> {
        let entry = self.entries.get_mut(at)?;
        entry.confirm(epoch, second);
        Some(entry.action())
    }

    /// Adds the receiver's verdict to the entry that a frame's facts name, if it is still there.
    pub(crate) fn set_ingress(&mut self, info: &FrameInfo, ingress: CachedVerdict, max_frame: u32) {
        let entry = info.flow().entry().and_then(|at| self.entries.get_mut(at));
        if let Some(entry) = entry.filter(|entry| entry.is_of(info)) {
            entry.set_ingress(ingress, max_frame);
        }
    }
}

/// Ways of a full bucket of which one may make room for a flow of `owner`: its own, if it has as many
/// as anybody else, or those of whoever has the most.
fn replaceable(entries: &[FlowEntry], owner: FlowOwner) -> [bool; WAYS] {
    let mut owners = [owner; WAYS];
    for (slot, entry) in owners.iter_mut().zip(entries) {
        *slot = entry.owner();
    }
    let held = |who: FlowOwner| owners.iter().filter(|&&other| other == who).count();
    let counts = owners.map(held);
    let most = counts.into_iter().max().unwrap_or(0);
    if held(owner) == most {
        return owners.map(|other| other == owner);
    }
    counts.map(|count| count == most)
}

#[cfg(test)]
mod tests;
