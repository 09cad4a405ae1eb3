// SPDX-License-Identifier: Apache-2.0
//! Flow cache without a worker, on the caller's thread. Benches measure with it; a worker takes the
//! same steps.

use sluice_mem::BURST;
use sluice_packet::FlowKey;
use std::fmt;
use zerocopy::FromZeros;

use crate::control::engine::flow_cache;
use crate::error::Error;
use crate::flows::{BucketIndexes, CachedVerdict, FlowAction, FlowCache, INSERTS_PER_BURST};
use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::{Origin, OriginTag};
use crate::ids::{AttachmentId, SegmentId};

/// Sender and receiver of all flows.
const PODS: [u32; 2] = [1, 2];

/// Flow cache with the facts of one burst.
pub struct SteppedFlows {
    cache: FlowCache,
    frames: [FrameInfo; BURST],
}

impl fmt::Debug for SteppedFlows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppedFlows").finish_non_exhaustive()
    }
}

impl SteppedFlows {
    /// Makes a cache of at least `entries` entries; all are in use only once so many flows have come.
    ///
    /// # Errors
    /// [`Error::System`]: the memory cannot be mapped.
    pub fn new(entries: usize) -> Result<SteppedFlows, Error> {
        Ok(SteppedFlows {
            cache: flow_cache(entries)?,
            frames: [FrameInfo::new_zeroed(); BURST],
        })
    }

    /// Inserts the flows of `keys`, as many at once as a worker inserts of a burst. Returns how many are
    /// new. The cache is emptied each time it grows.
    pub fn insert(&mut self, keys: &[FlowKey]) -> usize {
        let mut new = 0;
        for keys in keys.chunks(INSERTS_PER_BURST as usize) {
            self.fill(keys);
            // This begins a burst.
            self.cache.candidates(&BucketIndexes::new(), 0);
            for info in &self.frames[..keys.len()] {
                let accept = CachedVerdict::ACCEPT;
                let action = FlowAction::new(info.packed_destination(), 1514, accept, accept);
                new += usize::from(matches!(self.cache.insert(info, action), Some((_, true))));
            }
        }
        new
    }

    /// Looks up the flows of at most [`BURST`] keys and returns the number of hits; further keys are
    /// ignored.
    #[inline]
    pub fn hits(&mut self, keys: &[FlowKey]) -> usize {
        let keys = &keys[..keys.len().min(BURST)];
        self.fill(keys);
        let mut buckets = BucketIndexes::new();
        for (n, info) in self.frames[..keys.len()].iter().enumerate() {
            buckets.set(n, self.cache.bucket_index(info));
        }
        let candidates = self.cache.candidates(&buckets, keys.len());
        let frames = self.frames[..keys.len()].iter().enumerate();
        frames
            .filter(|&(n, info)| self.cache.lookup(&candidates, n, info).is_some())
            .count()
    }

    /// Returns the number of entries in use at this moment.
    pub fn capacity(&self) -> usize {
        self.cache.capacity()
    }

    /// Removes every flow and keeps the capacity.
    pub fn clear(&mut self) {
        self.cache.clear_to(self.cache.capacity());
    }

    /// Fills in the facts of frames with these keys.
    #[inline(always)]
    fn fill(&mut self, keys: &[FlowKey]) {
        let [from, to] = PODS.map(AttachmentId::from_u32);
        let origin = OriginTag::new(Origin::Attachment(from), self.cache.version());
        for (info, key) in self.frames.iter_mut().zip(keys) {
            info.key = *key;
            info.set_origin(SegmentId::from_u32(1), origin);
            info.set_destination(Destination::Attachment(to));
        }
    }
}
