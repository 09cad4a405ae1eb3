// SPDX-License-Identifier: Apache-2.0
//! Frame builder, for tests, the generator port and tools.

mod write;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use crate::arp::ArpFields;
use crate::mac::Mac;
pub use crate::tcp::TcpFields;
use crate::vlan::VlanTag;

const MAX_TAGS: usize = 3;
const MAX_EXTENSIONS: usize = 10;

/// Builder of a frame, layer by layer. Lengths, next-header numbers and checksums are filled in.
///
/// ```
/// use sluice_packet::{FlowKey, InnerTag, Mac, build::FrameBuilder, parse};
/// let frame = FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
///     .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
///     .udp(1024, 53)
///     .payload(b"who is there?")
///     .build();
/// let key = parse(&frame, InnerTag::Refuse)?.key;
/// assert!(key.has(FlowKey::PORTS) && key.dst_port == 53);
/// # Ok::<(), sluice_packet::ParseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameBuilder<'a> {
    dst: Mac,
    src: Mac,
    tags: [Option<VlanTag>; MAX_TAGS],
    l3: L3,
    l4: L4,
    ttl: u8,
    tos: u8,
    id: u32,
    dont_fragment: bool,
    fragment: Option<(u16, bool)>,
    ip_options: &'a [u8],
    extensions: [Option<(u8, &'a [u8])>; MAX_EXTENSIONS],
    tcp_options: &'a [u8],
    payload: &'a [u8],
    padded: bool,
}

#[derive(Debug, Clone, Copy)]
enum L3 {
    Other(u16),
    Arp(ArpFields),
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

#[derive(Debug, Clone, Copy)]
enum L4 {
    Raw(u8),
    Udp(u16, u16),
    Tcp(TcpFields),
    Icmp(u8, u8, [u8; 4]),
}

impl<'a> FrameBuilder<'a> {
    /// Makes a builder of a frame with no payload and the EtherType 0x88b5 (IEEE 802, "local experimental").
    #[must_use]
    pub fn new(dst: Mac, src: Mac) -> FrameBuilder<'a> {
        FrameBuilder {
            dst,
            src,
            tags: [None; MAX_TAGS],
            l3: L3::Other(0x88b5),
            l4: L4::Raw(253),
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: false,
            fragment: None,
            ip_options: &[],
            extensions: [None; MAX_EXTENSIONS],
            tcp_options: &[],
            payload: &[],
            padded: false,
        }
    }

    /// Adds a tag, outermost first; a fourth is left out.
    #[must_use]
    pub fn tag(mut self, tag: VlanTag) -> Self {
        if let Some(free) = self.tags.iter_mut().find(|t| t.is_none()) {
            *free = Some(tag);
        }
        self
    }

    /// Puts the payload directly behind this EtherType.
    #[must_use]
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.l3 = L3::Other(ethertype);
        self
    }

    /// Makes it an ARP packet.
    #[must_use]
    pub fn arp(mut self, fields: ArpFields) -> Self {
        self.l3 = L3::Arp(fields);
        self
    }

    /// Makes it an IPv4 packet; without a transport its protocol is 253 (RFC 3692, for experiments).
    #[must_use]
    pub fn ipv4(mut self, src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        self.l3 = L3::V4(src, dst);
        self
    }

    /// Makes it an IPv6 packet; without a transport its protocol is 253.
    #[must_use]
    pub fn ipv6(mut self, src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        self.l3 = L3::V6(src, dst);
        self
    }

    /// Sets time to live or hop limit; default 64.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets type of service or traffic class.
    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// Sets the IPv4 identification (the lower 16 bits), or that of the IPv6 fragment header.
    #[must_use]
    pub fn id(mut self, id: u32) -> Self {
        self.id = id;
        self
    }

    /// Sets IPv4's DF.
    #[must_use]
    pub fn dont_fragment(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    /// Makes this one piece of a larger packet, `offset_bytes` (rounded down to a multiple of 8) into
    /// it. With offset 0 the transport header is written, with a checksum of this piece alone; else
    /// the payload follows the IP header directly.
    #[must_use]
    pub fn fragment(mut self, offset_bytes: u16, more: bool) -> Self {
        self.fragment = Some((offset_bytes & !7, more));
        self
    }

    /// Sets IPv4 options, as they are; padded with zeros to a multiple of 4 and cut at 40 bytes.
    #[must_use]
    pub fn ip_options(mut self, options: &'a [u8]) -> Self {
        self.ip_options = options;
        self
    }

    /// Adds an IPv6 extension header, outermost first; an eleventh is left out. `bytes` is the whole
    /// header, whose first byte, the next header, is filled in. A fragment header comes behind all.
    #[must_use]
    pub fn extension(mut self, kind: u8, bytes: &'a [u8]) -> Self {
        if let Some(free) = self.extensions.iter_mut().find(|e| e.is_none()) {
            *free = Some((kind, bytes));
        }
        self
    }

    /// Makes it UDP from and to these ports.
    #[must_use]
    pub fn udp(mut self, src_port: u16, dst_port: u16) -> Self {
        self.l4 = L4::Udp(src_port, dst_port);
        self
    }

    /// Makes it TCP.
    #[must_use]
    pub fn tcp(mut self, fields: TcpFields) -> Self {
        self.l4 = L4::Tcp(fields);
        self
    }

    /// Sets TCP options, as they are; padded with zeros to a multiple of 4 and cut at 40 bytes.
    #[must_use]
    pub fn tcp_options(mut self, options: &'a [u8]) -> Self {
        self.tcp_options = options;
        self
    }

    /// Makes it ICMP in IPv4, ICMPv6 in IPv6.
    #[must_use]
    pub fn icmp(mut self, icmp_type: u8, code: u8, rest: [u8; 4]) -> Self {
        self.l4 = L4::Icmp(icmp_type, code, rest);
        self
    }

    /// Puts the payload directly behind the IP header, as of this protocol.
    #[must_use]
    pub fn proto(mut self, proto: u8) -> Self {
        self.l4 = L4::Raw(proto);
        self
    }

    /// Sets the innermost bytes. Bytes that do not fit the IP length field are left out.
    #[must_use]
    pub fn payload(mut self, payload: &'a [u8]) -> Self {
        self.payload = payload;
        self
    }

    /// Pads to Ethernet's minimum of 60 bytes with zeros.
    #[must_use]
    pub fn padded(mut self) -> Self {
        self.padded = true;
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::{InnerTag, ipv4::Ipv4, l4, parse};

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn v4() -> FrameBuilder<'static> {
        FrameBuilder::new(B, A).ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
    }

    #[test]
    fn checksums_are_right() {
        let v6 = FrameBuilder::new(B, A).ipv6(
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        );
        for layers in [v4(), v6.clone(), v6.extension(60, &[0; 8])] {
            let layers = layers.payload(b"odd length!");
            let tcp = layers.clone().tcp(TcpFields::default());
            for frame in [
                layers.clone().udp(1, 2).build(),
                tcp.clone().build(),
                tcp.tcp_options(&[2, 4, 5, 0xb4, 1]).build(),
                layers.clone().icmp(200, 0, [1, 2, 3, 4]).build(),
            ] {
                let parsed = parse(&frame, InnerTag::Refuse).unwrap();
                assert_eq!(
                    l4::verify_checksum(&frame, &parsed),
                    Some(true),
                    "{frame:02x?}"
                );
            }
        }
    }

    #[test]
    fn options_and_padding() {
        let frame = v4()
            .ip_options(&[148, 4, 0, 0, 1])
            .udp(1, 2)
            .padded()
            .build();
        assert_eq!(frame.len(), 60);
        let ip = Ipv4::new(&frame[14..]).unwrap();
        assert_eq!((ip.header_len(), ip.total_len()), (28, 36));
        assert!(ip.checksum_ok());
    }

    #[test]
    fn does_not_write_past_the_room() {
        let builder = v4().udp(1, 2).payload(b"0123456789");
        let frame = builder.build();
        let mut room = [0xee; 64];
        assert_eq!(builder.write(&mut room), Some(frame.len()));
        assert_eq!(
            (&room[..frame.len()], room[frame.len()]),
            (&frame[..], 0xee)
        );
        for short in 0..frame.len() {
            assert_eq!(builder.write(&mut room[..short]), None);
        }
    }

    #[test]
    fn payload_is_cut_at_what_ip_can_say() {
        let payload = vec![0x55; 70_000];
        let frame = v4().udp(1, 2).payload(&payload).build();
        assert_eq!(frame.len(), 14 + 65_535);
        assert!(parse(&frame, InnerTag::Refuse).is_ok());
        let frame = FrameBuilder::new(B, A)
            .ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
            .extension(60, &[0; 8])
            .tcp(TcpFields::default())
            .payload(&payload)
            .build();
        assert_eq!(frame.len(), 14 + 40 + 65_535);
        assert!(parse(&frame, InnerTag::Refuse).is_ok());
    }
}
