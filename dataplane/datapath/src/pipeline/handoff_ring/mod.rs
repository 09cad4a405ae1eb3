// SPDX-License-Identifier: Apache-2.0
//! Rings between two workers, and the share of them that each account has.
//!
//! An account is an attachment or an uplink. A ring is shared by *dynamic thresholds* (Choudhury and
//! Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on
//! Networking, 1998): an account may have as many frames in it as there are free slots. One that floods
//! gets half of the ring, two get a third each, and there is always room left for one that comes new.
//! Large mbufs, of which there are few, are shared in the same way beside the slots.
//!
//! There are two rings each way:
//!
//! * `pods` is for the frames that pods of this worker send. A pod's port is polled only for as many
//!   frames as its account has room for, so none of them is ever dropped here: they wait in the
//!   pod's own ring. It is short, since nothing is gained by waiting here instead.
//! * `others` is for frames from the wire, which cannot be held back, and for the engine's own
//!   answers. The receiver's account has them; what is over its threshold is dropped and counted
//!   there.
//!
//! A share of the slots bounds what is lost, and not what is waited for: a frame behind a full ring
//! waits for as many visits as it takes to empty it. So each ring is two queues, as in FQ-CoDel (RFC
//! 8290, 3.2 and 4.2: sparse flows): the `sparse` one, which the receiver empties first in every visit,
//! has the first frames of accounts that have nothing in the other. One that sends less than
//! [`SPARSE_SHARE`] frames a visit of the receiver never waits behind one that sends more. It is half of
//! a visit long, so that the other half is always for the queue.
//!
//! The occupancy of an account is what the sender has pushed less what the receiver has popped. Both
//! count on their own, so there is no atomic read-modify-write, and the sender at worst sees too much.
//!
//! | file | holds |
//! |---|---|
//! | `account.rs` | accounts, and which of them has a frame |
//! | `sender.rs`, `receiver.rs` | the ends of a ring |

mod account;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32};

use sluice_mem::BURST;
use sluice_ring::spsc;

use account::ACCOUNTS;
pub(crate) use account::{Account, Charge};
pub(crate) use receiver::SharedReceiver;
pub(crate) use sender::SharedSender;

/// Slots of the queue of sparse accounts: half of what the receiver takes in a visit.
pub(crate) const SPARSE_FRAMES: usize = BURST / 2;
/// Frames that one account may have in that queue.
pub(crate) const SPARSE_SHARE: u16 = 4;

/// Frames that the receiver has popped, by account; it alone writes.
#[derive(Debug)]
struct Popped {
    /// Frames of the queue.
    queued: Box<[AtomicU16]>,
    /// Frames of the queue of sparse accounts.
    sparse: Box<[AtomicU16]>,
    /// Large mbufs of both.
    large: Box<[AtomicU16]>,
    all_large: AtomicU32,
}

/// Makes a ring of `frames` frames, a power of two, beside those of sparse accounts. Of all of them
/// `large` at most are large mbufs.
pub(crate) fn shared_ring(frames: usize, large: usize) -> (SharedSender, SharedReceiver) {
    let (queue, queue_end) = spsc(frames);
    let (sparse, sparse_end) = spsc(SPARSE_FRAMES);
    let zeros = || (0..ACCOUNTS).map(|_| AtomicU16::new(0)).collect();
    let popped = Arc::new(Popped {
        queued: zeros(),
        sparse: zeros(),
        large: zeros(),
        all_large: AtomicU32::new(0),
    });
    let sender = SharedSender::new(queue, sparse, popped.clone(), large);
    (sender, SharedReceiver::new(queue_end, sparse_end, popped))
}

/// Rings to another worker.
#[derive(Debug)]
pub(crate) struct ToWorker {
    pub(crate) pods: SharedSender,
    pub(crate) others: SharedSender,
}

/// Rings from another worker.
#[derive(Debug)]
pub(crate) struct FromWorker {
    pub(crate) pods: SharedReceiver,
    pub(crate) others: SharedReceiver,
}

impl FromWorker {
    /// Whether there is nothing to pop.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.pods.is_empty() && self.others.is_empty()
    }
}
