// SPDX-License-Identifier: Apache-2.0
//! Header fields that rules can match and that are not part of a [`FlowKey`]: they differ from frame to frame
//! of one flow.

use crate::arp::Arp;
use crate::bytes::be16;
use crate::eth;
use crate::ethertype::EtherType;
use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;
use crate::key::FlowKey;
use crate::proto::IpProto;
use crate::tcp::Tcp;

/// Kinds of IPv4 options, a bit each. Source routes are not among them: no frame with one is parsed.
pub mod ip_option {
    /// Router alert (RFC 2113).
    pub const ROUTER_ALERT: u8 = 1 << 0;
    /// Record route (RFC 791).
    pub const RECORD_ROUTE: u8 = 1 << 1;
    /// Internet timestamp (RFC 791).
    pub const TIMESTAMP: u8 = 1 << 2;
    /// Security labels: basic and extended (RFC 1108), commercial (CIPSO).
    pub const SECURITY: u8 = 1 << 3;
    /// Any other, padding apart.
    pub const OTHER: u8 = 1 << 4;
    /// Bits in use.
    pub const ALL: u8 = 0x1f;
}

/// Kinds of IPv6 extension headers, a bit each.
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 1 << 0;
    /// Routing, without segments left: no frame with any is parsed.
    pub const ROUTING: u8 = 1 << 1;
    /// Fragment, also of a packet in one piece (RFC 6946).
    pub const FRAGMENT: u8 = 1 << 2;
    /// Destination options.
    pub const DESTINATION_OPTIONS: u8 = 1 << 3;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 1 << 4;
    /// Shim6 (RFC 5533).
    pub const SHIM6: u8 = 1 << 5;
    /// Bits in use.
    pub const ALL: u8 = 0x3f;
}

/// Header fields of one frame, beside its [`FlowKey`]; `None` where the frame does not have the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Headers {
    /// TCP flags ([`crate::tcp::flag`]); of a later fragment none.
    pub tcp_flags: Option<u8>,
    /// Operation of an ARP packet.
    pub arp_operation: Option<u16>,
    /// Differentiated services code point, 0 to 63.
    pub dscp: Option<u8>,
    /// TTL of IPv4, hop limit of IPv6.
    pub hop_limit: Option<u8>,
    /// Options of an IPv4 header ([`ip_option`]).
    pub ip_options: Option<u8>,
    /// Extension headers of an IPv6 packet ([`extension`]), as far as they can be read.
    pub extensions: Option<u8>,
    /// VID of a second VLAN tag; 0 without one.
    pub inner_vid: u16,
    /// Priority code point of the frame's outer VLAN tag, 0 to 7; 0 without one. The tag is not among the bytes
    /// that [`Headers::read`] reads: the caller fills it in.
    pub priority: u8,
}

impl Headers {
    /// Reads the fields of `frame`, of which [`crate::parse()`] made `key`; `frame` has no outer tag. A field
    /// that is not among the bytes is `None`.
    #[must_use]
    pub fn read(frame: &[u8], key: &FlowKey) -> Headers {
        let mut headers = Headers::default();
        let Some((inner_vid, bytes)) = network_bytes(frame) else {
            return headers;
        };
        headers.inner_vid = inner_vid;
        if key.has(FlowKey::IPV4) {
            if let Ok(ip) = Ipv4::new(bytes) {
                headers.dscp = Some(ip.tos() >> 2);
                headers.hop_limit = Some(ip.ttl());
                headers.ip_options = Some(options(&ip));
                headers.tcp_flags = tcp_flags(key, ip.payload());
            }
        } else if key.has(FlowKey::IPV6) {
            if let Ok(ip) = Ipv6::new(bytes) {
                headers.dscp = Some(ip.traffic_class() >> 2);
                headers.hop_limit = Some(ip.hop_limit());
                headers.extensions = Some(extensions(&ip));
                let upper = ip.upper().ok();
                headers.tcp_flags = upper.and_then(|upper| tcp_flags(key, upper.payload));
            }
        } else if key.has(FlowKey::ARP) {
            headers.arp_operation = Arp::new(bytes).ok().map(|arp| arp.operation());
        }
        headers
    }
}

/// VID of an inner tag, 0 without one, and the bytes behind the EtherType.
fn network_bytes(frame: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = frame.split_first_chunk::<{ eth::HEADER_LEN }>()?;
    if !EtherType::is_tag(be16::<12, _>(head)) {
        return Some((0, rest));
    }
    let (tag, rest) = rest.split_first_chunk::<4>()?;
    Some((be16::<0, _>(tag) & 0x0fff, rest))
}

fn tcp_flags(key: &FlowKey, payload: &[u8]) -> Option<u8> {
    // A later fragment may have got ports of its datagram's first; its bytes are no TCP header.
    if key.proto != IpProto::TCP || key.has(FlowKey::LATER_FRAGMENT) {
        return None;
    }
    Tcp::new(payload).ok().map(|tcp| tcp.flags())
}

fn options(ip: &Ipv4<'_>) -> u8 {
    let kinds = ip.options().map_while(Result::ok);
    kinds.fold(0, |seen, option| {
        seen | match option.kind {
            148 => ip_option::ROUTER_ALERT,
            7 => ip_option::RECORD_ROUTE,
            68 => ip_option::TIMESTAMP,
            130 | 133 | 134 => ip_option::SECURITY,
            _ => ip_option::OTHER,
        }
    })
}

fn extensions(ip: &Ipv6<'_>) -> u8 {
    let headers = ip.extensions().map_while(Result::ok);
    headers.fold(0, |seen, header| {
        seen | match header.kind {
            IpProto::HOP_BY_HOP => extension::HOP_BY_HOP,
            IpProto::ROUTING => extension::ROUTING,
            IpProto::FRAGMENT => extension::FRAGMENT,
            IpProto::DEST_OPTIONS => extension::DESTINATION_OPTIONS,
            IpProto::AH => extension::AUTHENTICATION,
            IpProto::SHIM6 => extension::SHIM6,
            _ => 0,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::build::FrameBuilder;
    use crate::tcp::{TcpFields, flag};
    use crate::{InnerTag, Mac, VlanTag, arp, parse};

    fn builder<'a>() -> FrameBuilder<'a> {
        FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
    }

    fn syn() -> TcpFields {
        TcpFields {
            src_port: 1024,
            dst_port: 80,
            seq: 1,
            ack: 0,
            flags: flag::SYN | flag::ECE,
            window: 1,
        }
    }

    fn read(frame: &[u8]) -> Headers {
        let parsed = parse(frame, InnerTag::Allow).unwrap();
        Headers::read(frame, &parsed.key)
    }

    #[test]
    fn fields_of_ipv4() {
        let v4 = builder().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let frame = v4.clone().tos(0xb9).ttl(3).tcp(syn()).build();
        let expected = Headers {
            tcp_flags: Some(flag::SYN | flag::ECE),
            dscp: Some(46),
            hop_limit: Some(3),
            ip_options: Some(0),
            ..Headers::default()
        };
        assert_eq!(read(&frame), expected);
        let alert = [148, 4, 0, 0, 1, 1, 0, 0];
        let frame = v4.clone().ip_options(&alert).udp(1, 2).build();
        assert_eq!(read(&frame).ip_options, Some(ip_option::ROUTER_ALERT));
        let two = [7, 3, 4, 222, 2, 0, 0, 0];
        let seen = read(&v4.clone().ip_options(&two).udp(1, 2).build()).ip_options;
        assert_eq!(seen, Some(ip_option::RECORD_ROUTE | ip_option::OTHER));
        let later = v4.proto(6).fragment(64, false).payload(&[0xff; 40]).build();
        assert_eq!(read(&later).tcp_flags, None);
    }

    #[test]
    fn fields_of_ipv6_behind_its_extensions() {
        let v6 = builder().ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let options = [0, 0, 5, 2, 0, 0, 1, 0];
        let frame = v6.extension(0, &options).tos(0x20).ttl(255).tcp(syn());
        let expected = Headers {
            tcp_flags: Some(flag::SYN | flag::ECE),
            dscp: Some(8),
            hop_limit: Some(255),
            extensions: Some(extension::HOP_BY_HOP),
            ..Headers::default()
        };
        assert_eq!(read(&frame.build()), expected);
    }

    #[test]
    fn arp_operation_behind_an_inner_tag() {
        let fields = arp::ArpFields {
            operation: arp::REPLY,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender_ip: [10, 0, 0, 1].into(),
            target_mac: Mac([0; 6]),
            target_ip: [10, 0, 0, 2].into(),
        };
        let tag = VlanTag {
            tpid: 0x8100,
            tci: 0x6123,
        };
        let expected = Headers {
            arp_operation: Some(arp::REPLY),
            inner_vid: 0x123,
            ..Headers::default()
        };
        assert_eq!(read(&builder().tag(tag).arp(fields).build()), expected);
    }

    #[test]
    fn bytes_that_are_not_there_are_no_fields() {
        let frame = builder().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let frame = frame.tcp(syn()).build();
        let key = parse(&frame, InnerTag::Allow).unwrap().key;
        for len in 0..frame.len() {
            assert_eq!(Headers::read(&frame[..len], &key).tcp_flags, None, "{len}");
        }
    }
}
