// SPDX-License-Identifier: Apache-2.0
//! Ring of byte strings, for frames that one thread writes and another reads where they lie.
//!
//! A string lies in one piece: it never wraps round the end of the ring's memory. Which part of that memory
//! is whose is not a matter of indices of its own: a string's place travels through an SPSC ring of places,
//! so that pushing the place gives the bytes to the consumer, and popping it gives them back.
//!
//! A ring that its consumer keeps up with stays at the front of its memory, so that of a large ring only the
//! part that a backlog once needed is ever touched.
#![allow(
    unsafe_code,
    reason = "bytes that the producer writes and the consumer reads"
)]

use std::fmt;
use std::ptr::NonNull;

use crate::sync::{Arc, UnsafeCell};
use crate::{Consumer, Producer, spsc};

/// Bytes that strings are aligned to: two of them never share a cache line, which would go to and fro.
const LINE: usize = 64;

/// Bytes that the producer fills before it looks whether it can begin at the front again.
const LOOK_AFTER: usize = 32 << 10;

/// A ring of up to `strings` byte strings (rounded up to a power of two, at most 2^31), which together and
/// with the gaps at the end have `bytes` bytes. Each has a value `M` beside it.
pub fn bytes_spsc<M: Copy>(bytes: usize, strings: usize) -> (BytesProducer<M>, BytesConsumer<M>) {
    let (producer, consumer) = spsc(strings);
    let memory = Arc::new(Memory::new(bytes.next_multiple_of(LINE)));
    let producer = BytesProducer {
        memory: Arc::clone(&memory),
        starts: vec![0; producer.capacity()].into_boxed_slice(),
        places: producer,
        pushed: 0,
        in_ring: 0,
        end: 0,
    };
    let consumer = BytesConsumer {
        memory,
        places: consumer,
    };
    (producer, consumer)
}

/// The place of a byte string, and the value beside it.
#[derive(Debug, Clone, Copy)]
struct Place<M> {
    start: usize,
    len: usize,
    beside: M,
}

/// The side of a ring of byte strings that pushes.
#[derive(Debug)]
pub struct BytesProducer<M> {
    memory: Arc<Memory>,
    places: Producer<Place<M>>,
    /// Beginnings of the strings: that of number `n` at index `n` modulo the capacity.
    starts: Box<[usize]>,
    /// Strings pushed so far.
    pushed: usize,
    /// Strings in the ring when the producer last looked, and those pushed since.
    in_ring: usize,
    /// End of the last string, rounded up to a line.
    end: usize,
}

impl<M: Copy> BytesProducer<M> {
    /// Sets `len` bytes aside; `None` if the ring has not as many in one piece.
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Option<Space<'_, M>> {
        if self.end >= LOOK_AFTER {
            self.look();
        }
        let start = match self.place(len) {
            Some(start) => start,
            None => {
                self.look();
                self.place(len)?
            }
        };
        Some(Space {
            producer: self,
            start,
            len,
        })
    }

    /// Looks how far the consumer is.
    fn look(&mut self) {
        self.in_ring = self.places.capacity() - self.places.slots();
        if self.in_ring == 0 {
            self.end = 0;
        }
    }

    /// A place where `len` bytes are free, by what was last seen of the consumer.
    #[inline]
    fn place(&self, len: usize) -> Option<usize> {
        if self.in_ring == self.places.capacity() {
            return None;
        }
        if self.in_ring == 0 {
            return (len <= self.memory.len).then_some(0);
        }
        let oldest = self.pushed.wrapping_sub(self.in_ring) & (self.starts.len() - 1);
        let oldest = self.starts[oldest];
        // Strings without bytes could make both ends meet: then nothing counts as free.
        if self.end <= oldest {
            (len <= oldest - self.end).then_some(self.end)
        } else if len <= self.memory.len - self.end {
            Some(self.end)
        } else {
            (len <= oldest).then_some(0)
        }
    }

    /// Whether the consumer has been dropped: what is pushed is never read.
    pub fn is_abandoned(&self) -> bool {
        self.places.is_abandoned()
    }
}

/// Bytes set aside by [`BytesProducer::reserve`]; they become a string with [`Space::commit`].
#[derive(Debug)]
pub struct Space<'a, M> {
    producer: &'a mut BytesProducer<M>,
    start: usize,
    len: usize,
}

impl<M: Copy> Space<'_, M> {
    /// The bytes, which hold whatever was there before.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `place` says that no string in the ring has these bytes: the consumer has popped, or never
        // had, whatever lay here, and the producer, which is borrowed, sets nothing else aside.
        unsafe { self.producer.memory.get_mut(self.start, self.len) }
    }

    /// Pushes the first `len` of them (or all, if there are fewer) with `beside`.
    #[inline]
    pub fn commit(self, len: usize, beside: M) {
        let Space {
            producer,
            start,
            len: most,
        } = self;
        let len = len.min(most);
        let place = Place { start, len, beside };
        // It fits: `place` has looked for room.
        if producer.places.push(place).is_ok() {
            let number = producer.pushed & (producer.starts.len() - 1);
            producer.starts[number] = start;
            producer.pushed = producer.pushed.wrapping_add(1);
            producer.in_ring += 1;
            producer.end = (start + len)
                .next_multiple_of(LINE)
                .min(producer.memory.len);
        }
    }
}

/// The side of a ring of byte strings that pops.
#[derive(Debug)]
pub struct BytesConsumer<M> {
    memory: Arc<Memory>,
    places: Consumer<Place<M>>,
}

impl<M: Copy> BytesConsumer<M> {
    /// The oldest string, which stays in the ring.
    #[inline]
    pub fn front(&mut self) -> Option<(&[u8], M)> {
        let Place { start, len, beside } = *self.places.peek(1).get(0)?;
        // SAFETY: the string is in the ring until `pop`, for which this borrow must be over; the producer
        // touches none of its bytes until then.
        let bytes = unsafe { self.memory.get(start, len) };
        Some((bytes, beside))
    }

    /// Pops the oldest string; false if there is none.
    #[inline]
    pub fn pop(&mut self) -> bool {
        self.places.pop().is_some()
    }

    /// Whether the ring is empty at this moment.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.places.is_empty()
    }

    /// Whether the producer has been dropped; what it pushed is still there.
    pub fn is_abandoned(&self) -> bool {
        self.places.is_abandoned()
    }
}

/// Memory of a ring: allocated as zeros, so that pages nobody needs stay the kernel's.
struct Memory {
    bytes: NonNull<u8>,
    len: usize,
    /// Cells for loom, a line each: who touches bytes touches their lines' cells.
    lines: Box<[UnsafeCell<()>]>,
}

// SAFETY: a byte is the producer's or, as part of a string in the ring, the consumer's, and goes from one to
// the other by a release store and an acquire load of the ring of places.
unsafe impl Sync for Memory {}
// SAFETY: owns its bytes; as above.
unsafe impl Send for Memory {}

impl Memory {
    fn new(len: usize) -> Memory {
        let bytes = Box::into_raw(vec![0u8; len].into_boxed_slice());
        let lines = if cfg!(loom) { len / LINE } else { 0 };
        Memory {
            // A box is never null.
            bytes: NonNull::new(bytes.cast()).unwrap_or(NonNull::dangling()),
            len,
            lines: (0..lines).map(|_| UnsafeCell::new(())).collect(),
        }
    }

    /// `len` bytes from `start` on.
    ///
    /// # Safety
    /// They lie in the memory, and nobody writes them while the reference lives.
    #[inline(always)]
    unsafe fn get(&self, start: usize, len: usize) -> &[u8] {
        for line in self.touched(start, len) {
            line.with(|_| ());
        }
        // SAFETY: the caller keeps it inside the memory.
        let first = unsafe { self.bytes.as_ptr().add(start) };
        // SAFETY: the caller keeps writers off; the memory was allocated as zeros.
        unsafe { std::slice::from_raw_parts(first, len) }
    }

    /// `len` bytes from `start` on.
    ///
    /// # Safety
    /// They lie in the memory, and nobody else has a reference to any of them while this one lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the caller has the bytes to itself")]
    unsafe fn get_mut(&self, start: usize, len: usize) -> &mut [u8] {
        for line in self.touched(start, len) {
            line.with_mut(|_| ());
        }
        // SAFETY: the caller keeps it inside the memory.
        let first = unsafe { self.bytes.as_ptr().add(start) };
        // SAFETY: the caller has them to itself; the memory was allocated as zeros.
        unsafe { std::slice::from_raw_parts_mut(first, len) }
    }

    /// The cells of the lines that bytes lie in: none but under loom.
    #[inline(always)]
    fn touched(&self, start: usize, len: usize) -> &[UnsafeCell<()>] {
        if cfg!(loom) {
            &self.lines[start / LINE..(start + len).div_ceil(LINE)]
        } else {
            &[]
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let bytes = std::ptr::slice_from_raw_parts_mut(self.bytes.as_ptr(), self.len);
        // SAFETY: it came out of a box in `new`, and both sides are gone.
        drop(unsafe { Box::from_raw(bytes) });
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("len", &self.len).finish()
    }
}
