// SPDX-License-Identifier: Apache-2.0
//! Receive queue: the front end's transmit ring. Descriptors are read and checked first, then a whole
//! burst is copied out, on the fast path if each of its frames is one piece in one region.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use sluice_peer::checks::{check, disabled};
use sluice_peer::{BURST, Kick, PeerIndex, Sink};

use super::chain::Chain;
use super::counters::RxCounters;
use super::ring::Ring;
use super::{MAX_FRAME, plain};
use crate::fault::Fault;
use crate::memory::{Memory, Piece};

/// Receive queue: a ring on which the front end sends.
#[derive(Debug)]
pub struct RxQueue {
    ring: Ring,
    memory: Memory,
    /// Eventfd by which the front end says that it sent; none: it expects to be polled.
    kick: Option<Arc<std::os::fd::OwnedFd>>,
    call: Kick,
    /// Bytes of the header before each frame.
    header: usize,
    /// Index of the next buffer to take, and of the next used entry.
    next: u16,
    peer: PeerIndex,
    heads: Box<[u16; BURST]>,
    pieces: Box<[Piece; BURST]>,
    chain: Box<Chain>,
    counters: RxCounters,
}

impl RxQueue {
    /// Queue over a ring that begins to run, and goes on where it was when it ran last.
    pub(crate) fn new(
        ring: Ring,
        memory: Memory,
        kick: Option<Arc<std::os::fd::OwnedFd>>,
        call: Kick,
        header: usize,
    ) -> Result<RxQueue, Fault> {
        let next = ring.used_index()?;
        // Polled until somebody sleeps.
        ring.set_kicks(false)?;
        Ok(RxQueue {
            ring,
            memory,
            kick,
            call,
            header,
            next,
            peer: PeerIndex::default(),
            heads: Box::new([0; BURST]),
            pieces: Box::new([Piece::default(); BURST]),
            chain: Box::new(Chain::EMPTY),
            counters: RxCounters::default(),
        })
    }

    /// Receives at most `max` frames (and at most [`BURST`]) into `sink`. Returns how many buffers were
    /// taken, dropped ones included; 0 if nothing waits.
    ///
    /// # Errors
    /// The front end broke its ring. What this call put into `sink` is not to be used, and the
    /// connection must end.
    #[inline]
    pub fn recv(&mut self, max: usize, sink: &mut impl Sink) -> Result<usize, Fault> {
        let ready = usize::from(self.refresh()?);
        let count = ready.min(max).min(BURST);
        let Some(heads) = self.heads.get_mut(..count).filter(|_| count > 0) else {
            return Ok(0);
        };
        self.ring.heads(self.next, heads)?;
        // The other core wrote them last: prefetched together, their cache misses overlap.
        for head in &*heads {
            self.ring.prefetch(*head);
        }
        self.ring.prefetch_used(self.next);
        if !self.recv_plain(count, sink)? {
            self.recv_any(count, sink)?;
        }
        if self.memory.is_dead() {
            return Err(Fault::MemoryGone);
        }
        self.give_back(count)?;
        Ok(count)
    }

    /// Receives the frames of the next `count` buffers, if each is one piece and all lie in one region;
    /// else does nothing and returns `false`.
    #[inline(always)]
    fn recv_plain(&mut self, count: usize, sink: &mut impl Sink) -> Result<bool, Fault> {
        let (Some(heads), Some(pieces)) = (self.heads.get(..count), self.pieces.get_mut(..count))
        else {
            return Ok(false);
        };
        let header = self.header;
        let Some(region) = plain::scan(&self.ring, &self.memory, header, heads, pieces)? else {
            return Ok(false);
        };
        if plain::any_offload(region, pieces)? {
            return Ok(false);
        }
        sink.expect(count);
        let (frames, bytes) = plain::copy(region, header, pieces, sink)?;
        self.counters.frames += frames as u64;
        self.counters.bytes += bytes;
        self.counters.no_room += (count - frames) as u64;
        Ok(true)
    }

    /// Receives frames of any number of pieces.
    #[inline(never)]
    fn recv_any(&mut self, count: usize, sink: &mut impl Sink) -> Result<(), Fault> {
        sink.expect(count);
        for at in 0..count {
            let Some(head) = self.heads.get(at).copied() else {
                break;
            };
            self.chain.clear();
            self.chain.walk(&self.ring, &self.memory, head, false)?;
            self.copy_chain(sink)?;
        }
        Ok(())
    }

    /// Copies the frame in the chain out, if there is one that is wanted.
    fn copy_chain(&mut self, sink: &mut impl Sink) -> Result<(), Fault> {
        let bytes = self.chain.bytes();
        let Some(len) = bytes.checked_sub(self.header as u64).filter(|len| *len > 0) else {
            self.counters.empty += 1;
            return Ok(());
        };
        check!("long-frame", len <= MAX_FRAME as u64, Fault::LongFrame(len));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut start = [0; 2];
        self.copy_range(0, &mut start)?;
        if start != [0; 2] && !disabled("offload") {
            self.counters.offload += 1;
            return Ok(());
        }
        let Some(to) = sink.reserve(len).filter(|to| to.len() == len) else {
            self.counters.no_room += 1;
            return Ok(());
        };
        self.copy_range(self.header, to)?;
        self.counters.frames += 1;
        self.counters.bytes += len as u64;
        Ok(())
    }

    /// Copies the chain's bytes from `skip` on into all of `to`.
    fn copy_range(&self, mut skip: usize, mut to: &mut [u8]) -> Result<(), Fault> {
        for piece in self.chain.pieces() {
            let len = piece.len as usize;
            let past = skip.min(len);
            skip -= past;
            let now = (len - past).min(to.len());
            let (filled, left) = to.split_at_mut(now);
            let memory = self.memory.mapping(piece.region).ok_or(Fault::MemoryGone)?;
            memory
                .copy_in(piece.offset + past, filled)
                .map_err(|_| Fault::MemoryGone)?;
            to = left;
            if to.is_empty() {
                return Ok(());
            }
        }
        // The caller knows that there are as many bytes.
        Err(Fault::MemoryGone)
    }

    /// Gives the next `count` buffers back.
    #[inline(always)]
    fn give_back(&mut self, count: usize) -> Result<(), Fault> {
        let heads = self.heads.get(..count).unwrap_or_default();
        self.ring.give_back(self.next, heads)?;
        #[allow(clippy::cast_possible_truncation, reason = "at most a burst")]
        let count = count as u16;
        self.next = self.next.wrapping_add(count);
        self.peer.take(count);
        self.ring.publish(self.next)?;
        if self.ring.wants_interrupt()? {
            self.call.request();
        }
        Ok(())
    }

    /// Number of buffers that wait. Not 0: [`RxQueue::recv`] will take something.
    ///
    /// # Errors
    /// The front end broke its ring.
    #[inline]
    pub fn pending(&mut self) -> Result<usize, Fault> {
        self.refresh().map(usize::from)
    }

    /// Sets whether the front end is to kick (wake [`RxQueue::kick_fd`]) when it sends. Off while
    /// polling: a front end that must kick is slower by a system call per burst. After switching on,
    /// look at [`RxQueue::pending`] once more before sleeping.
    ///
    /// # Errors
    /// The shared memory is gone.
    pub fn set_kicks(&mut self, on: bool) -> Result<(), Fault> {
        self.ring.set_kicks(on)
    }

    /// Eventfd that the front end writes to kick, if it gave one. Put it into an epoll set with EPOLLET
    /// and never read it: the peer can make reading block. Take it out of the set before the queue is
    /// dropped; since the peer holds the same file, closing does not take it out.
    pub fn kick_fd(&self) -> Option<BorrowedFd<'_>> {
        self.kick.as_ref().map(|fd| fd.as_fd())
    }

    /// Counters since the rings began to run.
    pub fn counters(&self) -> RxCounters {
        self.counters
    }

    #[inline(always)]
    fn refresh(&mut self) -> Result<u16, Fault> {
        if self.memory.is_dead() {
            return Err(Fault::MemoryGone);
        }
        let read = self.ring.available_index()?;
        Ok(self.peer.update(read, self.next, self.ring.size())?)
    }
}
