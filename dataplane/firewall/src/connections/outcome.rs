// SPDX-License-Identifier: Apache-2.0
//! Outcome of one frame for its connection, and why a frame is of none.

use std::fmt;

use super::phase::Phase;

/// Cause for which a frame is *invalid*: of no connection that is known, or not possible in it.
///
/// Each is counted alone: a sum of them tells an operator nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// TCP flags that no segment has together.
    BadFlags,
    /// No connection, and the frame cannot open one.
    NoConnection,
    /// Legal flags that this end cannot send at this point.
    OutOfPlace,
    /// Data far beyond the receiver's window.
    SeqOver,
    /// Data below the receiver's window (`strict` only).
    SeqBelow,
    /// Acknowledgement of what was never sent.
    AckOver,
    /// Acknowledgement far below what was sent (`strict` only).
    AckBelow,
    /// RST outside the receiver's window.
    RstWindow,
    /// Source and destination are one endpoint.
    SameEndpoint,
    /// ICMP error whose checksum is wrong.
    ErrorChecksum,
    /// ICMP error about a packet that cannot be read, or about which none may be sent.
    ErrorInner,
    /// ICMP error to somebody else than the sender of the packet that it is about.
    ErrorDestination,
    /// ICMP error about a packet of no connection.
    ErrorNoConnection,
    /// ICMP error that travels with the packet that it is about, not against it.
    ErrorDirection,
    /// ICMP error about a TCP segment that is not in flight.
    ErrorSeq,
    /// ICMP error with an MTU that no path has, or that does not stand in the way.
    ErrorMtu,
    /// ICMP error beyond the few a second that a connection may have.
    ErrorRate,
}

impl Cause {
    /// All causes, in the order in which arrays of counters are kept.
    pub const ALL: [Cause; 17] = [
        Cause::BadFlags,
        Cause::NoConnection,
        Cause::OutOfPlace,
        Cause::SeqOver,
        Cause::SeqBelow,
        Cause::AckOver,
        Cause::AckBelow,
        Cause::RstWindow,
        Cause::SameEndpoint,
        Cause::ErrorChecksum,
        Cause::ErrorInner,
        Cause::ErrorDestination,
        Cause::ErrorNoConnection,
        Cause::ErrorDirection,
        Cause::ErrorSeq,
        Cause::ErrorMtu,
        Cause::ErrorRate,
    ];

    /// Word for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::BadFlags => "bad_flags",
            Cause::NoConnection => "no_connection",
            Cause::OutOfPlace => "out_of_place",
            Cause::SeqOver => "seq_over",
            Cause::SeqBelow => "seq_below",
            Cause::AckOver => "ack_over",
            Cause::AckBelow => "ack_below",
            Cause::RstWindow => "rst_window",
            Cause::SameEndpoint => "same_endpoint",
            Cause::ErrorChecksum => "error_checksum",
            Cause::ErrorInner => "error_inner",
            Cause::ErrorDestination => "error_destination",
            Cause::ErrorNoConnection => "error_no_connection",
            Cause::ErrorDirection => "error_direction",
            Cause::ErrorSeq => "error_seq",
            Cause::ErrorMtu => "error_mtu",
            Cause::ErrorRate => "error_rate",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Outcome of one frame for the connection that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The frame passes and the connection goes on.
    Pass {
        /// Phase from now on.
        next: Phase,
        /// Whether the timer starts again.
        renew: bool,
    },
    /// The frame passes and touches nothing: the ends may be right where the tracker is wrong.
    Untouched,
    /// The frame passes and ends the connection.
    Ends,
    /// The frame may open a new connection in place of this one, if the policy lets it.
    Reopens,
    /// The frame is invalid.
    Invalid(Cause),
}
