// SPDX-License-Identifier: Apache-2.0
//! Generic segmentation offload (GSO): cuts an oversize TCP or UDP frame into segments that fit the
//! wire, as a NIC does.
//!
//! A kernel hands frames of up to 64 KiB to a packet socket and says in the virtio-net header how much
//! payload each segment is to have (Virtio 1.3, 5.1.6.2: `gso_size`). Each segment gets the frame's
//! headers with its own lengths, IPv4 identification (counting up), TCP sequence number, flags (FIN and
//! PSH on the last only, CWR on the first only: RFC 3168, 6.1.2) and checksums.

use crate::bytes::be16;
use crate::checksum::{self, Sum};
use crate::error::ParseError;
use crate::ethertype::EtherType;
use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;
use crate::key::FlowKey;
use crate::parse::network;
use crate::proto::IpProto;
use crate::tcp::{Tcp, flag};
use crate::udp::Udp;
use crate::{eth, udp};

/// Most bytes of headers, Ethernet's to TCP's, that can be repeated on each segment: two tags, IPv6,
/// 60 bytes of TCP and 134 bytes of extension headers.
pub const MAX_HEADERS: usize = 256;

/// Reason why a frame cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GsoError {
    /// Frame with wrong headers.
    #[error("the oversize frame cannot be cut: {0}")]
    Parse(#[from] ParseError),
    /// Frame that is neither TCP nor UDP, or a fragment, or authenticated (AH), or TCP with SYN, RST or
    /// URG, whose meaning is tied to one segment.
    #[error(
        "the oversize frame is not of a kind that can be cut; turn off gso and tso at its sender"
    )]
    NotSegmentable,
    /// Frame with more bytes of headers than [`MAX_HEADERS`].
    #[error(
        "the oversize frame has more than {MAX_HEADERS} bytes of headers; turn off gso at its sender"
    )]
    HeadersTooLong,
    /// Segment size of 0.
    #[error(
        "segments without payload were asked for; the MTU is too small for the frame's headers"
    )]
    ZeroSize,
}

/// Oversize frame that can be cut.
#[derive(Debug, Clone, Copy)]
pub struct Oversize<'a> {
    /// Bytes before the payload.
    headers: &'a [u8],
    payload: &'a [u8],
    l3: usize,
    l4: usize,
    key: FlowKey,
    seq: u32,
    flags: u8,
}

impl<'a> Oversize<'a> {
    /// Parses the headers. Up to two tags may be in the bytes, so that a frame can be cut before
    /// its outer tag is removed. Bytes behind the IP packet are left out of the segments. A packet of
    /// more than 64 KiB (the kernel's "BIG TCP", whose length field says 0) is a `Parse` error.
    pub fn new(frame: &'a [u8]) -> Result<Oversize<'a>, GsoError> {
        let (l3, ethertype) = skip_tags(frame)?;
        let packet = frame.get(l3..).ok_or(ParseError::Truncated)?;
        let mut key = FlowKey::default();
        let offset = network(packet, ethertype, &mut key)?;
        let tcp_or_udp = matches!(key.proto, IpProto::TCP | IpProto::UDP);
        if !tcp_or_udp || !key.has(FlowKey::PORTS) || key.has(FlowKey::FRAGMENT) {
            return Err(GsoError::NotSegmentable);
        }
        let upper = if key.has(FlowKey::IPV4) {
            Ipv4::new(packet)?.payload()
        } else {
            let ip = Ipv6::new(packet)?;
            for extension in ip.extensions() {
                if matches!(extension?.kind, IpProto::AH | IpProto::FRAGMENT) {
                    return Err(GsoError::NotSegmentable);
                }
            }
            ip.upper()?.payload
        };
        let (header_len, payload, seq, flags) = if key.proto == IpProto::TCP {
            let tcp = Tcp::new(upper)?;
            (tcp.header_len(), tcp.payload(), tcp.seq(), tcp.flags())
        } else {
            (udp::HEADER_LEN, Udp::new(upper)?.payload(), 0, 0)
        };
        if flags & (flag::SYN | flag::RST | flag::URG) != 0 {
            return Err(GsoError::NotSegmentable);
        }
        let l4 = l3 + offset;
        let headers = frame.get(..l4 + header_len).ok_or(ParseError::Truncated)?;
        if headers.len() > MAX_HEADERS {
            return Err(GsoError::HeadersTooLong);
        }
        Ok(Oversize {
            headers,
            payload,
            l3,
            l4,
            key,
            seq,
            flags,
        })
    }

    /// Largest payload of a segment under `mtu` (bytes from the IP header on); `None` if the headers
    /// alone fill it.
    #[must_use]
    pub fn size_for_mtu(&self, mtu: u16) -> Option<u16> {
        let headers = u16::try_from(self.headers.len() - self.l3).ok()?;
        mtu.checked_sub(headers).filter(|size| *size > 0)
    }

    /// Number of segments that [`Oversize::segments`] will make.
    #[must_use]
    pub fn count(&self, size: u16) -> usize {
        self.payload.len().div_ceil(usize::from(size).max(1)).max(1)
    }

    /// Passes each segment to `sink`, headers and payload, in order, until it returns `false`; returns
    /// the number that it took. `size` is the largest payload of each, in bytes.
    ///
    /// A payload that fits is one segment: the frame with its checksums completed. UDP over IPv4 sent
    /// without a checksum stays without.
    pub fn segments(
        &self,
        size: u16,
        mut sink: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<usize, GsoError> {
        if size == 0 {
            return Err(GsoError::ZeroSize);
        }
        let mut room = [0; MAX_HEADERS];
        let headers = room
            .get_mut(..self.headers.len())
            .ok_or(GsoError::HeadersTooLong)?;
        headers.copy_from_slice(self.headers);
        let last = self.count(size) - 1;
        let mut taken = 0;
        let mut rest = self.payload;
        let mut seq = self.seq;
        for index in 0..=last {
            let (payload, behind) = rest.split_at(rest.len().min(usize::from(size)));
            rest = behind;
            // One IP packet has less than 65,536 bytes, hence fewer segments too.
            let count = u16::try_from(index).unwrap_or(u16::MAX);
            self.put_lengths(headers, payload.len(), count);
            if self.key.proto == IpProto::TCP {
                let mut flags = self.flags;
                if index != last {
                    flags &= !(flag::FIN | flag::PSH);
                }
                if index != 0 {
                    flags &= !flag::CWR;
                }
                headers[self.l4 + 4..self.l4 + 8].copy_from_slice(&seq.to_be_bytes());
                headers[self.l4 + 13] = flags;
                seq = seq.wrapping_add(u32::from(size));
            }
            self.put_checksum(headers, payload);
            if !sink(headers, payload) {
                break;
            }
            taken += 1;
        }
        Ok(taken)
    }

    fn put_lengths(&self, headers: &mut [u8], payload_len: usize, index: u16) {
        // Never more than the frame's own, which fitted.
        let len = |from: usize| {
            u16::try_from(self.headers.len() - from + payload_len)
                .unwrap_or(u16::MAX)
                .to_be_bytes()
        };
        let ip = self.l3;
        if self.key.has(FlowKey::IPV4) {
            headers[ip + 2..ip + 4].copy_from_slice(&len(ip));
            let id = u16::from_be_bytes([self.headers[ip + 4], self.headers[ip + 5]]);
            headers[ip + 4..ip + 6].copy_from_slice(&id.wrapping_add(index).to_be_bytes());
            headers[ip + 10..ip + 12].fill(0);
            let sum = checksum::of(&headers[ip..self.l4]);
            headers[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        } else {
            headers[ip + 4..ip + 6].copy_from_slice(&len(ip + crate::ipv6::HEADER_LEN));
        }
        if self.key.proto == IpProto::UDP {
            headers[self.l4 + 4..self.l4 + 6].copy_from_slice(&len(self.l4));
        }
    }

    fn put_checksum(&self, headers: &mut [u8], payload: &[u8]) {
        let key = &self.key;
        let v4 = key.has(FlowKey::IPV4);
        let field = if key.proto == IpProto::TCP { 16 } else { 6 };
        let at = self.l4 + field;
        if key.proto == IpProto::UDP && v4 && headers[at..at + 2] == [0, 0] {
            return;
        }
        headers[at..at + 2].fill(0);
        let len = self.headers.len() - self.l4 + payload.len();
        let pseudo: Sum = if v4 {
            let [.., a, b, c, d] = key.src;
            let [.., e, f, g, h] = key.dst;
            let len = u16::try_from(len).unwrap_or(u16::MAX);
            checksum::pseudo_v4([a, b, c, d], [e, f, g, h], key.proto, len)
        } else {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            checksum::pseudo_v6(&key.src, &key.dst, key.proto, len)
        };
        let sum = pseudo.with(&headers[self.l4..]).with(payload);
        headers[at..at + 2].copy_from_slice(&sum.finish_nonzero().to_be_bytes());
    }
}

/// Offset of what follows at most two tags, and its EtherType.
fn skip_tags(frame: &[u8]) -> Result<(usize, u16), ParseError> {
    let head: &[u8; eth::HEADER_LEN] = frame.first_chunk().ok_or(ParseError::Truncated)?;
    let mut ethertype = be16::<12, _>(head);
    let mut l3 = eth::HEADER_LEN;
    while EtherType::is_tag(ethertype) {
        if l3 > eth::HEADER_LEN + 4 {
            return Err(ParseError::ThirdTag);
        }
        let tag: &[u8; 4] = frame
            .get(l3..)
            .and_then(|rest| rest.first_chunk())
            .ok_or(ParseError::Truncated)?;
        ethertype = be16::<2, _>(tag);
        l3 += 4;
    }
    Ok((l3, ethertype))
}

#[cfg(test)]
mod tests;
