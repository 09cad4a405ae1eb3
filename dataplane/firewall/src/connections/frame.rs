// SPDX-License-Identifier: Apache-2.0
//! Frame as a connection tracker sees it: endpoints, event, and the numbers of a TCP segment.

use sluice_packet::tcp::Tcp;
use sluice_packet::{FlowKey, IpProto, Parsed};

use super::event::Event;
use super::outcome::Cause;
use super::queries::query_ports;
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

/// Parsed frame: its bytes, its key, and the offsets of its layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'f> {
    /// Bytes of the frame.
    pub bytes: &'f [u8],
    /// Key; that of a later fragment was completed with the ports of its first.
    pub key: &'f FlowKey,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header; 0 if there is none to read.
    pub l4: u16,
}

impl<'f> Layers<'f> {
    /// Layers of a frame as the parser found them.
    #[must_use]
    pub const fn of(bytes: &'f [u8], parsed: &'f Parsed) -> Layers<'f> {
        Layers {
            bytes,
            key: &parsed.key,
            l3: parsed.l3,
            l4: parsed.l4,
        }
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

/// Data of a TCP segment of which only the first fragment is there: the most there can be, since an ACK of what
/// the tracker does not know to be sent is invalid.
const FRAGMENTED_BYTES: u32 = 65_495;

impl TrackedFrame {
    /// Reads a frame. A later fragment whose key was not completed with the ports of its first is untracked.
    #[must_use]
    pub fn read(frame: &Layers<'_>, scope: Scope) -> Reading {
        let key = frame.key;
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
            bytes: u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
            segment: Segment::default(),
        };
        let read = tracked.read_transport(frame);
        if read.is_ok() && (key.src, tracked.src_port) == (key.dst, tracked.dst_port) {
            return Reading::Invalid(Cause::SameEndpoint);
        }
        match read {
            Ok(()) => Reading::Tracked(tracked),
            Err(reading) => reading,
        }
    }

    fn read_transport(&mut self, frame: &Layers<'_>) -> Result<(), Reading> {
        let key = frame.key;
        let has_ports = key.has(FlowKey::PORTS);
        if key.has(FlowKey::LATER_FRAGMENT) {
            let is_icmp = matches!(key.proto, IpProto::ICMP | IpProto::ICMPV6);
            if is_icmp || !has_ports && has_ports_by_nature(key.proto) {
                return Err(Reading::Untracked);
            }
            self.event = Event::Piece;
            return Ok(());
        }
        let l4 = frame.bytes.get(usize::from(frame.l4)..);
        let l4 = l4.unwrap_or_default();
        match key.proto {
            IpProto::TCP => {
                let tcp = Tcp::new(l4).map_err(|_| Reading::Untracked)?;
                let event = Event::of_tcp_flags(tcp.flags());
                self.event = event.ok_or(Reading::Invalid(Cause::BadFlags))?;
                let payload = if key.has(FlowKey::FRAGMENT) {
                    FRAGMENTED_BYTES
                } else {
                    payload_bytes(frame, tcp.header_len())
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
fn payload_bytes(frame: &Layers<'_>, header_len: usize) -> u32 {
    let l3 = usize::from(frame.l3);
    let ip = frame.bytes.get(l3..).unwrap_or_default();
    let stated = match *ip {
        [_, _, a, b, ..] if frame.key.has(FlowKey::IPV4) => usize::from(u16::from_be_bytes([a, b])),
        [_, _, _, _, a, b, ..] => 40 + usize::from(u16::from_be_bytes([a, b])),
        _ => 0,
    };
    let before = usize::from(frame.l4) - l3.min(usize::from(frame.l4)) + header_len;
    u32::try_from(stated.saturating_sub(before)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
