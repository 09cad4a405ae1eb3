// SPDX-License-Identifier: Apache-2.0
//! A pod on a tap device: a kernel netdev in the pod's network namespace, for pods without memif.
//!
//! The device is made by whoever opens [`Tap`], in a thread that has entered the pod's namespace;
//! its fd then works from anywhere. Its MAC, MTU, addresses and state are control's to set. The open
//! file keeps the namespace alive: disconnect the port before waiting for the namespace to go.
//!
//! # What it costs
//! A system call per frame, each way: the tap's file takes and gives one frame per call, and a
//! vector (`readv`) is the pieces of one frame. So the rule of one call per burst cannot be kept.
//! Opened with [`TapConfig::offload`](sluice_mem::tap::TapConfig) the kernel's TCP hands over up to
//! 64 KiB per call, which is cut here; without it the kernel cuts, and every segment is a call.
//! Towards the pod it is one call per frame in any case. Who needs the rate uses memif.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sluice_mem::tap::{Tap, TapFrame};
use sluice_mem::{Burst, Mbuf};

use super::arrival::{Arrival, Arrivals, Taken};
use super::tagged::Tagged;
use crate::frame::tagging::Tagging;
use crate::ports::seam::{PodPort, PortContext, PortFault, Sent, Wake};

/// More than the longest frame of a tap device: an MTU of 65535, a header and a tag.
const LONGEST: usize = 65536 + 64;

/// The port of one tap device.
#[derive(Debug)]
pub struct TapPort {
    tap: Tap,
    /// Last frame from the kernel; it is read to here, as its length shows only once it is read.
    frame: Box<[u8]>,
    /// Offload information of that frame, while segments of it are left.
    unfinished: Option<TapFrame>,
    arrivals: Arrivals,
    /// Buffer in which a frame gets its tag on the way to the pod.
    tagged: Box<[u8]>,
}

impl From<Tap> for TapPort {
    fn from(tap: Tap) -> TapPort {
        TapPort {
            tap,
            frame: vec![0; LONGEST].into_boxed_slice(),
            unfinished: None,
            arrivals: Arrivals::default(),
            tagged: vec![0; LONGEST].into_boxed_slice(),
        }
    }
}

impl TapPort {
    /// Takes one frame or super-frame from the kernel; false if there is none.
    fn receive(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<bool, PortFault> {
        let arrived = match self.unfinished.take() {
            Some(unfinished) => unfinished,
            None => match self.tap.recv(&mut self.frame) {
                Ok(Some(arrived)) => arrived,
                Ok(None) => return Ok(false),
                Err(error) if is_down(&error) => return Ok(false),
                Err(error) => return Err(fault("receive from", &error)),
            },
        };
        let arrival = Arrival {
            data: self.frame.get(..arrived.len).unwrap_or_default(),
            tag: None,
            checksum: arrived.csum_not_ready,
            gso: arrived.gso,
        };
        if self.arrivals.take(&arrival, context, out) == Taken::InPart {
            self.unfinished = Some(arrived);
        }
        Ok(true)
    }

    /// The bytes sent; `None` if the kernel's queue is full.
    fn send(&mut self, mbuf: &Mbuf, tagging: Tagging) -> io::Result<Option<usize>> {
        let frame = Tagged::to_pod(mbuf, tagging);
        let bytes = match frame.whole() {
            Some(bytes) => bytes,
            None => {
                let len = frame.copy_to(&mut self.tagged).unwrap_or(0);
                self.tagged.get(..len).unwrap_or_default()
            }
        };
        Ok(self.tap.send(bytes)?.then_some(bytes.len()))
    }
}

impl Wake for TapPort {
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>)) {
        add(self.tap.as_fd());
    }

    /// The kernel always wakes; what is left is the look.
    fn arm(&mut self) -> bool {
        let mut fds = [PollFd::new(&self.tap, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Any error shows when the worker receives.
        self.unfinished.is_none() && matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    fn disarm(&mut self) {}
}

impl PodPort for TapPort {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        // Frames that are dropped count too: a pod must not keep the worker here.
        for _ in 0..out.room() {
            if out.room() == 0 || !self.receive(context, out)? {
                break;
            }
        }
        Ok(())
    }

    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault> {
        let mut sent = Sent::default();
        for mbuf in frames {
            match self.send(mbuf, tagging) {
                Ok(Some(bytes)) => sent.add(bytes),
                Ok(None) => break,
                Err(error) if is_down(&error) => break,
                Err(error) => return Err(fault("send to", &error)),
            }
        }
        Ok(sent)
    }

    /// The kernel has everything already.
    fn flush(&mut self) {}
}

/// The pod has set its device down, as it may, or the host is short of memory: no reason to take
/// the port away.
fn is_down(error: &io::Error) -> bool {
    [Errno::IO, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn fault(what: &str, error: &io::Error) -> PortFault {
    let reason = if error.raw_os_error() == Some(Errno::BADFD.raw_os_error()) {
        format!("cannot {what} the tap device: it was deleted")
    } else {
        format!("cannot {what} the tap device: {error}")
    };
    PortFault { reason }
}
