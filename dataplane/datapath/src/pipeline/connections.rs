// SPDX-License-Identifier: Apache-2.0
//! Connections of one worker's attachments, as far as their policies are stateful.

use sluice_firewall::connections::{Config, Quotas, Tick, Tracker};

use super::tracked::Batch;
use crate::counters::ConnectionCounts;
use crate::error::Error;
use crate::limits::ConnectionLimits;

/// Connections that an attachment may have at least, however many attachments there are.
const LEAST_SHARE: u32 = 256;
/// Part of the places that is shared out, in eighths: a fuller table is slower.
const SHARED_EIGHTHS: usize = 6;
/// Connections whose timers are looked at in one round of housekeeping.
const TIMERS: usize = 1_024;
/// Pairs of paths that are looked at in one round of housekeeping.
const PAIRS: usize = 256;
/// Connections of attachments that are gone, which end in one round of housekeeping.
const LEAVING: usize = 1_024;

/// Connections of one worker.
pub(crate) struct Connections {
    limits: ConnectionLimits,
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
    pub(crate) fn new(attachments: usize, limits: ConnectionLimits) -> Result<Connections, Error> {
        let config = Config {
            v4: limits.places as usize,
            v6: limits.places as usize,
            attachments,
            timeouts: limits.timeouts,
            ..Config::default()
        };
        Ok(Connections {
            limits,
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
        let grace_ms = u64::from(self.limits.grace_s) * 1_000;
        self.grace_until_ms.get_or_insert(now_ms + grace_ms);
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
        let quotas = quotas(&self.limits, count);
        for number in numbers {
            self.tracker.set_quotas(number.into(), quotas);
        }
    }
}

/// Quotas of each of `count` attachments.
fn quotas(limits: &ConnectionLimits, count: usize) -> Quotas {
    let share = limits.places as usize * SHARED_EIGHTHS / 8 / count.max(1);
    let share = u32::try_from(share).unwrap_or(u32::MAX).max(LEAST_SHARE);
    let all = share.min(limits.most);
    let part = |percent: u32| {
        let part = u64::from(all) * u64::from(percent) / 100;
        u32::try_from(part).unwrap_or(u32::MAX).max(1)
    };
    Quotas {
        all,
        embryonic: part(limits.half_open_percent),
        one_way: part(limits.one_way_percent),
        per_source: u16::try_from(part(limits.one_source_percent)).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_has_its_part_of_three_quarters_and_no_more_than_it_may() {
        let limits = ConnectionLimits {
            places: 8_000,
            ..ConnectionLimits::default()
        };
        let of = |limits: &ConnectionLimits, count| {
            let quotas = quotas(limits, count);
            [
                quotas.all,
                quotas.embryonic,
                quotas.one_way,
                quotas.per_source.into(),
            ]
        };
        assert_eq!(of(&limits, 2), [3_000, 750, 750, 360]);
        assert_eq!(of(&limits, 0), [6_000, 1_500, 1_500, 720]);
        assert_eq!(of(&limits, 1_000), [256, 64, 64, 30], "its least");
        let few = ConnectionLimits {
            most: 3,
            one_source_percent: 100,
            ..limits
        };
        assert_eq!(of(&few, 2), [3, 1, 1, 3]);
    }
}
