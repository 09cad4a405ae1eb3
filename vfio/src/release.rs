// SPDX-License-Identifier: Apache-2.0
//! [`ReleaseRequest`]: the kernel's request to have a device back.
//!
//! A driver that is taken from its device is waited for: vfio-pci gives a device up only when it is
//! closed, and with it waits whoever removes the device, unbinds it, or unloads its PF's driver. The
//! kernel signals an eventfd meanwhile, at once and every ten seconds (`VFIO_PCI_REQ_IRQ_INDEX`).

use std::os::fd::OwnedFd;

/// Request of the kernel to close a device, as an eventfd that never blocks.
#[derive(Debug)]
pub struct ReleaseRequest {
    fd: OwnedFd,
}

impl ReleaseRequest {
    /// Makes the request that `fd`, an eventfd that does not block, signals.
    pub fn new(fd: OwnedFd) -> ReleaseRequest {
        ReleaseRequest { fd }
    }

    /// Whether the kernel has asked since the last call.
    pub fn is_made(&self) -> bool {
        let mut count = [0; 8];
        matches!(rustix::io::read(&self.fd, &mut count), Ok(8))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn a_request_is_seen_once() {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let kernel = fd.try_clone().unwrap();
        let request = ReleaseRequest::new(fd);
        assert!(!request.is_made());
        rustix::io::write(&kernel, &1u64.to_ne_bytes()).unwrap();
        rustix::io::write(&kernel, &1u64.to_ne_bytes()).unwrap();
        assert!(request.is_made());
        assert!(!request.is_made());
    }
}
