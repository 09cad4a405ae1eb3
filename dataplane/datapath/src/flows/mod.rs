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
//! * It begins small, so that the entries of few flows lie on few pages, and doubles, empty once more,
//!   when a bucket is too full, until it has the size that was asked for.
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

use sluice_mem::{Array, BURST, Mbuf};
use zerocopy::FromZeros;

use crate::frame::FrameInfo;
use crate::frame::origin::Mark;
use crate::ids::FlowNumber;
use bucket::{Bucket, WAYS, Ways};
use hash::{Hasher, index, tag};
use path::Entry;
pub(crate) use path::{Half, Path, Said};

/// Buckets that are looked at after the tables have changed.
const FIRST_BUCKETS: usize = 128;
/// Flows learned of one burst at most.
pub(crate) const LEARNED_PER_BURST: u32 = 8;

/// A worker's flows.
#[derive(Debug)]
pub(crate) struct FlowCache {
    hasher: Hasher,
    /// A power of two, or none: then nothing is ever known.
    buckets: Array<Bucket>,
    /// Of these, the first are in use, a power of two or none: so many less one.
    mask: usize,
    /// Way `w` of bucket `b` is entry `b * WAYS + w`.
    entries: Array<Entry>,
    /// Entries of another version count as free.
    version: u32,
    /// How many more flows may be learned of this burst.
    left: u32,
}

/// The bucket in which a frame's flow can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    bucket: u32,
    tag: u16,
}

/// Those of a burst's frames.
#[derive(Debug)]
pub(crate) struct Places {
    buckets: [u32; BURST],
    tags: [u16; BURST],
}

impl Places {
    /// Of no frames yet.
    #[inline(always)]
    pub(crate) fn new() -> Places {
        Places {
            buckets: [0; BURST],
            tags: [0; BURST],
        }
    }

    /// Of frames that have been read.
    pub(crate) fn of(flows: &FlowCache, frames: &[Mbuf]) -> Places {
        let mut places = Places::new();
        for (n, mbuf) in frames.iter().enumerate() {
            places.set(n, flows.place(FrameInfo::of(mbuf)));
        }
        places
    }

    /// Sets that of the `n`th frame, below [`BURST`].
    #[inline(always)]
    pub(crate) fn set(&mut self, n: usize, place: Place) {
        self.buckets[n % BURST] = place.bucket;
        self.tags[n % BURST] = place.tag;
    }
}

/// The entries that the flows of a burst's frames can be in.
#[derive(Debug)]
pub(crate) struct Candidates {
    /// Of each frame the likely one.
    first: [u32; BURST],
    /// The other ways of its bucket with the same tag, hardly ever any.
    rest: [Ways; BURST],
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
            mask: buckets.min(FIRST_BUCKETS).saturating_sub(1),
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
        self.empty(self.buckets.len().min(FIRST_BUCKETS));
    }

    /// How many flows fit into the buckets that are in use.
    pub(crate) fn room(&self) -> usize {
        if self.is_on() {
            (self.mask + 1) * WAYS
        } else {
            0
        }
    }

    /// Forgets every flow, and begins anew with room for so many: a power of two of buckets.
    pub(crate) fn empty_to(&mut self, room: usize) {
        self.empty(room / WAYS);
    }

    /// Begins anew with so many buckets.
    fn empty(&mut self, buckets: usize) {
        self.mask = buckets.saturating_sub(1);
        self.version += 1;
        if self.version == Mark::VERSIONS {
            // After a thousand million versions the oldest would come to life again.
            self.version = 1;
            self.entries.fill(Entry::new_zeroed());
        }
    }

    /// What [`FrameInfo`]s of the next burst are marked with: it changes with the tables, and when the
    /// cache grows.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// The bucket in which a frame's flow can be; it is on its way to this core when this returns.
    #[inline(always)]
    pub(crate) fn place(&self, info: &FrameInfo) -> Place {
        let hash = self.hasher.hash(info);
        let at = self.bucket_of(hash);
        self.buckets.prefetch(at);
        #[allow(clippy::cast_possible_truncation, reason = "32 bits of a hash, masked")]
        Place {
            bucket: at as u32,
            tag: tag(hash),
        }
    }

    #[inline(always)]
    fn bucket_of(&self, hash: u64) -> usize {
        index(hash) & self.mask
    }

    /// The entries that the flows of `frames` frames can be in, the first of each on its way to this
    /// core when this returns. As with [`FlowCache::place`], for all frames before the next step is
    /// taken for any, so that one frame's cache misses overlap with the others'.
    #[inline(always)]
    pub(crate) fn candidates(&mut self, places: &Places, frames: usize) -> Candidates {
        self.left = LEARNED_PER_BURST;
        let mut found = Candidates {
            first: [0; BURST],
            rest: [Ways::default(); BURST],
        };
        for n in 0..frames.min(BURST) {
            let at = places.buckets[n] as usize;
            if let Some(bucket) = self.buckets.get(at) {
                let ways = bucket.ways(places.tags[n]);
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

    /// The number of the entry of the `n`th frame's flow, and what is known of it; notes that it was
    /// used.
    #[inline(always)]
    pub(crate) fn find(
        &mut self,
        candidates: &Candidates,
        n: usize,
        info: &FrameInfo,
    ) -> Option<(usize, &Path)> {
        let at = candidates.first[n % BURST] as usize;
        if self.entries.get(at)?.is_of(info) {
            return self.used(at);
        }
        self.find_later(at, candidates.rest[n % BURST], info)
    }

    /// The same, in the bucket of the entry `first`, among `ways`.
    #[cold]
    fn find_later(
        &mut self,
        first: usize,
        mut ways: Ways,
        info: &FrameInfo,
    ) -> Option<(usize, &Path)> {
        while !ways.is_empty() {
            let at = first / WAYS * WAYS + ways.first();
            if self.entries.get(at)?.is_of(info) {
                return self.used(at);
            }
            ways = ways.rest();
        }
        None
    }

    #[inline(always)]
    fn used(&mut self, at: usize) -> Option<(usize, &Path)> {
        let entry = self.entries.get_mut(at)?;
        entry.use_it();
        Some((at, entry.path()))
    }

    /// Learns how a frame's flow passes its first judge, or what a flow from the wire comes to.
    /// Also whether it is new: a burst may have many frames of a flow that was not known, and a
    /// frame too long for what is known is judged again. `None`: not this burst.
    pub(crate) fn learn(&mut self, info: &FrameInfo, path: Path) -> Option<(FlowNumber, bool)> {
        if !info.is_decided_by_key() {
            return None;
        }
        let hash = self.hasher.hash(info);
        let (at, all_in_use) = (self.bucket_of(hash), self.mask + 1 >= self.buckets.len());
        let bucket = self.buckets.get_mut(at)?;
        let base = at * WAYS;
        let entries = self.entries.get_mut(base..base + WAYS)?;
        if let Some(way) = entries.iter().position(|entry| entry.is_of(info)) {
            return Some((FlowNumber::of(base + way), false));
        }
        self.left = self.left.checked_sub(1)?;
        let version = self.version;
        let free = entries.iter().position(|entry| !entry.is_version(version));
        let way = match free {
            Some(way) => way,
            None if !all_in_use => {
                // The marks of this burst are of the version that ends here: its flows are learned
                // when they come again.
                self.empty(2 * (self.mask + 1));
                self.left = 0;
                return None;
            }
            None => bucket.give_up(|way| entries[way].was_used()),
        };
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
