// SPDX-License-Identifier: Apache-2.0
//! IP protocol numbers (IANA "Protocol Numbers").

/// IP protocol numbers, as plain `u8`: they compare with [`FlowKey::proto`](crate::FlowKey::proto).
#[derive(Debug, Clone, Copy)]
pub enum IpProto {}

impl IpProto {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 9776).
    pub const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// DCCP (RFC 4340).
    pub const DCCP: u8 = 33;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// PIM (RFC 7761).
    pub const PIM: u8 = 103;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: u8 = 136;

    /// IPv6 hop-by-hop options (RFC 8200, 4.3); legal only as the first extension header.
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv6 routing header (RFC 8200, 4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200, 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload (RFC 4303); nothing behind it can be read.
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AH: u8 = 51;
    /// IPv6 "no next header" (RFC 8200, 4.7).
    pub const NO_NEXT: u8 = 59;
    /// IPv6 destination options (RFC 8200, 4.6).
    pub const DEST_OPTIONS: u8 = 60;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 140;
}
