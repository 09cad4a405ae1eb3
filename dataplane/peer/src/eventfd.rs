// SPDX-License-Identifier: Apache-2.0
//! Check of the eventfds that a peer passes, before they are used.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::checks::disabled;

/// Checks that a peer's file descriptor is an eventfd: writing to anything else could do anything,
/// and polling a file of a FUSE could wait for ever.
///
/// # Errors
/// The kind of file that it is.
pub fn check_eventfd(fd: BorrowedFd<'_>) -> Result<(), String> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match std::fs::read_link(link) {
        Ok(target) if target.as_os_str() == "anon_inode:[eventfd]" => Ok(()),
        _ if disabled("eventfd") => Ok(()),
        Ok(target) => Err(target.display().to_string()),
        Err(error) => Err(format!("unknown ({error})")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::AsFd;

    #[test]
    fn only_eventfds_pass_as_eventfds() {
        let event = eventfd(0, EventfdFlags::empty()).unwrap();
        assert!(check_eventfd(event.as_fd()).is_ok());
        let (pipe, _other) = std::io::pipe().unwrap();
        let refused = check_eventfd(pipe.as_fd()).unwrap_err();
        assert!(refused.starts_with("pipe:"));
    }
}
