// SPDX-License-Identifier: Apache-2.0
//! Interrupting the peer without ever waiting for it.
//!
//! A peer shares the eventfd that it is interrupted through, and with it the open file description:
//! it can clear O_NONBLOCK and fill the counter, and the next write blocks for as long as it likes.
//! So only a thread of this attachment writes. A worker asks it to through memory that the peer
//! cannot see, and a peer that blocks the thread blocks its own interrupts.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use rustix::io::ReadWriteFlags;

/// Most queues of one connection that can ask for interrupts.
pub const MAX_QUEUES: usize = 64;

/// Time for which [`Kicker::stop`] tries to free a thread that the peer holds.
const STOP_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared {
    /// Bit n: queue n wants its peer interrupted.
    wanted: AtomicU64,
    stop: AtomicBool,
    /// Eventfd of queue n at index n; none: the peer wants no interrupts for that queue.
    eventfds: Vec<Mutex<Option<Arc<OwnedFd>>>>,
    /// Eventfd that the thread is writing.
    writing: Mutex<Option<Arc<OwnedFd>>>,
}

/// Contents of a lock; nothing that could panic is done under one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Thread that interrupts one peer.
#[derive(Debug)]
pub struct Kicker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Handle by which one queue asks for an interrupt.
#[derive(Debug, Clone)]
pub struct Kick {
    shared: Arc<Shared>,
    thread: Thread,
    bit: u64,
}

impl Kick {
    /// Asks for the peer to be interrupted soon. No lock, no allocation; a futex call if the
    /// thread sleeps.
    #[inline]
    pub fn request(&self) {
        // The publication that this is about was fenced before; the thread needs only the bit.
        if self.shared.wanted.fetch_or(self.bit, Ordering::Release) & self.bit == 0 {
            self.thread.unpark();
        }
    }
}

impl Kicker {
    /// Starts the thread for the eventfds of at most 64 queues; `name` has at most 15 bytes.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn spawn(name: &str, eventfds: Vec<Option<OwnedFd>>) -> std::io::Result<Kicker> {
        debug_assert!(eventfds.len() <= MAX_QUEUES);
        let eventfds = eventfds.into_iter();
        let shared = Arc::new(Shared {
            wanted: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            eventfds: eventfds.map(|fd| Mutex::new(fd.map(Arc::new))).collect(),
            writing: Mutex::new(None),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&theirs))?;
        Ok(Kicker {
            shared,
            thread: Some(thread),
        })
    }

    /// Handle of queue `queue`; `None` if it has no eventfd here.
    pub fn kick(&self, queue: usize) -> Option<Kick> {
        self.shared.eventfds.get(queue)?;
        let thread = self.thread.as_ref()?.thread().clone();
        let bit = 1_u64.checked_shl(u32::try_from(queue).ok()?)?;
        Some(Kick {
            shared: Arc::clone(&self.shared),
            thread,
            bit,
        })
    }

    /// Replaces the eventfd of queue `queue`, without waiting for a thread that the peer holds in a
    /// write to the old one: until the peer lets it go, there are no interrupts.
    pub fn replace(&self, queue: usize, eventfd: Option<OwnedFd>) {
        if let Some(slot) = self.shared.eventfds.get(queue) {
            *lock(slot) = eventfd.map(Arc::new);
        }
    }

    /// Ends the thread. If the peer holds it in a write, its eventfds are emptied until it is free;
    /// after a second of that the kicker comes back: there must be no other for this peer until
    /// [`Kicker::gone`], or each connection would leave a thread behind.
    ///
    /// # Errors
    /// The kicker, whose thread the peer still holds.
    pub fn stop(mut self) -> Result<(), Kicker> {
        if self.end() { Ok(()) } else { Err(self) }
    }

    /// Whether the thread of a kicker that would not stop has ended by now. Does not wait.
    pub fn gone(&self) -> bool {
        self.shared.free();
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self) -> bool {
        let Some(thread) = self.thread.take() else {
            return true;
        };
        self.shared.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        let start = Instant::now();
        while !thread.is_finished() {
            if start.elapsed() > STOP_LIMIT {
                self.thread = Some(thread);
                return false;
            }
            self.shared.free();
            std::thread::sleep(Duration::from_millis(1));
        }
        // It is finished: this does not wait. The thread cannot panic.
        thread.join().is_ok()
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Empties the eventfd in whose write the peer may hold the thread.
    fn free(&self) {
        let held = lock(&self.writing).clone();
        if let Some(eventfd) = held {
            drain(&eventfd);
        }
    }
}

fn serve(shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        let mut wanted = shared.wanted.swap(0, Ordering::Acquire);
        if wanted == 0 {
            // Returns at once if a request came since the swap.
            std::thread::park();
            continue;
        }
        while wanted != 0 && !shared.stop.load(Ordering::Acquire) {
            let queue = wanted.trailing_zeros() as usize;
            wanted &= wanted - 1;
            let eventfd = shared
                .eventfds
                .get(queue)
                .and_then(|slot| lock(slot).clone());
            if let Some(eventfd) = eventfd {
                *lock(&shared.writing) = Some(Arc::clone(&eventfd));
                // EAGAIN: the counter is full, so the peer has an interrupt waiting. No other
                // error can be mended from here.
                let _ = rustix::io::write(&*eventfd, &1_u64.to_ne_bytes());
                *lock(&shared.writing) = None;
            }
        }
    }
}

/// Empties an eventfd without blocking, whatever its flags are: RWF_NOWAIT belongs to the call.
fn drain(eventfd: &OwnedFd) {
    let mut counter = [0_u8; 8];
    let mut slices = [IoSliceMut::new(&mut counter)];
    let _ = rustix::io::preadv2(eventfd, &mut slices, u64::MAX, ReadWriteFlags::NOWAIT);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

    fn readable(fd: &OwnedFd, milliseconds: i64) -> bool {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: milliseconds * 1_000_000,
        };
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }

    #[test]
    fn a_request_reaches_its_queue_only() {
        let fds: Vec<OwnedFd> = (0..2)
            .map(|_| eventfd(0, EventfdFlags::NONBLOCK).unwrap())
            .collect();
        let theirs: Vec<OwnedFd> = fds.iter().map(|fd| fd.try_clone().unwrap()).collect();
        let kicker = Kicker::spawn("test-kick", fds.into_iter().map(Some).collect()).unwrap();
        let kick = kicker.kick(1).unwrap();
        assert!(kicker.kick(2).is_none());
        for _ in 0..100 {
            kick.request();
            assert!(readable(&theirs[1], 999));
            drain(&theirs[1]);
        }
        assert!(!readable(&theirs[0], 0));
        assert!(kicker.stop().is_ok());
        kick.request();
    }

    #[test]
    fn a_peer_that_blocks_the_thread_cannot_keep_it() {
        // Blocking, and so full that every write waits.
        let fd = eventfd(0, EventfdFlags::empty()).unwrap();
        let theirs = fd.try_clone().unwrap();
        rustix::io::write(&theirs, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let kicker = Kicker::spawn("test-kick", vec![Some(fd)]).unwrap();
        kicker.kick(0).unwrap().request();
        std::thread::sleep(Duration::from_millis(50));
        assert!(kicker.stop().is_ok(), "the thread was freed");
    }

    #[test]
    fn an_eventfd_is_replaced_while_the_peer_holds_the_thread_in_the_old_one() {
        let full = eventfd(0, EventfdFlags::empty()).unwrap();
        rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let kicker = Kicker::spawn("test-kick", vec![Some(full.try_clone().unwrap())]).unwrap();
        let kick = kicker.kick(0).unwrap();
        kick.request();
        std::thread::sleep(Duration::from_millis(20));
        let next = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        kicker.replace(0, Some(next.try_clone().unwrap()));
        kick.request();
        assert!(!readable(&next, 20), "the thread is held");
        drain(&full);
        assert!(readable(&next, 999), "the request was not forgotten");
        kicker.replace(0, None);
        drain(&next);
        kick.request();
        assert!(!readable(&next, 20), "no interrupts are wanted");
        assert!(kicker.stop().is_ok());
    }
}
