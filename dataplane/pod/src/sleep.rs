// SPDX-License-Identifier: Apache-2.0
//! Signals as a file, and sleeping until a memif or a signal wakes us.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluice_memif::Memif;

/// Longest sleep while something may happen that wakes nobody: DPDK's and VPP's producers have no
/// fence between their index and the look at our flag and can miss that we sleep.
const CAP: Duration = Duration::from_millis(10);

/// Signals that a program reads as a file. SIGTERM and SIGINT, which end it, are always among them.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks SIGTERM and SIGINT: from now on they only arrive here. To be called before any thread
    /// is started.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn catch() -> Result<Signals> {
        Signals::catch_also(&[])
    }

    /// Blocks `more` signals as well.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn catch_also(more: &[Signal]) -> Result<Signals> {
        let mut set = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        set.extend(more.iter().copied());
        set.thread_block().context("cannot block signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .context("cannot open a signalfd")?;
        Ok(Signals(fd))
    }

    /// Whether one came.
    pub fn came(&self) -> bool {
        !matches!(self.0.read_signal(), Ok(None))
    }

    /// Takes the next signal, if one came.
    pub fn next(&self) -> Option<Signal> {
        let signal = self.0.read_signal().ok()??;
        let number = i32::try_from(signal.ssi_signo).ok()?;
        Signal::try_from(number).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Behaviour of a program that is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wait {
    /// Sleep until a peer interrupts: no load when idle.
    Interrupt,
    /// Never sleep: a whole core, the lowest latency.
    Poll,
}

impl Wait {
    /// Waits for any of the memifs or for `signals` (any file that is readable when it is time to
    /// look up), for `limit` at most.
    pub fn wait<'memif>(
        self,
        memifs: impl Iterator<Item = &'memif mut Memif>,
        signals: &impl AsFd,
        limit: Option<Duration>,
    ) {
        if self == Wait::Poll {
            return;
        }
        let mut memifs: Vec<&mut Memif> = memifs.collect();
        // One that is not quiet has not to be slept for; all are disarmed below.
        if memifs.iter_mut().all(|memif| memif.arm()) {
            let fds: Vec<BorrowedFd<'_>> = memifs
                .iter()
                .map(|m| m.as_fd())
                .chain([signals.as_fd()])
                .collect();
            let mut fds: Vec<PollFd<'_>> = fds
                .into_iter()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            let limit = limit.map_or(CAP, |limit| limit.min(CAP));
            if let Ok(limit) = Timespec::try_from(limit) {
                // Interrupted or not: the loop looks at everything anyway.
                let _ = poll(&mut fds, Some(&limit));
            }
        }
        for memif in &mut memifs {
            memif.disarm();
        }
    }
}
