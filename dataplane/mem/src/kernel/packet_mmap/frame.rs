// SPDX-License-Identifier: Apache-2.0
//! A received frame, and what its virtio_net_hdr says (virtio 1.2, section 5.1.6).

/// Bytes of a virtio_net_hdr without the fields of later versions.
pub(crate) const VNET_HDR_BYTES: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A frame in a slot of the receive ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxFrame<'a> {
    /// The frame, from its destination MAC on, without the outermost tag.
    pub data: &'a [u8],
    /// Bytes that the frame had before it was cut to its slot.
    pub wire_len: usize,
    /// TPID and TCI of the outermost tag, which the kernel took out.
    pub vlan: Option<(u16, u16)>,
    /// The kernel left a checksum to the netdev: where the sum starts, and how far from there its
    /// field is, in bytes of `data`. The field holds the pseudo-header's sum. For SCTP it is a
    /// CRC32c and not a sum.
    pub csum_not_ready: Option<(u16, u16)>,
    /// The frame is to be cut into segments.
    pub gso: Option<GsoInfo>,
    /// Whether `data` lacks the frame's end, as its slot was too small.
    pub truncated: bool,
    /// Whether the ring was full, and frames lost, since the statistics were last read.
    pub losing: bool,
}

/// Segmentation of a super-frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GsoInfo {
    /// Protocol whose rules apply.
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last.
    pub segment_bytes: u16,
    /// Bytes of the headers that each segment repeats, a hint that may be too large.
    pub header_bytes: u16,
    /// TCP with ECN: CWR on the first segment only.
    pub ecn: bool,
}

/// The protocol of a super-frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagram to be fragmented by IP.
    UdpFragments,
    /// Several UDP datagrams.
    Udp,
    /// Unknown kind, by its number.
    Other(u8),
}

/// A virtio_net_hdr in the machine's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VnetHdr {
    pub(crate) csum_not_ready: Option<(u16, u16)>,
    pub(crate) gso: Option<GsoInfo>,
}

impl VnetHdr {
    pub(crate) fn parse(bytes: [u8; VNET_HDR_BYTES]) -> VnetHdr {
        let [flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1] = bytes;
        let kind = match gso_type & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some(GsoKind::TcpV4),
            GSO_TCPV6 => Some(GsoKind::TcpV6),
            GSO_UDP => Some(GsoKind::UdpFragments),
            GSO_UDP_L4 => Some(GsoKind::Udp),
            other => Some(GsoKind::Other(other)),
        };
        VnetHdr {
            csum_not_ready: (flags & NEEDS_CSUM != 0)
                .then(|| (u16::from_ne_bytes([c0, c1]), u16::from_ne_bytes([o0, o1]))),
            gso: kind.map(|kind| GsoInfo {
                kind,
                segment_bytes: u16::from_ne_bytes([s0, s1]),
                header_bytes: u16::from_ne_bytes([h0, h1]),
                ecn: gso_type & GSO_ECN != 0,
            }),
        }
    }
}
