// SPDX-License-Identifier: Apache-2.0
//! Room in the transmit rings of uplinks, shared among the pods and workers that want it.
//!
//! At the start of a round the worker that polls an uplink asks how many frames it takes. Part of that
//! it grants to the other workers as credits (Kung, Blackwell and Chapman, "Credit-based flow control
//! for ATM networks", SIGCOMM 1994): a frame that is handed to it for the uplink has its place there
//! before it is sent, so nothing has to be dropped on arrival, and no frame for another port has to
//! wait behind one that finds no room. The rest is for the pods of its own.
//!
//! Where there is less than a burst for every pod, each gets an equal part of it, counted over those
//! that had more to send in the round before and one that comes new. Those that got nothing come
//! first some rounds later, as the order of visits rotates.
//!
//! An uplink that has taken nothing for [`DEAD_AFTER_MS`], or has no link, limits nobody: what is sent to
//! it is dropped and counted there, so that its pods still reach each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_mem::BURST;

use super::state::{UplinkState, WorkerState};
use super::tables::Tables;
use crate::ids::{UplinkId, WorkerId};
use crate::ports::seam::PortContext;

/// Milliseconds without any room after which an uplink counts as dead.
const DEAD_AFTER_MS: u64 = 100;
/// Frames for which an uplink without a limit has room.
const NO_LIMIT: u32 = 1 << 20;
/// A burst, as credits are counted.
const BURST_CREDITS: u32 = 64;
const _: () = assert!(BURST == BURST_CREDITS as usize);

/// Credits of one worker at an uplink that another one polls. All counts are since the start and wrap
/// round; each side writes its own.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    by_owner: OwnersPart,
    by_sender: SendersPart,
}

/// Counts that the uplink's worker writes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnersPart {
    /// Frames that may be handed off.
    granted: AtomicU32,
    /// Frames that have arrived.
    arrived: AtomicU32,
    /// Not 0 while the uplink takes everything: then nobody waits for credits.
    unlimited: AtomicU32,
}

/// Counts that the other worker writes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SendersPart {
    /// Frames that were handed off.
    used: AtomicU32,
    /// Credits that were given back, as nobody wants them.
    returned: AtomicU32,
    /// Pods that had more to send than they had room for in the last round.
    wanting: AtomicU32,
}

impl Credit {
    /// Credits of every worker at an uplink.
    pub(crate) fn for_workers(workers: usize) -> Arc<[Credit]> {
        (0..workers).map(|_| Credit::default()).collect()
    }

    /// Returns the credits that are granted and not used up.
    fn left(&self) -> u32 {
        if self.by_owner.unlimited.load(Ordering::Relaxed) != 0 {
            return NO_LIMIT;
        }
        let left = get(&self.by_owner.granted)
            .wrapping_sub(get(&self.by_sender.used))
            .wrapping_sub(get(&self.by_sender.returned));
        // Below 0 after frames that needed no credit.
        u32::try_from(left.cast_signed()).unwrap_or(0)
    }

    /// Counts a frame that is handed off.
    #[inline]
    fn spend(&self) {
        bump(&self.by_sender.used, 1);
    }

    /// Gives back what is left: the worker has nothing to do with the uplink any more.
    fn give_up(&self) {
        self.by_sender.wanting.store(0, Ordering::Relaxed);
        let left = self.left();
        if left != NO_LIMIT {
            bump(&self.by_sender.returned, left);
        }
    }

    /// Returns the credits that are granted and for which no frame has arrived; below 0 after frames
    /// that needed none.
    fn outstanding(&self) -> i32 {
        get(&self.by_owner.granted)
            .wrapping_sub(get(&self.by_owner.arrived))
            .wrapping_sub(get(&self.by_sender.returned))
            .cast_signed()
    }

    /// Returns the places in the uplink's ring that are kept for this worker's frames.
    fn kept(&self) -> u32 {
        u32::try_from(self.outstanding()).unwrap_or(0)
    }

    /// Returns the frames that have arrived without a credit.
    fn unearned(&self) -> u32 {
        match self.outstanding() {
            below @ ..0 => below.unsigned_abs(),
            _ => 0,
        }
    }

    fn wanting(&self) -> u32 {
        get(&self.by_sender.wanting)
    }
}

fn get(count: &AtomicU32) -> u32 {
    count.load(Ordering::Relaxed)
}

/// Adds to a count that the caller alone writes.
fn bump(count: &AtomicU32, more: u32) {
    count.store(get(count).wrapping_add(more), Ordering::Relaxed);
}

/// Room that one worker has at one uplink in this round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TxShare {
    /// Frames that it may still send.
    left: u32,
    /// Frames that one pod may send, if `limited`.
    quota: u32,
    /// Whether there is less than a burst for every pod.
    limited: bool,
    /// Pods of this worker that had more to send than they had room for, in this round.
    wanting: u32,
    /// Ports of this worker's pods at the uplink.
    ports: u32,
    /// Whether this worker polls the uplink or has an attachment there, with a port or without.
    concerns: bool,
}

impl TxShare {
    /// Whether a pod has to ask for its quota.
    #[inline(always)]
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Returns the number of frames that the next pod may send.
    pub(crate) fn quota(&self) -> usize {
        self.left.min(self.quota) as usize
    }

    /// Notes that a pod had more to send.
    pub(crate) fn note_wanting(&mut self) {
        self.wanting += 1;
    }

    /// Takes room for frames that are sent.
    #[inline(always)]
    pub(crate) fn take(&mut self, frames: usize) {
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        self.left = self.left.saturating_sub(frames);
    }

    /// Gives room for frames whose place was kept.
    pub(crate) fn give(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames);
    }

    /// Begins a round with room for `left` frames.
    fn begin(&mut self, left: u32) {
        self.left = left;
        self.limited = u64::from(left) < u64::from(self.ports) * BURST as u64;
        // One more than those that are known to want: who comes new finds its part, too.
        self.quota = (left / (self.wanting + 1)).max(1);
        self.wanting = 0;
    }
}

/// Lists the uplinks that concern this worker: those that it polls, `own`, and those of its
/// attachments. Answers to the wire need room there, too, where no attachment has a port.
pub(crate) fn list_uplinks(tables: &Tables, state: &mut WorkerState, own: &[UplinkId]) {
    let tx = &mut state.tx;
    tx.resize_with(tables.uplinks.len().max(tx.len()), Default::default);
    for share in tx.iter_mut() {
        (share.ports, share.concerns) = (0, false);
    }
    for id in own {
        if let Some(share) = tx.get_mut(id.index()) {
            share.concerns = true;
        }
    }
    for attachment in state.attachments.iter().flatten() {
        if let Some(share) = tx.get_mut(attachment.uplink.index()) {
            share.concerns = true;
            share.ports += u32::from(attachment.port.is_some());
        }
    }
    for &id in &state.tx_uplinks {
        if let Some(share) = tx.get_mut(id.index())
            && !share.concerns
        {
            *share = TxShare::default();
            if let Some(table) = tables.uplink(id)
                && let Some(credit) = table.credits.get(state.id.index())
                && table.worker != state.id
            {
                credit.give_up();
            }
        }
    }
    state.tx_uplinks.clear();
    let listed = (0..).map(UplinkId).zip(tx.iter());
    let listed = listed.filter(|(_, share)| share.concerns);
    state.tx_uplinks.extend(listed.map(|(id, _)| id));
}

/// Asks every uplink that concerns this worker for its room, and shares that out.
#[inline]
pub(crate) fn begin_round(tables: &Tables, state: &mut WorkerState) {
    state.owes_credits = false;
    for n in 0..state.tx_uplinks.len() {
        let Some(&id) = state.tx_uplinks.get(n) else {
            break;
        };
        let Some(table) = tables.uplink(id) else {
            continue;
        };
        let left = if table.worker == state.id {
            own_room(state, id, &table.credits)
        } else {
            credits_left(state, id, &table.credits)
        };
        if let Some(share) = state.tx.get_mut(id.index()) {
            share.begin(left);
        }
    }
}

/// Room at an uplink of another worker. Credits that nobody here wants go back.
fn credits_left(state: &WorkerState, id: UplinkId, credits: &[Credit]) -> u32 {
    let Some(credit) = credits.get(state.id.index()) else {
        return 0;
    };
    let wanting = state.tx.get(id.index()).map_or(0, |share| share.wanting);
    if credit.wanting() != wanting {
        credit.by_sender.wanting.store(wanting, Ordering::Relaxed);
    }
    let left = credit.left();
    let useful = BURST_CREDITS.saturating_mul(wanting.saturating_add(1));
    if left > useful && left != NO_LIMIT {
        bump(&credit.by_sender.returned, left - useful);
        return useful;
    }
    left
}

/// Room for this worker's own pods at an uplink that it polls, after the other workers' credits.
fn own_room(state: &mut WorkerState, id: UplinkId, credits: &[Credit]) -> u32 {
    let Some(Some(uplink)) = state.uplinks.get_mut(id.index()) else {
        return NO_LIMIT;
    };
    let mut context = PortContext {
        pools: &mut state.pools,
        drops: &uplink.counts.drops,
    };
    let room = uplink.port.tx_room(&mut context);
    let room = live_room(uplink, room, state.now_ms);
    if credits.len() <= 1 {
        return room;
    }
    let wanting = state.tx.get(id.index()).map_or(0, |share| share.wanting);
    let (left, all_granted) = share_out(room, wanting, state.id, credits, &mut uplink.credit_turn);
    state.owes_credits |= !all_granted;
    left
}

/// Room of an uplink, which is without limit if the uplink is dead.
fn live_room(uplink: &mut UplinkState, room: usize, now_ms: u64) -> u32 {
    if room > 0 {
        uplink.full_since_ms = None;
    } else {
        let since = *uplink.full_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) >= DEAD_AFTER_MS {
            return NO_LIMIT;
        }
    }
    if uplink.is_down {
        return NO_LIMIT;
    }
    u32::try_from(room).unwrap_or(NO_LIMIT).min(NO_LIMIT)
}

/// Grants credits to the other workers. Returns what is left for the owner's pods, and whether every
/// worker has some.
fn share_out(
    room: u32,
    wanting_here: u32,
    owner: WorkerId,
    credits: &[Credit],
    turn: &mut usize,
) -> (u32, bool) {
    let unlimited = u32::from(room == NO_LIMIT);
    let (mut claims, mut kept) = (1 + wanting_here, 0u32);
    let workers = u32::try_from(credits.len()).unwrap_or(u32::MAX);
    for credit in but(owner, credits, 0) {
        claims = claims.saturating_add(1 + credit.wanting());
        kept = kept.saturating_add(credit.kept());
        if get(&credit.by_owner.unlimited) != unlimited {
            let flag = &credit.by_owner.unlimited;
            flag.store(unlimited, Ordering::Relaxed);
        }
    }
    if unlimited != 0 {
        // Set right in each round: left to grow, the difference would turn positive after 2^31 frames.
        for credit in but(owner, credits, 0) {
            let unearned = credit.unearned();
            if unearned > 0 {
                bump(&credit.by_owner.granted, unearned);
            }
        }
        return (NO_LIMIT, true);
    }
    let mut free = room.saturating_sub(kept);
    let mut all_granted = true;
    *turn = (*turn + 1) % credits.len();
    for credit in but(owner, credits, *turn) {
        let target = match credit.wanting() {
            // One that wants nothing keeps a little, so that its next frame need not wait.
            0 => (room / 4 / workers).clamp(1, BURST_CREDITS),
            wanting => {
                let claim = 1 + wanting;
                let part = u64::from(room) * u64::from(claim) / u64::from(claims);
                let most = BURST_CREDITS.saturating_mul(claim);
                u32::try_from(part).unwrap_or(u32::MAX).clamp(1, most)
            }
        };
        let missing = i64::from(target) - i64::from(credit.outstanding());
        // Below 0 the count is set right by frames that have no place: they needed no credit.
        let unearned = credit.unearned();
        let missing = u32::try_from(missing).unwrap_or(0).saturating_sub(unearned);
        let granted = missing.min(free);
        if granted > 0 || unearned > 0 {
            bump(&credit.by_owner.granted, granted.saturating_add(unearned));
            free -= granted;
        }
        // Without any credit the other worker waits for this one, which must not sleep then.
        all_granted &= credit.outstanding() > 0;
    }
    (free, all_granted)
}

/// Credits of the other workers, from the one at `turn` on.
fn but(owner: WorkerId, credits: &[Credit], turn: usize) -> impl Iterator<Item = &Credit> {
    let (before, after) = credits.split_at(turn.min(credits.len()));
    let numbered = (turn..).zip(after).chain((0..).zip(before));
    numbered
        .filter(move |&(worker, _)| worker != owner.index())
        .map(|(_, credit)| credit)
}

/// Counts frames that another worker handed off for an uplink of this one: their place was kept.
pub(crate) fn arrived(
    tables: &Tables,
    state: &mut WorkerState,
    from: usize,
    id: UplinkId,
    frames: u32,
) {
    if let Some(credit) = tables.uplink(id).and_then(|table| table.credits.get(from)) {
        bump(&credit.by_owner.arrived, frames);
    }
    if let Some(share) = state.tx.get_mut(id.index()) {
        share.give(frames);
    }
}

/// Whether there is a place for another frame at an uplink of another worker.
#[inline]
pub(crate) fn has_place(state: &WorkerState, id: UplinkId) -> bool {
    state.tx.get(id.index()).is_some_and(|share| share.left > 0)
}

/// Takes a place for a frame that was handed off to the worker of an uplink.
#[inline]
pub(crate) fn spend(tables: &Tables, state: &mut WorkerState, id: UplinkId) {
    if let Some(share) = state.tx.get_mut(id.index()) {
        share.take(1);
    }
    let table = tables.uplink(id);
    if let Some(credit) = table.and_then(|table| table.credits.get(state.id.index())) {
        credit.spend();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: WorkerId = WorkerId(0);

    fn left(credits: &[Credit]) -> Vec<u32> {
        credits.iter().skip(1).map(Credit::left).collect()
    }

    #[test]
    fn every_worker_has_a_burst_of_credits_where_there_is_room() {
        let credits = Credit::for_workers(3);
        let (mut turn, own) = (0, 1024);
        let (rest, all) = share_out(own, 0, OWNER, &credits, &mut turn);
        assert_eq!((rest, all), (1024 - 128, true));
        assert_eq!(left(&credits), [64, 64]);
        let (rest, _) = share_out(own, 0, OWNER, &credits, &mut turn);
        assert_eq!(
            rest,
            1024 - 128,
            "what is granted is kept, and not granted twice"
        );
    }

    #[test]
    fn an_uplink_that_takes_everything_needs_no_credits_and_owes_none_afterwards() {
        let credits = Credit::for_workers(2);
        let mut turn = 0;
        let (rest, all) = share_out(NO_LIMIT, 0, OWNER, &credits, &mut turn);
        assert_eq!((rest, all), (NO_LIMIT, true));
        assert_eq!(left(&credits), [NO_LIMIT]);
        (0..100).for_each(|_| credits[1].spend());
        bump(&credits[1].by_owner.arrived, 90);
        let (rest, all) = share_out(1024, 0, OWNER, &credits, &mut turn);
        assert_eq!((rest, all), (1024 - 64, true));
        assert_eq!(left(&credits), [54], "ten are still on their way");
    }

    #[test]
    fn an_uplink_that_takes_everything_for_long_keeps_no_places_afterwards() {
        let credits = Credit::for_workers(2);
        let mut turn = 0;
        for _ in 0..3 {
            share_out(NO_LIMIT, 0, OWNER, &credits, &mut turn);
            bump(&credits[1].by_sender.used, 1 << 30);
            bump(&credits[1].by_owner.arrived, 1 << 30);
        }
        share_out(NO_LIMIT, 0, OWNER, &credits, &mut turn);
        let (rest, all) = share_out(1024, 0, OWNER, &credits, &mut turn);
        assert_eq!((rest, all), (1024 - 64, true));
        assert_eq!(left(&credits), [64]);
    }

    #[test]
    fn short_room_is_shared_by_the_pods_that_want_it() {
        let credits = Credit::for_workers(2);
        let mut turn = 0;
        credits[1].by_sender.wanting.store(2, Ordering::Relaxed);
        let (rest, all) = share_out(40, 0, OWNER, &credits, &mut turn);
        assert_eq!((rest, all), (10, true));
        assert_eq!(left(&credits), [30]);
        for _ in 0..30 {
            credits[1].spend();
        }
        assert_eq!(left(&credits), [0]);
        let (rest, _) = share_out(40, 0, OWNER, &credits, &mut turn);
        assert_eq!(rest, 10, "their place is kept until they arrive");
        bump(&credits[1].by_owner.arrived, 30);
        let (rest, all) = share_out(0, 0, OWNER, &credits, &mut turn);
        assert_eq!(
            (rest, all),
            (0, false),
            "nothing to grant, so the owner owes"
        );
        assert_eq!(left(&credits), [0]);
    }

    #[test]
    fn a_pods_quota_leaves_a_part_for_one_that_comes_new() {
        let mut share = TxShare {
            ports: 2,
            ..TxShare::default()
        };
        share.begin(1000);
        assert!(!share.is_limited());
        share.note_wanting();
        share.begin(40);
        assert!(share.is_limited());
        assert_eq!(share.quota(), 20);
        share.take(30);
        assert_eq!(share.quota(), 10);
        share.take(30);
        assert_eq!(share.quota(), 0);
    }
}
