// SPDX-License-Identifier: Apache-2.0
//! Room for packets that are copied out of a pod's rings.

use sluice_mem::{BufSize, BufferWriter, Burst, Pools};
use sluice_peer::Sink;

use crate::drops::{DropCounts, DropReason};
use crate::frame::FrameInfo;
use crate::ports::seam::PortContext;

/// Sink that appends one mbuf per received packet to a burst.
pub(super) struct IntoBurst<'a> {
    buffer_writer: BufferWriter,
    pools: &'a mut Pools,
    drops: &'a DropCounts,
    /// Of `out`, the first so many have a packet; the others are ready for one.
    filled: usize,
    out: &'a mut Burst,
}

impl<'a> IntoBurst<'a> {
    /// Appends to `out`.
    pub(super) fn new(context: &'a mut PortContext<'_>, out: &'a mut Burst) -> IntoBurst<'a> {
        IntoBurst {
            buffer_writer: context.pools.small.buffer_writer(),
            pools: context.pools,
            drops: context.drops,
            filled: out.len(),
            out,
        }
    }

    /// Returns the number of further packets that fit.
    pub(super) fn room(&self) -> usize {
        self.out.len() - self.filled + self.out.room()
    }

    /// Gives back the mbufs that no packet came for.
    pub(super) fn finish(&mut self) {
        while self.out.len() > self.filled
            && let Some(mbuf) = self.out.pop()
        {
            self.pools.free(mbuf);
        }
    }

    /// Room for a packet for which no small mbuf is ready, or none that holds it.
    #[cold]
    fn reserve_large(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.filled == self.out.len() {
            self.drops.add(DropReason::NoMbuf, 1);
            return None;
        }
        let Some(mut large) = self.pools.alloc_for(len) else {
            let too_long = len > BufSize::Large.data_bytes();
            let reason = if too_long {
                DropReason::TooLong
            } else {
                DropReason::NoMbuf
            };
            self.drops.add(reason, 1);
            return None;
        };
        let mbuf = self.out.as_mut_slice().get_mut(self.filled)?;
        std::mem::swap(mbuf, &mut large);
        self.pools.free(large);
        // Chosen by its size, it has room.
        let room = mbuf.fill(len)?;
        self.filled += 1;
        Some(FrameInfo::begin_filling(room))
    }
}

impl Sink for IntoBurst<'_> {
    #[inline]
    fn expect(&mut self, packets: usize) {
        let ready = self.out.len() - self.filled;
        self.pools
            .small
            .alloc_burst(self.out, packets.saturating_sub(ready));
    }

    #[inline(always)]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let fits = match self.out.as_slice().get(self.filled) {
            Some(mbuf) => self.buffer_writer.fits(mbuf, len),
            None => false,
        };
        if !fits {
            return self.reserve_large(len);
        }
        let mbuf = self.out.as_mut_slice().get_mut(self.filled)?;
        let room = self.buffer_writer.fill(mbuf, len)?;
        self.filled += 1;
        Some(FrameInfo::begin_filling(room))
    }

    /// A loop over the mbufs that are ready, which keeps in registers what [`IntoBurst::reserve`] would
    /// look up for each.
    #[inline(always)]
    fn reserve_each<P, E>(
        &mut self,
        packets: &[P],
        len: impl Fn(&P) -> usize,
        mut fill: impl FnMut(&P, &mut [u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let buffer_writer = self.buffer_writer;
        let ready = self.out.as_mut_slice().get_mut(self.filled..);
        let mut placed = 0;
        for (mbuf, packet) in ready.unwrap_or_default().iter_mut().zip(packets) {
            let Some(room) = buffer_writer.fill(mbuf, len(packet)) else {
                break;
            };
            fill(packet, FrameInfo::begin_filling(room))?;
            placed += 1;
        }
        self.filled += placed;
        // For the others no small mbuf is ready.
        for packet in packets.get(placed..).unwrap_or_default() {
            if let Some(room) = self.reserve(len(packet)) {
                fill(packet, room)?;
                placed += 1;
            }
        }
        Ok(placed)
    }
}
