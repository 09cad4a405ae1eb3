// SPDX-License-Identifier: Apache-2.0
//! Wait for the first of several fds and a deadline.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until one of `fds` is readable or broken, or `until` is past. Returns for each fd whether it
/// is. Errors count as readiness: the read then returns them.
pub fn wait(fds: &[BorrowedFd<'_>], until: Option<Instant>) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let timeout = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, so that a wait for a moment does not end just before it.
        Timespec::try_from(left + Duration::from_millis(1)).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        })
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) => polled.iter().map(|fd| !fd.revents().is_empty()).collect(),
        Err(_) => vec![false; fds.len()],
    }
}

/// Earlier of two deadlines.
pub fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
