// SPDX-License-Identifier: Apache-2.0
//! Writers of the answers.

use std::net::IpAddr;

use super::IcmpError;
use super::answer::NoAnswer;
use super::buffer::{HEADROOM, RejectBuffer};
use crate::bytes::put;
use crate::checksum::{self, Sum};
use crate::ipv4::{Ipv4, Ipv4Fields};
use crate::ipv6::{Ipv6, Ipv6Fields};
use crate::key::FlowKey;
use crate::parse::Parsed;
use crate::proto::IpProto;
use crate::tcp::{Tcp, TcpFields, flag};
use crate::{eth, icmp, icmpv6, ipv4, ipv6, tcp};

/// Longest IPv4 answer in bytes (RFC 1812, 4.3.2.3).
const MAX_V4: usize = 576;
/// Longest IPv6 answer in bytes: the minimum MTU (RFC 4443, 2.4 (c)).
const MAX_V6: usize = 1280;
const TTL: u8 = 64;

/// Writes the IP and TCP headers of a RST over those of the frame, which are at least as long.
pub(super) fn reset(buf: &mut impl RejectBuffer, parsed: &Parsed) -> Result<(), NoAnswer> {
    let l3 = usize::from(parsed.l3);
    let packet = buf.frame().get(l3..).ok_or(NoAnswer::Mismatch)?;
    let mut out = [0; ipv6::HEADER_LEN + tcp::MIN_HEADER_LEN];
    let len = if parsed.key.has(FlowKey::IPV4) {
        let ip = Ipv4::new(packet).map_err(|_| NoAnswer::Mismatch)?;
        let tcp = Tcp::new(ip.payload()).map_err(|_| NoAnswer::Mismatch)?;
        let head = Ipv4Fields {
            tos: 0,
            total_len: 40,
            id: 0,
            fragment: 0x4000,
            ttl: TTL,
            proto: IpProto::TCP,
            src: ip.dst(),
            dst: ip.src(),
        };
        let pseudo = checksum::pseudo_v4(ip.dst().octets(), ip.src().octets(), IpProto::TCP, 20);
        put::<0, 20, _>(&mut out, head.to_bytes());
        put::<20, 20, _>(&mut out, reset_header(&tcp, pseudo));
        40
    } else {
        let ip = Ipv6::new(packet).map_err(|_| NoAnswer::Mismatch)?;
        let upper = ip.upper().map_err(|_| NoAnswer::Mismatch)?;
        let tcp = Tcp::new(upper.payload).map_err(|_| NoAnswer::Mismatch)?;
        let head = Ipv6Fields {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 20,
            next_header: IpProto::TCP,
            hop_limit: TTL,
            src: ip.dst(),
            dst: ip.src(),
        };
        let pseudo = checksum::pseudo_v6(&ip.dst().octets(), &ip.src().octets(), IpProto::TCP, 20);
        put::<0, 40, _>(&mut out, head.to_bytes());
        put::<40, 20, _>(&mut out, reset_header(&tcp, pseudo));
        60
    };
    buf.frame_mut()
        .get_mut(l3..l3 + len)
        .ok_or(NoAnswer::Mismatch)?
        .copy_from_slice(&out[..len]);
    buf.truncate(l3 + len);
    Ok(())
}

/// Builds the header of a RST (RFC 9293, 3.10.7.1): in answer to an ACK with the sequence number it
/// expects; else with 0 and an acknowledgement of all sequence numbers that the segment takes.
fn reset_header(tcp: &Tcp<'_>, pseudo: Sum) -> [u8; tcp::MIN_HEADER_LEN] {
    let flags = tcp.flags();
    let (seq, ack, answer) = if flags & flag::ACK != 0 {
        (tcp.ack(), 0, flag::RST)
    } else {
        // A packet's data is below 65,536 bytes; SYN and FIN take a number each.
        let data = u32::try_from(tcp.payload().len()).unwrap_or(0);
        let controls = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
        let ack = tcp.seq().wrapping_add(data).wrapping_add(controls);
        (0, ack, flag::RST | flag::ACK)
    };
    let mut out = TcpFields {
        src_port: tcp.dst_port(),
        dst_port: tcp.src_port(),
        seq,
        ack,
        flags: answer,
        window: 0,
    }
    .to_bytes();
    let sum = pseudo.with(&out).finish_nonzero();
    put::<16, 2, _>(&mut out, sum.to_be_bytes());
    out
}

/// Writes "administratively prohibited", from the original destination.
pub(super) fn prohibited(buf: &mut impl RejectBuffer, parsed: &Parsed) -> Result<(), NoAnswer> {
    let source = parsed.key.dst_ip().ok_or(NoAnswer::NonIp)?;
    let (icmp_type, code) = if source.is_ipv4() {
        (icmp::UNREACHABLE, icmp::CODE_ADMIN_PROHIBITED)
    } else {
        (icmpv6::UNREACHABLE, icmpv6::CODE_ADMIN_PROHIBITED)
    };
    let error = IcmpError {
        source,
        icmp_type,
        code,
        rest: [0; 4],
    };
    icmp_error(buf, parsed, &error)
}

/// Writes Ethernet header (and inner tag) and new IP and ICMP headers before the packet, which becomes
/// the quotation.
pub(super) fn icmp_error(
    buf: &mut impl RejectBuffer,
    parsed: &Parsed,
    error: &IcmpError,
) -> Result<(), NoAnswer> {
    let IcmpError {
        icmp_type,
        code,
        rest,
        ..
    } = *error;
    let l3 = usize::from(parsed.l3);
    let frame = buf.frame();
    let mut link = [0; eth::HEADER_LEN + 4];
    let link = link.get_mut(..l3).ok_or(NoAnswer::Mismatch)?;
    let (head, packet) = frame.split_at_checked(l3).ok_or(NoAnswer::Mismatch)?;
    link.copy_from_slice(head);
    let mut room = [0; HEADROOM];
    let (new, quoted): (&[u8], usize);
    if let IpAddr::V4(src) = error.source {
        const NEW: usize = ipv4::MIN_HEADER_LEN + icmp::HEADER_LEN;
        let ip = Ipv4::new(packet).map_err(|_| NoAnswer::Mismatch)?;
        quoted = usize::from(ip.total_len()).min(MAX_V4 - NEW);
        let quote = packet.get(..quoted).ok_or(NoAnswer::Mismatch)?;
        let ip_head = Ipv4Fields {
            // Internetwork control (RFC 1812, 4.3.2.5).
            tos: 0xc0,
            total_len: u16::try_from(NEW + quoted).map_err(|_| NoAnswer::Mismatch)?,
            id: 0,
            fragment: 0x4000,
            ttl: TTL,
            proto: IpProto::ICMP,
            src,
            dst: ip.src(),
        };
        let mut head = icmp::header(icmp_type, code, rest);
        let sum = Sum::new().with(&head).with(quote).finish();
        put::<2, 2, _>(&mut head, sum.to_be_bytes());
        put::<0, 20, _>(&mut room, ip_head.to_bytes());
        put::<20, 8, _>(&mut room, head);
        new = &room[..NEW];
    } else if let IpAddr::V6(src) = error.source {
        const NEW: usize = HEADROOM;
        let ip = Ipv6::new(packet).map_err(|_| NoAnswer::Mismatch)?;
        quoted = (ipv6::HEADER_LEN + ip.payload().len()).min(MAX_V6 - NEW);
        let quote = packet.get(..quoted).ok_or(NoAnswer::Mismatch)?;
        let len = u16::try_from(icmpv6::HEADER_LEN + quoted).map_err(|_| NoAnswer::Mismatch)?;
        let dst = ip.src();
        let ip_head = Ipv6Fields {
            traffic_class: 0,
            flow_label: 0,
            payload_len: len,
            next_header: IpProto::ICMPV6,
            hop_limit: TTL,
            src,
            dst,
        };
        let mut head = icmpv6::header(icmp_type, code, rest);
        let sum = checksum::pseudo_v6(
            &src.octets(),
            &dst.octets(),
            IpProto::ICMPV6,
            u32::from(len),
        );
        let sum = sum.with(&head).with(quote).finish_nonzero();
        put::<2, 2, _>(&mut head, sum.to_be_bytes());
        put::<0, 40, _>(&mut room, ip_head.to_bytes());
        put::<40, 8, _>(&mut room, head);
        new = &room[..NEW];
    } else {
        return Err(NoAnswer::Mismatch);
    }
    if !buf.prepend(new.len()) {
        return Err(NoAnswer::NoRoom);
    }
    let before = l3 + new.len();
    let Some(front) = buf.frame_mut().get_mut(..before) else {
        return Err(NoAnswer::NoRoom);
    };
    front[..l3].copy_from_slice(link);
    front[l3..].copy_from_slice(new);
    buf.truncate(before + quoted);
    Ok(())
}
