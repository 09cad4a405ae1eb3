// SPDX-License-Identifier: Apache-2.0
//! Frame as a connection tracker sees it: endpoints, event, and the numbers of a TCP segment.

use sluice_packet::tcp::Tcp;
use sluice_packet::{FlowKey, IpProto, Parsed};

use super::event::Event;
use super::outcome::Cause;
use super::tcp::Segment;

/// Scope of a connection: the attachment whose policies it is under, and its segment. A pair of pods on one
/// worker has one connection in each of two scopes, judged apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scope(u32);

impl Scope {
    /// Scope of attachment number `attachment`, below 4,096, in the segment `vid`, below 4,096; higher bits are
    /// cut off.
    #[must_use]
    pub const fn new(attachment: u16, vid: u16) -> Scope {
        Scope((attachment as u32 & 0xfff) << 12 | vid as u32 & 0xfff)
    }

    /// Number of 24 bits.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Scope of the bytes of its number, the least first.
    #[inline(always)]
    pub(crate) const fn of_bytes(bytes: [u8; 3]) -> Scope {
        let [a, b, c] = bytes;
        Scope(u32::from_le_bytes([a, b, c, 0]))
    }

    /// Number of the attachment.
    #[inline(always)]
    #[must_use]
    pub const fn attachment(self) -> usize {
        (self.0 >> 12) as usize
    }
}

/// Frame of a protocol that connections are tracked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackedFrame {
    /// Scope.
    pub scope: Scope,
    /// Source address, IPv4 in mapped form.
    pub src: [u8; 16],
    /// Destination address, likewise.
    pub dst: [u8; 16],
    /// Source port; of an ICMP query the identifier, of its answer the query's type.
    pub src_port: u16,
    /// Destination port; of an ICMP query its type, of its answer the identifier.
    pub dst_port: u16,
    /// IP protocol.
    pub proto: u8,
    /// Whether the packet is IPv6.
    pub is_v6: bool,
    /// Event.
    pub event: Event,
    /// Length of the frame in bytes.
    pub bytes: u32,
    /// Numbers of a TCP segment; all zero of other protocols.
    pub segment: Segment,
}

/// Reading of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Frame to look up.
    Tracked(TrackedFrame),
    /// Frame that makes no connection and is of none: it is for rules and guards alone.
    Untracked,
    /// ICMP error, which may be related to a connection.
    Error,
    /// Frame that cannot be of a connection.
    Invalid(Cause),
}

/// ICMP queries: their type and that of the answer.
const QUERIES: [(u8, u8, u8); 4] = [
    (IpProto::ICMP, 8, 0),
    (IpProto::ICMP, 13, 14),
    (IpProto::ICMPV6, 128, 129),
    (IpProto::ICMPV6, 139, 140),
];

/// Data of a TCP segment of which only the first fragment is there: the most there can be, since an ACK of what
/// the tracker does not know to be sent is invalid.
const FRAGMENTED_BYTES: u32 = 65_495;

impl TrackedFrame {
    /// Reads `frame`, which `parsed` is of; later fragments have a key that was completed with the ports of
    /// their first, else they are untracked.
    #[must_use]
    pub fn read(frame: &[u8], parsed: &Parsed, scope: Scope) -> Reading {
        let key = &parsed.key;
        if !key.is_ip() || is_group(key) || is_control(key.proto) {
            return Reading::Untracked;
        }
        if is_error(key) && !key.has(FlowKey::LATER_FRAGMENT) {
            return Reading::Error;
        }
        let mut tracked = TrackedFrame {
            scope,
            src: key.src,
            dst: key.dst,
            src_port: key.src_port,
            dst_port: key.dst_port,
            proto: key.proto,
            is_v6: key.has(FlowKey::IPV6),
            event: Event::Data,
            bytes: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            segment: Segment::default(),
        };
        let read = tracked.read_transport(frame, parsed);
        if read.is_ok() && (key.src, tracked.src_port) == (key.dst, tracked.dst_port) {
            return Reading::Invalid(Cause::SameEndpoint);
        }
        match read {
            Ok(()) => Reading::Tracked(tracked),
            Err(reading) => reading,
        }
    }

    fn read_transport(&mut self, frame: &[u8], parsed: &Parsed) -> Result<(), Reading> {
        let key = &parsed.key;
        let has_ports = key.has(FlowKey::PORTS);
        if key.has(FlowKey::LATER_FRAGMENT) {
            let is_icmp = matches!(key.proto, IpProto::ICMP | IpProto::ICMPV6);
            if is_icmp || !has_ports && has_ports_by_nature(key.proto) {
                return Err(Reading::Untracked);
            }
            self.event = Event::Piece;
            return Ok(());
        }
        let l4 = frame.get(usize::from(parsed.l4)..).unwrap_or_default();
        match key.proto {
            IpProto::TCP => {
                let tcp = Tcp::new(l4).map_err(|_| Reading::Untracked)?;
                let event = Event::of_tcp_flags(tcp.flags());
                self.event = event.ok_or(Reading::Invalid(Cause::BadFlags))?;
                let payload = if key.has(FlowKey::FRAGMENT) {
                    FRAGMENTED_BYTES
                } else {
                    payload_bytes(frame, parsed, tcp.header_len())
                };
                self.segment = Segment::read(&tcp, payload);
            }
            IpProto::SCTP => {
                /// First chunk: ABORT, SHUTDOWN COMPLETE, COOKIE ACK (RFC 9260, 3.2).
                const ABORT: u8 = 6;
                const SHUTDOWN_COMPLETE: u8 = 14;
                const COOKIE_ACK: u8 = 11;
                self.event = match l4.get(12) {
                    Some(&(ABORT | SHUTDOWN_COMPLETE)) => Event::Fin,
                    Some(&COOKIE_ACK) => Event::Answer,
                    _ => Event::Data,
                };
            }
            IpProto::ICMP | IpProto::ICMPV6 => {
                let (Some(&icmp_type), Some(&[a, b])) = (l4.first(), l4.get(4..6)) else {
                    return Err(Reading::Untracked);
                };
                let id = u16::from_be_bytes([a, b]);
                let ports = query_ports(key.proto, icmp_type, id).ok_or(Reading::Untracked)?;
                let is_answer;
                (self.src_port, self.dst_port, is_answer) = ports;
                if is_answer {
                    self.event = Event::Answer;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Ports that stand for an ICMP query of this type and identifier, or for the answer to one, and whether it is an
/// answer; `None` of any other message.
pub(crate) fn query_ports(proto: u8, icmp_type: u8, id: u16) -> Option<(u16, u16, bool)> {
    let mut queries = QUERIES.iter().filter(|(of, ..)| *of == proto);
    let (_, query, _) =
        queries.find(|(_, query, answer)| *query == icmp_type || *answer == icmp_type)?;
    let class = u16::from(*query);
    Some(if icmp_type == *query {
        (id, class, false)
    } else {
        (class, id, true)
    })
}

/// Whether the packet is to a group, or from nobody: no connection comes of it. Its answers are unicast.
fn is_group(key: &FlowKey) -> bool {
    let [.., a, b, c, d] = key.dst;
    let to_group = if key.has(FlowKey::IPV4) {
        a >= 224 || [a, b, c, d] == [0; 4]
    } else {
        key.dst[0] == 0xff
    };
    let [.., e, f, g, h] = key.src;
    let from_nobody = if key.has(FlowKey::IPV4) {
        [e, f, g, h] == [0; 4]
    } else {
        key.src == [0; 16]
    };
    to_group || from_nobody || key.dst_mac().is_multicast()
}

/// Whether the protocol is one by which neighbours speak to each other: IGMP, OSPF, PIM, VRRP. They must not
/// depend on room in a table.
fn is_control(proto: u8) -> bool {
    const OSPF: u8 = 89;
    const VRRP: u8 = 112;
    matches!(proto, IpProto::IGMP | IpProto::PIM | OSPF | VRRP)
}

/// Whether the message is one of the ICMP errors that can be related to a connection. Redirects, source quench
/// and unknown types are never: [`sluice_packet::icmp::is_error`], for which no answer may be sent, is wider.
fn is_error(key: &FlowKey) -> bool {
    if !key.has(FlowKey::ICMP) {
        return false;
    }
    if key.has(FlowKey::IPV4) {
        matches!(key.icmp_type, 3 | 11 | 12)
    } else {
        matches!(key.icmp_type, 1..=4)
    }
}

fn has_ports_by_nature(proto: u8) -> bool {
    matches!(
        proto,
        IpProto::TCP | IpProto::UDP | IpProto::UDP_LITE | IpProto::SCTP | IpProto::DCCP
    )
}

/// Bytes of data behind the TCP header, by the length that the IP header states.
fn payload_bytes(frame: &[u8], parsed: &Parsed, header_len: usize) -> u32 {
    let l3 = usize::from(parsed.l3);
    let ip = frame.get(l3..).unwrap_or_default();
    let stated = match *ip {
        [_, _, a, b, ..] if parsed.key.has(FlowKey::IPV4) => {
            usize::from(u16::from_be_bytes([a, b]))
        }
        [_, _, _, _, a, b, ..] => 40 + usize::from(u16::from_be_bytes([a, b])),
        _ => 0,
    };
    let before = usize::from(parsed.l4) - l3.min(usize::from(parsed.l4)) + header_len;
    u32::try_from(stated.saturating_sub(before)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use sluice_packet::build::FrameBuilder;
    use sluice_packet::tcp::{TcpFields, flag};
    use sluice_packet::{InnerTag, Mac, parse};

    use super::*;

    fn builder() -> FrameBuilder<'static> {
        FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]))
    }

    fn v4() -> FrameBuilder<'static> {
        builder().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
    }

    fn v6() -> FrameBuilder<'static> {
        builder().ipv6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
    }

    fn read(builder: FrameBuilder<'_>) -> Reading {
        let frame = builder.build();
        let parsed = parse(&frame, InnerTag::Allow).unwrap();
        TrackedFrame::read(&frame, &parsed, Scope::new(7, 210))
    }

    fn tracked(builder: FrameBuilder<'_>) -> TrackedFrame {
        match read(builder) {
            Reading::Tracked(tracked) => tracked,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scope_has_attachment_and_segment() {
        let scope = Scope::new(4095, 4094);
        assert_eq!(scope.attachment(), 4095);
        assert!(scope.number() < 1 << 24);
        assert_ne!(scope, Scope::new(4095, 4093));
    }

    #[test]
    fn data_is_counted_by_the_ip_length_padding_left_out() {
        let fields = TcpFields {
            src_port: 1,
            dst_port: 2,
            seq: 100,
            flags: flag::ACK | flag::PSH,
            ..TcpFields::default()
        };
        for ip in [v4(), v6()] {
            let short = ip.clone().tcp(fields).payload(&[1, 2, 3]).padded();
            let short = tracked(short);
            assert_eq!((short.event, short.segment.end), (Event::Ack, 103));
            let fragment = tracked(ip.tcp(fields).payload(&[0; 12]).fragment(0, true));
            assert_eq!(fragment.segment.end, 100 + FRAGMENTED_BYTES);
        }
    }

    #[test]
    fn echo_is_a_query_and_its_answer_the_reverse() {
        for (ip, query, answer) in [(v4(), 8, 0), (v6(), 128, 129)] {
            let query = tracked(ip.clone().icmp(query, 0, [1, 2, 0, 9]));
            let answer = tracked(ip.icmp(answer, 0, [1, 2, 0, 9]));
            assert_eq!(query.event, Event::Data);
            assert_eq!(answer.event, Event::Answer);
            let reversed = (answer.dst_port, answer.src_port);
            assert_eq!((query.src_port, query.dst_port), reversed);
            assert_eq!(query.src_port, 0x0102);
        }
    }

    #[test]
    fn what_needs_no_entry_makes_none() {
        let group = |dst: [u8; 4]| builder().ipv4([10, 0, 0, 1].into(), dst.into());
        for untracked in [
            group([224, 0, 0, 251]).udp(5353, 5353),
            group([255; 4]).udp(68, 67),
            builder()
                .ipv4([0; 4].into(), [10, 0, 0, 2].into())
                .udp(68, 67),
            builder()
                .ipv6("fd00::1".parse().unwrap(), "ff02::1".parse().unwrap())
                .icmp(128, 0, [0; 4]),
            v4().proto(2).payload(&[0; 8]),
            v4().proto(112).payload(&[0; 8]),
            v4().icmp(5, 0, [0; 4]),
            v4().icmp(4, 0, [0; 4]),
            v4().udp(1, 2).payload(&[0; 24]).fragment(8, false),
            builder().ethertype(0x88cc),
        ] {
            assert_eq!(read(untracked.clone()), Reading::Untracked, "{untracked:?}");
        }
        // Neighbour discovery, router discovery and MLD: of an identifier of 0, and of any other.
        for icmp_type in [130, 131, 132, 133, 134, 135, 136, 137, 143] {
            for id in [0, 1] {
                let frame = v6().icmp(icmp_type, 0, [0, id, 0, 0]).payload(&[0; 16]);
                assert_eq!(read(frame), Reading::Untracked, "{icmp_type}");
            }
        }
    }

    #[test]
    fn errors_are_those_of_the_list() {
        for icmp_type in 0..=255 {
            let v4 = read(v4().icmp(icmp_type, 0, [0; 4])) == Reading::Error;
            assert_eq!(v4, [3, 11, 12].contains(&icmp_type), "{icmp_type}");
            let v6 = read(v6().icmp(icmp_type, 0, [0; 4]).payload(&[0; 24])) == Reading::Error;
            assert_eq!(v6, [1, 2, 3, 4].contains(&icmp_type), "{icmp_type}");
        }
    }

    #[test]
    fn bad_flags_and_one_endpoint_are_invalid() {
        let fields = |flags| TcpFields {
            src_port: 1,
            dst_port: 2,
            flags,
            ..TcpFields::default()
        };
        let null = read(v4().tcp(fields(0)));
        assert_eq!(null, Reading::Invalid(Cause::BadFlags));
        let land = builder()
            .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 1].into())
            .udp(7, 7);
        assert_eq!(read(land), Reading::Invalid(Cause::SameEndpoint));
    }

    #[test]
    fn a_datagram_without_data_is_one() {
        for ip in [v4(), v6()] {
            let empty = tracked(ip.udp(0, 53));
            assert_eq!((empty.src_port, empty.dst_port), (0, 53));
            assert_eq!(empty.event, Event::Data);
        }
    }

    #[test]
    fn sctp_by_its_first_chunk() {
        let chunk = |kind: u8| {
            let mut payload = [0; 16];
            payload[..4].copy_from_slice(&[0, 1, 0, 2]);
            payload[12] = kind;
            tracked(v4().proto(IpProto::SCTP).payload(&payload)).event
        };
        let events = [1, 4, 6, 11, 14].map(chunk);
        let (data, fin) = (Event::Data, Event::Fin);
        assert_eq!(events, [data, data, fin, Event::Answer, fin]);
    }
}
