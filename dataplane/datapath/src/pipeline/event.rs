// SPDX-License-Identifier: Apache-2.0
//! Events that a worker posts to control without being asked.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use sluice_firewall::{Direction, Hit, PolicyIndex};
use sluice_packet::{FlowKey, Mac, Vid};

use crate::drops::DropReason;
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
    /// For the first time a frame of the attachment was dropped for this reason.
    Spoofed(Spoofed),
    /// A rule with `log` decided on a frame.
    Log(RawRecord),
}

/// Frame of a pod that was dropped for the addresses it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoofed {
    /// Attachment that sent it.
    pub attachment: AttachmentId,
    /// VLAN of the frame.
    pub vid: Vid,
    /// Reason: [`DropReason::SpoofedMac`] or one of those that follow it, to
    /// [`DropReason::AddressTaken`].
    pub reason: DropReason,
    /// Source MAC address; of ARP and neighbour discovery, the one that they announce.
    pub mac: Mac,
    /// Source IP address; of ARP and neighbour discovery, the one that they announce. `None`: neither
    /// has one.
    pub ip: Option<IpAddr>,
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
