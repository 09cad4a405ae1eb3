// SPDX-License-Identifier: Apache-2.0
//! Writer of the layers.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{FrameBuilder, L3, L4, MAX_TAGS};
use crate::checksum::{self, Sum};
use crate::ethertype::EtherType;
use crate::ipv4::Ipv4Fields;
use crate::ipv6::Ipv6Fields;
use crate::proto::IpProto;
use crate::{eth, icmp, ipv4, ipv6, tcp, udp};

impl<'a> FrameBuilder<'a> {
    /// Builds the frame.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        // All headers at their longest, and each extension header.
        let extensions: usize = self.extensions.iter().flatten().map(|e| e.1.len()).sum();
        let mut out = vec![0; 256 + extensions + self.payload.len()];
        let len = self.write(&mut out).unwrap_or(0);
        out.truncate(len);
        out
    }

    /// Writes the frame to the front of `out` without allocating; returns its length, or `None` if it
    /// does not fit (`out` then holds part of it).
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut to = Cursor { out, at: 0 };
        let ethertype = match self.l3 {
            L3::Other(ethertype) => ethertype,
            L3::Arp(_) => EtherType::ARP,
            L3::V4(..) => EtherType::IPV4,
            L3::V6(..) => EtherType::IPV6,
        };
        to.put(&self.dst.0)?;
        to.put(&self.src.0)?;
        for tag in self.tags.iter().flatten() {
            to.put(&tag.to_bytes())?;
        }
        to.put(&ethertype.to_be_bytes())?;
        match self.l3 {
            L3::Other(_) => to.put(self.payload)?,
            L3::Arp(fields) => to.put(&fields.to_bytes())?,
            L3::V4(src, dst) => self.put_v4(&mut to, src, dst)?,
            L3::V6(src, dst) => self.put_v6(&mut to, src, dst)?,
        }
        if self.padded && to.at < eth::MIN_FRAME_LEN {
            to.put(&[0; eth::MIN_FRAME_LEN][to.at..])?;
        }
        Some(to.at)
    }

    fn put_v4(&self, to: &mut Cursor<'_>, src: Ipv4Addr, dst: Ipv4Addr) -> Option<()> {
        let (padding, options) = padded_options(self.ip_options);
        let header_len = ipv4::MIN_HEADER_LEN + options.len() + padding.len();
        let (l4_len, payload) = self.fit(usize::from(u16::MAX) - header_len);
        let (offset, more) = self.fragment.unwrap_or((0, false));
        let at = to.at;
        let mut head = Ipv4Fields {
            tos: self.tos,
            total_len: u16::try_from(header_len + l4_len + payload.len()).ok()?,
            id: (self.id & 0xffff) as u16,
            fragment: u16::from(self.dont_fragment) << 14 | u16::from(more) << 13 | offset >> 3,
            ttl: self.ttl,
            proto: self.proto_number(IpProto::ICMP),
            src,
            dst,
        }
        .to_bytes();
        head[0] = 0x40 | u8::try_from(header_len / 4).ok()?;
        head[10..12].fill(0);
        to.put(&head)?;
        to.put(options)?;
        to.put(padding)?;
        let sum = checksum::of(to.out.get(at..to.at)?);
        to.out
            .get_mut(at + 10..at + 12)?
            .copy_from_slice(&sum.to_be_bytes());
        let len = u16::try_from(l4_len + payload.len()).ok()?;
        let pseudo = checksum::pseudo_v4(
            src.octets(),
            dst.octets(),
            self.proto_number(IpProto::ICMP),
            len,
        );
        self.put_l4(to, payload, pseudo, Sum::new())
    }

    fn put_v6(&self, to: &mut Cursor<'_>, src: Ipv6Addr, dst: Ipv6Addr) -> Option<()> {
        let proto = self.proto_number(IpProto::ICMPV6);
        let piece = self.fragment.map(|(offset, more)| {
            let [a, b] = (offset | u16::from(more)).to_be_bytes();
            let [c, d, e, f] = self.id.to_be_bytes();
            [proto, 0, a, b, c, d, e, f]
        });
        let behind = if piece.is_some() {
            IpProto::FRAGMENT
        } else {
            proto
        };
        let extensions = self.extensions.iter().flatten();
        let mut extensions_len = if piece.is_some() { 8 } else { 0 };
        for (_, bytes) in extensions.clone() {
            extensions_len += bytes.len();
        }
        let (l4_len, payload) = self.fit(usize::from(u16::MAX).checked_sub(extensions_len)?);
        let head = Ipv6Fields {
            traffic_class: self.tos,
            flow_label: 0,
            payload_len: u16::try_from(extensions_len + l4_len + payload.len()).ok()?,
            next_header: extensions.clone().next().map_or(behind, |e| e.0),
            hop_limit: self.ttl,
            src,
            dst,
        };
        to.put(&head.to_bytes())?;
        let mut kinds = extensions.clone().skip(1).map(|e| e.0);
        for (_, bytes) in extensions {
            to.put(&[kinds.next().unwrap_or(behind)])?;
            to.put(bytes.get(1..)?)?;
        }
        if let Some(piece) = piece {
            to.put(&piece)?;
        }
        let len = u32::try_from(l4_len + payload.len()).ok()?;
        let pseudo = checksum::pseudo_v6(&src.octets(), &dst.octets(), proto, len);
        self.put_l4(to, payload, pseudo, pseudo)
    }

    /// Writes transport header and payload. `icmp_start` is the sum with which ICMP's checksum starts:
    /// nothing in IPv4, the pseudo header in IPv6.
    fn put_l4(
        &self,
        to: &mut Cursor<'_>,
        payload: &[u8],
        pseudo: Sum,
        icmp_start: Sum,
    ) -> Option<()> {
        if self.fragment.is_some_and(|(offset, _)| offset != 0) {
            return to.put(payload);
        }
        let at = to.at;
        let (field, start) = match self.l4 {
            L4::Raw(_) => return to.put(payload),
            L4::Udp(src_port, dst_port) => {
                let len = u16::try_from(udp::HEADER_LEN + payload.len()).ok()?;
                to.put(&udp::header(src_port, dst_port, len))?;
                (6, pseudo)
            }
            L4::Tcp(fields) => {
                let (padding, options) = padded_options(self.tcp_options);
                let header_len = tcp::MIN_HEADER_LEN + options.len() + padding.len();
                let mut head = fields.to_bytes();
                head[12] = u8::try_from(header_len / 4).ok()? << 4;
                to.put(&head)?;
                to.put(options)?;
                to.put(padding)?;
                (16, pseudo)
            }
            L4::Icmp(icmp_type, code, rest) => {
                to.put(&icmp::header(icmp_type, code, rest))?;
                (2, icmp_start)
            }
        };
        to.put(payload)?;
        let sum = start.with(to.out.get(at..to.at)?);
        let sum = match self.l4 {
            L4::Icmp(..) => sum.finish(),
            _ => sum.finish_nonzero(),
        };
        to.out
            .get_mut(at + field..at + field + 2)?
            .copy_from_slice(&sum.to_be_bytes());
        Some(())
    }

    /// Length of the transport header, and as much payload as fits `room` with it.
    fn fit(&self, room: usize) -> (usize, &'a [u8]) {
        let later = self.fragment.is_some_and(|(offset, _)| offset != 0);
        let l4_len = match self.l4 {
            _ if later => 0,
            L4::Raw(_) => 0,
            L4::Udp(..) => udp::HEADER_LEN,
            L4::Icmp(..) => icmp::HEADER_LEN,
            L4::Tcp(_) => {
                let (padding, options) = padded_options(self.tcp_options);
                tcp::MIN_HEADER_LEN + options.len() + padding.len()
            }
        };
        let len = self.payload.len().min(room.saturating_sub(l4_len));
        (l4_len, self.payload.get(..len).unwrap_or_default())
    }

    fn proto_number(&self, icmp: u8) -> u8 {
        match self.l4 {
            L4::Raw(proto) => proto,
            L4::Udp(..) => IpProto::UDP,
            L4::Tcp(_) => IpProto::TCP,
            L4::Icmp(..) => icmp,
        }
    }
}

/// Returns the zeros that pad options to a multiple of 4, and the options cut at 40 bytes.
fn padded_options(options: &[u8]) -> (&'static [u8], &[u8]) {
    let options = options.get(..40).unwrap_or(options);
    let padding = options.len().next_multiple_of(4) - options.len();
    (&[0; 3][..padding], options)
}

struct Cursor<'b> {
    out: &'b mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }
}

const _: () = assert!(ipv6::HEADER_LEN + tcp::MAX_HEADER_LEN + 14 + 4 * MAX_TAGS + 8 < 256);
const _: () = assert!(ipv4::MAX_HEADER_LEN + tcp::MAX_HEADER_LEN + 14 + 4 * MAX_TAGS < 256);
