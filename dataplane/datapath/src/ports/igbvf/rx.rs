// SPDX-License-Identifier: Apache-2.0
//! The receive queue: frames straight into mbufs. The NIC has all descriptors but one; what it has
//! filled is handed out and replaced in order, and it is told of replacements in batches.

use sluice_mem::{Burst, Cache, Mbuf, Posted};
use sluice_packet::VlanTag;
use sluice_vfio::{Descriptors, Device, Iova, RegOffset, Registers};

use super::VfVlans;
use super::regs::{
    QUEUE_ENABLE, RDBAH, RDBAL, RDH, RDLEN, RDT, RX_DD, RX_EOP, RX_ERRORS, RX_VP, RXDCTL, SRRCTL,
    SRRCTL_ADVANCED, SRRCTL_DROP, THRESHOLDS,
};
use crate::drops::{DropCounts, DropReason};
use crate::frame::FrameInfo;

/// Replacements after which the NIC is told: a doorbell costs as much as dozens of descriptors.
const TELL_AFTER: usize = 32;

/// A descriptor: the buffer's address and zero; the NIC writes both words over.
type Descriptor = [u64; 2];

pub(super) struct RxQueue<D: Device> {
    ring: D::Ring<Descriptor>,
    /// The mbuf of each descriptor that the NIC has or has filled.
    posted: Box<[Option<Posted>]>,
    /// Start of the pool's memory in the NIC's address space.
    pool_at: Iova,
    /// Mbufs to replace those handed out with.
    spare: Burst,
    /// The next descriptor that the NIC fills.
    next: usize,
    /// Replacements that the NIC does not know of.
    untold: usize,
    /// The rest of a frame of several buffers is passed over.
    skipping: bool,
    /// Bytes of a buffer.
    buffer_bytes: usize,
    /// Whether the tag in the descriptor is one of the frame's.
    takes_tags: bool,
}

impl<D: Device> RxQueue<D> {
    pub(super) fn new(
        ring: D::Ring<Descriptor>,
        pool_at: Iova,
        buffer_bytes: usize,
        vlans: &VfVlans,
    ) -> RxQueue<D> {
        let posted = (0..ring.len()).map(|_| None).collect();
        RxQueue {
            ring,
            posted,
            pool_at,
            spare: Burst::new(),
            next: 0,
            untold: 0,
            skipping: false,
            buffer_bytes,
            takes_tags: matches!(vlans, VfVlans::Trunk(_)),
        }
    }

    /// Starts the queue after a reset of the function: the mbufs that were posted are posted again.
    /// False if there are too few.
    pub(super) fn start(&mut self, registers: &impl Registers, cache: &mut Cache) -> bool {
        for at in 0..self.ring.len() {
            if self.posted[at].is_none() {
                let Some(mbuf) = self.fresh(cache) else {
                    return false;
                };
                self.posted[at] = Some(mbuf.post());
            }
            self.describe(at);
        }
        (self.next, self.untold, self.skipping) = (0, 0, false);
        base(
            registers,
            [RDBAL, RDBAH, RDLEN],
            self.ring.iova(),
            self.ring.len(),
        );
        let kib = u32::try_from(self.buffer_bytes / 1024).unwrap_or(1);
        registers.write32(SRRCTL, SRRCTL_ADVANCED | SRRCTL_DROP | kib);
        registers.write32(RXDCTL, THRESHOLDS | QUEUE_ENABLE);
        // Head and tail count only once the queue runs.
        registers.write32(RDH, 0);
        registers.write32(RDT, index(self.ring.len() - 1));
        true
    }

    /// Stops the queue. The NIC may still write what it has begun.
    pub(super) fn stop(registers: &impl Registers) {
        registers.write32(RXDCTL, THRESHOLDS);
    }

    /// Whether the queue runs: a reset of the function alone, which nobody tells of, stops it.
    pub(super) fn is_on(registers: &impl Registers) -> bool {
        registers.read32(RXDCTL) & QUEUE_ENABLE != 0
    }

    /// Whether a frame is waiting.
    pub(super) fn has_frames(&self) -> bool {
        self.ring.load(self.next)[1] & RX_DD != 0
    }

    /// Hands out what the NIC has filled.
    #[inline]
    pub(super) fn receive(
        &mut self,
        registers: &impl Registers,
        cache: &mut Cache,
        drops: &DropCounts,
        out: &mut Burst,
    ) {
        while out.room() > 0 {
            let [_, done] = self.ring.load(self.next);
            if done & RX_DD == 0 {
                break;
            }
            let at = self.next;
            // Without a replacement the NIC gets this very mbuf again, and the frame is lost.
            let replacement = self.fresh(cache);
            let Some(filled) = self.posted[at].take() else {
                break;
            };
            let filled = filled.reclaim();
            match replacement {
                None => {
                    drops.add(DropReason::NoMbuf, 1);
                    self.posted[at] = Some(filled.post());
                }
                Some(fresh) => {
                    self.posted[at] = Some(fresh.post());
                    match self.take(filled, done) {
                        Ok(frame) => {
                            if let Err(frame) = out.push(frame) {
                                cache.free(frame);
                            }
                        }
                        Err((mbuf, reason)) => {
                            cache.free(mbuf);
                            if let Some(reason) = reason {
                                drops.add(reason, 1);
                            }
                        }
                    }
                }
            }
            self.describe(at);
            self.next = (at + 1) & (self.ring.len() - 1);
            self.untold += 1;
        }
        if self.untold >= TELL_AFTER {
            self.tell(registers);
        }
    }

    /// Tells the NIC of all replacements.
    pub(super) fn tell(&mut self, registers: &impl Registers) {
        if self.untold > 0 {
            self.untold = 0;
            let last = self.next.wrapping_sub(1) & (self.ring.len() - 1);
            registers.write32(RDT, index(last));
        }
    }

    /// Makes a frame of a filled buffer. Every number in the descriptor is checked: a device may lie.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "fields of 16 bits")]
    fn take(&mut self, mut mbuf: Mbuf, done: u64) -> Result<Mbuf, (Mbuf, Option<DropReason>)> {
        let whole = done & RX_EOP != 0;
        if self.skipping || !whole {
            // A frame of several buffers is longer than the MTU allows. It is counted once.
            let first = !self.skipping;
            self.skipping = !whole;
            return Err((mbuf, first.then_some(DropReason::TooLong)));
        }
        if done & RX_ERRORS != 0 {
            return Err((mbuf, Some(DropReason::RxError)));
        }
        let len = usize::from((done >> 32) as u16);
        if len > self.buffer_bytes || !mbuf.set_len(len) {
            return Err((mbuf, Some(DropReason::BadDescriptor)));
        }
        let tag = (self.takes_tags && done & RX_VP != 0).then_some(VlanTag {
            tpid: 0x8100,
            tci: (done >> 48) as u16,
        });
        FrameInfo::begin(&mut mbuf, tag);
        Ok(mbuf)
    }

    /// Writes the descriptor of a posted mbuf.
    #[inline]
    fn describe(&mut self, at: usize) {
        if let Some(posted) = &self.posted[at] {
            let buffer = self.pool_at.offset(posted.offset());
            self.ring.store(at, [buffer.0, 0]);
        }
    }

    #[inline]
    fn fresh(&mut self, cache: &mut Cache) -> Option<Mbuf> {
        if self.spare.is_empty() {
            cache.alloc_burst(&mut self.spare, TELL_AFTER);
        }
        self.spare.pop()
    }

    /// Gives all mbufs back. Only after the function was reset.
    pub(super) fn give_back(&mut self, mut free: impl FnMut(Mbuf)) {
        while let Some(mbuf) = self.spare.pop() {
            free(mbuf);
        }
        for posted in self.posted.iter_mut().filter_map(Option::take) {
            free(posted.reclaim());
        }
    }
}

/// Tells the NIC where a ring is.
pub(super) fn base(
    registers: &impl Registers,
    [low, high, len]: [RegOffset; 3],
    at: Iova,
    descriptors: usize,
) {
    registers.write32(low, (at.0 & 0xffff_ffff) as u32);
    registers.write32(high, (at.0 >> 32) as u32);
    registers.write32(len, index(descriptors * size_of::<Descriptor>()));
}

/// An index of a ring, or its length in bytes: at most 64 KiB.
#[allow(
    clippy::cast_possible_truncation,
    reason = "rings have at most 4096 descriptors"
)]
pub(super) fn index(at: usize) -> u32 {
    at as u32
}
