// SPDX-License-Identifier: Apache-2.0
//! A port that makes frames from templates as fast as it is polled, and swallows what it is sent:
//! for benches and tests, on either side of the engine.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sluice_mem::{Burst, Mbuf};

use super::frame_list::FrameList;
use super::tagged::Tagged;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::tagging::Tagging;
use crate::ports::seam::{PodPort, PortContext, PortFault, Sent, Uplink, Wake};

/// Longest frame that fits an mbuf, in bytes.
const FRAME_MAX: usize = 10240;
/// Shortest Ethernet frame without payload, in bytes.
const FRAME_MIN: usize = 14;

/// Makes frames, each a copy of the next template. It is an [`Uplink`] and a [`PodPort`] alike.
#[derive(Debug)]
pub struct Generator {
    templates: FrameList,
    next: usize,
    left: Option<u64>,
    mtu: u32,
    counts: Arc<GeneratorCounts>,
}

/// Error of templates that cannot be generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeneratorError {
    /// The list was empty.
    #[error("a generator needs at least one frame to repeat")]
    NoTemplates,
    /// A template is no frame.
    #[error("template {index} has {len} bytes: a frame has {FRAME_MIN} to {FRAME_MAX}")]
    BadTemplate {
        /// Index of the template, from 0.
        index: usize,
        /// Length of the template in bytes.
        len: usize,
    },
}

/// Counters of a generator, shared with its owner: the port itself is with a worker.
#[derive(Debug, Default)]
pub struct GeneratorCounts {
    made: AtomicU64,
    swallowed_frames: AtomicU64,
    swallowed_bytes: AtomicU64,
    finished: AtomicBool,
}

impl GeneratorCounts {
    /// Frames made, those that found no mbuf included.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Frames that were sent to the generator.
    pub fn swallowed_frames(&self) -> u64 {
        self.swallowed_frames.load(Ordering::Relaxed)
    }

    /// Bytes that were sent to the generator, tags included.
    pub fn swallowed_bytes(&self) -> u64 {
        self.swallowed_bytes.load(Ordering::Relaxed)
    }

    /// Whether the limit has been reached.
    pub fn finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Only the worker that has the port writes: a load and a store suffice.
    fn add(count: &AtomicU64, more: u64) {
        count.store(
            count.load(Ordering::Relaxed).wrapping_add(more),
            Ordering::Relaxed,
        );
    }

    fn swallow(&self, sent: Sent) {
        GeneratorCounts::add(&self.swallowed_frames, sent.frames as u64);
        GeneratorCounts::add(&self.swallowed_bytes, sent.bytes as u64);
    }
}

impl Generator {
    /// Makes a port that repeats `templates`, whole frames without check sequence, in order. A tag is
    /// part of a template's bytes.
    ///
    /// # Errors
    /// There are no templates, or one is no frame.
    pub fn new<T: AsRef<[u8]>>(templates: &[T]) -> Result<Generator, GeneratorError> {
        if templates.is_empty() {
            return Err(GeneratorError::NoTemplates);
        }
        let mut list = FrameList::default();
        for (index, template) in templates.iter().enumerate() {
            let template = template.as_ref();
            if !(FRAME_MIN..=FRAME_MAX).contains(&template.len()) {
                return Err(GeneratorError::BadTemplate {
                    index,
                    len: template.len(),
                });
            }
            list.push(template);
        }
        Ok(Generator {
            templates: list,
            next: 0,
            left: None,
            mtu: 1500,
            counts: Arc::new(GeneratorCounts::default()),
        })
    }

    /// Ends after `frames` frames; without this it never ends.
    pub fn limit(mut self, frames: u64) -> Generator {
        self.left = Some(frames);
        self.note_end();
        self
    }

    /// The MTU that it shows as an uplink, in bytes; 1500 without this.
    pub fn mtu(mut self, mtu: u32) -> Generator {
        self.mtu = mtu;
        self
    }

    /// Returns the counters, which any thread may read.
    pub fn counts(&self) -> Arc<GeneratorCounts> {
        Arc::clone(&self.counts)
    }

    fn note_end(&self) {
        if self.left == Some(0) {
            self.counts.finished.store(true, Ordering::Relaxed);
        }
    }

    fn make(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        let room = out.room() as u64;
        let wanted = self.left.map_or(room, |left| left.min(room));
        let mut made = 0;
        while made < wanted {
            let Some(template) = self.templates.get(self.next) else {
                break;
            };
            self.next = if self.next + 1 == self.templates.len() {
                0
            } else {
                self.next + 1
            };
            made += 1;
            let Some(mut mbuf) = context.pools.alloc_for(template.len()) else {
                // As on a wire: a frame that nobody can take is lost, and the next comes later.
                context.drops.add(DropReason::NoMbuf, 1);
                break;
            };
            let fits = mbuf.copy_from(template);
            debug_assert!(fits, "alloc_for gives room for what it is asked for");
            FrameInfo::begin(&mut mbuf, None);
            if let Err(mbuf) = out.push(mbuf) {
                context.pools.free(mbuf);
                break;
            }
        }
        GeneratorCounts::add(&self.counts.made, made);
        if let Some(left) = &mut self.left {
            *left -= made;
        }
        self.note_end();
    }
}

impl Wake for Generator {
    fn wake_fds(&self, _add: &mut dyn FnMut(BorrowedFd<'_>)) {}

    fn arm(&mut self) -> bool {
        self.left == Some(0)
    }

    fn disarm(&mut self) {}
}

impl Uplink for Generator {
    fn driver(&self) -> &'static str {
        "generator"
    }

    fn device(&self) -> &str {
        "generator"
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        self.make(context, out);
    }

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        let mut sent = Sent::default();
        for mbuf in burst.iter() {
            sent.add(Tagged::to_wire(mbuf).len());
        }
        context.pools.free_burst(burst);
        self.counts.swallow(sent);
        sent
    }
}

impl PodPort for Generator {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        self.make(context, out);
        Ok(())
    }

    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault> {
        let mut sent = Sent::default();
        for mbuf in frames {
            sent.add(Tagged::to_pod(mbuf, tagging).len());
        }
        self.counts.swallow(sent);
        Ok(sent)
    }

    fn flush(&mut self) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::testing::fake_port_context::Lent;

    fn templates() -> Vec<Vec<u8>> {
        (0..3u8)
            .map(|fill| vec![fill; 60 + usize::from(fill)])
            .collect()
    }

    #[test]
    fn templates_come_round_robin_up_to_the_limit() {
        let mut side = Lent::new(256);
        let mut generator = Generator::new(&templates()).unwrap().limit(70);
        let counts = generator.counts();
        assert!(!generator.arm(), "it has frames, so nobody may sleep");
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut burst = Burst::default();
            Uplink::rx_burst(&mut generator, &mut side.context(), &mut burst);
            seen.extend(burst.iter().map(|mbuf| (mbuf.data()[0], mbuf.len())));
            side.pools.free_burst(&mut burst);
        }
        assert_eq!(seen.len(), 70);
        for (index, (fill, len)) in seen.into_iter().enumerate() {
            assert_eq!((usize::from(fill), len), (index % 3, 60 + index % 3));
        }
        assert_eq!(counts.made(), 70);
        assert!(counts.finished() && generator.arm());
        side.assert_all_free();
    }

    #[test]
    fn it_counts_what_it_swallows() {
        let mut side = Lent::new(64);
        let mut generator = Generator::new(&templates()).unwrap();
        let mut burst = Burst::default();
        Uplink::rx_burst(&mut generator, &mut side.context(), &mut burst);
        for mbuf in burst.iter_mut() {
            let tag = sluice_packet::VlanTag {
                tpid: 0x8100,
                tci: 210,
            };
            FrameInfo::of_mut(mbuf).set_tag(Some(tag));
        }
        let bytes: usize = burst.iter().map(|mbuf| mbuf.len() + 4).sum();
        let frames = burst.len();
        let sent = generator.tx_burst(&mut side.context(), &mut burst);
        assert_eq!(
            sent,
            Sent {
                frames,
                bytes,
                ..Sent::default()
            }
        );
        let counts = generator.counts();
        assert_eq!(counts.swallowed_frames(), frames as u64);
        assert_eq!(counts.swallowed_bytes(), bytes as u64);
        side.assert_all_free();
    }

    #[test]
    fn exhaustion_is_counted() {
        let mut side = Lent::new(8);
        let mut generator = Generator::new(&templates()).unwrap();
        let mut burst = Burst::default();
        Uplink::rx_burst(&mut generator, &mut side.context(), &mut burst);
        assert!(burst.len() < 64);
        assert_eq!(side.drops.get(DropReason::NoMbuf), 1);
        assert_eq!(generator.counts().made(), burst.len() as u64 + 1);
        side.pools.free_burst(&mut burst);
        side.assert_all_free();
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(
            Generator::new::<Vec<u8>>(&[]).unwrap_err(),
            GeneratorError::NoTemplates
        );
        assert_eq!(
            Generator::new(&[vec![0; 60], vec![0; 13]]).unwrap_err(),
            GeneratorError::BadTemplate { index: 1, len: 13 }
        );
    }
}
