// SPDX-License-Identifier: Apache-2.0
//! Transmit queue: the front end's receive ring. Frames are copied into the buffers that it made
//! available, then published together.

use sluice_peer::{BURST, Kick, PeerIndex};

use super::chain::Chain;
use super::counters::{Pushed, TxCounters};
use super::ring::{Ring, WRITE};
use super::{MAX_FRAME, MAX_PIECES};
use crate::fault::Fault;
use crate::memory::{Memory, Piece};

/// Header before a frame in one buffer, with the count of buffers: 1 (virtio 1.2, section 5.1.6).
const HEADER: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Buffer of one piece, read and checked.
#[derive(Debug, Clone, Copy, Default)]
struct Buffer {
    offset: usize,
    room: u32,
    head: u16,
}

/// Result of adding a frame: added, no room now, or no room ever.
enum Fit {
    Yes,
    No,
    Never,
}

/// Transmit queue: a ring on which we send.
#[derive(Debug)]
pub struct TxQueue {
    ring: Ring,
    memory: Memory,
    call: Kick,
    /// Bytes of the header before each frame.
    header: usize,
    /// Whether a frame may take several buffers.
    merge: bool,
    /// Index of the next buffer to fill, and of the next used entry.
    next: u16,
    /// Value of `next` at the last publication.
    published: u16,
    peer: PeerIndex,
    /// Next buffers, each at its index modulo [`BURST`], that were read, checked and prefetched.
    buffers: Box<[Buffer; BURST]>,
    /// Number of those buffers.
    seen: u16,
    /// Region in which they lie.
    region: u16,
    /// Value of `next` at the last [`TxQueue::prepare`].
    prepared: u16,
    chain: Box<Chain>,
    counters: TxCounters,
}

impl TxQueue {
    /// Queue over a ring that begins to run, and goes on where it was when it ran last.
    pub(crate) fn new(
        ring: Ring,
        memory: Memory,
        call: Kick,
        header: usize,
        merge: bool,
    ) -> Result<TxQueue, Fault> {
        let next = ring.used_index()?;
        // Buffers that come are found when a frame is to be sent: no kick is needed.
        ring.set_kicks(false)?;
        Ok(TxQueue {
            ring,
            memory,
            call,
            header,
            merge,
            next,
            published: next,
            peer: PeerIndex::default(),
            buffers: Box::new([Buffer::default(); BURST]),
            seen: 0,
            region: 0,
            prepared: next.wrapping_sub(1),
            chain: Box::new(Chain::EMPTY),
            counters: TxCounters::default(),
        })
    }

    /// Number of buffers that can be filled now; a frame takes one, or several if it is longer.
    ///
    /// # Errors
    /// The front end broke its ring; the connection must end.
    #[inline]
    pub fn room(&mut self) -> Result<usize, Fault> {
        self.refresh()?;
        Ok(usize::from(self.peer.ahead()))
    }

    /// Reads and checks the buffers of the next burst, as far as they are there, and prefetches them for
    /// writing: the other core had these cache lines last. Call it before a burst is received.
    ///
    /// # Errors
    /// The front end broke its ring, or the shared memory is gone; the connection must end.
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
        self.read_ahead()
    }

    /// Reads the next buffers that are one piece each and lie in one region, as many as there are.
    #[inline(always)]
    fn read_ahead(&mut self) -> Result<(), Fault> {
        let count = usize::from(self.peer.ahead()).min(BURST);
        let seen = usize::from(self.seen);
        let mut heads = [0; BURST];
        let Some(heads) = heads.get_mut(seen..count).filter(|heads| !heads.is_empty()) else {
            return Ok(());
        };
        let mut at = self.next.wrapping_add(self.seen);
        self.ring.heads(at, heads)?;
        for head in &*heads {
            self.ring.prefetch(*head);
        }
        for head in &*heads {
            let descriptor = self.ring.descriptor(*head)?;
            if descriptor.flags != WRITE {
                break;
            }
            let (address, len) = (descriptor.address, descriptor.len);
            if self.seen == 0 {
                let Some(piece) = self.memory.find(address, len) else {
                    break;
                };
                self.region = piece.region;
            }
            let Some(region) = self.memory.region(self.region) else {
                break;
            };
            // Either a fault, or a buffer of another region, for the general path.
            let Some(offset) = region.offset(address, len) else {
                break;
            };
            region.memory.prefetch_to_write(offset);
            self.buffers[usize::from(at) % BURST] = Buffer {
                offset,
                room: len,
                head: *head,
            };
            at = at.wrapping_add(1);
            self.seen += 1;
        }
        Ok(())
    }

    /// Adds one frame, the bytes of `parts` in their order. The front end sees it only after
    /// [`TxQueue::publish`]. `false`: there is no room for all of it now, and nothing was added.
    ///
    /// A frame that can never fit (of no bytes, of more than 65535, or that takes more buffers than may be
    /// merged) is counted as unfit and taken: waiting would not help it.
    ///
    /// # Errors
    /// The front end broke its ring; the connection must end.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<bool, Fault> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let fit = match self.push_fast(parts, len)? {
            true => Fit::Yes,
            false => self.push_any(parts, len)?,
        };
        match fit {
            Fit::Yes => {
                self.counters.frames += 1;
                self.counters.bytes += len as u64;
            }
            Fit::No => {
                self.counters.full += 1;
                return Ok(false);
            }
            Fit::Never => self.counters.unfit += 1,
        }
        Ok(true)
    }

    /// Adds frames from the front until one does not fit, as [`TxQueue::push`] does.
    ///
    /// # Errors
    /// As for [`TxQueue::push`].
    #[inline]
    pub fn push_frames<'frame>(
        &mut self,
        frames: impl Iterator<Item = &'frame [u8]>,
    ) -> Result<Pushed, Fault> {
        let mut pushed = Pushed::default();
        for frame in frames {
            if !self.push_fast(&[frame], frame.len())? {
                match self.push_any(&[frame], frame.len())? {
                    Fit::Yes => {}
                    Fit::No => {
                        self.counters.full += 1;
                        break;
                    }
                    Fit::Never => {
                        pushed.unfit += 1;
                        continue;
                    }
                }
            }
            pushed.frames += 1;
            pushed.bytes += frame.len();
        }
        self.counters.frames += pushed.frames as u64;
        self.counters.bytes += pushed.bytes as u64;
        self.counters.unfit += pushed.unfit as u64;
        Ok(pushed)
    }

    /// Adds a frame if the next buffer is one that was read ahead, and holds it.
    #[inline(always)]
    fn push_fast(&mut self, parts: &[&[u8]], len: usize) -> Result<bool, Fault> {
        if self.seen == 0 || len == 0 || len > MAX_FRAME {
            return Ok(false);
        }
        let buffer = self.buffers[usize::from(self.next) % BURST];
        let whole = self.header + len;
        let Some(memory) = self.memory.mapping(self.region) else {
            return Ok(false);
        };
        if whole > buffer.room as usize {
            return Ok(false);
        }
        let header = HEADER.get(..self.header).unwrap_or_default();
        memory
            .copy_out(buffer.offset, header)
            .map_err(|_| Fault::MemoryGone)?;
        let mut at = buffer.offset + self.header;
        for part in parts {
            memory.copy_out(at, part).map_err(|_| Fault::MemoryGone)?;
            at += part.len();
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "at most MAX_FRAME and a header"
        )]
        let whole = whole as u32;
        self.ring.give_back_filled(self.next, buffer.head, whole)?;
        self.used(1);
        Ok(true)
    }

    /// Adds a frame to as many buffers as it takes, each of any number of pieces.
    #[inline(never)]
    fn push_any(&mut self, parts: &[&[u8]], len: usize) -> Result<Fit, Fault> {
        if len == 0 || len > MAX_FRAME {
            return Ok(Fit::Never);
        }
        let whole = (self.header + len) as u64;
        // Each buffer: the descriptor that it begins with, and its bytes.
        let mut buffers = [(0_u16, 0_u64); MAX_PIECES];
        let mut count = 0_u16;
        self.chain.clear();
        while self.chain.bytes() < whole {
            if count > 0 && !self.merge {
                return Ok(Fit::Never);
            }
            if count == self.peer.ahead() {
                self.refresh()?;
            }
            if count == self.peer.ahead() {
                // With the whole ring available, waiting would not help.
                let never = count == self.ring.size();
                return Ok(if never { Fit::Never } else { Fit::No });
            }
            let Some(buffer) = buffers.get_mut(usize::from(count)) else {
                return Ok(Fit::Never);
            };
            let mut head = [0];
            self.ring.heads(self.next.wrapping_add(count), &mut head)?;
            let [head] = head;
            let bytes = match self.chain.walk(&self.ring, &self.memory, head, true) {
                // The buffers of the frame have too many pieces, together.
                Err(Fault::LongChain) if count > 0 => return Ok(Fit::Never),
                walked => walked?,
            };
            if count == 0 && bytes < self.header as u64 {
                return Err(Fault::Runt(bytes));
            }
            *buffer = (head, bytes);
            count += 1;
        }
        self.fill(parts, count)?;
        let mut left = whole;
        for (n, (head, bytes)) in (0..count).zip(buffers) {
            let now = left.min(bytes);
            left -= now;
            let written = u32::try_from(now).unwrap_or(u32::MAX);
            self.ring
                .give_back_filled(self.next.wrapping_add(n), head, written)?;
        }
        self.used(count);
        Ok(Fit::Yes)
    }

    /// Writes the header of a frame in `count` buffers, and the frame, over the pieces of the chain.
    fn fill(&self, parts: &[&[u8]], count: u16) -> Result<(), Fault> {
        let mut header = HEADER;
        let [.., low, high] = &mut header;
        [*low, *high] = count.to_le_bytes();
        let header = header.get(..self.header).unwrap_or_default();
        let mut pieces = self.chain.pieces().iter();
        let mut room = Piece::default();
        for part in std::iter::once(header).chain(parts.iter().copied()) {
            let mut part = part;
            while !part.is_empty() {
                if room.len == 0 {
                    // Together they hold it all, so there is another.
                    room = *pieces.next().ok_or(Fault::MemoryGone)?;
                    continue;
                }
                let (now, later) = part.split_at(part.len().min(room.len as usize));
                let memory = self.memory.mapping(room.region).ok_or(Fault::MemoryGone)?;
                memory
                    .copy_out(room.offset, now)
                    .map_err(|_| Fault::MemoryGone)?;
                room.offset += now.len();
                room.len -= u32::try_from(now.len()).unwrap_or(room.len);
                part = later;
            }
        }
        Ok(())
    }

    /// Moves on over the next `count` buffers, which are filled.
    #[inline(always)]
    fn used(&mut self, count: u16) {
        self.next = self.next.wrapping_add(count);
        self.seen = self.seen.saturating_sub(count);
        self.peer.take(count);
    }

    /// Publishes what was added. Returns whether the front end wants to be interrupted for it: then
    /// call [`TxQueue::kick`].
    ///
    /// # Errors
    /// The shared memory is gone; the connection must end.
    #[inline]
    pub fn publish(&mut self) -> Result<bool, Fault> {
        if self.published == self.next {
            return Ok(false);
        }
        if self.memory.is_dead() {
            return Err(Fault::MemoryGone);
        }
        self.published = self.next;
        self.ring.publish(self.next)?;
        self.ring.prefetch_used(self.next);
        self.ring.wants_interrupt()
    }

    /// Interrupts the front end soon, by the thread that may wait for it.
    #[inline]
    pub fn kick(&self) {
        self.call.request();
    }

    /// Counters since the rings began to run.
    pub fn counters(&self) -> TxCounters {
        self.counters
    }

    #[inline(always)]
    fn refresh(&mut self) -> Result<(), Fault> {
        if self.memory.is_dead() {
            return Err(Fault::MemoryGone);
        }
        let read = self.ring.available_index()?;
        self.peer.update(read, self.next, self.ring.size())?;
        Ok(())
    }
}
