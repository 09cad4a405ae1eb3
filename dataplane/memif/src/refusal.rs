// SPDX-License-Identifier: Apache-2.0
//! Reasons why a control connection was refused or ended: every violation by name.

use std::io;

use crate::fault::Fault;
use crate::layout::{Direction, RING_ALIGN};
use crate::msg::MessageError;

/// Reason why a handshake failed or a connection ended. Its `Display` goes to the log, to the
/// attachment's status and, cut to 95 bytes, to the peer in DISCONNECT; what the peer must know
/// therefore comes first.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Interface that another client holds.
    #[error("Already connected")]
    AlreadyConnected,
    /// Bytes that are not a message.
    #[error(transparent)]
    Malformed(#[from] MessageError),
    /// Message at the wrong moment of the handshake.
    #[error("{got} came where {expected} was due: the peer breaks the order of the handshake")]
    Unexpected {
        /// Messages that would have been right.
        expected: &'static str,
        /// Message that came.
        got: &'static str,
    },
    /// DISCONNECT from the peer.
    #[error("peer disconnected (code {code}): {reason}")]
    ByPeer {
        /// Code that the peer gave; its meaning is not agreed.
        code: u32,
        /// Reason that the peer gave.
        reason: String,
    },
    /// Control socket closed by the peer without DISCONNECT, or the peer died.
    #[error("the peer closed the control socket: it ended or was killed")]
    Closed,
    /// Handshake that took too long.
    #[error("handshake not finished within {0} ms: the peer is stuck or not a memif peer")]
    Deadline(u128),
    /// The peer does not read what is sent to it.
    #[error("the peer does not read its control socket")]
    NotReading,
    /// Error of the control socket.
    #[error("control socket: {0}")]
    Socket(#[source] io::Error),
    /// Peer that the owner of the socket does not admit.
    #[error("not admitted: {0}")]
    NotAdmitted(String),
    /// Too many handshakes at once: the oldest was dropped.
    #[error("dropped for newer handshakes: too many at once")]
    GaveWay,

    /// Protocol version other than 2.0.
    #[error("incompatible memif version {0:#06x}: 2.0 is spoken here")]
    Version(u16),
    /// Interface mode other than Ethernet.
    #[error("interface mode {0} is not supported: use mode ethernet")]
    Mode(u8),
    /// No interface of this id on this socket.
    #[error("ID {asked} not found: this socket serves id {ours}")]
    UnknownId {
        /// Id that the client asked for.
        asked: u32,
        /// Id that this socket serves.
        ours: u32,
    },
    /// Missing secret.
    #[error("Secret required")]
    SecretRequired,
    /// Secret other than ours.
    #[error("Incorrect secret")]
    SecretWrong,

    /// ADD_REGION or ADD_RING without its fd.
    #[error("{0} without a file descriptor")]
    MissingFd(&'static str),
    /// Message with an fd that takes none, or with several.
    #[error("{0} came with a file descriptor too many")]
    UnwantedFd(&'static str),
    /// MSG_CTRUNC: more ancillary data than any message has.
    #[error("ancillary data truncated: the peer sent more file descriptors than memif knows")]
    ControlTruncated,

    /// Region index out of order: they must come as 0, 1, ...
    #[error("region index {got} where {expected} was due")]
    RegionIndex {
        /// The next free index.
        expected: u16,
        /// Index that came.
        got: u16,
    },
    /// More regions than offered.
    #[error("more than {0} regions")]
    TooManyRegions(u16),
    /// A region of no bytes.
    #[error("region {0} is empty")]
    RegionEmpty(u16),
    /// More shared memory than this attachment may have.
    #[error("{asked} bytes of shared memory are more than the {limit} allowed: use smaller rings")]
    MemoryLimit {
        /// Bytes of all regions, this one included.
        asked: u64,
        /// The attachment's limit.
        limit: u64,
    },
    /// Region whose file is not anonymous shared memory.
    #[error("region memory is not a memfd: pass a memfd_create file")]
    RegionNotMemfd,
    /// Region on huge pages.
    #[error(
        "region memory is on huge pages, which can fault later: use ordinary pages (VPP: \
         no-zero-copy; DPDK: zero-copy=no)"
    )]
    RegionHuge,
    /// Region that cannot be sealed against shrinking.
    #[error(
        "region memory cannot be sealed against shrinking: VPP: no-zero-copy; DPDK: zero-copy=no; \
         or allow unsealed memory for this attachment"
    )]
    RegionUnsealed,
    /// Region whose file is shorter than declared.
    #[error("region declared with {declared} bytes, its file has {actual}")]
    RegionShort {
        /// Bytes that ADD_REGION declared.
        declared: u64,
        /// Bytes that fstat reports.
        actual: u64,
    },
    /// Region that could not be examined or mapped.
    #[error("region memory cannot be used: {0}")]
    RegionUnusable(String),

    /// Ring index out of order: they must come as 0, 1, ... in each direction.
    #[error("{direction} ring index {got} where {expected} was due")]
    RingIndex {
        /// Direction of the ring.
        direction: Direction,
        /// The next free index.
        expected: u16,
        /// Index that came.
        got: u16,
    },
    /// More rings than offered.
    #[error("more than {limit} {direction} rings")]
    TooManyRings {
        /// Direction of the ring.
        direction: Direction,
        /// Most rings that HELLO offered.
        limit: u16,
    },
    /// CONNECT with a direction that has no ring.
    #[error("no {0} ring")]
    NoRing(Direction),
    /// A ring of a size that was not offered.
    #[error("ring size 2^{log2}, allowed are 2^1 to 2^{max}")]
    RingSize {
        /// Binary logarithm of the size asked for.
        log2: u8,
        /// Binary logarithm of the largest size offered.
        max: u8,
    },
    /// Ring with undefined flags.
    #[error("undefined ring flags {0:#06x}")]
    RingFlags(u16),
    /// Ring with a private header.
    #[error("private header of {0} bytes: only 0 is supported")]
    RingPrivateHeader(u16),
    /// A ring in a region that was never added.
    #[error("ring in unknown region {0}")]
    RingRegion(u16),
    /// Ring not aligned to [`RING_ALIGN`].
    #[error("ring at offset {0}, which is not a multiple of {RING_ALIGN}")]
    RingAlignment(u32),
    /// Ring that ends behind its region.
    #[error("ring ends at byte {end} of a region of {size}")]
    RingRange {
        /// Offset behind the ring's last byte.
        end: u64,
        /// The region's bytes.
        size: u64,
    },
    /// Rings that share bytes.
    #[error("rings overlap")]
    RingOverlap,
    /// Ring without the cookie.
    #[error("ring cookie {0:#010x}: the memory holds no ring there")]
    RingCookie(u32),
    /// Ring whose fd is not an eventfd.
    #[error("the ring's file descriptor is not an eventfd but {0}")]
    NotEventfd(String),

    /// The server offers rings of fewer than two descriptors.
    #[error("the server offers no usable ring size (2^{0})")]
    NoRingSize(u8),
    /// Allocation of our shared memory that failed.
    #[error("shared memory cannot be allocated: {0}")]
    Allocation(String),
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
                | Refusal::ByPeer { .. }
                | Refusal::Closed
                | Refusal::Socket(_)
                | Refusal::GaveWay
                | Refusal::Allocation(_)
                | Refusal::Stopped
        )
    }
}
