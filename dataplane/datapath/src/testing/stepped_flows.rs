//! A worker's flow cache alone, asked on the caller's thread. Benches measure with it; a worker asks it
//! in the same steps.

use sluice_mem::BURST;
use sluice_packet::FlowKey;
use zerocopy::FromZeros;

use crate::control::engine::flow_cache;
use crate::error::Error;
use crate::flows::{FlowCache, Half, LEARNED_PER_BURST, Path, Places};
use crate::frame::origin::{Mark, Source};
use crate::frame::{Destination, FrameInfo};
use crate::ids::{AttachmentId, SegmentId};

/// Where all flows come from, and where they go.
const PODS: [u32; 2] = [1, 2];

/// A flow cache, and the facts of a burst of frames.
pub struct SteppedFlows {
    cache: FlowCache,
    frames: [FrameInfo; BURST],
}

impl SteppedFlows {
    /// One of at least `entries` entries, all of them in use only once so many flows have come.
    ///
    /// # Errors
    /// [`Error::System`]: there is not so much memory.
    pub fn new(entries: usize) -> Result<SteppedFlows, Error> {
        Ok(SteppedFlows {
            cache: flow_cache(entries)?,
            frames: [FrameInfo::new_zeroed(); BURST],
        })
    }

    /// Learns the flows of `keys`, as many at once as a worker learns of a burst. Returns how many are
    /// new. What it had is forgotten each time it grows.
    pub fn learn(&mut self, keys: &[FlowKey]) -> usize {
        let mut new = 0;
        for keys in keys.chunks(LEARNED_PER_BURST as usize) {
            self.take(keys);
            // This begins a burst.
            self.cache.candidates(&Places::new(), 0);
            for info in &self.frames[..keys.len()] {
                let path = Path::new(info.goal(), 1514, Half::PASS, Half::PASS);
                new += usize::from(matches!(self.cache.learn(info, path), Some((_, true))));
            }
        }
        new
    }

    /// How many of a burst of `keys` are known; of more than [`BURST`], those behind are not asked for.
    #[inline]
    pub fn known(&mut self, keys: &[FlowKey]) -> usize {
        let keys = &keys[..keys.len().min(BURST)];
        self.take(keys);
        let mut places = Places::new();
        for (n, info) in self.frames[..keys.len()].iter().enumerate() {
            places.set(n, self.cache.place(info));
        }
        let candidates = self.cache.candidates(&places, keys.len());
        let frames = self.frames[..keys.len()].iter().enumerate();
        frames
            .filter(|&(n, info)| self.cache.find(&candidates, n, info).is_some())
            .count()
    }

    /// How many flows there is room for at this moment.
    pub fn room(&self) -> usize {
        self.cache.room()
    }

    /// Forgets every flow, and keeps its room.
    pub fn forget(&mut self) {
        self.cache.empty_to(self.cache.room());
    }

    /// Makes the facts of frames of these keys.
    #[inline(always)]
    fn take(&mut self, keys: &[FlowKey]) {
        let [from, to] = PODS.map(AttachmentId::from_u32);
        let mark = Mark::new(Source::Attachment(from), self.cache.version());
        for (info, key) in self.frames.iter_mut().zip(keys) {
            info.key = *key;
            info.describe(SegmentId::from_u32(1), mark);
            info.set_destination(Destination::Attachment(to));
        }
    }
}
