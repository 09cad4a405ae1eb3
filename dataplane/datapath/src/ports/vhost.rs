// SPDX-License-Identifier: Apache-2.0
//! A pod or virtual machine on virtio rings. The protocol, the checks of what the front end writes and
//! the copies are sluice-vhost's; here the queues of rings that run become a port.
//!
//! Frames are copied into mbufs a burst at a time, before anything is parsed, as with memif. When the
//! front end stops its rings or changes its memory, the connection's own thread takes the port out of
//! the worker first.

use std::os::fd::BorrowedFd;

use sluice_mem::{Burst, Mbuf};
use sluice_vhost::{Connection, Fault, RxQueue, TxQueue};

use super::into_burst::IntoBurst;
use super::queue_of_flow::queue_of;
use super::tagged::Tagged;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::tagging::Tagging;
use crate::ports::seam::{PodPort, PortContext, PortFault, Sent, Wake};

/// Port of one run of a front end's rings. When they stop and run again, there is another port.
#[derive(Debug)]
pub struct VhostPort {
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    /// Receive queue that comes first next time.
    turn: usize,
    /// Found where it could not be returned; the next call that can returns it.
    fault: Option<Fault>,
    /// Buffers without a frame that the receive queues have dropped, as far as they are counted.
    empty: u64,
    /// Frames that asked for an offload, likewise.
    offload: u64,
}

impl VhostPort {
    /// Port of `connection`.
    pub fn new(connection: Connection) -> VhostPort {
        let Connection { rx, tx, .. } = connection;
        VhostPort {
            rx,
            tx,
            turn: 0,
            fault: None,
            empty: 0,
            offload: 0,
        }
    }

    /// Returns a fault that was found where it could not be returned.
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

    /// Counts what ended in the queues without reaching the sink.
    fn count_drops(&mut self, context: &PortContext<'_>) {
        let (mut empty, mut offload) = (0, 0);
        for queue in &self.rx {
            let counters = queue.counters();
            empty += counters.empty;
            offload += counters.offload;
        }
        if empty != self.empty {
            context.drops.add(DropReason::Truncated, empty - self.empty);
            self.empty = empty;
        }
        if offload != self.offload {
            context
                .drops
                .add(DropReason::BadHeader, offload - self.offload);
            self.offload = offload;
        }
    }

    fn send(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, Fault> {
        self.late_fault()?;
        if let ([queue], Tagging::Untagged) = (&mut self.tx[..], tagging) {
            let pushed = queue.push_frames(frames.iter().map(Mbuf::data))?;
            return Ok(Sent {
                frames: pushed.frames,
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
            // A frame that the pod's buffers can never hold is "taken" by the queue, and counted
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

    /// Asks for kicks on every ring, then looks: true if nothing waits.
    fn ask_for_kicks(&mut self) -> Result<bool, Fault> {
        for queue in &mut self.rx {
            queue.set_kicks(true)?;
        }
        let mut waiting = 0;
        for queue in &mut self.rx {
            waiting += queue.pending()?;
        }
        Ok(waiting == 0)
    }
}

impl Wake for VhostPort {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        for queue in &self.rx {
            if let Some(fd) = queue.kick_fd() {
                add(fd);
            }
        }
    }

    fn arm(&mut self) -> bool {
        match self.ask_for_kicks() {
            Ok(empty) => empty && self.fault.is_none(),
            Err(fault) => {
                self.fault = Some(fault);
                false
            }
        }
    }

    fn disarm(&mut self) {
        let done = self
            .rx
            .iter_mut()
            .try_for_each(|queue| queue.set_kicks(false));
        if let Err(fault) = done {
            self.fault = Some(fault);
        }
    }

    /// A front end may choose not to kick at all, and expect to be polled.
    fn may_miss_wakeups(&self) -> bool {
        self.rx.iter().any(|queue| queue.kick_fd().is_none())
    }
}

impl PodPort for VhostPort {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        let before = out.len();
        let mut sink = IntoBurst::new(context, out);
        let received = self.receive(&mut sink);
        sink.finish();
        self.count_drops(context);
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
        reason: format!("broken ring: {fault}"),
    }
}

#[cfg(test)]
mod tests;
