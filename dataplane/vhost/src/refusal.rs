// SPDX-License-Identifier: Apache-2.0
//! Reasons why a front end was refused or its connection ended: every violation by name.

use std::io;

use crate::fault::Fault;
use crate::memory::MAX_REGIONS;
use crate::msg::{MessageError, Name};
use crate::region::RegionSpec;

/// Reason why a connection ended, or why its rings stopped. Its `Display` goes to the log and to the
/// attachment's status.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Socket on which another front end is connected.
    #[error("another front end is connected: end it first")]
    AlreadyConnected,
    /// Bytes that are not a message.
    #[error(transparent)]
    Malformed(#[from] MessageError),
    /// Message whose file descriptors the kernel cut off, or that has more than any.
    #[error("more file descriptors in one message than any request has")]
    TooManyFds,
    /// Request with another number of file descriptors than it has.
    #[error("{request} came with {got} file descriptors, which it cannot have")]
    Fds {
        /// Name of the request.
        request: Name,
        /// Number that came.
        got: usize,
    },
    /// Request without whose answer the front end would wait for ever.
    #[error("{0} is not supported, and was not offered")]
    Unsupported(Name),
    /// Features that were not offered.
    #[error("features {0:#x} were not offered")]
    Features(u64),
    /// Message that is not whole in time.
    #[error("a message was not whole within {0} ms: the front end is stuck")]
    Deadline(u128),
    /// The front end does not read what is sent to it.
    #[error("the front end does not read its socket")]
    NotReading,
    /// Socket closed by the front end, or the front end died.
    #[error("the front end closed the socket: it ended or was killed")]
    Closed,
    /// Error of the socket.
    #[error("socket: {0}")]
    Socket(#[source] io::Error),
    /// Peer that the owner of the socket does not admit.
    #[error("not admitted: {0}")]
    NotAdmitted(String),

    /// Region whose file is not shared memory.
    #[error(
        "a memory region is not shared memory: the front end must have memfd or hugetlbfs memory that is shared"
    )]
    RegionNotMemory,
    /// Region beyond the end of its file.
    #[error("a memory region ends at byte {end} of a file of {actual} bytes")]
    RegionShort {
        /// End of the region in the file.
        end: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// Region that is empty or ends beyond the address space.
    #[error("a memory region is empty or leaves the address space: {0:x?}")]
    RegionWraps(RegionSpec),
    /// Regions that share addresses.
    #[error("two memory regions overlap: {0:x?} and {1:x?}")]
    RegionOverlap(RegionSpec, RegionSpec),
    /// Region too many.
    #[error("more than {MAX_REGIONS} memory regions")]
    RegionCount,
    /// Region to be removed that does not exist.
    #[error("no such memory region: {0:x?}")]
    RegionUnknown(RegionSpec),
    /// More memory than the attachment may share.
    #[error(
        "{asked} bytes of shared memory, {limit} are allowed: raise maxMemory of the attachment, or share less"
    )]
    MemoryLimit {
        /// Bytes with the region that was refused.
        asked: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// Region that cannot be mapped.
    #[error("a memory region cannot be mapped: {0}")]
    RegionUnusable(String),

    /// Ring that does not exist.
    #[error("{request} names ring {index}, of {rings} rings")]
    RingIndex {
        /// Name of the request.
        request: Name,
        /// Index that the front end sent.
        index: u32,
        /// Number of rings.
        rings: usize,
    },
    /// Ring size that is not possible.
    #[error("ring {index} of {size} descriptors: a power of two from 2 to 32768 is possible")]
    RingSize {
        /// Index of the ring.
        index: u32,
        /// Size that the front end sent.
        size: u32,
    },
    /// Next index that is beyond 16 bits.
    #[error("ring {index} begins at {base}: 0 to 65535 is possible")]
    RingBase {
        /// Index of the ring.
        index: u32,
        /// Base that the front end sent.
        base: u32,
    },
    /// Change of a ring that runs.
    #[error("{request} for ring {index} while it runs: it must be stopped first (GET_VRING_BASE)")]
    RingRunning {
        /// Name of the request.
        request: Name,
        /// Index of the ring.
        index: u32,
    },
    /// Ring that logs the pages it writes.
    #[error(
        "ring {0} asks for a log of dirty pages, which is not offered: live migration is not possible"
    )]
    RingLog(u32),
    /// Part of a ring that is not in the front end's memory, or not aligned.
    #[error(
        "the {part} of ring {index} at {address:#x} is not inside one memory region, or not aligned to {align}"
    )]
    RingAddress {
        /// Index of the ring.
        index: u32,
        /// Name of the part.
        part: &'static str,
        /// Address in the front end's address space.
        address: u64,
        /// Alignment that it must have.
        align: usize,
    },
    /// Ring whose fd is not an eventfd.
    #[error("{request} came with a file descriptor that is not an eventfd but {kind}")]
    NotEventfd {
        /// Name of the request.
        request: Name,
        /// Kind of file that it is.
        kind: String,
    },

    /// Rings stopped by the front end.
    #[error("the front end stopped its rings ({0})")]
    RingsStopped(Name),
    /// Thread that could not be started.
    #[error("no thread for interrupts: {0}")]
    Thread(String),
    /// Violation that a queue found in shared memory.
    #[error("broken ring: {0}")]
    Fault(#[from] Fault),
    /// Connection ended by the owner of this endpoint.
    #[error("{0}")]
    ByOwner(String),
    /// Endpoint that was stopped.
    #[error("stopped")]
    Stopped,
}

impl Refusal {
    /// Whether the peer is to blame: it broke the protocol, was not admitted, or held things up.
    /// Peers that came at the wrong moment or left, and failures of this side, are not.
    pub fn is_violation(&self) -> bool {
        !matches!(
            self,
            Refusal::AlreadyConnected
                | Refusal::Closed
                | Refusal::Socket(_)
                | Refusal::RingsStopped(_)
                | Refusal::Thread(_)
                | Refusal::Stopped
        )
    }
}
