// SPDX-License-Identifier: Apache-2.0
//! Thread of a tap: makes every system call on the device, so that the pod's kernel takes its time and not a
//! worker's.
//!
//! A pod can make one write slow, by rules, programs or sockets of its own, but not endless: the thread looks
//! after each frame whether it is to end. What still waits then, for the pod or of it, is counted as `link_down`.
#![allow(
    clippy::disallowed_methods,
    reason = "control's thread waits here for the tap's, no worker does"
)]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sluice_mem::tap::{Tap, TapFrame};
use sluice_ring::{BytesConsumer, BytesProducer};

use super::LONGEST;
use super::shared::Shared;
use crate::drops::DropReason;
use crate::ports::seam::PortFault;

/// Frames of one direction before it is the other's turn.
const TURN: usize = 32;
/// Stack of a tap's thread, in bytes: frames lie in the rings.
const STACK: usize = 128 << 10;
/// Pause after the device could not be read though it said that it can.
const PAUSE: Duration = Duration::from_millis(10);
/// Time that control waits for a thread's end. It takes one frame's way through the pod's kernel, and the
/// removal of the device; a thread that needs longer ends by itself.
pub(super) const END_LIMIT: Duration = Duration::from_secs(5);

/// A tap device, or what tests put in its place.
pub(super) trait Device: Send + 'static {
    /// As [`Tap::recv`].
    fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<TapFrame>>;
    /// As [`Tap::send`].
    fn send(&self, frame: &[u8]) -> io::Result<bool>;
    /// Becomes readable when a frame is waiting.
    fn fd(&self) -> BorrowedFd<'_>;
}

impl Device for Tap {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<TapFrame>> {
        Tap::recv(self, buffer)
    }

    fn send(&self, frame: &[u8]) -> io::Result<bool> {
        Tap::send(self, frame)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self)
    }
}

/// Everything that runs on a tap's thread.
pub(super) struct TapThread<D> {
    device: D,
    shared: Arc<Shared>,
    to_pod: BytesConsumer<()>,
    from_pod: BytesProducer<TapFrame>,
    /// The worker has to take frames before another can be received.
    is_full: bool,
    /// The device could not be read just now.
    is_paused: bool,
}

impl<D: Device> TapThread<D> {
    pub(super) fn new(
        device: D,
        shared: Arc<Shared>,
        to_pod: BytesConsumer<()>,
        from_pod: BytesProducer<TapFrame>,
    ) -> TapThread<D> {
        TapThread {
            device,
            shared,
            to_pod,
            from_pod,
            is_full: false,
            is_paused: false,
        }
    }

    /// Starts the thread; the kernel shows the first 15 bytes of its name.
    pub(super) fn spawn(self, name: String) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name(name)
            .stack_size(STACK)
            .spawn(move || self.run())
    }

    fn run(mut self) {
        while !self.shared.is_stopped() {
            let sent = self.send();
            let received = self.receive();
            if sent + received == 0 {
                self.sleep();
            }
        }
        while self.to_pod.pop() {
            self.shared.lost(DropReason::LinkDown);
        }
    }

    /// Writes a turn of frames to the device. Returns how many left the ring.
    fn send(&mut self) -> usize {
        for taken in 0..TURN {
            if self.shared.is_stopped() {
                return taken;
            }
            let Some((frame, ())) = self.to_pod.front() else {
                return taken;
            };
            if self.shared.fault().is_some() {
                self.shared.lost(DropReason::LinkDown);
            } else {
                let len = frame.len();
                match self.device.send(frame) {
                    Ok(true) => self.shared.sent(len),
                    Ok(false) => self.shared.lost(DropReason::RingFull),
                    Err(error) if is_down(&error) => self.shared.lost(DropReason::LinkDown),
                    Err(error) => {
                        self.shared.lost(DropReason::LinkDown);
                        self.shared.fail(fault("send to", &error));
                    }
                }
            }
            self.to_pod.pop();
        }
        TURN
    }

    /// Reads a turn of frames from the device and wakes the worker for them. Returns how many there were.
    fn receive(&mut self) -> usize {
        self.is_full = false;
        self.is_paused = false;
        let mut received = 0;
        // Once it is to end nobody takes what it reads.
        while received < TURN && self.shared.fault().is_none() && !self.shared.is_stopped() {
            let Some(mut space) = self.from_pod.reserve(LONGEST) else {
                self.is_full = true;
                break;
            };
            match self.device.recv(space.bytes()) {
                Ok(Some(frame)) => space.commit(frame.len, frame),
                Ok(None) => break,
                Err(error) if is_down(&error) => {
                    self.is_paused = true;
                    break;
                }
                Err(error) => {
                    self.shared.fail(fault("receive from", &error));
                    break;
                }
            }
            received += 1;
        }
        if received > 0 {
            self.shared.worker.ring_if_asleep();
        }
        received
    }

    /// Sleeps until there is something to do, unless there is by the time that the worker knows of it.
    fn sleep(&mut self) {
        let shared = &self.shared;
        shared.thread.sleeper.park();
        if self.is_full {
            shared.wants_room.park();
            self.is_full = self.from_pod.reserve(LONGEST).is_none();
        }
        let has_work = !self.to_pod.is_empty() || shared.is_stopped();
        if !has_work {
            let reads = !self.is_full && !self.is_paused && shared.fault().is_none();
            let bell = shared.thread.fd();
            let mut fds = [
                PollFd::from_borrowed_fd(bell, PollFlags::IN),
                PollFd::from_borrowed_fd(self.device.fd(), PollFlags::IN),
            ];
            let fds = if reads { &mut fds[..] } else { &mut fds[..1] };
            let pause = Timespec {
                tv_sec: 0,
                tv_nsec: PAUSE.subsec_nanos().into(),
            };
            // An error is a signal, or a look too many.
            let _ = poll(fds, self.is_paused.then_some(&pause));
            if !fds[0].revents().is_empty() {
                shared.thread.silence();
            }
        }
        shared.thread.sleeper.unpark();
        shared.wants_room.unpark();
    }
}

/// Waits for the end of a thread that was told to stop at `told`, or until it is clear that its pod's kernel
/// keeps it.
pub(super) fn wait_for_end(thread: JoinHandle<()>, told: Instant) {
    while !thread.is_finished() {
        if told.elapsed() > END_LIMIT {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // It is finished: this does not wait. The thread does not panic.
    let _ = thread.join();
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
