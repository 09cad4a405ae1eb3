// SPDX-License-Identifier: Apache-2.0
//! ICMP errors that are related to a connection, because they are about a packet of it.
//!
//! The outer source may be anybody: the router on the way is no party. All else must fit, and an error neither
//! ends nor refreshes a connection.

use sluice_packet::{FlowKey, IpProto, Parsed, l4};

use super::event::Event;
use super::frame::{Layers, Scope, TrackedFrame};
use super::outcome::Cause;
use super::queries::query_ports;
use super::tcp::Segment;
use crate::verdict::Direction;

/// Least MTU of an IPv4 path (RFC 791), and of an IPv6 one (RFC 8200; below that RFC 8021 wants it dropped).
const MIN_MTU: [u32; 2] = [68, 1280];
/// Bytes of the ICMP header of an error.
const HEADER: usize = 8;

/// Packet that an error is about, found plausible as far as that needs no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct About {
    /// Frame as its sender has sent it.
    pub(crate) frame: TrackedFrame,
    /// Direction in which it must have travelled: against the error.
    pub(crate) direction: Direction,
}

/// Reads an ICMP error that travels in `direction`; `mtu` is the attachment's own, in bytes.
///
/// # Errors
/// The cause for which it is related to nothing.
pub(crate) fn about(
    error: &Layers<'_>,
    scope: Scope,
    direction: Direction,
    mtu: u16,
) -> Result<About, Cause> {
    let (bytes, key) = (error.bytes, error.key);
    let parsed = Parsed {
        inner: None,
        l3: error.l3,
        l4: error.l4,
        key: *key,
    };
    // Only errors pay for this (RFC 5508, REQ-3). A fragment has none that could be checked.
    if l4::verify_checksum(bytes, &parsed) != Some(true) {
        return Err(Cause::ErrorChecksum);
    }
    let message = bytes.get(usize::from(error.l4)..).unwrap_or_default();
    let (header, inner) = message
        .split_first_chunk::<HEADER>()
        .ok_or(Cause::ErrorInner)?;
    let is_v6 = key.has(FlowKey::IPV6);
    check_mtu(key, header, is_v6, mtu)?;
    let frame = inner_frame(inner, scope, is_v6)?;
    if frame.src != key.dst {
        // Linux and pf did not look (CVE-2019-5598).
        return Err(Cause::ErrorDestination);
    }
    let direction = match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    Ok(About { frame, direction })
}

/// Refuses an MTU that no path has, or that does not stand in the way. An IPv4 router that is old sends 0.
fn check_mtu(key: &FlowKey, header: &[u8; HEADER], is_v6: bool, own: u16) -> Result<(), Cause> {
    let [.., a, b, c, d] = *header;
    let stated = match (is_v6, key.icmp_type, key.icmp_code) {
        (false, 3, 4) => u32::from(u16::from_be_bytes([c, d])),
        (true, 2, _) => u32::from_be_bytes([a, b, c, d]),
        _ => return Ok(()),
    };
    if !is_v6 && stated == 0 {
        return Ok(());
    }
    if stated < MIN_MTU[usize::from(is_v6)] || stated >= u32::from(own) {
        return Err(Cause::ErrorMtu);
    }
    Ok(())
}

/// Reads the packet that an error is about: the IP header and the eight bytes behind it are sure to be there.
fn inner_frame(inner: &[u8], scope: Scope, is_v6: bool) -> Result<TrackedFrame, Cause> {
    let header = if is_v6 { v6(inner) } else { v4(inner) };
    let (src, dst, proto, l4) = header.ok_or(Cause::ErrorInner)?;
    let head: &[u8; 8] = l4.first_chunk().ok_or(Cause::ErrorInner)?;
    let [a, b, c, d, e, f, g, h] = *head;
    let mut frame = TrackedFrame {
        scope,
        src,
        dst,
        src_port: u16::from_be_bytes([a, b]),
        dst_port: u16::from_be_bytes([c, d]),
        proto,
        is_v6,
        event: Event::Piece,
        bytes: 0,
        segment: Segment::default(),
    };
    match proto {
        IpProto::TCP => frame.segment.seq = u32::from_be_bytes([e, f, g, h]),
        IpProto::UDP | IpProto::UDP_LITE | IpProto::SCTP | IpProto::DCCP => {}
        IpProto::ICMP | IpProto::ICMPV6 => {
            let id = u16::from_be_bytes([e, f]);
            let ports = query_ports(proto, a, id);
            (frame.src_port, frame.dst_port, _) = ports.ok_or(Cause::ErrorInner)?;
        }
        _ => (frame.src_port, frame.dst_port) = (0, 0),
    }
    Ok(frame)
}

/// Addresses, protocol and transport bytes of a packet.
type Inner<'a> = ([u8; 16], [u8; 16], u8, &'a [u8]);

/// Packet of IPv4, cut as it may be; `None` of a later fragment.
fn v4(bytes: &[u8]) -> Option<Inner<'_>> {
    let head: &[u8; 20] = bytes.first_chunk()?;
    let header_len = usize::from(head[0] & 0xf) * 4;
    let is_first = u16::from_be_bytes([head[6], head[7]]) & 0x1fff == 0;
    if head[0] >> 4 != 4 || header_len < head.len() || !is_first {
        return None;
    }
    let [.., a, b, c, d, e, f, g, h] = *head;
    let (src, dst) = (FlowKey::mapped([a, b, c, d]), FlowKey::mapped([e, f, g, h]));
    Some((src, dst, head[9], bytes.get(header_len..)?))
}

/// Packet of IPv6, cut as it may be; `None` of a later fragment, and where the transport header lies behind more
/// extension headers than are walked.
fn v6(bytes: &[u8]) -> Option<Inner<'_>> {
    /// Extension headers that are walked, as many as in a whole packet.
    const MAX_EXTENSIONS: usize = 8;
    let (head, mut rest) = bytes.split_first_chunk::<40>()?;
    if head[0] >> 4 != 6 {
        return None;
    }
    let (src, dst) = (*head[8..].first_chunk()?, *head[24..].first_chunk()?);
    let mut proto = head[6];
    for _ in 0..=MAX_EXTENSIONS {
        let units = match (proto, rest) {
            (IpProto::HOP_BY_HOP | IpProto::ROUTING | IpProto::DEST_OPTIONS, [_, len, ..]) => {
                usize::from(*len) + 1
            }
            (IpProto::FRAGMENT, [_, _, a, b, ..]) => {
                let offset = u16::from_be_bytes([*a, *b]) >> 3;
                if offset != 0 {
                    return None;
                }
                1
            }
            (IpProto::NO_NEXT, _) => return None,
            _ => return Some((src, dst, proto, rest)),
        };
        proto = *rest.first()?;
        rest = rest.get(8 * units..)?;
    }
    None
}
