// SPDX-License-Identifier: Apache-2.0
//! Idle ladder: busy polling, polling with pauses, sleep until a port or a doorbell wakes.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use sluice_ring::Sleeper;

use crate::error::Error;
use crate::spec::IdleConfig;

/// Longest sleep while every port's wake-ups can be relied upon.
const LONGEST_SLEEP_MS: u64 = 100;
/// Sleeps at the cap, one after the other without a frame, after which the cap is
/// [`BACKOFF_FACTOR`] times as long.
///
/// A wake-up is lost only if the peer read the interrupt flag before it was cleared and its frame
/// was not yet visible when the worker looked after clearing it. A look a cap later sees that frame,
/// and whatever comes after reads the cleared flag: the cap is for the first sleeps, and later ones
/// keep some for a peer that was put off its core in between. Merely waking a thousand times a
/// second costs 2.5 % of a core on a virtual machine.
const BACKOFF_AFTER: u32 = 64;
/// Factor by which the cap grows.
const BACKOFF_FACTOR: u32 = 4;
/// Pause instructions between two loops on the second rung.
const PAUSES: u32 = 32;

/// Eventfd that wakes one worker. Engine-private: no peer ever holds this fd, so writing to it cannot block
/// for long, and a full counter means that a wake-up is due anyway.
#[derive(Debug)]
pub(crate) struct Doorbell {
    fd: OwnedFd,
    sleeper: Sleeper,
}

impl Doorbell {
    /// Makes a doorbell.
    ///
    /// # Errors
    /// [`Error::System`].
    pub(crate) fn new() -> Result<Doorbell, Error> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| {
            Error::System {
                what: "eventfd",
                source: errno.into(),
            }
        })?;
        Ok(Doorbell {
            fd,
            sleeper: Sleeper::new(),
        })
    }

    /// Wakes the worker if it sleeps. Called after something was put into one of its rings.
    pub(crate) fn ring(&self) {
        if self.sleeper.needs_waking() {
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}

/// End of a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slept {
    /// The sleep did not begin: there was work.
    NotAtAll,
    /// A port or the doorbell woke the worker.
    Woken,
    /// The time was up.
    TimedOut,
}

/// Idle ladder of one worker.
pub(crate) struct Idle {
    config: IdleConfig,
    bell: Arc<Doorbell>,
    epoll: OwnedFd,
    empty_loops: u32,
    /// Sleeps that timed out since anything else happened.
    timed_out: u32,
}

impl Idle {
    /// Makes the ladder of the worker that `bell` wakes.
    ///
    /// # Errors
    /// [`Error::System`].
    pub(crate) fn new(config: IdleConfig, bell: Arc<Doorbell>) -> Result<Idle, Error> {
        let system = |what| {
            move |errno: rustix::io::Errno| Error::System {
                what,
                source: errno.into(),
            }
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create"))?;
        let data = epoll::EventData::new_u64(0);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &bell.fd, data, flags).map_err(system("epoll_ctl"))?;
        Ok(Idle {
            config,
            bell,
            epoll,
            empty_loops: 0,
            timed_out: 0,
        })
    }

    /// Changes the thresholds.
    pub(crate) fn set_config(&mut self, config: IdleConfig) {
        self.config = config;
        self.empty_loops = 0;
        self.timed_out = 0;
    }

    /// Adds a port's fd to those that wake this worker.
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>) {
        let data = epoll::EventData::new_u64(1);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        // It fails only for an fd that cannot be polled, and a worker that misses its wake-ups
        // still looks every LONGEST_SLEEP_MS.
        let _ = epoll::add(&self.epoll, fd, data, flags);
    }

    /// Removes a port's fd. The peer of a memif holds the same open file description, so closing the
    /// worker's fd would not take it out of the set.
    pub(crate) fn unwatch(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Takes one step on the ladder after a loop with `frames`. Returns whether to sleep now.
    pub(crate) fn should_sleep(&mut self, frames: usize) -> bool {
        if frames > 0 {
            self.empty_loops = 0;
            self.timed_out = 0;
            return false;
        }
        self.empty_loops = self.empty_loops.saturating_add(1);
        if self
            .config
            .sleep_after
            .is_some_and(|limit| self.empty_loops > limit)
        {
            return true;
        }
        if self.empty_loops > self.config.pause_after {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Resets the backoff: the next sleeps are short again.
    pub(crate) fn reset_backoff(&mut self) {
        self.timed_out = 0;
    }

    /// Sleeps until an fd wakes the worker or the time is up, unless there is work after the doorbell
    /// was armed. `is_idle` says whether there is none; `capped`, whether wake-ups can be lost.
    pub(crate) fn sleep(&mut self, capped: bool, is_idle: impl FnOnce() -> bool) -> Slept {
        self.bell.sleeper.park();
        let mut slept = Slept::NotAtAll;
        if is_idle() {
            let longest = Duration::from_millis(LONGEST_SLEEP_MS);
            let backed_off = self.timed_out >= BACKOFF_AFTER;
            let limit = match capped {
                true if backed_off => longest.min(self.config.sleep_cap * BACKOFF_FACTOR),
                true => longest.min(self.config.sleep_cap),
                false => longest,
            };
            let limit = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(limit.subsec_nanos()),
            };
            let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 8];
            slept = match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
                Ok(([], _)) => Slept::TimedOut,
                _ => Slept::Woken,
            };
        }
        self.bell.sleeper.unpark();
        self.timed_out = match slept {
            Slept::TimedOut => self.timed_out.saturating_add(1),
            Slept::NotAtAll | Slept::Woken => 0,
        };
        slept
    }
}
