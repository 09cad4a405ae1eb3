// SPDX-License-Identifier: Apache-2.0
//! Tracker: the tables of both IP versions and the pairs of paths, as one worker has them.

use std::io;

use super::answer::{Answer, Counts, Inserted, Opening};
use super::frame::{Layers, Scope, TrackedFrame};
use super::key::{Probe, V4Key, V6Key};
use super::outcome::Cause;
use super::pairs::{Pair, Pairs, Path, PathCounts, Paths};
use super::phase::End;
use super::related::about;
use super::table::{Quotas, Shared, Table, V4Line, V6Line};
use super::tcp::Segment;
use super::timeouts::{Tick, Timeouts};
use crate::verdict::Direction;

/// Sizes of a tracker and its timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// IPv4 connections, 112 bytes each; 0: none are kept.
    pub v4: usize,
    /// IPv6 connections, 144 bytes each; 0: none are kept.
    pub v6: usize,
    /// Pairs of paths, 1 to 65,535, some 140 bytes each.
    pub pairs: usize,
    /// Attachments, at most 4,096.
    pub attachments: usize,
    /// Timeouts.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            v4: 1 << 18,
            v6: 1 << 16,
            pairs: 1 << 14,
            attachments: 4096,
            timeouts: Timeouts::default(),
        }
    }
}

/// Connections of one worker. Nobody else touches it.
///
/// It reads no clock, allocates nothing after [`Tracker::new`] and logs nothing.
#[derive(Debug)]
pub struct Tracker {
    v4: Table<V4Line>,
    v6: Table<V6Line>,
    shared: Shared,
}

/// Calls a method of the table that a frame belongs to, with the shared part and the frame's probe.
macro_rules! of_version {
    ($tracker:ident, $frame:ident, |$table:ident, $shared:ident, $probe:ident| $call:expr) => {{
        let $shared = &mut $tracker.shared;
        if let Some($probe) = &Probe::<V4Key>::of($frame) {
            let $table = &mut $tracker.v4;
            Some($call)
        } else if let Some($probe) = &Probe::<V6Key>::of($frame) {
            let $table = &mut $tracker.v6;
            Some($call)
        } else {
            None
        }
    }};
}

impl Tracker {
    /// Makes an empty tracker of generation 0 at `now`.
    ///
    /// # Errors
    /// The kernel has not so much memory.
    pub fn new(config: &Config, now: Tick) -> io::Result<Tracker> {
        let owners = config.attachments.min(1 << 12);
        Ok(Tracker {
            v4: Table::new(config.v4, owners, &config.timeouts, now)?,
            v6: Table::new(config.v6, owners, &config.timeouts, now)?,
            shared: Shared {
                pairs: Pairs::new(config.pairs)?,
                generation: 0,
                counts: Counts::default(),
            },
        })
    }

    /// Looks up IPv4 frames, as many as the shortest of the slices has, and notes what they are for their
    /// connections. `segments` has the TCP numbers of the same frames.
    #[inline]
    pub fn lookup_v4(
        &mut self,
        now: Tick,
        probes: &[Probe<V4Key>],
        segments: &[Segment],
        answers: &mut [Answer],
    ) {
        self.v4
            .lookup_burst(&mut self.shared, now, probes, segments, answers);
    }

    /// Looks up IPv6 frames like [`Tracker::lookup_v4`].
    #[inline]
    pub fn lookup_v6(
        &mut self,
        now: Tick,
        probes: &[Probe<V6Key>],
        segments: &[Segment],
        answers: &mut [Answer],
    ) {
        self.v6
            .lookup_burst(&mut self.shared, now, probes, segments, answers);
    }

    /// Looks up one frame.
    pub fn lookup(&mut self, now: Tick, frame: &TrackedFrame) -> Answer {
        of_version!(self, frame, |table, shared, probe| {
            table.set_now(now);
            table.lookup_one(shared, probe, &frame.segment)
        })
        .unwrap_or(Answer::Invalid(Cause::NoConnection))
    }

    /// Looks up a frame again that was invalid, since an earlier one of its burst may have opened its connection. It is
    /// counted as what it is now.
    pub fn look_up_again(&mut self, now: Tick, frame: &TrackedFrame, cause: Cause) -> Answer {
        let count = &mut self.shared.counts.invalid[cause as usize];
        *count = count.saturating_sub(1);
        self.lookup(now, frame)
    }

    /// Counts a frame that was found invalid when it was read.
    pub fn note_invalid(&mut self, cause: Cause) {
        self.shared.invalid(cause);
    }

    /// Inserts the connection of a frame that the policy accepts, after [`Answer::New`].
    pub fn insert(&mut self, now: Tick, frame: &TrackedFrame, opens: &Opening) -> Inserted {
        of_version!(self, frame, |table, shared, probe| {
            table.set_now(now);
            table.insert(shared, probe, &frame.segment, opens)
        })
        .unwrap_or(Inserted::Found(Answer::Invalid(Cause::NoConnection)))
    }

    /// Inserts the connection of a TCP frame whose beginning was not seen: in the grace time after a start, or at the
    /// opener's ACK where the SYN had no entry. `sender` is the end that the frame's sender is taken for, and
    /// `confirmed` says that no frame of the other end is needed to believe it.
    pub fn pick_up(
        &mut self,
        now: Tick,
        frame: &TrackedFrame,
        opens: &Opening,
        sender: End,
        confirmed: bool,
    ) -> Inserted {
        of_version!(self, frame, |table, shared, probe| {
            table.set_now(now);
            table.pick_up(shared, probe, &frame.segment, opens, sender, confirmed)
        })
        .unwrap_or(Inserted::Found(Answer::Invalid(Cause::NoConnection)))
    }

    /// Gives the connection of a frame that was [`Answer::Stale`] the paths of the rules as they are now, and looks
    /// the frame up again. One that was revoked lives on. Without room for the paths the answer is `Stale` again.
    pub fn revalidate(&mut self, now: Tick, frame: &TrackedFrame, paths: &Paths) -> Answer {
        of_version!(self, frame, |table, shared, probe| {
            table.set_now(now);
            // Without room for the paths it stays as it is, and its next frame asks again.
            let _ = table.revalidate(shared, &probe.key, paths);
            table.lookup_one(shared, probe, &frame.segment)
        })
        .unwrap_or(Answer::Invalid(Cause::NoConnection))
    }

    /// Revokes the connection of a frame that was [`Answer::Stale`]: none of its frames passes until a new generation of
    /// rules is asked, and they do not keep it alive.
    pub fn revoke(&mut self, frame: &TrackedFrame) {
        let _ = of_version!(self, frame, |table, shared, probe| {
            table.revoke(shared, &probe.key)
        });
    }

    /// Finds the connection that an ICMP error is related to, which travels in `direction` to or from an attachment with
    /// this MTU. Returns the pair, and the end that the error goes to: it passes on the path of the other one.
    ///
    /// # Errors
    /// The cause for which it is invalid; it was counted.
    pub fn relate(
        &mut self,
        now: Tick,
        error: &Layers<'_>,
        scope: Scope,
        direction: Direction,
        mtu: u16,
    ) -> Result<(Pair, End), Cause> {
        let found = about(error, scope, direction, mtu).and_then(|about| {
            let shared = &self.shared;
            if about.frame.is_v6 {
                self.v6.set_now(now);
                self.v6.relate(shared, &about)
            } else {
                self.v4.set_now(now);
                self.v4.relate(shared, &about)
            }
        });
        match found {
            Ok(_) => self.shared.counts.related += 1,
            Err(cause) => self.shared.invalid(cause),
        }
        found
    }

    /// Ends connections whose time is over, looking at `budget` of each IP version at most. Returns whether all that
    /// are due were looked at. To be called once a round.
    pub fn expire(&mut self, now: Tick, budget: usize) -> bool {
        let v4 = self.v4.expire(&mut self.shared, now, budget);
        let v6 = self.v6.expire(&mut self.shared, now, budget);
        v4 && v6
    }

    /// Path of the frames that `from` sends.
    #[inline]
    #[must_use]
    pub fn path(&self, pair: Pair, from: End) -> Path {
        self.shared.pairs.path(pair, from.index())
    }

    /// Reads and clears the counts of the next `budget` pairs, and frees those that no connection holds. To be called
    /// now and then, and for all pairs before the rules' counters are read.
    pub fn sweep_pairs(&mut self, budget: usize, read: impl FnMut(&Path, PathCounts)) {
        self.shared.pairs.sweep(budget, read);
    }

    /// Generation of the rules.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared.generation
    }

    /// Begins another generation of the rules: every connection is stale until it was judged by them.
    pub fn set_generation(&mut self, generation: u32) {
        self.shared.generation = generation;
    }

    /// Sets what an attachment may have of each IP version.
    pub fn set_quotas(&mut self, attachment: usize, quotas: Quotas) {
        self.v4.set_quotas(attachment, quotas);
        self.v6.set_quotas(attachment, quotas);
    }

    /// Ends up to `budget` connections of each IP version of an attachment that is gone. Returns whether it has none
    /// left.
    pub fn remove_attachment(&mut self, attachment: usize, budget: usize) -> bool {
        let v4 = self.v4.remove_owner(&mut self.shared, attachment, budget);
        let v6 = self.v6.remove_owner(&mut self.shared, attachment, budget);
        v4 && v6
    }

    /// Number of connections, those included whose time is over and that were not looked at since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections of an attachment, of both IP versions.
    #[must_use]
    pub fn of_attachment(&self, attachment: usize) -> u32 {
        self.v4.owned(attachment) + self.v6.owned(attachment)
    }

    /// Number of pairs of paths.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.shared.pairs.len()
    }

    /// Bytes of memory: of the IPv4 connections, of the IPv6 ones, of the pairs.
    #[must_use]
    pub fn memory_bytes(&self) -> [usize; 3] {
        let pairs = self.shared.pairs.bytes();
        [self.v4.bytes(), self.v6.bytes(), pairs]
    }

    /// Counts since the tracker was made.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}
