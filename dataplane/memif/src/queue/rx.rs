//! Receiving: descriptors are scanned and checked first, then a whole burst is copied out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use sluice_mem::SharedRegion;

use super::{BURST, OwnBuffers, PeerIndex, Ring};
use crate::checks::out;
use crate::fault::Fault;
use crate::layout::{Descriptor, MAX_CHAIN, MAX_PACKET};

/// Descriptors that one call takes at most: a burst of single ones and the longest chain.
const SEGMENTS: usize = 4 * BURST;
const _: () = assert!(SEGMENTS >= BURST + MAX_CHAIN);
const _: () = assert!(MAX_PACKET <= u16::MAX as usize);

/// Where received packets go.
pub trait Sink {
    /// As many packets as this will come now, if nothing is wrong with them.
    fn expect(&mut self, packets: usize) {
        let _ = packets;
    }

    /// Room for the next packet of `len` bytes (1 to 65535): exactly that many. It is filled before
    /// the next call. `None`, or a slice of another length, drops the packet, which is counted.
    fn place(&mut self, len: usize) -> Option<&mut [u8]>;
}

/// A list of frames, each in a vector of its own; recycles the vectors. For pods and tests, where
/// an allocation now and then does not matter.
#[derive(Debug, Default)]
pub struct FrameList {
    frames: std::collections::VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl FrameList {
    /// The oldest frame. Give it back to [`FrameList::recycle`] after use.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    /// Keeps a vector for a later frame.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        if self.spare.len() < 4 * BURST {
            self.spare.push(frame);
        }
    }

    /// Frames waiting.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Sink for FrameList {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        frame.resize(len, 0);
        self.frames.push_back(frame);
        self.frames.back_mut().map(Vec::as_mut_slice)
    }
}

/// What a receive queue counted since its connection began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RxCounters {
    /// Packets handed over.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets dropped because the sink had no room.
    pub no_room: u64,
    /// Packets of no bytes, dropped.
    pub empty: u64,
}

/// Whose buffers the descriptors name.
#[derive(Debug)]
pub(crate) enum RxBuffers {
    /// The client's, anywhere in its regions: we are the server.
    Peer(Arc<[SharedRegion]>),
    /// Ours: we are the client and posted them.
    Own(SharedRegion, OwnBuffers),
}

/// One checked descriptor.
#[derive(Debug, Clone, Copy, Default)]
struct Segment {
    offset: u32,
    /// At most [`MAX_PACKET`].
    len: u16,
    region: u16,
    /// The packet goes on in the next one.
    next: bool,
}

/// A ring on which the peer sends.
#[derive(Debug)]
pub struct RxQueue {
    ring: Ring,
    buffers: RxBuffers,
    event: OwnedFd,
    /// The next descriptor to take.
    next: u16,
    peer: PeerIndex,
    segments: Box<[Segment; SEGMENTS]>,
    counters: RxCounters,
}

impl RxQueue {
    /// A queue at the start of its connection. As a client, posts all buffers: only right once the
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
        let (taken, packets) = match &self.buffers {
            RxBuffers::Peer(regions) => {
                let check = |_: u16, descriptor: &Descriptor| {
                    let Some(region) = regions.get(usize::from(descriptor.region)) else {
                        return Err(Fault::Region(descriptor.region));
                    };
                    let end = u64::from(descriptor.offset) + u64::from(descriptor.length);
                    if end > region.len() as u64 && !out("range") {
                        return Err(out_of(descriptor));
                    }
                    region.prefetch(descriptor.offset as usize);
                    Ok(())
                };
                let burst = Burst {
                    ring: &self.ring,
                    next: self.next,
                    ready,
                    max,
                };
                let (taken, packets) = burst.scan(&mut self.segments, check)?;
                sink.expect(packets);
                let segments = &self.segments[..taken];
                let region = |number| regions.get(number);
                copy(segments, packets, region, sink, &mut self.counters)?;
                if regions.iter().any(SharedRegion::is_dead) {
                    return Err(Fault::MemoryGone);
                }
                (taken, packets)
            }
            RxBuffers::Own(region, own) => {
                let check = |slot: u16, descriptor: &Descriptor| {
                    // The server may move the data within its buffer, but not out of it.
                    let shift = descriptor.offset.wrapping_sub(own.offset(slot));
                    let end = u64::from(shift) + u64::from(descriptor.length);
                    if descriptor.region != 0 {
                        Err(Fault::Region(descriptor.region))
                    } else if end > u64::from(own.capacity) && !out("own-range") {
                        Err(out_of(descriptor))
                    } else {
                        region.prefetch(descriptor.offset as usize);
                        Ok(())
                    }
                };
                let burst = Burst {
                    ring: &self.ring,
                    next: self.next,
                    ready,
                    max,
                };
                let (taken, packets) = burst.scan(&mut self.segments, check)?;
                sink.expect(packets);
                let segments = &self.segments[..taken];
                copy(
                    segments,
                    packets,
                    |_| Some(region),
                    sink,
                    &mut self.counters,
                )?;
                if region.is_dead() {
                    return Err(Fault::MemoryGone);
                }
                (taken, packets)
            }
        };
        #[allow(clippy::cast_possible_truncation, reason = "at most SEGMENTS")]
        self.give_back(taken as u16)?;
        Ok(packets)
    }

    /// Descriptors that wait, at most. Not 0: [`RxQueue::recv`] will take something.
    ///
    /// # Errors
    /// The peer broke its ring.
    #[inline]
    pub fn pending(&mut self) -> Result<usize, Fault> {
        self.refresh().map(usize::from)
    }

    /// Whether the peer is to interrupt (wake [`RxQueue::event_fd`]) when it sends. Off while
    /// polling: a peer that must interrupt is slower by a system call per burst. After switching
    /// on, look at [`RxQueue::pending`] once more before sleeping: the fence that makes that
    /// sufficient is in here.
    ///
    /// # Errors
    /// The shared memory is gone.
    pub fn set_interrupts(&mut self, on: bool) -> Result<(), Fault> {
        self.ring.set_masked(!on)
    }

    /// What the peer writes to interrupt. Put it into an epoll set with EPOLLET and never read
    /// it: the peer can make reading block. Take it out of the set before the queue is dropped;
    /// since the peer holds the same file, closing does not take it out.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Counted since the connection began.
    pub fn counters(&self) -> RxCounters {
        self.counters
    }

    /// Descriptors of the ring.
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
        self.peer.update(read, self.next, self.ring.size())
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

/// What one call looks at.
struct Burst<'ring> {
    ring: &'ring Ring,
    next: u16,
    ready: u16,
    max: usize,
}

impl Burst<'_> {
    /// Reads and checks descriptors into `segments`. Returns how many belong to whole packets, and
    /// how many packets these are.
    #[inline(always)]
    fn scan(
        &self,
        segments: &mut [Segment; SEGMENTS],
        check: impl Fn(u16, &Descriptor) -> Result<(), Fault>,
    ) -> Result<(usize, usize), Fault> {
        let mut whole = 0;
        let mut packets = 0;
        let mut chain = 0;
        let mut bytes = 0_u32;
        let mut seen = 0;
        let (mask, ready) = (self.ring.mask(), usize::from(self.ready));
        let mut slot = self.next;
        // The other core wrote them last: asked for together, they come in the time of one.
        #[allow(clippy::cast_possible_truncation, reason = "at most a burst")]
        let soon = ready.min(self.max) as u16;
        self.ring.prefetch(slot, soon);
        for segment in segments.iter_mut().take(ready) {
            let at = slot & mask;
            slot = slot.wrapping_add(1);
            let descriptor = self.ring.read(at);
            check(at, &descriptor)?;
            bytes = bytes.saturating_add(descriptor.length);
            if bytes as usize > MAX_PACKET && !out("long-packet") {
                return Err(Fault::LongPacket(bytes));
            }
            #[allow(
                clippy::cast_possible_truncation,
                reason = "at most MAX_PACKET, just checked"
            )]
            let len = descriptor.length as u16;
            *segment = Segment {
                offset: descriptor.offset,
                len,
                region: descriptor.region,
                next: descriptor.has_next(),
            };
            seen += 1;
            if descriptor.has_next() {
                chain += 1;
                if chain == MAX_CHAIN && !out("long-chain") {
                    return Err(Fault::LongChain);
                }
            } else {
                (chain, bytes) = (0, 0);
                whole = seen;
                packets += 1;
                if packets == self.max {
                    break;
                }
            }
        }
        // A chain cut by the end of `segments` is taken next time; one cut by the peer never ends.
        if whole != seen && seen == ready && !out("open-chain") {
            return Err(Fault::OpenChain);
        }
        Ok((whole, packets))
    }
}

/// Copies `packets` whole packets out.
#[inline(always)]
fn copy<'region>(
    segments: &[Segment],
    packets: usize,
    region: impl Fn(usize) -> Option<&'region SharedRegion>,
    sink: &mut impl Sink,
    counters: &mut RxCounters,
) -> Result<(), Fault> {
    let copy_one = |segment: &Segment, to: &mut [u8]| {
        let memory = region(usize::from(segment.region)).ok_or(Fault::Region(segment.region))?;
        memory
            .copy_in(segment.offset as usize, to)
            .map_err(|_| Fault::MemoryGone)
    };
    // What is counted is in a local: a copy out of shared memory may change any memory, as far as the
    // compiler knows.
    let mut count = *counters;
    if packets == segments.len() {
        // Every packet is of one piece, as nearly all are.
        for segment in segments {
            if let Some(to) = room_for(segment.len.into(), sink, &mut count) {
                copy_one(segment, to)?;
            }
        }
    } else {
        copy_chains(segments, copy_one, sink, &mut count)?;
    }
    *counters = count;
    Ok(())
}

/// Copies packets of which some are of several pieces.
fn copy_chains(
    mut segments: &[Segment],
    copy_one: impl Fn(&Segment, &mut [u8]) -> Result<(), Fault>,
    sink: &mut impl Sink,
    count: &mut RxCounters,
) -> Result<(), Fault> {
    while !segments.is_empty() {
        // Up to and with the first that does not go on; the scan left no open chain.
        let last = segments.iter().position(|segment| !segment.next);
        let (packet, later) = segments.split_at(last.map_or(segments.len(), |last| last + 1));
        segments = later;
        let len = packet.iter().map(|segment| usize::from(segment.len)).sum();
        let Some(mut to) = room_for(len, sink, count) else {
            continue;
        };
        for segment in packet {
            let Some((now, left)) = to.split_at_mut_checked(usize::from(segment.len)) else {
                return Err(Fault::MemoryGone);
            };
            copy_one(segment, now)?;
            to = left;
        }
    }
    Ok(())
}

/// Where a packet of `len` bytes is copied to, and counts it as received; else why it is not.
#[inline(always)]
fn room_for<'s>(
    len: usize,
    sink: &'s mut impl Sink,
    count: &mut RxCounters,
) -> Option<&'s mut [u8]> {
    if len == 0 {
        count.empty += 1;
        return None;
    }
    let to = sink.place(len).filter(|to| to.len() == len);
    if to.is_some() {
        count.packets += 1;
        count.bytes += len as u64;
    } else {
        count.no_room += 1;
    }
    to
}

fn out_of(descriptor: &Descriptor) -> Fault {
    Fault::Range {
        offset: descriptor.offset,
        length: descriptor.length,
    }
}
