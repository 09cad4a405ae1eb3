// SPDX-License-Identifier: Apache-2.0
//! Expiry: what comes up in the timer wheel, in bounded steps.

use super::super::timeouts::Tick;
use super::line::{Line, WAYS};
use super::owners::Class;
use super::{Removal, SHORT, Shared, Table};

/// Ticks without a call after which the lines no longer tell when their frames came: far less than their range.
const LONG_PAUSE: u32 = 16_384;
/// Empty slots that one call passes at most, for each connection that it may look at.
const SLOTS_FOR_ONE: usize = 16;

impl<L: Line> Table<L> {
    /// Takes notice of the time.
    #[inline(always)]
    pub(crate) fn set_now(&mut self, now: Tick) {
        let passed = now.since(self.now);
        if passed > LONG_PAUSE {
            self.catch_up(now, passed);
        } else {
            self.now = now;
        }
    }

    /// Takes notice of a time that is far ahead: each connection is told what it could not tell any more. Of a clock
    /// that goes back no notice is taken.
    #[cold]
    fn catch_up(&mut self, now: Tick, passed: u32) {
        if passed > u32::MAX / 2 {
            return;
        }
        let before = self.now;
        for line in 0..self.lines.len() {
            for way in 0..WAYS {
                if self.lines[line].ways().state[way].is_free() {
                    continue;
                }
                let place = Self::place(line, way);
                self.now = before;
                let idle = self.idle(place).saturating_add(passed);
                self.now = now;
                self.set_idle(place, idle);
            }
        }
        self.now = now;
    }

    /// Keeps how long ago the last frame of a connection came where it can be told from now on.
    fn set_idle(&mut self, place: u32, idle: u32) {
        let (line, way) = Self::at(place);
        let cold = &mut self.cold[place as usize];
        if idle >= u32::from(SHORT) {
            cold.set_long_idle(self.now, Some(idle));
            let ahead = self.now16().wrapping_add(SHORT);
            self.lines[line].ways_mut().seen[way] = ahead;
        } else {
            cold.set_long_idle(self.now, None);
        }
    }

    /// Looks at connections that come up, `budget` at most, and ends those whose time is over. Returns whether all that
    /// are due were looked at.
    pub(crate) fn expire(&mut self, shared: &mut Shared, now: Tick, budget: usize) -> bool {
        self.set_now(now);
        let (mut budget, mut slots) = (budget, budget.saturating_mul(SLOTS_FOR_ONE));
        while self.now.since(self.wheel.cursor()) <= u32::MAX / 2 {
            let Some(place) = self.wheel.due() else {
                if slots == 0 {
                    return false;
                }
                slots -= 1;
                self.wheel.advance();
                continue;
            };
            if budget == 0 {
                return false;
            }
            budget -= 1;
            let (idle, limit) = (self.idle(place), self.limit(place));
            if idle >= limit {
                self.remove(shared, place, Removal::Expired);
                continue;
            }
            self.set_idle(place, idle);
            self.wheel.remove(&mut self.cold, place);
            let due = self.now.plus(limit - idle);
            self.wheel.schedule(&mut self.cold, place, due);
        }
        true
    }

    /// Ends up to `budget` connections of an owner that is gone. Returns whether it has none left.
    pub(crate) fn remove_owner(
        &mut self,
        shared: &mut Shared,
        owner: usize,
        budget: usize,
    ) -> bool {
        if owner >= self.owners.len() {
            return true;
        }
        for _ in 0..budget {
            let established = self.owners.oldest(owner, &[Class::Established]);
            let Some((place, _)) = self.owners.oldest(owner, &Class::EVICTED).or(established)
            else {
                return true;
            };
            self.remove(shared, place, Removal::WithOwner);
        }
        self.owners.total(owner) == 0
    }
}
