// SPDX-License-Identifier: Apache-2.0
//! Receive queue: descriptors are read and checked first, then a whole burst is copied out, on the
//! fast path if each of its packets is one descriptor in one region.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use sluice_mem::SharedRegion;
use sluice_peer::checks::check;
use sluice_peer::{BURST, PeerIndex, Sink};

use super::counters::RxCounters;
use super::own_buffers::OwnBuffers;
use super::plain::{self, Piece, Pieces, Within};
use super::ring::Ring;
use super::scan::{SEGMENTS, Scan, Segment, copy, outside};
use crate::fault::Fault;
use crate::layout::Descriptor;

/// Owner of the buffers that the descriptors name.
#[derive(Debug)]
pub(crate) enum RxBuffers {
    /// Buffers of the client, anywhere in its regions: we are the server.
    Peer(Arc<[SharedRegion]>),
    /// Buffers of our own: we are the client and posted them.
    Own(SharedRegion, OwnBuffers),
}

/// Receive queue: a ring on which the peer sends.
#[derive(Debug)]
pub struct RxQueue {
    ring: Ring,
    buffers: RxBuffers,
    event: OwnedFd,
    /// Index of the next descriptor to take.
    next: u16,
    peer: PeerIndex,
    pieces: Box<Pieces>,
    segments: Box<[Segment; SEGMENTS]>,
    counters: RxCounters,
}

impl RxQueue {
    /// Makes the queue at the start of its connection. As a client, posts all buffers: only right once the
    /// server is connected, which zeroes the indices.
    pub(crate) fn new(
        ring: Ring,
        buffers: RxBuffers,
        event: OwnedFd,
        interrupts: bool,
    ) -> Result<RxQueue, Fault> {
        let mut queue = RxQueue {
            ring,
            buffers,
            event,
            next: 0,
            peer: PeerIndex::default(),
            pieces: Box::new([Piece::default(); BURST]),
            segments: Box::new([Segment::default(); SEGMENTS]),
            counters: RxCounters::default(),
        };
        queue.set_interrupts(interrupts)?;
        match queue.buffers {
            RxBuffers::Peer(_) => queue.ring.publish_tail(0)?,
            RxBuffers::Own(..) => queue.post(queue.ring.size())?,
        }
        Ok(queue)
    }

    /// Receives at most `max` packets (and at most [`BURST`]) into `sink`. Returns how many were
    /// taken, dropped ones included; 0 if nothing waits.
    ///
    /// # Errors
    /// The peer broke its ring. What this call put into `sink` is not to be used, and the
    /// connection must end.
    #[inline]
    pub fn recv(&mut self, max: usize, sink: &mut impl Sink) -> Result<usize, Fault> {
        let ready = self.refresh()?;
        if ready == 0 || max == 0 {
            return Ok(0);
        }
        let max = max.min(BURST);
        let soon = usize::from(ready).min(max);
        // The other core wrote them last: prefetched together, their cache misses overlap.
        #[allow(clippy::cast_possible_truncation, reason = "at most a burst")]
        self.ring.prefetch(self.next, soon as u16);
        let (taken, packets) = if self.recv_plain(soon, sink)? {
            (soon, soon)
        } else {
            self.recv_any(ready, max, sink)?
        };
        let dead = match &self.buffers {
            RxBuffers::Peer(regions) => regions.iter().any(SharedRegion::is_dead),
            RxBuffers::Own(region, _) => region.is_dead(),
        };
        if dead {
            return Err(Fault::MemoryGone);
        }
        #[allow(clippy::cast_possible_truncation, reason = "at most SEGMENTS")]
        self.give_back(taken as u16)?;
        Ok(packets)
    }

    /// Receives the next `count` packets (at most [`BURST`]), if each takes one descriptor and all lie
    /// in one region; else does nothing and returns `false`.
    #[inline(always)]
    fn recv_plain(&mut self, count: usize, sink: &mut impl Sink) -> Result<bool, Fault> {
        let Some(pieces) = self.pieces.get_mut(..count) else {
            return Ok(false);
        };
        let (ring, next) = (&self.ring, self.next);
        let (region, sound) = match &self.buffers {
            RxBuffers::Peer(regions) => {
                let number = ring.read(next & ring.mask()).region;
                let Some(region) = regions.get(usize::from(number)) else {
                    return Ok(false);
                };
                let bounds = Within(region.len() as u64);
                let sound = plain::scan(ring, next, (number, region), &bounds, pieces);
                (region, sound)
            }
            RxBuffers::Own(region, own) => {
                let sound = plain::scan(ring, next, (0, region), own, pieces);
                (region, sound)
            }
        };
        if !sound {
            return Ok(false);
        }
        sink.expect(count);
        let (packets, bytes) = plain::copy(pieces, region, sink)?;
        self.counters.packets += packets as u64;
        self.counters.bytes += bytes;
        self.counters.no_room += (count - packets) as u64;
        Ok(true)
    }

    /// Receives packets of any number of descriptors. Returns the numbers of descriptors and packets
    /// that were taken.
    #[inline(never)]
    fn recv_any(
        &mut self,
        ready: u16,
        max: usize,
        sink: &mut impl Sink,
    ) -> Result<(usize, usize), Fault> {
        let scan = Scan {
            ring: &self.ring,
            next: self.next,
            ready,
            max,
        };
        match &self.buffers {
            RxBuffers::Peer(regions) => {
                let check = |_: u16, descriptor: &Descriptor| {
                    let Some(region) = regions.get(usize::from(descriptor.region)) else {
                        return Err(Fault::Region(descriptor.region));
                    };
                    let end = u64::from(descriptor.offset) + u64::from(descriptor.length);
                    check!("range", end <= region.len() as u64, outside(descriptor));
                    region.prefetch(descriptor.offset as usize);
                    Ok(())
                };
                let (taken, packets) = scan.run(&mut self.segments, check)?;
                sink.expect(packets);
                let region = |number| regions.get(number);
                let segments = &self.segments[..taken];
                copy(segments, region, sink, &mut self.counters)?;
                Ok((taken, packets))
            }
            RxBuffers::Own(region, own) => {
                let check = |slot: u16, descriptor: &Descriptor| {
                    // The server may move the data within its buffer, but not out of it.
                    let shift = descriptor.offset.wrapping_sub(own.offset(slot));
                    let end = u64::from(shift) + u64::from(descriptor.length);
                    if descriptor.region != 0 {
                        return Err(Fault::Region(descriptor.region));
                    }
                    check!(
                        "own-range",
                        end <= u64::from(own.capacity),
                        outside(descriptor)
                    );
                    region.prefetch(descriptor.offset as usize);
                    Ok(())
                };
                let (taken, packets) = scan.run(&mut self.segments, check)?;
                sink.expect(packets);
                let segments = &self.segments[..taken];
                copy(segments, |_| Some(region), sink, &mut self.counters)?;
                Ok((taken, packets))
            }
        }
    }

    /// Number of descriptors that wait, at most. Not 0: [`RxQueue::recv`] will take something.
    ///
    /// # Errors
    /// The peer broke its ring.
    #[inline]
    pub fn pending(&mut self) -> Result<usize, Fault> {
        self.refresh().map(usize::from)
    }

    /// Sets whether the peer is to interrupt (wake [`RxQueue::event_fd`]) when it sends. Off while
    /// polling: a peer that must interrupt is slower by a system call per burst. After switching
    /// on, look at [`RxQueue::pending`] once more before sleeping: the fence that makes that
    /// sufficient is in here.
    ///
    /// # Errors
    /// The shared memory is gone.
    pub fn set_interrupts(&mut self, on: bool) -> Result<(), Fault> {
        self.ring.set_masked(!on)
    }

    /// Eventfd that the peer writes to interrupt. Put it into an epoll set with EPOLLET and never read
    /// it: the peer can make reading block. Take it out of the set before the queue is dropped;
    /// since the peer holds the same file, closing does not take it out.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Counters since the connection began.
    pub fn counters(&self) -> RxCounters {
        self.counters
    }

    /// Number of descriptors of the ring.
    pub fn ring_size(&self) -> usize {
        usize::from(self.ring.size())
    }

    #[inline(always)]
    fn refresh(&mut self) -> Result<u16, Fault> {
        let read = match self.buffers {
            RxBuffers::Peer(_) => self.ring.peer_head()?,
            RxBuffers::Own(..) => self.ring.peer_tail()?,
        };
        // As a client, all buffers are always posted: the furthest is the ring's size in both.
        Ok(self.peer.update(read, self.next, self.ring.size())?)
    }

    #[inline(always)]
    fn give_back(&mut self, taken: u16) -> Result<(), Fault> {
        self.next = self.next.wrapping_add(taken);
        self.peer.take(taken);
        match self.buffers {
            RxBuffers::Peer(_) => self.ring.publish_tail(self.next),
            RxBuffers::Own(..) => self.post(taken),
        }
    }

    /// Posts the `count` buffers that lie before the next full turn of the ring.
    fn post(&mut self, count: u16) -> Result<(), Fault> {
        let RxBuffers::Own(_, own) = &self.buffers else {
            return Ok(());
        };
        let head = self.next.wrapping_add(self.ring.size());
        for back in (1..=count).rev() {
            let slot = head.wrapping_sub(back) & self.ring.mask();
            self.ring.write(slot, own.buffer(slot));
        }
        self.ring.publish_head(head)
    }
}
