// SPDX-License-Identifier: Apache-2.0
//! A pod on shared memory. The protocol, the checks of what the peer writes and the copies are
//! sluice-memif's; here a connection's queues become a port.
//!
//! Frames from the pod are copied into mbufs a burst at a time, before anything is parsed: the pod
//! can rewrite its memory, but not the copy. The connection's own thread notices that a peer went
//! away and talks to it; a port only ever looks at rings.

use std::os::fd::BorrowedFd;

use sluice_mem::{Burst, Mbuf};
use sluice_memif::{Connection, Fault, RxQueue, TxQueue};

use super::into_burst::IntoBurst;
use super::queue_of_flow::queue_of;
use super::tagged::Tagged;
use crate::drops::DropReason;
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
        let mut sink = IntoBurst::new(context, out);
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

fn port_fault(fault: Fault) -> PortFault {
    PortFault {
        reason: fault.to_string(),
    }
}

#[cfg(test)]
mod tests;
