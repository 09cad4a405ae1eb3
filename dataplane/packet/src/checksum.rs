//! The Internet checksum (RFC 1071).
//!
//! The sum is taken over native-endian words, 32 bytes a step, and swapped once at the end: the
//! checksum does not depend on the byte order it is computed in (RFC 1071, 2 (B)).

use crate::parse::Parsed;
use crate::{FlowKey, IpProto, ParseError};

/// A sum in progress. Pieces may be of any length, odd ones too: the next piece goes on where the
/// last one stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// Ones' complement sum of the native-endian 16-bit words so far.
    acc: u16,
    /// The next byte goes into the second half of a word.
    odd: bool,
}

impl Sum {
    /// Nothing summed yet.
    #[inline]
    #[must_use]
    pub const fn new() -> Sum {
        Sum { acc: 0, odd: false }
    }

    /// Goes on over `bytes`; at most 4 GiB of them a call.
    #[inline]
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Sum {
        let mut sum = sum_words(bytes);
        if self.odd {
            // Bytes that begin in the second half of a word count for what their swap would.
            sum = u64::from(fold(sum).swap_bytes());
        }
        Sum {
            acc: fold(u64::from(self.acc) + sum),
            odd: self.odd ^ (bytes.len() % 2 == 1),
        }
    }

    /// Goes on over one big-endian 16-bit word. For whole words only: not in the middle of one.
    #[inline]
    #[must_use]
    pub fn with_u16(self, word: u16) -> Sum {
        self.with(&word.to_be_bytes())
    }

    /// Goes on over one big-endian 32-bit word.
    #[inline]
    #[must_use]
    pub fn with_u32(self, word: u32) -> Sum {
        self.with(&word.to_be_bytes())
    }

    /// The sum without the final complement, in host order: what a partial checksum field holds.
    #[inline]
    #[must_use]
    pub fn partial(self) -> u16 {
        u16::from_be_bytes(self.acc.to_ne_bytes())
    }

    /// The checksum, in host order. 0 over data that includes a right checksum.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.partial()
    }

    /// The checksum as TCP's, UDP's and ICMPv6's are written: 0xffff in place of 0, which in UDP
    /// means "none" (RFC 768) and is the same number in ones' complement.
    #[inline]
    #[must_use]
    pub fn finish_nonzero(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Folds to 16 bits with end-around carry.
#[inline]
fn fold(acc: u64) -> u16 {
    let acc = (acc & 0xffff_ffff) + (acc >> 32);
    let acc = (acc & 0xffff_ffff) + (acc >> 32);
    let acc = (acc & 0xffff) + (acc >> 16);
    let acc = (acc & 0xffff) + (acc >> 16);
    (acc & 0xffff) as u16
}

/// Sum of native-endian words; an odd last byte counts as the first half of a word.
///
/// 32-bit words are added into 64-bit lanes that cannot overflow below 16 GiB, which leaves no carries
/// to look after and lets the compiler use vectors.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut sum = lanes.iter().sum::<u64>();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let last = match *rest {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    sum + u64::from(u32::from_ne_bytes(last))
}

/// The checksum of `bytes`, in host order; 0 if they include a right one.
#[inline]
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::new().with(bytes).finish()
}

/// The pseudo header of TCP and UDP over IPv4 (RFC 9293, 3.1). `len_bytes` is of the whole segment.
#[must_use]
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], proto: u8, len_bytes: u16) -> Sum {
    Sum::new()
        .with(&src)
        .with(&dst)
        .with_u16(u16::from(proto))
        .with_u16(len_bytes)
}

/// The pseudo header of upper-layer protocols over IPv6 (RFC 8200, 8.1). `len_bytes` is of the whole
/// upper-layer packet.
#[must_use]
pub fn pseudo_v6(src: &[u8; 16], dst: &[u8; 16], proto: u8, len_bytes: u32) -> Sum {
    Sum::new()
        .with(src)
        .with(dst)
        .with_u32(len_bytes)
        .with_u32(u32::from(proto))
}

/// A checksum field after one 16-bit word that it covers changed (RFC 1624, equation 3).
#[inline]
#[must_use]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) as u16)
}

/// Completes a partial checksum as a NIC would: the field, `offset` bytes behind `start`, holds the
/// pseudo header's sum; it becomes the checksum of everything from `start` to the end of the frame.
///
/// This is what virtio-net's `csum_start` and `csum_offset` ask for (Virtio 1.3, 5.1.6.2) and so what
/// AF_PACKET asks for with `PACKET_VNET_HDR`. As the kernel does, 0 is written as 0xffff.
/// `Truncated`, with nothing written, if the field is not inside the frame.
pub fn complete(frame: &mut [u8], start: u16, offset: u16) -> Result<(), ParseError> {
    let covered = frame
        .get_mut(usize::from(start)..)
        .ok_or(ParseError::Truncated)?;
    let offset = usize::from(offset);
    if covered.len() < offset + 2 {
        return Err(ParseError::Truncated);
    }
    let sum = Sum::new().with(covered).finish_nonzero();
    covered[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// Offset of the checksum in a transport header of this protocol, if it is one whose checksum is
/// RFC 1071's and covers the whole packet.
pub(crate) const fn field_offset(proto: u8) -> Option<usize> {
    match proto {
        IpProto::TCP => Some(16),
        IpProto::UDP => Some(6),
        IpProto::ICMP | IpProto::ICMPV6 => Some(2),
        _ => None,
    }
}

/// The transport part of a frame and the sum that starts off its checksum.
fn transport(frame: &[u8], parsed: &Parsed) -> Option<(usize, usize, usize, Sum)> {
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
        usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?])) + crate::ipv6::HEADER_LEN
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
    let sum = match (key.has(FlowKey::IPV4), key.proto) {
        (true, IpProto::ICMP) => Sum::new(),
        (true, IpProto::ICMPV6) | (false, IpProto::ICMP) => return None,
        (true, proto) => {
            let [.., a, b, c, d] = key.src;
            let [.., e, f, g, h] = key.dst;
            pseudo_v4([a, b, c, d], [e, f, g, h], proto, len16)
        }
        (false, proto) => pseudo_v6(&key.src, &key.dst, proto, u32::from(len16)),
    };
    Some((l4, end, field, sum))
}

/// Writes the transport checksum (TCP, UDP, ICMP, ICMPv6) of a whole packet, whatever its field held.
///
/// `false`, with nothing written, if there is none to write: another protocol, a fragment, non-IP, or
/// `parsed` is not of this frame.
pub fn fill(frame: &mut [u8], parsed: &Parsed) -> bool {
    let Some((l4, end, field, pseudo)) = transport(frame, parsed) else {
        return false;
    };
    let Some(packet) = frame.get_mut(l4..end) else {
        return false;
    };
    packet[field..field + 2].fill(0);
    let sum = pseudo.with(packet);
    let sum = if parsed.key.proto == IpProto::ICMP {
        sum.finish()
    } else {
        sum.finish_nonzero()
    };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Whether the transport checksum is right; `None` if there is none to check: another protocol, a
/// fragment, non-IP, or UDP over IPv4 that was sent without.
#[must_use]
pub fn verify(frame: &[u8], parsed: &Parsed) -> Option<bool> {
    let (l4, end, field, pseudo) = transport(frame, parsed)?;
    let packet = frame.get(l4..end)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().with(&bytes).partial(), 0xddf2);
        assert_eq!(of(&bytes), !0xddf2);
    }

    /// The example of RFC 1624, section 4: equation 3 gives 0 where equation 2 would give 0xffff.
    #[test]
    fn rfc_1624_example() {
        assert_eq!(updated(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn pieces_make_the_whole() {
        let bytes: Vec<u8> = (0..=255u8).cycle().take(999).collect();
        let whole = of(&bytes);
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(Sum::new().with(a).with(b).finish(), whole, "cut at {cut}");
        }
        let bytewise = bytes.iter().fold(Sum::new(), |sum, b| sum.with(&[*b]));
        assert_eq!(bytewise.finish(), whole);
    }

    #[test]
    fn all_ones_do_not_overflow() {
        let bytes = vec![0xff; 70_000];
        assert_eq!(of(&bytes), 0);
    }

    #[test]
    fn complete_stays_in_the_frame() {
        let mut frame = [0; 20];
        assert_eq!(complete(&mut frame, 10, 8), Ok(()));
        assert_eq!(frame[18..], [0xff, 0xff]);
        let before = frame;
        for (start, offset) in [(10, 9), (21, 0), (20, 0), (65535, 65535)] {
            assert_eq!(
                complete(&mut frame, start, offset),
                Err(ParseError::Truncated)
            );
        }
        assert_eq!(frame, before);
    }
}
