// SPDX-License-Identifier: Apache-2.0
//! Sending end of a ring with accounts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluice_mem::{BURST, Mbuf};
use sluice_ring::Producer;

use super::account::{ACCOUNTS, Account};
use super::{Popped, SPARSE_FRAMES, SPARSE_SHARE};

/// Sending end of a ring with accounts.
#[derive(Debug)]
pub(crate) struct SharedSender {
    queue: Producer<Mbuf>,
    sparse: Producer<Mbuf>,
    popped: Arc<Popped>,
    /// Frames pushed into each, by account; what [`Popped`] has is to be taken off.
    queue_pushed: Box<[u16]>,
    sparse_pushed: Box<[u16]>,
    large_pushed: Box<[u16]>,
    all_large: u32,
    /// Large mbufs that the ring may hold.
    large_limit: usize,
}

/// Frames that an account with `occupancy` frames may add where `free` slots are free: each of them
/// makes the one larger and the other smaller.
fn threshold_room(free: usize, occupancy: usize) -> usize {
    free.saturating_sub(occupancy).div_ceil(2)
}

/// Frames that a pod may send where `threshold` is its account's room of `free`: each may take two
/// places, as one that is flooded goes to the wire and, copied, to the pods of the uplink's worker.
fn pod_room(threshold: usize, free: usize) -> usize {
    threshold.min(free / 2)
}

/// Frames that a ring of `limit` may have for every account to have room for a burst.
fn few(limit: usize) -> usize {
    limit.saturating_sub(2 * BURST) / 2
}

impl SharedSender {
    /// Makes the end of an empty ring.
    pub(super) fn new(
        queue: Producer<Mbuf>,
        sparse: Producer<Mbuf>,
        popped: Arc<Popped>,
        large_limit: usize,
    ) -> SharedSender {
        let zeros = || vec![0; ACCOUNTS].into();
        SharedSender {
            queue,
            sparse,
            popped,
            queue_pushed: zeros(),
            sparse_pushed: zeros(),
            large_pushed: zeros(),
            all_large: 0,
            large_limit,
        }
    }

    /// Whether some account might have no room for a burst. With so few taken, there is room for one
    /// even if a single account has them all.
    fn is_crowded_at(&self, free: usize) -> bool {
        let used = self.queue.capacity().saturating_sub(free);
        used > few(self.queue.capacity())
            || self.all_large != 0 && self.large_used() > few(self.large_limit)
    }

    /// Whether the ring may be crowded: an estimate without a look at the receiver's index.
    #[inline]
    pub(crate) fn may_be_crowded(&self) -> bool {
        self.is_crowded_at(self.queue.slots_seen())
    }

    /// Whether the ring is crowded now.
    pub(crate) fn is_crowded(&mut self) -> bool {
        let free = self.queue.slots();
        self.is_crowded_at(free)
    }

    /// Returns the number of frames that the pod of an account may send now; `large` if they may be
    /// large mbufs.
    pub(crate) fn room(&mut self, account: Account, large: bool) -> usize {
        let free = self.queue.slots();
        let room = pod_room(threshold_room(free, self.queued(account)), free);
        if large {
            room.min(pod_room(self.large_room(account), self.large_free()))
        } else {
            room
        }
    }

    /// Returns the number of frames that the pod of an account may send now if they are large mbufs;
    /// without limit as long as there were none. Asked even where the ring is not crowded: a burst may
    /// be all that it can have.
    pub(crate) fn room_for_large(&self, account: Account) -> usize {
        match self.all_large {
            0 => usize::MAX,
            _ => pod_room(self.large_room(account), self.large_free()),
        }
    }

    /// Returns the frames that an account has in the queue.
    #[inline]
    fn queued(&self, account: Account) -> usize {
        let at = account.index();
        let popped = self.popped.queued[at].load(Ordering::Relaxed);
        usize::from(self.queue_pushed[at].wrapping_sub(popped))
    }

    fn large_used(&self) -> usize {
        let popped = self.popped.all_large.load(Ordering::Relaxed);
        self.all_large.wrapping_sub(popped) as usize
    }

    fn large_free(&self) -> usize {
        self.large_limit.saturating_sub(self.large_used())
    }

    fn large_room(&self, account: Account) -> usize {
        let at = account.index();
        let popped = self.popped.large[at].load(Ordering::Relaxed);
        let occupancy = usize::from(self.large_pushed[at].wrapping_sub(popped));
        threshold_room(self.large_free(), occupancy)
    }

    /// Pushes a frame, whatever its account has in the ring. Into which queue: `may_pass` says whether
    /// the receiver may take it before those of others.
    ///
    /// # Errors
    /// The mbuf itself, if the ring is full.
    #[inline]
    pub(crate) fn push(
        &mut self,
        account: Account,
        large: bool,
        may_pass: bool,
        mut mbuf: Mbuf,
    ) -> Result<(), Mbuf> {
        let at = account.index();
        if may_pass && self.is_long() && self.is_sparse(account) {
            match self.sparse.push(mbuf) {
                Ok(()) => {
                    self.sparse_pushed[at] = self.sparse_pushed[at].wrapping_add(1);
                    self.count_large(at, large);
                    return Ok(());
                }
                Err(back) => mbuf = back,
            }
        }
        self.queue.push(mbuf)?;
        self.queue_pushed[at] = self.queue_pushed[at].wrapping_add(1);
        self.count_large(at, large);
        Ok(())
    }

    #[inline]
    fn count_large(&mut self, at: usize, large: bool) {
        if large {
            self.large_pushed[at] = self.large_pushed[at].wrapping_add(1);
            self.all_large = self.all_large.wrapping_add(1);
        }
    }

    /// Whether the receiver's next visit may not come to a frame that is queued now, if there are
    /// sparse accounts: else nobody waits for another.
    #[inline]
    fn is_long(&mut self) -> bool {
        let short = self.queue.capacity().saturating_sub(BURST - SPARSE_FRAMES);
        self.queue.slots_seen() <= short && self.queue.slots() <= short
    }

    /// Whether an account's next frame may pass those of others: it has none in the queue, so that its
    /// frames stay in order, and few in the other.
    fn is_sparse(&mut self, account: Account) -> bool {
        let at = account.index();
        let popped = self.popped.sparse[at].load(Ordering::Relaxed);
        let occupancy = self.sparse_pushed[at].wrapping_sub(popped);
        occupancy < SPARSE_SHARE
            && usize::from(occupancy) < self.sparse.slots()
            && self.queued(account) == 0
    }

    /// Returns the frames of an account that were pushed into the queue of sparse ones.
    #[cfg(test)]
    pub(super) fn passed(&self, account: Account) -> u16 {
        self.sparse_pushed[account.index()]
    }

    /// Pushes a frame if its account is below its threshold.
    ///
    /// # Errors
    /// The mbuf itself, if it is not.
    #[inline]
    pub(crate) fn push_within_share(
        &mut self,
        account: Account,
        large: bool,
        may_pass: bool,
        mbuf: Mbuf,
    ) -> Result<(), Mbuf> {
        let occupancy = self.queued(account);
        let is_over = occupancy >= self.queue.slots_seen() && occupancy >= self.queue.slots();
        if is_over || large && self.large_room(account) == 0 {
            return Err(mbuf);
        }
        self.push(account, large, may_pass, mbuf)
    }
}
