// SPDX-License-Identifier: Apache-2.0
//! Room of a pod: how many frames are taken from its port in one visit. What is not taken stays in the
//! pod's own ring, so a pod that sends more than its share waits, and loses nothing to another.
//!
//! Three things bound it:
//!
//! * *Work*, by deficit round robin (Shreedhar and Varghese, "Efficient fair queueing using deficit round
//!   robin", SIGCOMM 1995): each round pays for a burst of copies. Frames that are flooded cost as many
//!   as they are copied, here and by other workers, and a pod that has overdrawn is passed over until it has paid.
//! * *Rings to other workers*: its share of each ([`handoff_ring`](super::handoff_ring)), since nobody
//!   knows where its next frames go.
//! * *The transmit ring of its uplink*: its share of that ([`tx_shares`](super::tx_shares)).
//!
//! Mostly none does: then it costs three comparisons.

use sluice_mem::BURST;

use super::handoff_ring::Account;
use super::state::WorkerState;
use crate::ids::AttachmentId;

/// Debt of a pod for copies of its flooded frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FloodDebt {
    /// Copies that were made on credit.
    copies: u32,
    /// Copies that each of its frames made lately, and no more than that.
    per_frame: u32,
}

impl FloodDebt {
    #[inline(always)]
    fn is_none(self) -> bool {
        self.copies | self.per_frame == 0
    }

    /// Pays one round's part. Returns the number of frames that may be taken.
    #[cold]
    fn pay(&mut self) -> usize {
        const QUANTUM: u32 = 64;
        if self.copies >= QUANTUM {
            self.copies -= QUANTUM;
            return 0;
        }
        let room = QUANTUM - self.copies;
        self.copies = 0;
        (room / self.per_frame.max(1)).max(1) as usize
    }

    /// Charges for a visit that took `frames` frames and made `copies` of them.
    #[cold]
    fn charge(&mut self, frames: usize, copies: u64) {
        let copies = u32::try_from(copies).unwrap_or(u32::MAX);
        let frames = u32::try_from(frames).unwrap_or(u32::MAX).max(1);
        self.per_frame = (copies / frames).max(self.per_frame - self.per_frame.div_ceil(8));
        self.copies = self.copies.saturating_add(copies);
    }
}

/// Returns the number of frames to take from the port of the pod in `slot`; 0: it is left alone.
#[inline(always)]
pub(crate) fn of_pod(state: &mut WorkerState, slot: usize) -> usize {
    let Some(Some(attachment)) = state.attachments.get_mut(slot) else {
        return 0;
    };
    let mut room = BURST;
    if !attachment.debt.is_none() {
        room = attachment.debt.pay();
    }
    if let Some(share) = state.tx.get(attachment.uplink.index())
        && share.is_limited()
    {
        room = room.min(share.quota());
    }
    if state.crowded != 0 || attachment.is_jumbo {
        let (id, jumbo) = (attachment.id, attachment.is_jumbo);
        room = room.min(in_rings(state, id, jumbo));
    }
    room
}

/// Room of a pod in the rings to other workers that are crowded, and in all of them where it may send
/// large mbufs.
#[cold]
fn in_rings(state: &mut WorkerState, id: AttachmentId, jumbo: bool) -> usize {
    let account = Account::of_attachment(id);
    let mut room = BURST;
    let mut crowded = state.crowded;
    while crowded != 0 {
        let worker = crowded.trailing_zeros() as usize;
        crowded &= crowded - 1;
        if let Some(Some(rings)) = state.to_workers.get_mut(worker)
            && rings.pods.is_crowded()
        {
            room = room.min(rings.pods.room(account, jumbo));
        } else {
            state.crowded &= !(1 << worker);
        }
    }
    if jumbo {
        for rings in state.to_workers.iter().flatten() {
            room = room.min(rings.pods.room_for_large(account));
        }
    }
    room
}

/// Notes that a pod's port was left alone: frames may be waiting there.
#[cold]
pub(crate) fn hold_back(state: &mut WorkerState, slot: usize) {
    let Some(Some(attachment)) = state.attachments.get_mut(slot) else {
        return;
    };
    if !attachment.wants_more {
        return;
    }
    attachment.counts.held_back.add(1);
    state.holds_back = true;
    note_wanting(state, slot);
}

/// Notes that a pod's port had nothing: it wants no more than it got.
#[inline(always)]
pub(crate) fn found_empty(state: &mut WorkerState, slot: usize) {
    if let Some(Some(attachment)) = state.attachments.get_mut(slot) {
        attachment.wants_more = false;
    }
}

/// Settles a visit that had room for `room` frames, took `taken` and made `copies`.
#[inline(always)]
pub(crate) fn settle(state: &mut WorkerState, slot: usize, room: usize, taken: usize, copies: u64) {
    let Some(Some(attachment)) = state.attachments.get_mut(slot) else {
        return;
    };
    attachment.wants_more = taken >= room;
    if copies != 0 || !attachment.debt.is_none() {
        attachment.debt.charge(taken, copies);
    }
    if attachment.wants_more && room < BURST {
        note_wanting(state, slot);
    }
}

/// Notes at its uplink that a pod has more to send.
#[cold]
fn note_wanting(state: &mut WorkerState, slot: usize) {
    let Some(Some(attachment)) = state.attachments.get(slot) else {
        return;
    };
    if let Some(share) = state.tx.get_mut(attachment.uplink.index())
        && share.is_limited()
    {
        share.note_wanting();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds until a pod may send again, and the room that it has then.
    fn wait(debt: &mut FloodDebt) -> (usize, usize) {
        let mut rounds = 0;
        loop {
            match debt.pay() {
                0 => rounds += 1,
                room => return (rounds, room),
            }
        }
    }

    #[test]
    fn copies_are_paid_for_at_a_burst_a_round() {
        let mut debt = FloodDebt::default();
        debt.charge(64, 64 * 100);
        let (rounds, room) = wait(&mut debt);
        assert_eq!(rounds, 100);
        assert_eq!(room, 1, "its next frames are expected to cost as much");
        debt.charge(1, 100);
        assert_eq!(wait(&mut debt), (1, 1));
    }

    #[test]
    fn a_pod_that_floods_no_more_has_its_whole_burst_again() {
        let mut debt = FloodDebt::default();
        debt.charge(1, 100);
        let mut visits = 0;
        while !debt.is_none() {
            let (_, room) = wait(&mut debt);
            debt.charge(room, 0);
            visits += 1;
        }
        assert!(visits < 64, "{visits}");
    }

    #[test]
    fn a_frame_now_and_then_that_everybody_gets_costs_next_to_nothing() {
        let mut debt = FloodDebt::default();
        for _ in 0..10 {
            debt.charge(64, 20);
            let (rounds, room) = wait(&mut debt);
            assert!(rounds == 0 && room >= 44, "{rounds} {room}");
        }
    }
}
