// SPDX-License-Identifier: Apache-2.0
//! State that a tap's worker and its thread share beside the frames: who sleeps, the fault, the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use sluice_ring::Sleeper;

use crate::counters::LateCounts;
use crate::drops::DropReason;
use crate::ports::seam::PortFault;

/// State that the worker and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Wakes the worker, when the thread has pushed or failed.
    pub(super) worker: Bell,
    /// Wakes the thread, when the worker has pushed.
    pub(super) thread: Bell,
    /// Whether the thread sleeps over a full ring: the worker wakes it, too, when it has popped.
    pub(super) wants_room: Sleeper,
    stop: AtomicBool,
    told: OnceLock<Instant>,
    fault: OnceLock<PortFault>,
    late: OnceLock<Arc<LateCounts>>,
}

/// Eventfd of ours that wakes one side, if it sleeps. Neither side ever waits to write it: it would have to
/// be written 2^64 times first.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
    pub(super) sleeper: Sleeper,
}

impl Bell {
    fn new() -> io::Result<Bell> {
        Ok(Bell {
            fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            sleeper: Sleeper::new(),
        })
    }

    /// Wakes whoever sleeps at it. Called after something was pushed.
    #[inline]
    pub(super) fn ring_if_asleep(&self) {
        if self.sleeper.claim() {
            self.ring();
        }
    }

    /// Wakes whoever sleeps at it, or the next time sleeps.
    pub(super) fn ring(&self) {
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Takes back what was rung.
    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Shared {
    pub(super) fn new() -> io::Result<Shared> {
        Ok(Shared {
            worker: Bell::new()?,
            thread: Bell::new()?,
            wants_room: Sleeper::new(),
            stop: AtomicBool::new(false),
            told: OnceLock::new(),
            fault: OnceLock::new(),
            late: OnceLock::new(),
        })
    }

    /// The worker has pushed frames for the pod.
    #[inline]
    pub(super) fn pushed(&self) {
        self.thread.ring_if_asleep();
    }

    /// The worker has popped frames from the pod.
    #[inline]
    pub(super) fn made_room(&self) {
        if self.wants_room.claim() {
            self.thread.ring();
        }
    }

    /// The thread is to end. Returns when it was first told so.
    #[allow(
        clippy::disallowed_methods,
        reason = "control calls it, no worker does"
    )]
    pub(super) fn stop(&self) -> Instant {
        let told = *self.told.get_or_init(Instant::now);
        self.stop.store(true, Ordering::Release);
        self.thread.ring();
        told
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The device is of no use any more. The first fault counts.
    pub(super) fn fail(&self, fault: PortFault) {
        let _ = self.fault.set(fault);
        self.worker.ring_if_asleep();
    }

    #[inline]
    pub(super) fn fault(&self) -> Option<&PortFault> {
        self.fault.get()
    }

    /// Counts frames at `counts` from now on; the first ones count.
    pub(super) fn count_at(&self, counts: &Arc<LateCounts>) {
        let _ = self.late.set(Arc::clone(counts));
    }

    /// The pod has a frame of `bytes` bytes.
    pub(super) fn sent(&self, bytes: usize) {
        self.late().sent(bytes);
    }

    /// A frame for the pod was lost.
    pub(super) fn lost(&self, reason: DropReason) {
        self.late().lost(reason);
    }

    /// Frames from the pod were lost, as no worker takes them any more.
    pub(super) fn unread(&self, frames: u64) {
        self.late().unread(frames);
    }

    pub(super) fn late(&self) -> &LateCounts {
        self.late.get_or_init(Arc::default)
    }
}
