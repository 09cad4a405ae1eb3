// SPDX-License-Identifier: Apache-2.0
//! Table of the connections of one IP version.
//!
//! A connection is in one of two lines of three, found by the halves of a keyed hash; a line is a cache line in
//! IPv4. Beside it are a line of windows, which TCP alone touches, and a cold part by place. See `line.rs`,
//! `window_line.rs` and `cold.rs` for what is where.
//!
//! | bytes for each place | IPv4 | IPv6 |
//! |---|---|---|
//! | key, pair, tick, state | 21.3 | 42.7 |
//! | windows | 21.3 | 21.3 |
//! | cold part | 32 | 32 |
//!
//! Two of three places are for connections, the third keeps lines from filling up.

mod cold;
mod expire;
pub(crate) mod hash;
mod insert;
mod line;
mod lookup;
mod owners;
mod place;
mod relate;
mod wheel;
mod window_line;

#[cfg(test)]
mod tests;

use std::io;

use sluice_mem::Array;

use super::answer::Counts;
use super::outcome::Cause;
use super::pairs::Pairs;
use super::phase::Phase;
use super::timeouts::{Tick, Timeouts};
use cold::{Cold, Place};
use hash::Hasher;
pub(crate) use line::{Line, V4Line, V6Line};
use line::{StateByte, WAYS};
use owners::Owners;
pub use owners::{Class, Quotas};
use wheel::Wheel;
use window_line::WindowLine;

/// Ticks for which a line tells when the last frame came; beyond, the cold part does.
const SHORT: u16 = 1 << 15;
/// Buckets in which the connections of sources are counted.
const SOURCES: usize = 1 << 15;

/// Part that the tables of both IP versions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pairs: Pairs,
    /// Generation of the rules.
    pub(crate) generation: u32,
    pub(crate) counts: Counts,
}

impl Shared {
    pub(crate) fn invalid(&mut self, cause: Cause) {
        self.counts.invalid[cause as usize] += 1;
    }
}

/// Limits of silence in ticks, by the number of the phase.
#[derive(Debug)]
struct Limits {
    /// Ticks up to which a connection is alive for certain.
    certain: [u16; Phase::VALUES],
    /// Ticks at which it is over.
    over: [u32; Phase::VALUES],
    /// Ticks at which an established one with data that is not acknowledged is over.
    unanswered: u32,
}

impl Limits {
    fn new(timeouts: &Timeouts) -> Limits {
        let over = std::array::from_fn(|number| {
            let phase = u8::try_from(number).map_or(Phase::Free, Phase::of_number);
            timeouts.ticks(phase)
        });
        let unanswered = timeouts.unanswered_ticks();
        let certain = std::array::from_fn(|number| {
            let mut limit = over[number];
            if number == Phase::Established as usize {
                limit = unanswered;
            }
            u16::try_from(limit).unwrap_or(SHORT).min(SHORT)
        });
        Limits {
            certain,
            over,
            unanswered,
        }
    }
}

/// Reason for which a connection is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Expired,
    Ended,
    WithOwner,
    Evicted(Class),
}

/// Table of the connections of one IP version.
#[derive(Debug)]
pub(crate) struct Table<L> {
    hasher: Hasher,
    lines: Array<L>,
    windows: Array<WindowLine>,
    cold: Array<Cold>,
    wheel: Wheel,
    owners: Owners,
    /// Connections of sources that hash alike.
    sources: Array<u16>,
    limits: Limits,
    now: Tick,
    len: usize,
    /// Connections of which windows are kept; with none, no window is prefetched.
    windowed: usize,
}

impl<L: Line> Table<L> {
    /// Makes room for `capacity` connections of `owners` attachments; with 0, for none.
    pub(crate) fn new(
        capacity: usize,
        owners: usize,
        timeouts: &Timeouts,
        now: Tick,
    ) -> io::Result<Table<L>> {
        // Places are 31 bits.
        let lines = capacity.div_ceil(2).min((1 << 31) / WAYS - 1);
        Ok(Table {
            hasher: Hasher::new(),
            lines: Array::zeroed(lines)?,
            windows: Array::zeroed(lines)?,
            cold: Array::zeroed(lines * WAYS)?,
            wheel: Wheel::new(now),
            owners: Owners::new(owners),
            sources: Array::zeroed(if lines == 0 { 0 } else { SOURCES })?,
            limits: Limits::new(timeouts),
            now,
            len: 0,
            windowed: 0,
        })
    }

    /// Number of connections, those included whose time is over and that were not looked at since.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory by place: lines, windows and cold parts.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.windows[..]) + size_of_val(&self.cold[..])
    }

    pub(crate) fn set_quotas(&mut self, owner: usize, quotas: Quotas) {
        if owner < self.owners.len() {
            self.owners.set_quotas(owner, quotas);
        }
    }

    pub(crate) fn owned(&self, owner: usize) -> u32 {
        if owner < self.owners.len() {
            self.owners.total(owner)
        } else {
            0
        }
    }

    /// Line and way of a place.
    fn at(place: Place) -> (usize, usize) {
        (place as usize / WAYS, place as usize % WAYS)
    }

    /// Place of a way.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "`new` keeps places below 2^31"
    )]
    fn place(line: usize, way: usize) -> Place {
        (line * WAYS + way) as Place
    }

    fn state(&self, place: Place) -> StateByte {
        let (line, way) = Self::at(place);
        self.lines[line].ways().state[way]
    }

    /// Class that a place is listed in.
    fn class(&self, place: Place) -> Class {
        let state = self.state(place);
        let rederivable = self.cold[place as usize].is_rederivable();
        Class::of(state.phase(), rederivable, state.is_revoked())
    }

    /// Lower half of this moment's tick.
    #[inline(always)]
    fn now16(&self) -> u16 {
        let [a, b, ..] = self.now.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }
}
