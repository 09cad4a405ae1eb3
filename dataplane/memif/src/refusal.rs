//! Why a control connection was refused or ended: every violation by name.

use std::io;

use crate::fault::Fault;
use crate::layout::{Direction, RING_ALIGN};
use crate::msg::MessageError;

/// The reason that a handshake failed or a connection ended. Its `Display` goes to the log, to the
/// attachment's status and, cut to 95 bytes, to the peer in DISCONNECT; what the peer must know
/// therefore comes first.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another client holds this interface.
    #[error("Already connected")]
    AlreadyConnected,
    /// Bytes that are no message.
    #[error(transparent)]
    Malformed(#[from] MessageError),
    /// A message at the wrong moment.
    #[error("{got} came where {expected} was due: the peer breaks the order of the handshake")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// The peer said DISCONNECT.
    #[error("peer disconnected (code {code}): {reason}")]
    ByPeer {
        /// The peer's number.
        code: u32,
        /// The peer's words.
        reason: String,
    },
    /// The peer closed the socket without a word, or died.
    #[error("the peer closed the control socket: it ended or was killed")]
    Closed,
    /// The handshake took too long.
    #[error("handshake not finished within {0} ms: the peer is stuck or not a memif peer")]
    Deadline(u128),
    /// The peer does not read what is sent to it.
    #[error("the peer does not read its control socket")]
    NotReading,
    /// The socket failed.
    #[error("control socket: {0}")]
    Socket(#[source] io::Error),
    /// Whoever opened the socket does not want this peer.
    #[error("not admitted: {0}")]
    NotAdmitted(String),
    /// Too many handshakes at once; the oldest gave way.
    #[error("gave way to newer handshakes: too many at once")]
    GaveWay,

    /// A version other than 2.0.
    #[error("incompatible memif version {0:#06x}: 2.0 is spoken here")]
    Version(u16),
    /// Another mode than Ethernet.
    #[error("interface mode {0} is not supported: use mode ethernet")]
    Mode(u8),
    /// No interface of this id on this socket.
    #[error("ID {asked} not found: this socket serves id {ours}")]
    UnknownId {
        /// What the client asked for.
        asked: u32,
        /// What is there.
        ours: u32,
    },
    /// The client sent no secret.
    #[error("Secret required")]
    SecretRequired,
    /// The client sent another secret.
    #[error("Incorrect secret")]
    SecretWrong,

    /// ADD_REGION or ADD_RING without its fd.
    #[error("{0} without a file descriptor")]
    MissingFd(&'static str),
    /// A message with an fd that takes none, or with several.
    #[error("{0} came with a file descriptor too many")]
    UnwantedFd(&'static str),
    /// MSG_CTRUNC: more ancillary data than any message has.
    #[error("ancillary data truncated: the peer sent more file descriptors than memif knows")]
    ControlTruncated,

    /// Regions must come as 0, 1, ...
    #[error("region index {got} where {expected} was due")]
    RegionIndex {
        /// The next free index.
        expected: u16,
        /// What came.
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
        /// With this region.
        asked: u64,
        /// The attachment's limit.
        limit: u64,
    },
    /// Not anonymous shared memory.
    #[error("region memory is not a memfd: pass a memfd_create file")]
    RegionNotMemfd,
    /// Memory on huge pages.
    #[error(
        "region memory is on huge pages, which can fault later: use ordinary pages (VPP: \
         no-zero-copy; DPDK: zero-copy=no)"
    )]
    RegionHuge,
    /// It cannot be kept from shrinking.
    #[error(
        "region memory cannot be sealed against shrinking: VPP: no-zero-copy; DPDK: zero-copy=no; \
         or allow unsealed memory for this attachment"
    )]
    RegionUnsealed,
    /// The file is shorter than declared.
    #[error("region declared with {declared} bytes, its file has {actual}")]
    RegionShort {
        /// What ADD_REGION said.
        declared: u64,
        /// What fstat says.
        actual: u64,
    },
    /// It could not be examined or mapped.
    #[error("region memory cannot be used: {0}")]
    RegionUnusable(String),

    /// Rings must come as 0, 1, ... in each direction.
    #[error("{direction} ring index {got} where {expected} was due")]
    RingIndex {
        /// Of the ring.
        direction: Direction,
        /// The next free index.
        expected: u16,
        /// What came.
        got: u16,
    },
    /// More rings than offered.
    #[error("more than {limit} {direction} rings")]
    TooManyRings {
        /// Of the ring.
        direction: Direction,
        /// What HELLO offered.
        limit: u16,
    },
    /// CONNECT with a direction that has no ring.
    #[error("no {0} ring")]
    NoRing(Direction),
    /// A ring of a size that was not offered.
    #[error("ring size 2^{log2}, allowed are 2^1 to 2^{max}")]
    RingSize {
        /// Asked.
        log2: u8,
        /// Offered.
        max: u8,
    },
    /// Undefined flags.
    #[error("undefined ring flags {0:#06x}")]
    RingFlags(u16),
    /// A private header.
    #[error("private header of {0} bytes: only 0 is supported")]
    RingPrivateHeader(u16),
    /// A ring in a region that was never added.
    #[error("ring in unknown region {0}")]
    RingRegion(u16),
    /// Not aligned to [`RING_ALIGN`].
    #[error("ring at offset {0}, which is no multiple of {RING_ALIGN}")]
    RingAlignment(u32),
    /// Past the end of its region.
    #[error("ring ends at byte {end} of a region of {size}")]
    RingRange {
        /// One past the ring's last byte.
        end: u64,
        /// The region's bytes.
        size: u64,
    },
    /// Two rings share bytes.
    #[error("rings overlap")]
    RingOverlap,
    /// Not the cookie.
    #[error("ring cookie {0:#010x}: the memory holds no ring there")]
    RingCookie(u32),
    /// The ring's fd is something else.
    #[error("the ring's file descriptor is not an eventfd but {0}")]
    NotEventfd(String),

    /// The server offers rings of fewer than two descriptors.
    #[error("the server offers no usable ring size (2^{0})")]
    NoRingSize(u8),
    /// Our memory could not be allocated.
    #[error("shared memory cannot be allocated: {0}")]
    Allocation(String),
    /// A queue found a lie in shared memory.
    #[error("broken ring: {0}")]
    Fault(#[from] Fault),
    /// Whoever owns this endpoint ended the connection.
    #[error("{0}")]
    ByOwner(String),
    /// The endpoint was stopped.
    #[error("stopped")]
    Stopped,
}
