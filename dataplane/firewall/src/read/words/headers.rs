// SPDX-License-Identifier: Apache-2.0
//! Words for header fields that differ within a flow.

use sluice_packet::headers::{extension, ip_option};
use sluice_packet::tcp::flag;

use super::Words;
use crate::header_match::HeaderKind;

/// Word of `tcp-flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TcpFlagWord {
    /// Flag of this bit is set.
    Flag(u8),
    /// First segment of a connection: SYN is set, ACK is not.
    Initial,
    /// Segment of a connection that was begun, by its flags alone: ACK or RST is set.
    Established,
}

/// TCP flags (RFC 9293, RFC 3168), and the words of Junos for two combinations.
pub(crate) const TCP_FLAGS: Words<TcpFlagWord> = &[
    ("syn", TcpFlagWord::Flag(flag::SYN)),
    ("ack", TcpFlagWord::Flag(flag::ACK)),
    ("fin", TcpFlagWord::Flag(flag::FIN)),
    ("rst", TcpFlagWord::Flag(flag::RST)),
    ("psh", TcpFlagWord::Flag(flag::PSH)),
    ("urg", TcpFlagWord::Flag(flag::URG)),
    ("ece", TcpFlagWord::Flag(flag::ECE)),
    ("cwr", TcpFlagWord::Flag(flag::CWR)),
    ("initial", TcpFlagWord::Initial),
    ("established", TcpFlagWord::Established),
];

/// Differentiated services code points (IANA "Differentiated Services Field Codepoints").
pub(crate) const DSCP: Words<u8> = &[
    ("ef", 46),
    ("cs0", 0),
    ("default", 0),
    ("le", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("voice-admit", 44),
    ("nqb", 45),
    ("cs6", 48),
    ("cs7", 56),
];

/// ARP operations (RFC 826, RFC 903, RFC 1293).
pub(crate) const ARP_OPERATIONS: Words<u16> = &[
    ("request", 1),
    ("reply", 2),
    ("reverse-request", 3),
    ("reverse-reply", 4),
    ("inverse-request", 8),
    ("inverse-reply", 9),
];

/// IPv4 options.
pub(crate) const IP_OPTIONS: Words<HeaderKind> = &[
    ("present", HeaderKind::ANY_OPTION),
    ("none", HeaderKind::None),
    ("router-alert", HeaderKind::Any(ip_option::ROUTER_ALERT)),
    ("record-route", HeaderKind::Any(ip_option::RECORD_ROUTE)),
    ("timestamp", HeaderKind::Any(ip_option::TIMESTAMP)),
    ("security", HeaderKind::Any(ip_option::SECURITY)),
    ("other", HeaderKind::Any(ip_option::OTHER)),
];

/// IPv6 extension headers.
pub(crate) const EXTENSION_HEADERS: Words<HeaderKind> = &[
    ("present", HeaderKind::ANY_EXTENSION),
    ("none", HeaderKind::None),
    ("hop-by-hop", HeaderKind::Any(extension::HOP_BY_HOP)),
    ("routing", HeaderKind::Any(extension::ROUTING)),
    ("fragment", HeaderKind::Any(extension::FRAGMENT)),
    (
        "destination-options",
        HeaderKind::Any(extension::DESTINATION_OPTIONS),
    ),
    ("ah", HeaderKind::Any(extension::AUTHENTICATION)),
    ("shim6", HeaderKind::Any(extension::SHIM6)),
];
