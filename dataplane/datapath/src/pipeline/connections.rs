// SPDX-License-Identifier: Apache-2.0
//! Connections of one worker's attachments, as far as their policies are stateful.

use sluice_firewall::connections::{Config, Quotas, Tick, Tracker};

use super::tracked::Batch;
use crate::counters::ConnectionCounts;
use crate::error::Error;

/// Connections of one worker in each IP version, 112 bytes each in IPv4 and 144 in IPv6: 17 MiB, which a worker has
/// whether or not it uses them, so that it never waits for the kernel.
const PLACES: usize = 1 << 16;
/// Connections that an attachment may have at least, however many attachments there are.
const LEAST_SHARE: u32 = 256;
/// Part of the places that is shared out, in eighths: a fuller table is slower.
const SHARED_EIGHTHS: usize = 6;
/// Milliseconds after a worker's start in which connections are taken up whose beginning it has not seen.
const GRACE_MS: u64 = 30_000;
/// Connections whose timers are looked at in one round of housekeeping.
const TIMERS: usize = 1_024;
/// Pairs of paths that are looked at in one round of housekeeping.
const PAIRS: usize = 256;
/// Connections of attachments that are gone, which end in one round of housekeeping.
const LEAVING: usize = 1_024;

/// Connections of one worker.
pub(crate) struct Connections {
    pub(crate) tracker: Tracker,
    /// Frames that are looked up together.
    pub(crate) batch: Box<Batch>,
    /// Connections that had been opened when the last burst was looked up.
    opened_before: u64,
    /// End of the time in which connections are taken up whose beginning was not seen; begins at the first round.
    grace_until_ms: Option<u64>,
    /// Numbers that no attachment has and no connection is of.
    free: Vec<u16>,
    /// Numbers of attachments that are gone and may have connections still.
    leaving: Vec<u16>,
}

impl Connections {
    /// Makes an empty table for up to `attachments` attachments. Its memory is there at once.
    ///
    /// # Errors
    /// The kernel has not so much memory.
    pub(crate) fn new(attachments: usize) -> Result<Connections, Error> {
        let config = Config {
            v4: PLACES,
            v6: PLACES,
            attachments,
            ..Config::default()
        };
        Ok(Connections {
            tracker: Tracker::new(&config, Tick::default()).map_err(|source| Error::System {
                what: "memory for connections",
                source,
            })?,
            batch: Box::from(Batch::new()),
            opened_before: 0,
            grace_until_ms: None,
            free: (0..attachments)
                .rev()
                .filter_map(|number| u16::try_from(number).ok())
                .collect(),
            leaving: Vec::with_capacity(attachments),
        })
    }

    /// Whether connections are taken up whose beginning was not seen.
    pub(crate) fn is_in_grace(&self, now_ms: u64) -> bool {
        self.grace_until_ms.is_none_or(|until| now_ms < until)
    }

    /// Notes that a burst was looked up.
    pub(crate) fn note_lookup(&mut self) {
        self.opened_before = self.tracker.counts().opened;
    }

    /// Whether a connection was opened since the last burst was looked up.
    pub(crate) fn has_opened_since_lookup(&self) -> bool {
        self.tracker.counts().opened != self.opened_before
    }

    /// Ends what has been silent for too long, and what was of attachments that are gone.
    pub(crate) fn housekeeping(&mut self, now_ms: u64, figures: &ConnectionCounts) {
        self.tell(figures);
        self.grace_until_ms.get_or_insert(now_ms + GRACE_MS);
        self.tracker.expire(Tick::of_millis(now_ms), TIMERS);
        if self.tracker.pairs() > 0 {
            // Rules were counted at each frame.
            self.tracker.sweep_pairs(PAIRS, |_, _| {});
        }
        self.end_leaving();
    }

    fn tell(&self, figures: &ConnectionCounts) {
        let counts = self.tracker.counts();
        figures.now.set(self.tracker.len() as u64);
        figures.opened.set(counts.opened);
        figures.evicted.set(counts.evicted.iter().sum());
        for (figure, count) in figures.refused.iter().zip(counts.refused) {
            figure.set(count);
        }
        for (figure, count) in figures.invalid.iter().zip(counts.invalid) {
            figure.set(count);
        }
    }

    /// Returns a number for an attachment that comes: its connections are under it. Nothing of an attachment that had
    /// it before is left, since a number is free only then.
    pub(crate) fn enter(&mut self) -> u16 {
        // There are as many numbers as attachments: with nearly all in use one may have to be made free now.
        while self.free.is_empty() && !self.leaving.is_empty() {
            self.end_leaving();
        }
        self.free.pop().unwrap_or(u16::MAX)
    }

    /// Takes back the number of an attachment that is gone. Housekeeping ends its connections, some at a time.
    pub(crate) fn leave(&mut self, number: u16) {
        if usize::from(number) < self.leaving.capacity() {
            self.leaving.push(number);
        }
    }

    /// Ends some of the connections of attachments that are gone.
    fn end_leaving(&mut self) {
        if let Some(&number) = self.leaving.last()
            && self.tracker.remove_attachment(number.into(), LEAVING)
        {
            self.leaving.pop();
            self.free.push(number);
        }
    }

    /// Judges connections anew by policies of another version, each at its next frame.
    pub(crate) fn follow(&mut self, version: u64) {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "equal for 4,294,967,296 changes"
        )]
        self.tracker.set_generation(version as u32);
    }

    /// Divides the places among the attachments of `numbers`.
    pub(crate) fn share(&mut self, numbers: impl Iterator<Item = u16> + Clone) {
        let count = numbers.clone().count().max(1);
        let share = PLACES * SHARED_EIGHTHS / 8 / count;
        let all = u32::try_from(share).unwrap_or(u32::MAX).max(LEAST_SHARE);
        let quotas = Quotas {
            all,
            embryonic: all / 4,
            one_way: all / 4,
            per_source: u16::try_from(all / 8).unwrap_or(u16::MAX),
        };
        for number in numbers {
            self.tracker.set_quotas(number.into(), quotas);
        }
    }
}
