// SPDX-License-Identifier: Apache-2.0
//! Transport checksums of parsed frames: TCP, UDP, ICMP and ICMPv6.

use crate::checksum::{Sum, pseudo_v4, pseudo_v6};
use crate::ipv6;
use crate::key::FlowKey;
use crate::parse::Parsed;
use crate::proto::IpProto;

/// Offset of the checksum field in a transport header of this protocol; `None` unless the checksum is
/// RFC 1071's and covers the whole packet.
const fn field_offset(proto: u8) -> Option<usize> {
    match proto {
        IpProto::TCP => Some(16),
        IpProto::UDP => Some(6),
        IpProto::ICMP | IpProto::ICMPV6 => Some(2),
        _ => None,
    }
}

/// Transport packet within a frame, as far as its checksum needs it.
struct Covered {
    /// Offset of the transport header in the frame.
    start: usize,
    /// Offset behind the packet's last byte, padding left out.
    end: usize,
    /// Offset of the checksum field in the transport header.
    field: usize,
    /// Sum of the pseudo header; empty for ICMP over IPv4, which has none.
    pseudo: Sum,
}

/// Finds the bytes that the transport checksum covers; `None` if there is no checksum to compute.
fn covered(frame: &[u8], parsed: &Parsed) -> Option<Covered> {
    let key = &parsed.key;
    if parsed.l4 == 0 || key.has(FlowKey::FRAGMENT) {
        return None;
    }
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let field = field_offset(key.proto)?;
    let ip = frame.get(l3..)?;
    let stated = if key.has(FlowKey::IPV4) {
        usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]))
    } else {
        usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?])) + ipv6::HEADER_LEN
    };
    let mut end = l3 + stated;
    if key.proto == IpProto::UDP {
        let udp = frame.get(l4..)?;
        end = l4 + usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    }
    let len = end.checked_sub(l4)?;
    if end > frame.len() || len < field + 2 {
        return None;
    }
    let len16 = u16::try_from(len).ok()?;
    let pseudo = match (key.has(FlowKey::IPV4), key.proto) {
        (true, IpProto::ICMP) => Sum::new(),
        (true, IpProto::ICMPV6) | (false, IpProto::ICMP) => return None,
        (true, proto) => {
            let [.., a, b, c, d] = key.src;
            let [.., e, f, g, h] = key.dst;
            pseudo_v4([a, b, c, d], [e, f, g, h], proto, len16)
        }
        (false, proto) => pseudo_v6(&key.src, &key.dst, proto, u32::from(len16)),
    };
    Some(Covered {
        start: l4,
        end,
        field,
        pseudo,
    })
}

/// Writes the transport checksum (TCP, UDP, ICMP, ICMPv6) of a whole packet, whatever its field held.
///
/// `false`, with nothing written, if there is none to write: another protocol, a fragment, non-IP, or
/// `parsed` is not of this frame.
pub fn fill_checksum(frame: &mut [u8], parsed: &Parsed) -> bool {
    let Some(covered) = covered(frame, parsed) else {
        return false;
    };
    let Some(packet) = frame.get_mut(covered.start..covered.end) else {
        return false;
    };
    let field = covered.field;
    packet[field..field + 2].fill(0);
    let sum = covered.pseudo.with(packet);
    let sum = if parsed.key.proto == IpProto::ICMP {
        sum.finish()
    } else {
        sum.finish_nonzero()
    };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Checks the transport checksum: `Some(true)` if it is correct; `None` if there is none to check: another protocol, a
/// fragment, non-IP, or UDP over IPv4 that was sent without.
#[must_use]
pub fn verify_checksum(frame: &[u8], parsed: &Parsed) -> Option<bool> {
    let Covered {
        start,
        end,
        field,
        pseudo,
    } = covered(frame, parsed)?;
    let packet = frame.get(start..end)?;
    let key = &parsed.key;
    if key.proto == IpProto::UDP && packet[field..field + 2] == [0, 0] {
        // IPv6 has no such exemption (RFC 8200, 8.1).
        return if key.has(FlowKey::IPV4) {
            None
        } else {
            Some(false)
        };
    }
    Some(pseudo.with(packet).finish() == 0)
}
