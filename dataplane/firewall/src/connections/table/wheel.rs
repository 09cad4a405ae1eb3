// SPDX-License-Identifier: Apache-2.0
//! Timer wheel of half-second slots (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987), of one
//! level and lazy: a frame does not touch it. A connection that comes up is looked at, and goes further on if a
//! frame came since; one whose time is longer than the wheel comes up at each turn.

use super::super::timeouts::Tick;
use super::cold::{Cold, Links, NOWHERE, Place};

/// Slots: a power of two. A turn takes 512 s.
pub(crate) const SLOTS: u32 = 1024;

/// Bit of a link back that says that it names a slot: the place is its first.
const IS_SLOT: u32 = 1 << 31;

/// Timer wheel over the links in the cold parts.
#[derive(Debug)]
pub(crate) struct Wheel {
    first: Box<[Place]>,
    /// Tick of the slot that is looked at next.
    cursor: Tick,
}

impl Wheel {
    /// Makes an empty wheel at `now`.
    pub(crate) fn new(now: Tick) -> Wheel {
        Wheel {
            first: vec![NOWHERE; SLOTS as usize].into_boxed_slice(),
            cursor: now,
        }
    }

    /// Tick of the slot that is looked at next.
    pub(crate) fn cursor(&self) -> Tick {
        self.cursor
    }

    /// Goes on to the next slot.
    pub(crate) fn advance(&mut self) {
        self.cursor = self.cursor.plus(1);
    }

    /// First place in the slot of the cursor.
    pub(crate) fn due(&self) -> Option<Place> {
        let place = self.first[(self.cursor.0 % SLOTS) as usize];
        (place != NOWHERE).then_some(place)
    }

    /// Puts a place into the slot of `due`, or as far ahead as there are slots.
    pub(crate) fn schedule(&mut self, cold: &mut [Cold], place: Place, due: Tick) {
        // Not before the cursor, where it would wait for a whole turn.
        let ahead = match due.since(self.cursor) {
            past if past > u32::MAX / 2 => 0,
            ahead => ahead.min(SLOTS - 1),
        };
        let slot = self.cursor.plus(ahead).0 % SLOTS;
        let first = &mut self.first[slot as usize];
        let next = std::mem::replace(first, place);
        cold[place as usize].wheel = Links {
            next,
            previous: IS_SLOT | slot,
        };
        if next != NOWHERE {
            cold[next as usize].wheel.previous = place;
        }
    }

    /// Takes a place out of its slot.
    pub(crate) fn remove(&mut self, cold: &mut [Cold], place: Place) {
        let links = cold[place as usize].wheel;
        self.set_next(cold, links.previous, links.next);
        if links.next != NOWHERE {
            cold[links.next as usize].wheel.previous = links.previous;
        }
    }

    /// Lets the neighbours of a place that was moved know; its cold part was copied.
    pub(crate) fn moved(&mut self, cold: &mut [Cold], to: Place) {
        let links = cold[to as usize].wheel;
        self.set_next(cold, links.previous, to);
        if links.next != NOWHERE {
            cold[links.next as usize].wheel.previous = to;
        }
    }

    fn set_next(&mut self, cold: &mut [Cold], of: Place, next: Place) {
        if of & IS_SLOT != 0 {
            self.first[(of & !IS_SLOT) as usize] = next;
        } else {
            cold[of as usize].wheel.next = next;
        }
    }
}
