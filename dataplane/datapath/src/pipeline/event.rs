// SPDX-License-Identifier: Apache-2.0
//! Events that a worker posts to control without being asked.

use std::os::fd::BorrowedFd;

use sluice_firewall::{Direction, Hit, PolicyIndex};
use sluice_packet::{FlowKey, Vid};

use crate::ids::AttachmentId;
use crate::ports::seam::{PodPort, PortFault};

/// Event that a worker posts to control.
pub(crate) enum WorkerEvent {
    /// A pod broke the protocol; control closes the port.
    PortFault {
        attachment: AttachmentId,
        fault: PortFault,
        port: Box<dyn PodPort>,
    },
    /// For the first time a frame came from the wire with the attachment's MAC address as source.
    LocalSource { attachment: AttachmentId, vid: Vid },
    /// A rule with `log` decided on a frame.
    Log(RawRecord),
}

impl WorkerEvent {
    /// Visits the wake-up fds of the port in it, if there is one.
    pub(crate) fn port_fds(&self, mut visit: impl FnMut(BorrowedFd<'_>)) {
        if let WorkerEvent::PortFault { port, .. } = self {
            port.wake_fds(&mut visit);
        }
    }
}

/// Log record before control has given it names.
pub(crate) struct RawRecord {
    pub(crate) attachment: AttachmentId,
    pub(crate) policy: PolicyIndex,
    pub(crate) direction: Direction,
    pub(crate) hit: Hit,
    pub(crate) key: FlowKey,
    /// Version of the set that `policy` is of.
    pub(crate) set_version: u64,
}
