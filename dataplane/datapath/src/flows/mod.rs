//! The flow cache: what the tables said of a flow's first frame, found again for its others with
//! one lookup.
//!
//! One per worker, and nobody else's. A flow is one [`FlowKey`](sluice_packet::FlowKey) from one source; its entry
//! says where its frames go and how the judges on the way decide, so that a frame of a known flow
//! passes anti-spoofing, the MAC table and up to four policy tables in one step. Each decision is
//! counted for each frame all the same.
//!
//! What bounds it, as pods choose the flows:
//!
//! * An entry is of one version of the tables: whenever they change, the cache is empty.
//! * It is a cache: eight places per bucket, and a full bucket gives one of them up, never one that
//!   was used since it was last passed over. So a pod that makes up flows pushes out such flows of
//!   its own, not those in which frames come.
//! * At most [`LEARNED_PER_BURST`] flows are learned of a burst: a burst of nothing but new flows
//!   costs little more than without a cache.
//! * Buckets are found by a keyed hash, so no pod can aim at another's.
//! * Only what the key alone decides is kept: no ARP or neighbour discovery (their bodies are looked
//!   at), nothing with a second tag, nothing that is flooded, rejected or logged.

mod bucket;
mod hash;
mod path;

use std::io;

use sluice_mem::{Array, BURST, Mbuf, prefetch};
use zerocopy::FromZeros;

use crate::frame::FrameInfo;
use crate::ids::FlowNumber;
use crate::mark::Mark;
use bucket::{Bucket, WAYS, Ways};
use hash::{Hasher, index, tag};
use path::Entry;
pub(crate) use path::{Half, Path, Said};

/// Flows learned of one burst at most.
pub(crate) const LEARNED_PER_BURST: u32 = 8;

/// A worker's flows.
#[derive(Debug)]
pub(crate) struct FlowCache {
    hasher: Hasher,
    /// A power of two, or none: then nothing is ever known.
    buckets: Array<Bucket>,
    /// Way `w` of bucket `b` is entry `b * WAYS + w`.
    entries: Array<Entry>,
    /// Entries of another version count as free.
    version: u32,
    /// How many more flows may be learned of this burst.
    left: u32,
}

/// Where the flows of a burst's frames can be.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// The first entry of the bucket.
    first: [usize; BURST],
    ways: [Ways; BURST],
}

impl FlowCache {
    /// One of at least `entries` entries, of 132 bytes each. With 0 there is no cache.
    ///
    /// # Errors
    /// There is not so much memory.
    pub(crate) fn new(entries: usize) -> io::Result<FlowCache> {
        let buckets = match entries {
            0 => 0,
            some => some.div_ceil(WAYS).next_power_of_two(),
        };
        Ok(FlowCache {
            hasher: Hasher::new(),
            buckets: Array::zeroed(buckets)?,
            entries: Array::zeroed(buckets * WAYS)?,
            version: 1,
            left: 0,
        })
    }

    /// Whether it keeps anything.
    pub(crate) fn is_on(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// Forgets every flow: the tables changed.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
        if self.version == Mark::VERSIONS {
            // After a thousand million versions the oldest would come to life again.
            self.version = 1;
            self.entries.fill(Entry::new_zeroed());
        }
    }

    /// What [`FrameInfo`]s are marked with until the tables change.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Looks for every frame of a burst, up to the entries that its flow can be in: these are on
    /// their way to this core when this returns. In passes over all frames, so that one frame's
    /// cache misses overlap with the others'.
    #[inline]
    pub(crate) fn look_for(&mut self, frames: &[Mbuf]) -> Candidates {
        self.left = LEARNED_PER_BURST;
        let mut found = Candidates {
            first: [0; BURST],
            ways: [Ways::default(); BURST],
        };
        let mut tags = [0; BURST];
        let mask = self.buckets.len().wrapping_sub(1);
        for ((mbuf, at), kept) in frames.iter().zip(&mut found.first).zip(&mut tags) {
            let hash = self.hasher.hash(FrameInfo::of(mbuf));
            *at = index(hash) & mask;
            *kept = tag(hash);
            if let Some(bucket) = self.buckets.get(*at) {
                prefetch(bucket);
            }
        }
        let places = found.first.iter_mut().zip(&mut found.ways);
        for ((_, (at, ways)), tag) in frames.iter().zip(places).zip(tags) {
            if let Some(bucket) = self.buckets.get(*at) {
                *ways = bucket.ways(tag);
            }
            *at *= WAYS;
            if let Some(entry) = self.entries.get(*at + ways.first()) {
                entry.prefetch();
            }
        }
        found
    }

    /// The entry of the `n`th frame's flow, and what is known of it; notes that it was used.
    #[inline(always)]
    pub(crate) fn find(
        &mut self,
        candidates: &Candidates,
        n: usize,
        info: &FrameInfo,
    ) -> Option<(FlowNumber, &Path)> {
        let base = *candidates.first.get(n)?;
        let mut ways = *candidates.ways.get(n)?;
        while !ways.is_empty() {
            let way = ways.first();
            if self.entries.get(base + way)?.is_of(info) {
                self.buckets.get_mut(base / WAYS)?.use_way(way);
                let flow = FlowNumber::of(base + way);
                return Some((flow, self.entries.get(base + way)?.path()));
            }
            ways = ways.rest();
        }
        None
    }

    /// Learns how a frame's flow passes its first judge, or what a flow from the wire comes to.
    /// Also whether it is new: a burst may have many frames of a flow that was not known, and a
    /// frame too long for what is known is judged again. `None`: not this burst.
    pub(crate) fn learn(&mut self, info: &FrameInfo, path: Path) -> Option<(FlowNumber, bool)> {
        if !info.is_decided_by_key() {
            return None;
        }
        let hash = self.hasher.hash(info);
        let at = index(hash) & self.buckets.len().wrapping_sub(1);
        let bucket = self.buckets.get_mut(at)?;
        let base = at * WAYS;
        let entries = self.entries.get_mut(base..base + WAYS)?;
        if let Some(way) = entries.iter().position(|entry| entry.is_of(info)) {
            return Some((FlowNumber::of(base + way), false));
        }
        self.left = self.left.checked_sub(1)?;
        let version = self.version;
        let free = entries.iter().position(|entry| !entry.is_version(version));
        let way = free.unwrap_or_else(|| bucket.give_up());
        bucket.take(way, tag(hash));
        entries[way] = Entry::new(info, path);
        Some((FlowNumber::of(base + way), true))
    }

    /// Adds how a frame's flow, learned before, passes its receiver's judge.
    pub(crate) fn learn_ingress(&mut self, info: &FrameInfo, ingress: Half, max_frame: u32) {
        let entry = info.flow().entry().and_then(|at| self.entries.get_mut(at));
        if let Some(entry) = entry.filter(|entry| entry.is_of(info)) {
            entry.add_ingress(ingress, max_frame);
        }
    }
}

#[cfg(test)]
mod tests;
