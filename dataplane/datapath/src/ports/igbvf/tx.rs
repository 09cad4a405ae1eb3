// SPDX-License-Identifier: Apache-2.0
//! The transmit queue: frames straight out of mbufs, one doorbell per burst. The NIC says that it is
//! done at the last descriptor of each burst only, and mbufs come back then.

use std::collections::VecDeque;

use sluice_mem::{Burst, Mbuf, Mempool, Pools, Posted};
use sluice_vfio::{Descriptors, Device, Iova, Registers};

use super::VfVlans;
use super::regs::{
    QUEUE_ENABLE, TDBAH, TDBAL, TDH, TDLEN, TDT, THRESHOLDS, TX_DATA, TX_DD, TX_PAYLEN_SHIFT,
    TX_RS, TX_SHORTEST, TXDCTL,
};
use super::rx::{base, index};
use crate::drops::{DropCounts, DropReason};
use crate::frame::FrameInfo;
use crate::ports::seam::Sent;
use crate::ports::tagged::put_in;

type Descriptor = [u64; 2];

/// The pools whose mbufs can be sent, and where each begins for the NIC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reachable(pub(super) [(Mempool, Iova); 2]);

impl Reachable {
    #[inline]
    fn iova(&self, posted: &Posted) -> Option<Iova> {
        let [small, large] = &self.0;
        for (pool, at) in [small, large] {
            if posted.is_of(*pool) {
                return Some(at.offset(posted.offset()));
            }
        }
        None
    }
}

pub(super) struct TxQueue<D: Device> {
    ring: D::Ring<Descriptor>,
    posted: Box<[Option<Posted>]>,
    pools: Reachable,
    /// The next descriptor to write.
    next: usize,
    /// The oldest one that is not reclaimed.
    oldest: usize,
    /// Last descriptors of bursts that the NIC has, in order: it says when it is done with each.
    ends: VecDeque<usize>,
    /// Longest frame without its tag, in bytes.
    longest: usize,
    /// Whether frames may carry a tag: under a port VLAN the NIC would send them with two.
    sends_tags: bool,
}

impl<D: Device> TxQueue<D> {
    pub(super) fn new(
        ring: D::Ring<Descriptor>,
        pools: Reachable,
        longest: usize,
        vlans: &VfVlans,
    ) -> TxQueue<D> {
        let posted = (0..ring.len()).map(|_| None).collect();
        TxQueue {
            ends: VecDeque::with_capacity(ring.len()),
            ring,
            posted,
            pools,
            next: 0,
            oldest: 0,
            longest,
            sends_tags: matches!(vlans, VfVlans::Trunk(_)),
        }
    }

    /// Starts the queue after a reset of the function; what was on its way is lost.
    pub(super) fn start(&mut self, registers: &impl Registers, pools: &mut Pools) {
        self.give_back(|mbuf| pools.free(mbuf));
        (self.next, self.oldest) = (0, 0);
        for at in 0..self.ring.len() {
            self.ring.store(at, [0, 0]);
        }
        base(
            registers,
            [TDBAL, TDBAH, TDLEN],
            self.ring.iova(),
            self.ring.len(),
        );
        registers.write32(TDH, 0);
        registers.write32(TDT, 0);
        registers.write32(TXDCTL, THRESHOLDS | QUEUE_ENABLE);
    }

    /// Stops the queue. The NIC may still read what it has begun.
    pub(super) fn stop(registers: &impl Registers) {
        registers.write32(TXDCTL, THRESHOLDS);
    }

    /// Returns the number of frames that [`TxQueue::send`] takes now.
    #[inline]
    pub(super) fn room(&mut self, pools: &mut Pools) -> usize {
        if self.free_descriptors() < self.ring.len() / 2 {
            self.reclaim(pools);
        }
        self.free_descriptors()
    }

    /// Returns the number of descriptors that the NIC does not have. One more stays free: a full
    /// ring would look like an empty one.
    #[inline]
    fn free_descriptors(&self) -> usize {
        let mask = self.ring.len() - 1;
        mask - (self.next.wrapping_sub(self.oldest) & mask)
    }

    /// Sends from the front of the burst; what remains in it did not fit.
    #[inline]
    pub(super) fn send(
        &mut self,
        registers: &impl Registers,
        pools: &mut Pools,
        drops: &DropCounts,
        burst: &mut Burst,
    ) -> Sent {
        self.reclaim(pools);
        let mask = self.ring.len() - 1;
        let room = self.free_descriptors();
        let taken = burst.len().min(room);
        let mut sent = Sent::default();
        let first = self.next;
        for mut mbuf in burst.drain_front(taken) {
            if let Err(reason) = self.prepare(&mut mbuf) {
                drops.add(reason, 1);
                pools.free(mbuf);
                continue;
            }
            let len = mbuf.len();
            let posted = mbuf.post();
            let Some(buffer) = self.pools.iova(&posted) else {
                drops.add(DropReason::TxError, 1);
                pools.free(posted.reclaim());
                continue;
            };
            let length = len as u64;
            self.ring.store(
                self.next,
                [buffer.0, TX_DATA | length | length << TX_PAYLEN_SHIFT],
            );
            self.posted[self.next] = Some(posted);
            self.next = (self.next + 1) & mask;
            sent.frames += 1;
            sent.bytes += len;
        }
        if self.next != first {
            let last = self.next.wrapping_sub(1) & mask;
            let [buffer, command] = self.ring.load(last);
            self.ring.store(last, [buffer, command | TX_RS]);
            self.ends.push_back(last);
            registers.write32(TDT, index(self.next));
        }
        sent
    }

    /// Puts the tag into the frame, and pads a frame that the NIC would not take.
    #[inline]
    fn prepare(&self, mbuf: &mut Mbuf) -> Result<(), DropReason> {
        if mbuf.len() > self.longest {
            return Err(DropReason::TooLong);
        }
        if FrameInfo::of(mbuf).tag().is_some() && !self.sends_tags {
            return Err(DropReason::InnerTag);
        }
        if !put_in(mbuf) {
            return Err(DropReason::TxError);
        }
        while mbuf.len() < TX_SHORTEST {
            if !mbuf.append(&[0]) {
                return Err(DropReason::TxError);
            }
        }
        Ok(())
    }

    /// Takes back what the NIC is done with.
    #[inline]
    pub(super) fn reclaim(&mut self, pools: &mut Pools) {
        let mask = self.ring.len() - 1;
        while let Some(&end) = self.ends.front() {
            if self.ring.load(end)[1] & TX_DD == 0 {
                return;
            }
            self.ends.pop_front();
            let after = (end + 1) & mask;
            while self.oldest != after {
                if let Some(posted) = self.posted[self.oldest].take() {
                    pools.free(posted.reclaim());
                }
                self.oldest = (self.oldest + 1) & mask;
            }
        }
    }

    /// Gives all mbufs back. Only after the function was reset.
    pub(super) fn give_back(&mut self, mut free: impl FnMut(Mbuf)) {
        self.ends.clear();
        for posted in self.posted.iter_mut().filter_map(Option::take) {
            free(posted.reclaim());
        }
    }
}
