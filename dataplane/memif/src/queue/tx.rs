// SPDX-License-Identifier: Apache-2.0
//! Transmit queue: packets are gathered into the ring's buffers, then published together.

use std::sync::Arc;

use sluice_mem::SharedRegion;

use super::counters::{Pushed, TxCounters};
use super::gather::{Fit, Gather, posted};
use super::own_buffers::OwnBuffers;
use super::prefetched::PrefetchedBuffers;
use super::ring::Ring;
use crate::fault::Fault;
use crate::layout::{Descriptor, MAX_CHAIN, MAX_PACKET};
use sluice_peer::{BURST, Kick, PeerIndex};

/// Owner of the buffers that are filled.
#[derive(Debug)]
pub(crate) enum TxBuffers {
    /// Buffers that the client posted, anywhere in its regions: we are the server.
    Peer(Arc<[SharedRegion]>),
    /// Buffers of our own, one for each descriptor: we are the client.
    Own(SharedRegion, OwnBuffers),
}

/// Transmit queue: a ring on which we send.
#[derive(Debug)]
pub struct TxQueue {
    ring: Ring,
    buffers: TxBuffers,
    kick: Kick,
    /// Index of the next descriptor to fill.
    next: u16,
    /// Value of `next` at the last publication. (Not a count of unpublished packets: the compiler
    /// updates two counts that go up together as one vector, whose load then waits for the store of
    /// whichever was just written alone, and so for all copies before that.)
    published: u16,
    /// Buffers from `next` on that were read and prefetched.
    prefetched: PrefetchedBuffers,
    /// Value of `next` at the last [`TxQueue::prepare`].
    prepared: u16,
    /// Index up to which buffers can be filled: as a server the peer's head, as a client its tail one
    /// turn of the ring on.
    peer: PeerIndex,
    counters: TxCounters,
}

impl TxQueue {
    /// Makes the queue at the start of its connection.
    pub(crate) fn new(ring: Ring, buffers: TxBuffers, kick: Kick) -> Result<TxQueue, Fault> {
        // The peer's index is not read yet: a reference client zeroes it once more when it learns
        // that it is connected. A server has taken nothing yet, so all is free.
        let peer = match buffers {
            TxBuffers::Peer(_) => {
                ring.publish_tail(0)?;
                PeerIndex::default()
            }
            TxBuffers::Own(..) => {
                ring.publish_head(0)?;
                PeerIndex::ahead_by(ring.size())
            }
        };
        Ok(TxQueue {
            ring,
            buffers,
            kick,
            next: 0,
            published: 0,
            prefetched: PrefetchedBuffers::new(),
            prepared: 0,
            peer,
            counters: TxCounters::default(),
        })
    }

    /// Number of descriptors that can be filled now; a packet takes one, or several if it is longer than a
    /// buffer.
    ///
    /// # Errors
    /// The peer broke its ring; the connection must end.
    #[inline]
    pub fn room(&mut self) -> Result<usize, Fault> {
        self.refresh()?;
        Ok(usize::from(self.peer.ahead()))
    }

    /// Reads and checks the buffers of the next burst, as far as they are posted, and prefetches them
    /// for writing. The other core had these cache lines last, and they take longer to come than a
    /// burst takes to be judged: so call this before the burst is received. Their descriptors were
    /// prefetched at [`TxQueue::publish`].
    ///
    /// # Errors
    /// The peer broke its ring, or the shared memory is gone; the connection must end.
    #[inline]
    pub fn prepare(&mut self) -> Result<(), Fault> {
        // An idle sender does not look at the peer's index again and again.
        if self.prepared == self.next && self.peer.ahead() > 0 {
            return Ok(());
        }
        self.prepared = self.next;
        if usize::from(self.peer.ahead()) < BURST {
            self.refresh()?;
        }
        self.prefetch_next()
    }

    #[inline(always)]
    fn prefetch_next(&mut self) -> Result<(), Fault> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a burst is no more than 64"
        )]
        let count = self.peer.ahead().min(BURST as u16);
        let next = self.next;
        match &self.buffers {
            TxBuffers::Own(region, own) => {
                let mask = self.ring.mask();
                self.prefetched
                    .prefetch_own(mask, (region, own), next, count);
                Ok(())
            }
            TxBuffers::Peer(regions) => self
                .prefetched
                .prefetch_posted(&self.ring, regions, next, count),
        }
    }

    /// Moves on over the next `count` descriptors, which are filled.
    #[inline(always)]
    fn used(&mut self, count: u16) {
        self.next = self.next.wrapping_add(count);
        self.prefetched.used(count);
        self.peer.take(count);
    }

    /// Adds one packet, the bytes of `parts` in their order. The peer sees it only after
    /// [`TxQueue::publish`]. `false`: there is no room for all of it now, and nothing was added.
    ///
    /// A packet that can never fit (none, or more than 65535 bytes, or more than 64 buffers) is
    /// counted as unfit and taken: waiting would not help it.
    ///
    /// # Errors
    /// The peer broke its ring; the connection must end.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<bool, Fault> {
        let len = parts.iter().fold(0, |sum, part| sum + part.len());
        if len == 0 || len > MAX_PACKET {
            self.counters.unfit += 1;
            return Ok(true);
        }
        // The peer's index is read again only when its last value does not suffice: for most bursts
        // not at all.
        let fits = match self.try_push(parts, len)? {
            Fit::No => {
                self.refresh()?;
                self.try_push(parts, len)?
            }
            fits => fits,
        };
        match fits {
            Fit::Yes => {
                self.counters.packets += 1;
                self.counters.bytes += len as u64;
                Ok(true)
            }
            Fit::No => {
                self.counters.full += 1;
                Ok(false)
            }
            Fit::Never => {
                self.counters.unfit += 1;
                Ok(true)
            }
        }
    }

    /// Adds packets in order until one finds no room. As [`TxQueue::push`] for each of them, but
    /// faster.
    ///
    /// # Errors
    /// The peer broke its ring; the connection must end.
    #[inline]
    pub fn push_frames<'f>(
        &mut self,
        mut frames: impl Iterator<Item = &'f [u8]>,
    ) -> Result<Pushed, Fault> {
        let mut pushed = Pushed::default();
        while let Some(frame) = self.push_singles(&mut frames, &mut pushed)? {
            let unfit = self.counters.unfit;
            if !self.push(&[frame])? {
                break;
            }
            if self.counters.unfit == unfit {
                pushed.packets += 1;
                pushed.bytes += frame.len();
            } else {
                pushed.unfit += 1;
            }
        }
        Ok(pushed)
    }

    /// Adds packets for as long as each fits into the next buffer. Returns the first that does not,
    /// if there is one. Its counts are locals: a copy to shared memory may change any memory, as far as
    /// the compiler knows, so that fields would be read again for each packet.
    #[inline(always)]
    fn push_singles<'f>(
        &mut self,
        frames: &mut impl Iterator<Item = &'f [u8]>,
        pushed: &mut Pushed,
    ) -> Result<Option<&'f [u8]>, Fault> {
        self.prefetch_next()?;
        let (mask, available) = (self.ring.mask(), self.prefetched.seen());
        let (mut used, mut bytes) = (0_u16, 0);
        let mut left = None;
        match &self.buffers {
            TxBuffers::Peer(regions) => {
                let number = self.prefetched.region();
                let region = regions.get(usize::from(number));
                let region = region.ok_or(Fault::Region(number))?;
                for frame in frames {
                    let at = self.next.wrapping_add(used);
                    let buffer = self.prefetched.buffer(at);
                    if used == available || !fits(frame, buffer.room as usize) {
                        left = Some(frame);
                        break;
                    }
                    region
                        .copy_out(buffer.offset as usize, frame)
                        .map_err(|_| Fault::MemoryGone)?;
                    let filled = filled(number, buffer.offset, frame);
                    // The descriptor keeps the peer's own offset, which saves a store: the core's store
                    // buffer is what limits this loop.
                    self.ring.write_length(at, filled);
                    used += 1;
                    bytes += frame.len();
                }
            }
            TxBuffers::Own(region, own) => {
                let room = (own.capacity as usize).min(MAX_PACKET);
                for frame in frames {
                    let slot = self.next.wrapping_add(used) & mask;
                    if used == available || !fits(frame, room) {
                        left = Some(frame);
                        break;
                    }
                    let offset = own.offset(slot);
                    region
                        .copy_out(offset as usize, frame)
                        .map_err(|_| Fault::MemoryGone)?;
                    self.ring.write(slot, filled(0, offset, frame));
                    used += 1;
                    bytes += frame.len();
                }
            }
        }
        self.used(used);
        self.counters.packets += u64::from(used);
        self.counters.bytes += bytes as u64;
        pushed.packets += usize::from(used);
        pushed.bytes += bytes;
        Ok(left)
    }

    /// Makes all added packets visible to the peer. `true`: the peer sleeps, call
    /// [`TxQueue::kick`].
    ///
    /// # Errors
    /// The shared memory is gone; the connection must end.
    #[inline]
    pub fn publish(&mut self) -> Result<bool, Fault> {
        if self.published == self.next {
            return Ok(false);
        }
        match &self.buffers {
            TxBuffers::Peer(regions) => {
                if regions.iter().any(SharedRegion::is_dead) {
                    return Err(Fault::MemoryGone);
                }
                self.ring.publish_tail(self.next)?;
            }
            TxBuffers::Own(region, _) => {
                if region.is_dead() {
                    return Err(Fault::MemoryGone);
                }
                self.ring.publish_head(self.next)?;
            }
        }
        self.published = self.next;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a burst is no more than 64"
        )]
        let soon = self.peer.ahead().min(BURST as u16);
        self.ring.prefetch_to_write(self.next, soon);
        self.ring.wants_interrupt()
    }

    /// Rings the peer's doorbell, through the connection's kick thread.
    #[inline]
    pub fn kick(&self) {
        self.kick.request();
    }

    /// Counters since the connection began.
    pub fn counters(&self) -> TxCounters {
        self.counters
    }

    /// Number of descriptors of the ring.
    pub fn ring_size(&self) -> usize {
        usize::from(self.ring.size())
    }

    #[inline(always)]
    fn refresh(&mut self) -> Result<(), Fault> {
        let size = self.ring.size();
        match self.buffers {
            TxBuffers::Peer(_) => {
                self.peer.update(self.ring.peer_head()?, self.next, size)?;
            }
            TxBuffers::Own(..) => {
                // A descriptor that the peer is through with is free one turn later.
                let free_until = self.ring.peer_tail()?.wrapping_add(size);
                self.peer.update(free_until, self.next, size)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn try_push(&mut self, parts: &[&[u8]], len: usize) -> Result<Fit, Fault> {
        let available = self.peer.ahead();
        let (mask, first) = (self.ring.mask(), self.next);
        let used = match &self.buffers {
            TxBuffers::Own(region, own) => {
                let needed = len.div_ceil(own.capacity as usize);
                if needed > usize::from(self.ring.size()) || needed > MAX_CHAIN {
                    return Ok(Fit::Never);
                }
                if needed > usize::from(available) {
                    return Ok(Fit::No);
                }
                let buffer = |n: u16| own.buffer(first.wrapping_add(n) & mask);
                let gather = Gather {
                    ring: &self.ring,
                    first,
                    mask,
                };
                if needed == 1 {
                    gather.single(region, buffer(0), parts, len)?;
                } else {
                    gather.chain(|_| Some(region), buffer, parts, len)?;
                }
                needed
            }
            TxBuffers::Peer(regions) => {
                if available == 0 {
                    return Ok(Fit::No);
                }
                let (buffer, region) = posted(&self.ring, regions, first & mask)?;
                let gather = Gather {
                    ring: &self.ring,
                    first,
                    mask,
                };
                if buffer.length as usize >= len {
                    gather.single(region, buffer, parts, len)?;
                    1
                } else {
                    match gather.fill_posted(regions, buffer, available, parts, len)? {
                        Ok(used) => used,
                        Err(fit) => return Ok(fit),
                    }
                }
            }
        };
        #[allow(clippy::cast_possible_truncation, reason = "at most the ring's size")]
        self.used(used as u16);
        Ok(Fit::Yes)
    }
}

/// Whether a frame has bytes, and no more than there is room for.
#[inline(always)]
fn fits(frame: &[u8], room: usize) -> bool {
    frame.len().wrapping_sub(1) < room
}

/// Descriptor of a packet that fits into one buffer.
#[inline(always)]
fn filled(region: u16, offset: u32, frame: &[u8]) -> Descriptor {
    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_PACKET")]
    let length = frame.len() as u32;
    Descriptor {
        flags: 0,
        region,
        length,
        offset,
    }
}
