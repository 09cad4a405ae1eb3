// SPDX-License-Identifier: Apache-2.0
//! A pod on shared memory. The protocol, the checks of what the peer writes and the copies are
//! sluice-memif's; here a connection's queues become a port.
//!
//! Frames from the pod are copied into mbufs a burst at a time, before anything is parsed: the pod
//! can rewrite its memory, but not the copy. The connection's own thread notices that a peer went
//! away and talks to it; a port only ever looks at rings.

use std::os::fd::BorrowedFd;

use sluice_mem::{BufSize, BufferWriter, Burst, Mbuf, Pools};
use sluice_memif::{Connection, Fault, RxQueue, Sink, TxQueue};
use sluice_packet::FlowKey;

use super::tagged::Tagged;
use crate::drops::{DropCounts, DropReason};
use crate::frame::FrameInfo;
use crate::frame::tagging::Tagging;
use crate::ports::seam::{PodPort, PortContext, PortFault, Sent, Wake};

/// The port of one memif connection. When the peer goes and another comes, there is another port.
#[derive(Debug)]
pub struct MemifPort {
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    /// The receive queue that comes first next time.
    turn: usize,
    /// Found where it could not be returned; the next call that can returns it.
    fault: Option<Fault>,
    /// Packets without a byte that the receive queues have dropped, as far as they are counted.
    empty: u64,
}

impl MemifPort {
    /// The port of `connection`.
    pub fn new(connection: Connection) -> MemifPort {
        let Connection { rx, tx, .. } = connection;
        MemifPort {
            rx,
            tx,
            turn: 0,
            fault: None,
            empty: 0,
        }
    }

    /// Says a fault that was found where it could not be returned.
    fn late_fault(&mut self) -> Result<(), Fault> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Takes one burst over all queues; the next call begins with another queue, so that a full one
    /// cannot keep the others waiting.
    fn receive(&mut self, sink: &mut IntoBurst<'_>) -> Result<(), Fault> {
        self.late_fault()?;
        for queue in &mut self.tx {
            queue.prepare()?;
        }
        let (before, after) = self.rx.split_at_mut(self.turn);
        for queue in after.iter_mut().chain(before) {
            let room = sink.room();
            if room == 0 {
                break;
            }
            queue.recv(room, sink)?;
        }
        self.turn = if self.turn + 1 < self.rx.len() {
            self.turn + 1
        } else {
            0
        };
        Ok(())
    }

    fn send(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, Fault> {
        self.late_fault()?;
        if let ([queue], Tagging::Untagged) = (&mut self.tx[..], tagging) {
            let pushed = queue.push_frames(frames.iter().map(Mbuf::data))?;
            return Ok(Sent {
                frames: pushed.packets,
                bytes: pushed.bytes,
                unfit: pushed.unfit,
                pending: 0,
            });
        }
        let mut sent = Sent::default();
        let queues = self.tx.len();
        for mbuf in frames {
            let number = if queues > 1 {
                queue_of(&FrameInfo::of(mbuf).key, queues)
            } else {
                0
            };
            let Some(queue) = self.tx.get_mut(number) else {
                break;
            };
            let frame = Tagged::to_pod(mbuf, tagging);
            // A frame that the peer's buffers can never hold is "taken" by the queue, and counted
            // there: those behind it must not suffer for it.
            let unfit = queue.counters().unfit;
            let taken = match frame.whole() {
                Some(bytes) => queue.push(&[bytes])?,
                None => queue.push(&frame.parts())?,
            };
            if !taken {
                break;
            }
            if queue.counters().unfit == unfit {
                sent.add(frame.len());
            } else {
                sent.unfit += 1;
            }
        }
        Ok(sent)
    }

    fn publish(&mut self) -> Result<(), Fault> {
        for queue in &mut self.tx {
            if queue.publish()? {
                queue.kick();
            }
        }
        Ok(())
    }

    /// Asks for interrupts on every ring, then looks: true if nothing waits.
    fn unmask(&mut self) -> Result<bool, Fault> {
        for queue in &mut self.rx {
            queue.set_interrupts(true)?;
        }
        let mut waiting = 0;
        for queue in &mut self.rx {
            waiting += queue.pending()?;
        }
        Ok(waiting == 0)
    }

    fn mask(&mut self) -> Result<(), Fault> {
        self.rx
            .iter_mut()
            .try_for_each(|queue| queue.set_interrupts(false))
    }
}

impl Wake for MemifPort {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        for queue in &self.rx {
            add(queue.event_fd());
        }
    }

    fn arm(&mut self) -> bool {
        match self.unmask() {
            Ok(empty) => empty && self.fault.is_none(),
            Err(fault) => {
                self.fault = Some(fault);
                false
            }
        }
    }

    fn disarm(&mut self) {
        if let Err(fault) = self.mask() {
            self.fault = Some(fault);
        }
    }

    /// DPDK's producer does not fence between storing its index and looking at our flag, so its
    /// interrupt can fail to come.
    fn may_miss_wakeups(&self) -> bool {
        true
    }
}

impl PodPort for MemifPort {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        let before = out.len();
        let mut sink = IntoBurst {
            buffer_writer: context.pools.small.buffer_writer(),
            pools: context.pools,
            drops: context.drops,
            filled: before,
            out,
        };
        let received = self.receive(&mut sink);
        sink.finish();
        // Packets without a byte never reach the sink: the queues have counted them.
        let empty = self.rx.iter().map(|queue| queue.counters().empty).sum();
        if empty != self.empty {
            context.drops.add(DropReason::Truncated, empty - self.empty);
            self.empty = empty;
        }
        received.map_err(|fault| {
            // What was being copied when the fault showed is not to be believed.
            while out.len() > before
                && let Some(mbuf) = out.pop()
            {
                context.pools.free(mbuf);
            }
            context.drops.add(DropReason::BadDescriptor, 1);
            port_fault(fault)
        })
    }

    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault> {
        self.send(frames, tagging).map_err(port_fault)
    }

    fn flush(&mut self) {
        if let Err(fault) = self.publish() {
            self.fault = Some(fault);
        }
    }
}

/// Gives each packet an mbuf at the end of a burst.
struct IntoBurst<'a> {
    buffer_writer: BufferWriter,
    pools: &'a mut Pools,
    drops: &'a DropCounts,
    /// Of `out`, the first so many have a packet; the others are ready for one.
    filled: usize,
    out: &'a mut Burst,
}

impl IntoBurst<'_> {
    /// Returns the number of further packets that fit.
    fn room(&self) -> usize {
        self.out.len() - self.filled + self.out.room()
    }

    /// Gives back the mbufs that no packet came for.
    fn finish(&mut self) {
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

/// The transmit queue of a flow, below `queues`: always the same, so that its frames stay in order.
/// Ports count only where all of a flow's frames have them.
fn queue_of(key: &FlowKey, queues: usize) -> usize {
    let half = |bytes: &[u8; 16]| {
        let bits = u128::from_ne_bytes(*bytes);
        // Both halves of the number; truncation is the point.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the other half is taken beside it"
        )]
        let (low, high) = (bits as u64, (bits >> 64) as u64);
        low ^ high.rotate_left(32)
    };
    let whole = if key.has(FlowKey::FRAGMENT) { 0 } else { 1 };
    let ports = (u64::from(key.src_port) << 16 | u64::from(key.dst_port)) * whole;
    let mut hash = mix(half(&key.src), u64::from(key.proto) << 32 | ports);
    hash = mix(hash, half(&key.dst));
    let [a, b, c, d, e, f] = key.src_mac;
    hash = mix(
        hash,
        u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) ^ u64::from(key.vid) << 48,
    );
    // The upper half of a product is the better mixed one.
    usize::try_from(((hash >> 32) * queues as u64) >> 32).unwrap_or(0)
}

/// Two numbers into one, each bit of which depends on all of theirs.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

fn port_fault(fault: Fault) -> PortFault {
    PortFault {
        reason: fault.to_string(),
    }
}

#[cfg(test)]
mod tests;
