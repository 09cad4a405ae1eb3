// SPDX-License-Identifier: Apache-2.0
//! Learned MAC addresses of a segment: those that attachments send from besides their own, with the
//! attachment that last did.
//!
//! One table for each segment in which somebody may send from such addresses. All workers look them up;
//! the worker that owns an attachment enters what that one sends from, the worker that polls the uplink
//! notes what has moved to the wire and removes what is too old, and control removes an attachment's
//! when it goes. Nobody locks and nobody waits: an entry is one word, which is changed by
//! compare-and-swap.
//!
//! * *Bounded*: two-choice hashing (Azar, Broder, Karlin and Upfal, "Balanced allocations", STOC 1994)
//!   over buckets of eight, so that a lookup reads two buckets and no more. The hash is keyed, so no pod
//!   can aim at another's bucket, and the table has twice as many places as its attachments may fill.
//! * *Damped*: an address that moves too often stays where it is for a while, as RFC 7432 (15.1) has it
//!   ([`moves`]). The wire gets it all the same: what is behind it is no pod's to take.
//! * *Cached*: the flow cache points past this table, so each change begins a new epoch. A cached flow
//!   of such a segment is looked up here again when the epoch or the second has changed
//!   ([`FlowAction::is_confirmed`](crate::flows::FlowAction::is_confirmed)).

mod moves;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use sluice_packet::Mac;

use moves::Moves;

/// Entries of a bucket.
const WAYS: usize = 8;
/// Seconds after which an address that nobody has sent from is removed: what IEEE 802.1Q (8.8.3) gives as
/// the default.
pub(crate) const AGE_SECONDS: u32 = 300;
/// Tries of a change that another worker's comes in between of.
const TRIES: usize = 4;

/// Learned addresses of one segment.
#[derive(Debug)]
pub(crate) struct LearnedTable {
    /// A power of two.
    buckets: Box<[Bucket]>,
    key: [u64; 2],
    /// Changes with every change of an entry; never 0.
    epoch: AtomicU32,
}

/// Bucket of entries: two cache lines, which the CPU fetches together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Bucket {
    /// MAC address and holder, 0 for none.
    words: [AtomicU64; WAYS],
    /// Second in which a frame last came from the address.
    seen: [AtomicU32; WAYS],
    moves: [Moves; WAYS],
}

/// Holder of a learned address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Attachment in this slot.
    Slot(u16),
    /// A host behind the uplink: the address has moved there.
    Wire,
}

impl Holder {
    const WIRE: u16 = u16::MAX;

    fn bits(self) -> u16 {
        match self {
            Holder::Slot(slot) => slot,
            Holder::Wire => Holder::WIRE,
        }
    }
}

/// Outcome of a frame from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// The sender has it already.
    Known,
    /// Change: the sender has it now. `from` had it before, or lost an old entry for it.
    Taken { from: Option<Holder> },
    /// Refusal: the address has moved too often, and stays where it is.
    Flapping,
    /// Refusal: no room.
    Full,
}

/// MAC address and holder in one word; no word of an address but zeros is 0.
fn word(mac: Mac, holder: Holder) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | u64::from(holder.bits())
}

fn mac_of(word: u64) -> Mac {
    let [a, b, c, d, e, f, _, _] = word.to_be_bytes();
    Mac([a, b, c, d, e, f])
}

fn holder_of(word: u64) -> Holder {
    let [.., high, low] = word.to_be_bytes();
    match u16::from_be_bytes([high, low]) {
        Holder::WIRE => Holder::Wire,
        slot => Holder::Slot(slot),
    }
}

/// Whether a word is of an address, whoever has it.
fn is_of(word: u64, mac: Mac) -> bool {
    (word ^ self::word(mac, Holder::Slot(0))) >> u16::BITS == 0
}

/// Position of an entry.
type At = (usize, usize);

impl LearnedTable {
    /// Makes a table for `entries` addresses at once.
    pub(crate) fn new(entries: usize) -> LearnedTable {
        let source = RandomState::new();
        let buckets = (2 * entries).div_ceil(WAYS).next_power_of_two();
        LearnedTable {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            key: std::array::from_fn(|n| source.hash_one(n)),
            epoch: AtomicU32::new(1),
        }
    }

    /// Returns the number of addresses that it has room for.
    pub(crate) fn entries(&self) -> usize {
        self.buckets.len() * WAYS / 2
    }

    /// Returns the number of buckets, for [`LearnedTable::age`].
    pub(crate) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Returns the epoch. Read before an address is looked up, it is another one once what was found is
    /// no longer so.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Begins another epoch, after a change.
    fn changed(&self) {
        if self.epoch.fetch_add(1, Ordering::Release) == u32::MAX {
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Returns the two buckets of an address, which may be one.
    #[inline]
    fn buckets_of(&self, mac: Mac) -> [usize; 2] {
        let [low, high] = self.key;
        let product = u128::from(word(mac, Holder::Slot(0)) ^ low) * u128::from(high | 1);
        #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
        let hash = product as u64 ^ (product >> 64) as u64;
        let mask = self.buckets.len() - 1;
        #[allow(clippy::cast_possible_truncation, reason = "halves of a hash")]
        [hash as u32 as usize & mask, (hash >> 32) as usize & mask]
    }

    /// Places that an address can be in, in the order in which all workers look.
    fn places(&self, mac: Mac) -> impl Iterator<Item = At> {
        let [first, second] = self.buckets_of(mac);
        let pair = [first.min(second), first.max(second)];
        let buckets = pair.into_iter().take(if first == second { 1 } else { 2 });
        buckets.flat_map(|bucket| (0..WAYS).map(move |way| (bucket, way)))
    }

    #[inline]
    fn word_at(&self, (bucket, way): At) -> &AtomicU64 {
        &self.buckets[bucket].words[way]
    }

    #[inline]
    fn seen_at(&self, (bucket, way): At) -> &AtomicU32 {
        &self.buckets[bucket].seen[way]
    }

    fn moves_at(&self, (bucket, way): At) -> &Moves {
        &self.buckets[bucket].moves[way]
    }

    #[inline]
    fn find(&self, mac: Mac) -> Option<(At, u64)> {
        self.places(mac).find_map(|at| {
            let word = self.word_at(at).load(Ordering::Relaxed);
            is_of(word, mac).then_some((at, word))
        })
    }

    /// Returns who has an address.
    #[inline]
    pub(crate) fn holder(&self, mac: Mac) -> Option<Holder> {
        self.find(mac).map(|(_, word)| holder_of(word))
    }

    /// Notes a frame from an address that the sender has. Returns whether it does have it.
    #[inline]
    pub(crate) fn refresh(&self, mac: Mac, sender: Holder, now_s: u32) -> bool {
        let found = self.find(mac);
        let own = found.filter(|(_, word)| holder_of(*word) == sender);
        if let Some((at, _)) = own {
            self.seen_at(at).store(now_s, Ordering::Relaxed);
        }
        own.is_some()
    }

    /// Gives an address to the attachment in `slot`, from which a frame came with it.
    pub(crate) fn take(&self, mac: Mac, slot: u16, now_s: u32) -> Learned {
        let taker = Holder::Slot(slot);
        for _ in 0..TRIES {
            let Some((at, found)) = self.find(mac) else {
                match self.enter(mac, taker, now_s) {
                    Some(learned) => return learned,
                    None => continue,
                }
            };
            if holder_of(found) == taker {
                self.seen_at(at).store(now_s, Ordering::Relaxed);
                return Learned::Known;
            }
            if !self.moves_at(at).may_move(now_s) {
                return Learned::Flapping;
            }
            self.seen_at(at).store(now_s, Ordering::Relaxed);
            if self.replace(at, found, word(mac, taker)) {
                let from = Some(holder_of(found));
                return Learned::Taken { from };
            }
        }
        Learned::Full
    }

    /// Gives an address to the wire, from which a frame came with it. Returns the slot that has lost it.
    pub(crate) fn take_to_wire(&self, mac: Mac, now_s: u32) -> Option<u16> {
        for _ in 0..TRIES {
            let (at, found) = self.find(mac)?;
            let Holder::Slot(slot) = holder_of(found) else {
                return None;
            };
            // Counted, whether or not it is one too many.
            let _ = self.moves_at(at).may_move(now_s);
            self.seen_at(at).store(now_s, Ordering::Relaxed);
            if self.replace(at, found, word(mac, Holder::Wire)) {
                return Some(slot);
            }
        }
        None
    }

    /// Enters a new address. `None`: another worker came in between.
    fn enter(&self, mac: Mac, taker: Holder, now_s: u32) -> Option<Learned> {
        let Some((at, before)) = self.free_place(mac) else {
            return Some(Learned::Full);
        };
        self.seen_at(at).store(now_s, Ordering::Relaxed);
        self.moves_at(at).clear();
        let entered = word(mac, taker);
        if !self.replace(at, before, entered) {
            return None;
        }
        // Of two workers that enter one address at the same time, at least one sees the other's (as in
        // Dekker's algorithm). The place that is looked at first stays.
        fence(Ordering::SeqCst);
        let mut from = None;
        for other in self.places(mac).filter(|&other| other != at) {
            let found = self.word_at(other).load(Ordering::Relaxed);
            if !is_of(found, mac) {
                continue;
            }
            if other < at {
                self.replace(at, entered, 0);
                return None;
            }
            if self.replace(other, found, 0) {
                from = Some(holder_of(found));
            }
        }
        Some(Learned::Taken { from })
    }

    /// A place for one more address, with its word: a free one in the emptier of the two buckets, else one
    /// of an address that has moved to the wire.
    fn free_place(&self, mac: Mac) -> Option<(At, u64)> {
        let free_in = |bucket: usize| {
            let words = self.buckets[bucket].words.iter();
            words
                .filter(|word| word.load(Ordering::Relaxed) == 0)
                .count()
        };
        let [first, second] = self.buckets_of(mac);
        let emptier = if free_in(first) >= free_in(second) {
            first
        } else {
            second
        };
        let free = (0..WAYS).map(|way| (emptier, way));
        let free = free.map(|at| (at, self.word_at(at).load(Ordering::Relaxed)));
        let mut all = self
            .places(mac)
            .map(|at| (at, self.word_at(at).load(Ordering::Relaxed)));
        let is_free = |(_, word): &(At, u64)| *word == 0;
        let is_gone = |(_, word): &(At, u64)| *word == 0 || holder_of(*word) == Holder::Wire;
        free.into_iter().find(is_free).or_else(|| all.find(is_gone))
    }

    /// Changes an entry, if it is still `before`.
    fn replace(&self, at: At, before: u64, after: u64) -> bool {
        let (done, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        let replaced = self
            .word_at(at)
            .compare_exchange(before, after, done, failed)
            .is_ok();
        if replaced {
            self.changed();
        }
        replaced
    }

    /// Removes the addresses of a bucket that nobody has sent from for [`AGE_SECONDS`], and visits those
    /// that had them.
    pub(crate) fn age(&self, bucket: usize, now_s: u32, mut removed: impl FnMut(Holder)) {
        for way in 0..WAYS {
            let at = (bucket % self.buckets.len(), way);
            let word = self.word_at(at).load(Ordering::Relaxed);
            let seen = self.seen_at(at).load(Ordering::Relaxed);
            // Another worker's clock may be a little ahead.
            let age = now_s.saturating_sub(seen);
            if word != 0 && age >= AGE_SECONDS && self.replace(at, word, 0) {
                removed(holder_of(word));
            }
        }
    }

    /// Removes all addresses of a slot.
    pub(crate) fn remove_slot(&self, slot: u16) {
        for (at, word) in self.all() {
            if word != 0 && holder_of(word) == Holder::Slot(slot) {
                self.replace(at, word, 0);
            }
        }
    }

    /// Returns the addresses of a slot.
    pub(crate) fn of_slot(&self, slot: u16) -> Vec<Mac> {
        let of_slot = |word: &u64| *word != 0 && holder_of(*word) == Holder::Slot(slot);
        let words = self.all().map(|(_, word)| word);
        words.filter(of_slot).map(mac_of).collect()
    }

    /// Enters the addresses of another table that this one does not have.
    pub(crate) fn adopt(&self, other: &LearnedTable) {
        for (at, word) in other.all() {
            if word != 0 && self.find(mac_of(word)).is_none() {
                let seen = other.seen_at(at).load(Ordering::Relaxed);
                let _ = self.enter(mac_of(word), holder_of(word), seen);
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (At, u64)> {
        let places =
            (0..self.buckets.len()).flat_map(|bucket| (0..WAYS).map(move |way| (bucket, way)));
        places.map(|at| (at, self.word_at(at).load(Ordering::Relaxed)))
    }
}
