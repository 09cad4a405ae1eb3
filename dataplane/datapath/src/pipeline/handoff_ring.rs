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
//! The occupancy of an account is what the sender has pushed less what the receiver has popped. Both
//! count on their own, so there is no atomic read-modify-write, and the sender at worst sees too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use sluice_mem::{BURST, Burst, Mbuf, Pools};
use sluice_ring::{Consumer, Producer, spsc};

use crate::frame::FrameInfo;
use crate::frame::destination::Destination;
use crate::frame::origin_tag::Origin;
use crate::ids::{AttachmentId, MAX_ATTACHMENTS, MAX_UPLINKS, UplinkId};

/// Accounts: attachments by slot, then uplinks by number.
const ACCOUNTS: usize = MAX_ATTACHMENTS + MAX_UPLINKS;

/// Account that a frame between two workers is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account(u16);

impl Account {
    /// Returns the account of an attachment.
    #[inline]
    pub(crate) fn of_attachment(id: AttachmentId) -> Account {
        // A slot is below MAX_ATTACHMENTS.
        Account::at(id.slot())
    }

    /// Returns the account of an uplink.
    #[inline]
    pub(crate) fn of_uplink(id: UplinkId) -> Account {
        Account::at(MAX_ATTACHMENTS + id.index())
    }

    #[inline]
    fn at(index: usize) -> Account {
        Account(u16::try_from(index % ACCOUNTS).unwrap_or(0))
    }

    #[inline]
    fn index(self) -> usize {
        usize::from(self.0) % ACCOUNTS
    }
}

/// Ring that a frame goes through, with the account that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// A pod's own frame, which it sent while it had room.
    Pod(Account),
    /// Any other.
    Other(Account),
}

impl Charge {
    /// Returns the charge of a frame whose destination is in its facts.
    #[inline]
    pub(crate) fn of(info: &FrameInfo) -> Charge {
        match (info.origin(), info.destination()) {
            (Origin::Attachment(id), _) if !info.is_exempt() => {
                Charge::Pod(Account::of_attachment(id))
            }
            (_, Destination::Attachment(id)) => Charge::Other(Account::of_attachment(id)),
            (_, Destination::Uplink(id)) | (Origin::Uplink(id), _) => {
                Charge::Other(Account::of_uplink(id))
            }
            (Origin::Attachment(id), _) => Charge::Other(Account::of_attachment(id)),
        }
    }

    #[inline]
    fn account(self) -> Account {
        match self {
            Charge::Pod(account) | Charge::Other(account) => account,
        }
    }
}

/// Frames that the receiver has popped, by account; it alone writes.
#[derive(Debug)]
struct Popped {
    frames: Box<[AtomicU16]>,
    large: Box<[AtomicU16]>,
    all_large: AtomicU32,
}

/// Adds to a number that the caller alone writes.
#[inline]
fn bump(count: &AtomicU16, more: u16) {
    count.store(
        count.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

/// Sending end of a ring with accounts.
#[derive(Debug)]
pub(crate) struct SharedSender {
    ring: Producer<Mbuf>,
    popped: Arc<Popped>,
    pushed: Box<[u16]>,
    large_pushed: Box<[u16]>,
    all_large: u32,
    /// Large mbufs that the ring may hold.
    large_limit: usize,
}

/// Receiving end of a ring with accounts.
#[derive(Debug)]
pub(crate) struct SharedReceiver {
    ring: Consumer<Mbuf>,
    popped: Arc<Popped>,
}

/// Makes a ring of `frames` frames, a power of two, of which `large` at most are large mbufs.
pub(crate) fn shared_ring(frames: usize, large: usize) -> (SharedSender, SharedReceiver) {
    let (producer, consumer) = spsc(frames);
    let zeros = || (0..ACCOUNTS).map(|_| AtomicU16::new(0)).collect();
    let popped = Arc::new(Popped {
        frames: zeros(),
        large: zeros(),
        all_large: AtomicU32::new(0),
    });
    let sender = SharedSender {
        ring: producer,
        popped: popped.clone(),
        pushed: vec![0; ACCOUNTS].into(),
        large_pushed: vec![0; ACCOUNTS].into(),
        all_large: 0,
        large_limit: large,
    };
    let receiver = SharedReceiver {
        ring: consumer,
        popped,
    };
    (sender, receiver)
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
    /// Whether some account might have no room for a burst. With so few taken, there is room for one
    /// even if a single account has them all.
    fn is_crowded_at(&self, free: usize) -> bool {
        let used = self.ring.capacity().saturating_sub(free);
        used > few(self.ring.capacity())
            || self.all_large != 0 && self.large_used() > few(self.large_limit)
    }

    /// Whether the ring may be crowded: an estimate without a look at the receiver's index.
    #[inline]
    pub(crate) fn may_be_crowded(&self) -> bool {
        self.is_crowded_at(self.ring.slots_seen())
    }

    /// Whether the ring is crowded now.
    pub(crate) fn is_crowded(&mut self) -> bool {
        let free = self.ring.slots();
        self.is_crowded_at(free)
    }

    /// Returns the number of frames that the pod of an account may send now; `large` if they may be
    /// large mbufs.
    pub(crate) fn room(&mut self, account: Account, large: bool) -> usize {
        let free = self.ring.slots();
        let room = pod_room(threshold_room(free, self.occupancy(account)), free);
        if large {
            room.min(pod_room(self.large_room(account), self.large_free()))
        } else {
            room
        }
    }

    #[inline]
    fn occupancy(&self, account: Account) -> usize {
        let at = account.index();
        let popped = self.popped.frames[at].load(Ordering::Relaxed);
        usize::from(self.pushed[at].wrapping_sub(popped))
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

    /// Pushes a frame, whatever its account has in the ring.
    ///
    /// # Errors
    /// The mbuf itself, if the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, account: Account, large: bool, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.ring.push(mbuf)?;
        let at = account.index();
        self.pushed[at] = self.pushed[at].wrapping_add(1);
        if large {
            self.large_pushed[at] = self.large_pushed[at].wrapping_add(1);
            self.all_large = self.all_large.wrapping_add(1);
        }
        Ok(())
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
        mbuf: Mbuf,
    ) -> Result<(), Mbuf> {
        let occupancy = self.occupancy(account);
        let is_over = occupancy >= self.ring.slots_seen() && occupancy >= self.ring.slots();
        if is_over || large && self.large_room(account) == 0 {
            return Err(mbuf);
        }
        self.push(account, large, mbuf)
    }
}

impl SharedReceiver {
    /// Whether there is nothing to pop.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.ring.is_empty()
    }

    /// Pops one frame, for a ring that is given up.
    pub(crate) fn pop(&mut self) -> Option<Mbuf> {
        self.ring.pop()
    }

    /// Pops at most a burst, and gives the slots back to the accounts that had them. Stops before a
    /// frame that costs something once those before it cost `most`; whether it did.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        pools: &mut Pools,
        burst: &mut Burst,
        most: u64,
        cost: impl Fn(&Mbuf) -> u64,
    ) -> bool {
        let waiting = self.ring.peek(burst.room());
        let (mut taken, mut spent) = (0, 0);
        for mbuf in waiting.iter() {
            let cost = cost(mbuf);
            if cost > 0 && spent >= most {
                break;
            }
            spent += cost;
            taken += 1;
        }
        let is_cut = taken < waiting.len();
        waiting.commit(taken, |mbuf| {
            // The room was asked for.
            if let Err(mbuf) = burst.push(mbuf) {
                pools.free(mbuf);
            }
        });
        // Frames of an account mostly come together.
        let mut run: Option<(Account, u16, u16)> = None;
        for mbuf in burst.iter() {
            let account = Charge::of(FrameInfo::of(mbuf)).account();
            let large = u16::from(pools.is_large(mbuf));
            run = match run {
                Some((same, frames, larges)) if same == account => {
                    Some((same, frames + 1, larges + large))
                }
                ended => {
                    self.give_back(ended);
                    Some((account, 1, large))
                }
            };
        }
        self.give_back(run);
        is_cut
    }

    #[inline]
    fn give_back(&self, run: Option<(Account, u16, u16)>) {
        let Some((account, frames, large)) = run else {
            return;
        };
        let at = account.index();
        bump(&self.popped.frames[at], frames);
        if large > 0 {
            bump(&self.popped.large[at], large);
            let all = self.popped.all_large.load(Ordering::Relaxed);
            let all = all.wrapping_add(large.into());
            self.popped.all_large.store(all, Ordering::Relaxed);
        }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::frame::origin_tag::OriginTag;
    use crate::ids::SegmentId;
    use crate::testing::fake_port_context::Lent;
    use sluice_packet::Vid;

    const FLOODER: u16 = 1;

    /// Frame that the pod in `slot` sends.
    fn frame(lent: &mut Lent, slot: u16, bytes: usize) -> (Account, bool, Mbuf) {
        let id = AttachmentId::new(slot, 1);
        let mut mbuf = lent.pools.alloc_for(bytes).unwrap();
        assert!(mbuf.set_len(bytes));
        FrameInfo::begin(&mut mbuf, None);
        let info = FrameInfo::of_mut(&mut mbuf);
        let segment = SegmentId::new(UplinkId(0), Vid::UNTAGGED);
        info.set_origin(segment, OriginTag::new(Origin::Attachment(id), 1));
        info.set_destination(Destination::Attachment(AttachmentId::new(9, 1)));
        let large = lent.pools.is_large(&mbuf);
        (Account::of_attachment(id), large, mbuf)
    }

    /// Pushes as many frames as a pod has room for.
    fn flood(lent: &mut Lent, sender: &mut SharedSender, slot: u16, bytes: usize) -> usize {
        let account = Account::of_attachment(AttachmentId::new(slot, 1));
        let mut pushed = 0;
        while sender.room(account, bytes > 2048) > 0 {
            let (account, large, mbuf) = frame(lent, slot, bytes);
            sender.push(account, large, mbuf).unwrap();
            pushed += 1;
        }
        pushed
    }

    fn drain(lent: &mut Lent, receiver: &mut SharedReceiver) -> usize {
        let mut taken = 0;
        loop {
            let mut burst = Burst::new();
            receiver.receive(&mut lent.pools, &mut burst, u64::MAX, |_| 0);
            if burst.is_empty() {
                return taken;
            }
            taken += burst.len();
            lent.pools.free_burst(&mut burst);
        }
    }

    #[test]
    fn one_that_floods_gets_half_and_leaves_room_for_those_that_come_after() {
        let mut lent = Lent::new(1024);
        let (mut sender, mut receiver) = shared_ring(256, 64);
        assert_eq!(flood(&mut lent, &mut sender, FLOODER, 60), 128);
        for neighbour in 2..8 {
            let pushed = flood(&mut lent, &mut sender, neighbour, 60);
            assert!(pushed > 0, "no room for pod {neighbour}");
        }
        assert!(drain(&mut lent, &mut receiver) <= 256);
        assert_eq!(
            flood(&mut lent, &mut sender, FLOODER, 60),
            128,
            "it is back"
        );
        drain(&mut lent, &mut receiver);
        lent.assert_all_free();
    }

    #[test]
    fn large_mbufs_are_shared_in_the_same_way() {
        let mut lent = Lent::new(1024);
        let (mut sender, mut receiver) = shared_ring(256, 64);
        assert_eq!(flood(&mut lent, &mut sender, FLOODER, 9000), 32);
        assert_eq!(flood(&mut lent, &mut sender, 2, 9000), 16);
        let room = sender.room(Account::of_attachment(AttachmentId::new(3, 1)), false);
        assert!(room > BURST, "small frames do not suffer: {room}");
        assert_eq!(drain(&mut lent, &mut receiver), 48);
        assert_eq!(flood(&mut lent, &mut sender, FLOODER, 9000), 32);
        drain(&mut lent, &mut receiver);
        lent.assert_all_free();
    }

    #[test]
    fn a_pod_has_room_for_two_places_a_frame() {
        let mut lent = Lent::new(1024);
        let (mut sender, mut receiver) = shared_ring(256, 64);
        let flooder = Account::of_attachment(AttachmentId::new(FLOODER, 1));
        for used in 0..=64 {
            let (room, large) = (sender.room(flooder, false), sender.room(flooder, true));
            assert!(2 * room <= 256 - used, "{room} with {used} taken");
            assert!(
                2 * large <= 64 - used,
                "{large} large ones with {used} taken"
            );
            let (account, is_large, mbuf) = frame(&mut lent, 2, 9000);
            sender.push(account, is_large, mbuf).unwrap();
        }
        drain(&mut lent, &mut receiver);
        lent.assert_all_free();
    }

    #[test]
    fn a_ring_that_is_not_crowded_has_room_for_a_burst_of_anybody() {
        let mut lent = Lent::new(1024);
        let (mut sender, mut receiver) = shared_ring(256, 256);
        for _ in 0..1000 {
            let (account, large, mbuf) = frame(&mut lent, FLOODER, 60);
            if !sender.is_crowded() {
                assert!(sender.room(account, true) >= BURST);
            } else {
                drain(&mut lent, &mut receiver);
            }
            sender.push(account, large, mbuf).unwrap();
            assert!(sender.may_be_crowded() || !sender.is_crowded());
        }
        drain(&mut lent, &mut receiver);
        lent.assert_all_free();
    }

    #[test]
    fn what_cannot_be_held_back_is_refused_over_its_share() {
        let mut lent = Lent::new(1024);
        let (mut sender, mut receiver) = shared_ring(64, 64);
        let mut pushed = 0;
        loop {
            let (account, large, mbuf) = frame(&mut lent, FLOODER, 60);
            match sender.push_within_share(account, large, mbuf) {
                Ok(()) => pushed += 1,
                Err(mbuf) => {
                    lent.pools.free(mbuf);
                    break;
                }
            }
        }
        assert_eq!(pushed, 32);
        let (account, large, mbuf) = frame(&mut lent, 2, 60);
        sender.push_within_share(account, large, mbuf).unwrap();
        assert_eq!(drain(&mut lent, &mut receiver), 33);
        lent.assert_all_free();
    }

    #[test]
    fn accounts_of_attachments_and_uplinks_are_different_ones() {
        let last = Account::of_attachment(AttachmentId::new(4095, 7));
        let first = Account::of_uplink(UplinkId(0));
        assert_ne!(last, first);
        assert_eq!(last.index() + 1, first.index());
        assert_eq!(
            Account::of_uplink(UplinkId(255)).index(),
            ACCOUNTS - 1,
            "every uplink has one"
        );
    }
}
