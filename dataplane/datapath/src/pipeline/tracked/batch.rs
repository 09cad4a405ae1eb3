// SPDX-License-Identifier: Apache-2.0
//! Frames of one burst that are looked up in the connection table together, so that their cache misses overlap.

use sluice_firewall::connections::{
    Answer, Event, Key, Probe, Segment, Tick, TrackedFrame, Tracker, V4Key, V6Key,
};
use sluice_mem::BURST;

/// Frames of one IP version, in the order of their burst. Beyond the first `len` the arrays hold what an earlier burst
/// left: clearing them would cost more than the lookup of a short one.
#[derive(Debug)]
struct Frames<K> {
    len: usize,
    positions: [u8; BURST],
    probes: [Probe<K>; BURST],
    segments: [Segment; BURST],
    answers: [Answer; BURST],
}

impl<K: Key + Default> Frames<K> {
    fn new() -> Frames<K> {
        let empty = Probe {
            key: K::default(),
            bytes: 0,
            event: Event::Data,
            from_lesser: false,
        };
        Frames {
            len: 0,
            positions: [0; BURST],
            probes: [empty; BURST],
            segments: [Segment::default(); BURST],
            answers: [Answer::New; BURST],
        }
    }

    /// Adds the frame at `position`, if it is of this version. There is room for a whole burst.
    #[inline(always)]
    fn push(&mut self, position: u8, frame: &TrackedFrame) {
        let Some(probe) = Probe::of(frame) else {
            return;
        };
        let at = self.len % BURST;
        self.positions[at] = position;
        self.probes[at] = probe;
        self.segments[at] = frame.segment;
        self.len = at + 1;
    }

    /// Returns the position of each frame with its answer.
    fn answers(&self) -> impl Iterator<Item = (usize, Answer)> {
        let positions = self.positions[..self.len].iter();
        let answers = self.answers[..self.len].iter();
        positions
            .zip(answers)
            .map(|(&n, &answer)| (n.into(), answer))
    }
}

/// Frames of one burst that are looked up together.
#[derive(Debug)]
pub(crate) struct Batch {
    v4: Frames<V4Key>,
    v6: Frames<V6Key>,
}

impl Batch {
    /// Makes an empty batch.
    pub(crate) fn new() -> Batch {
        Batch {
            v4: Frames::new(),
            v6: Frames::new(),
        }
    }

    /// Forgets the frames of the last burst.
    #[inline]
    pub(super) fn clear(&mut self) {
        (self.v4.len, self.v6.len) = (0, 0);
    }

    /// Adds the frame at position `n` of its burst.
    #[inline(always)]
    pub(super) fn push(&mut self, n: usize, frame: &TrackedFrame) {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "below the frames of a burst"
        )]
        let position = (n % BURST) as u8;
        match frame.is_v6 {
            false => self.v4.push(position, frame),
            true => self.v6.push(position, frame),
        }
    }

    /// Looks the frames up.
    pub(super) fn look_up(&mut self, tracker: &mut Tracker, now: Tick) {
        let Batch { v4, v6 } = self;
        if v4.len > 0 {
            let (probes, answers) = (&v4.probes[..v4.len], &mut v4.answers[..v4.len]);
            tracker.lookup_v4(now, probes, &v4.segments[..v4.len], answers);
        }
        if v6.len > 0 {
            let (probes, answers) = (&v6.probes[..v6.len], &mut v6.answers[..v6.len]);
            tracker.lookup_v6(now, probes, &v6.segments[..v6.len], answers);
        }
    }

    /// Returns the position of each frame with its answer.
    pub(super) fn answers(&self) -> impl Iterator<Item = (usize, Answer)> {
        self.v4.answers().chain(self.v6.answers())
    }
}
