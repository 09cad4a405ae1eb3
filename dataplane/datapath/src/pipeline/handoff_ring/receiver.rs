// SPDX-License-Identifier: Apache-2.0
//! Receiving end of a ring with accounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use sluice_mem::{Burst, Mbuf, Pools};
use sluice_ring::Consumer;

use super::Popped;
use super::account::{Account, Charge};
use crate::frame::FrameInfo;

/// Receiving end of a ring with accounts.
#[derive(Debug)]
pub(crate) struct SharedReceiver {
    queue: Consumer<Mbuf>,
    sparse: Consumer<Mbuf>,
    popped: Arc<Popped>,
}

/// Adds to a number that the caller alone writes.
#[inline]
fn bump(count: &AtomicU16, more: u16) {
    count.store(
        count.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

/// Consecutive frames of one account.
#[derive(Clone, Copy)]
struct Run {
    account: Account,
    frames: u16,
    large: u16,
}

impl SharedReceiver {
    /// Makes the end of an empty ring.
    pub(super) fn new(
        queue: Consumer<Mbuf>,
        sparse: Consumer<Mbuf>,
        popped: Arc<Popped>,
    ) -> SharedReceiver {
        SharedReceiver {
            queue,
            sparse,
            popped,
        }
    }

    /// Whether there is nothing to pop.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.queue.is_empty() && self.sparse.is_empty()
    }

    /// Pops one frame, for a ring that is given up.
    pub(crate) fn pop(&mut self) -> Option<Mbuf> {
        self.sparse.pop().or_else(|| self.queue.pop())
    }

    /// Pops frames into an empty burst, those of sparse accounts first, and gives the slots back to the
    /// accounts that had them. Stops before a frame that costs something once those before it cost
    /// `most`; whether it did. None in the sparse queue costs anything.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        pools: &mut Pools,
        burst: &mut Burst,
        most: u64,
        cost: impl Fn(&Mbuf) -> u64,
    ) -> bool {
        // The queue is looked at first: what an account has sent into the other before a frame that is
        // seen here is seen there, too, and taken before it.
        let waiting = self.queue.peek(burst.room());
        self.sparse.pop_burst(burst.room(), |mbuf| {
            // The room was asked for.
            if let Err(mbuf) = burst.push(mbuf) {
                pools.free(mbuf);
            }
        });
        let sparse = burst.len();
        let (mut taken, mut spent, mut is_cut) = (0, 0, false);
        for mbuf in waiting.iter().take(burst.room()) {
            let cost = cost(mbuf);
            if cost > 0 && spent >= most {
                is_cut = true;
                break;
            }
            spent += cost;
            taken += 1;
        }
        waiting.commit(taken, |mbuf| {
            if let Err(mbuf) = burst.push(mbuf) {
                pools.free(mbuf);
            }
        });
        let (passed, queued) = burst.as_slice().split_at(sparse);
        if !passed.is_empty() {
            self.give_back(pools, passed, &self.popped.sparse);
        }
        self.give_back(pools, queued, &self.popped.queued);
        is_cut
    }

    /// Gives the slots of frames back to the accounts that had them, whose frames mostly come together.
    #[inline]
    fn give_back(&self, pools: &Pools, frames: &[Mbuf], slots: &[AtomicU16]) {
        let mut run: Option<Run> = None;
        for mbuf in frames {
            let account = Charge::of(FrameInfo::of(mbuf)).account();
            let large = u16::from(pools.is_large(mbuf));
            run = match run {
                Some(same) if same.account == account => Some(Run {
                    account,
                    frames: same.frames + 1,
                    large: same.large + large,
                }),
                ended => {
                    self.end_run(ended, slots);
                    Some(Run {
                        account,
                        frames: 1,
                        large,
                    })
                }
            };
        }
        self.end_run(run, slots);
    }

    #[inline]
    fn end_run(&self, run: Option<Run>, slots: &[AtomicU16]) {
        let Some(run) = run else {
            return;
        };
        let at = run.account.index();
        bump(&slots[at], run.frames);
        if run.large > 0 {
            bump(&self.popped.large[at], run.large);
            let all = self.popped.all_large.load(Ordering::Relaxed);
            let all = all.wrapping_add(run.large.into());
            self.popped.all_large.store(all, Ordering::Relaxed);
        }
    }
}
