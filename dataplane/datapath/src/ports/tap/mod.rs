// SPDX-License-Identifier: Apache-2.0
//! A pod on a tap device: a kernel netdev in the pod's network namespace, for pods without memif.
//!
//! The device is made by whoever opens [`Tap`], in a thread that has entered the pod's namespace;
//! its fd then works from anywhere. Its MAC, MTU, addresses and state are control's to set. The open
//! file keeps the namespace alive: disconnect the port before waiting for the namespace to go.
//!
//! # Nothing of the pod's runs on a worker
//! A write to a tap walks the pod's receive path in the writer's own time: its netfilter rules, its
//! connection tracking, its BPF programs and its sockets. So a thread of the tap's own makes all
//! system calls on it (`thread.rs`), and the worker copies frames into a ring to it and out of one from
//! it. A pod that makes its kernel slow fills its own ring (`ring_full`), as a memif that is not read.
//!
//! ```text
//! worker ── deliver ──> to_pod   (512 KiB, 1024 frames) ──> thread ── write ──> tap
//! worker <── receive ── from_pod (512 KiB,  512 frames) <── thread <── read ─── tap
//! ```
//!
//! That is a mebibyte a tap at most; a ring that is never behind touches 32 KiB of it. Either side calls the
//! kernel for the other only if the other sleeps: an eventfd of ours, which no peer has.
//!
//! # What it costs
//! A system call per frame, each way, on the tap's thread: the tap's file takes and gives one frame per call, and
//! a vector (`readv`) is the pieces of one frame. Opened with
//! [`TapConfig::offload`](sluice_mem::tap::TapConfig) the kernel's TCP hands over up to
//! 64 KiB per call, which the worker cuts; without it the kernel cuts, and every segment is a call.
//! Who needs the rate uses memif.

mod shared;
mod thread;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use sluice_mem::tap::{Tap, TapFrame};
use sluice_mem::{Burst, Mbuf};
use sluice_ring::{BytesConsumer, BytesProducer, bytes_spsc};

use self::shared::Shared;
use self::thread::{Device, TapThread};
use super::arrival::{Arrival, Arrivals, Taken};
use super::tagged::Tagged;
use crate::counters::LateCounts;
use crate::frame::tagging::Tagging;
use crate::ports::seam::{PodPort, PortContext, PortFault, Sent, Wake};

/// More than the longest frame of a tap device: an MTU of 65535, a header and a tag.
const LONGEST: usize = 65536 + 64;

/// Bytes of each ring.
const RING_BYTES: usize = 512 << 10;
/// Frames that wait for the pod at most: as many as its netdev's own queue would hold.
const TO_POD_FRAMES: usize = 1024;
/// Frames that wait for the worker at most, in front of the netdev's own queue.
const FROM_POD_FRAMES: usize = 512;

/// The port of one tap device, at its worker. Dropping it ends the thread, and with it goes the device.
#[derive(Debug)]
pub struct TapPort {
    shared: Arc<Shared>,
    to_pod: BytesProducer<()>,
    from_pod: BytesConsumer<TapFrame>,
    arrivals: Arrivals,
    thread: Option<JoinHandle<()>>,
}

impl TapPort {
    /// Starts the thread of `tap`. It has the core affinity of the caller.
    ///
    /// # Errors
    /// The system has no thread or no eventfd left.
    pub fn start(tap: Tap) -> io::Result<TapPort> {
        let name = format!("tap-{}", tap.name());
        TapPort::start_device(name, tap)
    }

    fn start_device(name: String, device: impl Device) -> io::Result<TapPort> {
        let shared = Arc::new(Shared::new()?);
        let (to_pod, to_device) = bytes_spsc(RING_BYTES, TO_POD_FRAMES);
        let (from_device, from_pod) = bytes_spsc(RING_BYTES, FROM_POD_FRAMES);
        let thread = TapThread::new(device, Arc::clone(&shared), to_device, from_device);
        Ok(TapPort {
            shared,
            to_pod,
            from_pod,
            arrivals: Arrivals::default(),
            thread: Some(thread.spawn(name)?),
        })
    }

    /// Takes frames or parts of super-frames until the burst is full or there are no more.
    fn receive(&mut self, context: &mut PortContext<'_>, out: &mut Burst) -> usize {
        let mut popped = 0;
        // Frames that are dropped count too: a pod must not keep the worker here.
        for _ in 0..out.room() {
            let Some((data, arrived)) = self.from_pod.front() else {
                break;
            };
            let arrival = Arrival {
                data,
                tag: None,
                checksum: arrived.csum_not_ready,
                gso: arrived.gso,
            };
            if self.arrivals.take(&arrival, context, out) == Taken::InPart {
                break;
            }
            self.from_pod.pop();
            popped += 1;
        }
        popped
    }
}

impl Wake for TapPort {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        add(self.shared.worker.fd());
    }

    fn arm(&mut self) -> bool {
        self.shared.worker.sleeper.park();
        self.from_pod.is_empty() && self.shared.fault().is_none()
    }

    fn disarm(&mut self) {
        self.shared.worker.sleeper.unpark();
    }
}

impl PodPort for TapPort {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        if self.receive(context, out) > 0 {
            self.shared.made_room();
        } else if out.room() > 0 && self.from_pod.is_empty() {
            // What came before the fault has been taken.
            return self.shared.fault().cloned().map_or(Ok(()), Err);
        }
        Ok(())
    }

    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault> {
        if let Some(fault) = self.shared.fault() {
            return Err(fault.clone());
        }
        let mut sent = Sent::default();
        for mbuf in frames {
            let frame = Tagged::to_pod(mbuf, tagging);
            let len = frame.len();
            let Some(mut space) = self.to_pod.reserve(len) else {
                break;
            };
            // Set aside by its length, it fits.
            if frame.copy_to(space.bytes()).is_some() {
                space.commit(len, ());
                sent.pending += 1;
            }
        }
        Ok(sent)
    }

    fn flush(&mut self) {
        self.shared.pushed();
    }

    fn count_late(&mut self, counts: &Arc<LateCounts>) {
        self.shared.count_at(counts);
    }

    fn end(&mut self) {
        self.shared.stop();
    }
}

impl Drop for TapPort {
    fn drop(&mut self) {
        let told = self.shared.stop();
        if let Some(thread) = self.thread.take() {
            thread::wait_for_end(thread, told);
        }
        // The pod's kernel has counted them as sent.
        let mut unread = 0;
        while self.from_pod.pop() {
            unread += 1;
        }
        self.shared.unread(unread);
    }
}

#[cfg(test)]
mod tests;
