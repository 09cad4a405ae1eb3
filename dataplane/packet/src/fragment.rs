// SPDX-License-Identifier: Apache-2.0
//! Fragments: which datagram a piece is of, and which part of it.

use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;
use crate::key::FlowKey;
use crate::proto::IpProto;

/// Piece of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Identification of the datagram, unique for its addresses and, in IPv4, its protocol.
    pub id: u32,
    /// Protocol that goes with the identification: that of IPv4; 0 of IPv6, where the addresses alone do
    /// (RFC 8200, 4.5).
    pub proto: u8,
    /// Offset of the first byte in the datagram's payload.
    pub offset: u16,
    /// Offset behind the last byte, at most 65,535.
    pub end: u32,
}

/// Reads the piece that a frame carries, of which the parser made `key`; `l3` is the offset of its IP
/// header. `None` if it carries a whole packet.
#[must_use]
pub fn piece_of(frame: &[u8], key: &FlowKey, l3: u16) -> Option<Piece> {
    if !key.has(FlowKey::FRAGMENT) {
        return None;
    }
    let bytes = frame.get(usize::from(l3)..)?;
    let (id, proto, offset, len) = if key.has(FlowKey::IPV4) {
        let ip = Ipv4::new(bytes).ok()?;
        let id = u32::from(ip.id());
        (id, ip.proto(), ip.fragment_offset(), ip.payload().len())
    } else {
        let ip = Ipv6::new(bytes).ok()?;
        let mut before = 0;
        for extension in ip.extensions() {
            let extension = extension.ok()?;
            before += extension.bytes.len();
            if extension.kind == IpProto::FRAGMENT {
                break;
            }
        }
        let fragment = ip.upper().ok()?.fragment?;
        let len = ip.payload().len().saturating_sub(before);
        (fragment.id, 0, fragment.offset, len)
    };
    let end = u32::from(offset) + u32::try_from(len).ok()?;
    Some(Piece {
        id,
        proto,
        offset,
        end,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::build::FrameBuilder;
    use crate::mac::Mac;
    use crate::{InnerTag, parse};

    fn read(builder: &FrameBuilder<'_>) -> Option<Piece> {
        let frame = builder.build();
        let parsed = parse(&frame, InnerTag::Allow).unwrap();
        piece_of(&frame, &parsed.key, parsed.l3)
    }

    #[test]
    fn pieces_of_both_versions() {
        let eth = FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]));
        let v4 = eth.clone().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let v6 = eth.ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        for (ip, proto) in [(v4, 17), (v6, 0)] {
            let first = read(&ip.clone().udp(1, 2).payload(&[0; 24]).fragment(0, true)).unwrap();
            assert_eq!((first.proto, first.offset, first.end), (proto, 0, 32));
            let later = ip.clone().udp(1, 2).payload(&[0; 24]).fragment(32, false);
            let later = read(&later).unwrap();
            assert_eq!((later.proto, later.offset), (proto, 32));
            assert!(later.end > 32);
            assert_eq!(first.id, later.id);
            assert_eq!(read(&ip.udp(1, 2)), None);
        }
    }
}
