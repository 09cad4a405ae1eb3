// SPDX-License-Identifier: Apache-2.0
//! Internet checksum (RFC 1071).
//!
//! The sum is taken over native-endian words, 32 bytes a step, and swapped once at the end: the
//! checksum does not depend on the byte order it is computed in (RFC 1071, 2 (B)).

use crate::error::ParseError;

/// Running sum over pieces of any length, odd ones too: each piece goes on where the last one
/// stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// Ones' complement sum of the native-endian 16-bit words so far.
    acc: u16,
    /// Whether the next byte goes into the second half of a word.
    odd: bool,
}

impl Sum {
    /// Sum over nothing.
    #[inline]
    #[must_use]
    pub const fn new() -> Sum {
        Sum { acc: 0, odd: false }
    }

    /// Adds `bytes`, at most 4 GiB of them a call.
    #[inline]
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Sum {
        let mut sum = sum_words(bytes);
        if self.odd {
            // A sum that begins in the second half of a word counts with its bytes swapped.
            sum = u64::from(fold(sum).swap_bytes());
        }
        Sum {
            acc: fold(u64::from(self.acc) + sum),
            odd: self.odd ^ (bytes.len() % 2 == 1),
        }
    }

    /// Adds one big-endian 16-bit word. For whole words only: not in the middle of one.
    #[inline]
    #[must_use]
    pub fn with_u16(self, word: u16) -> Sum {
        self.with(&word.to_be_bytes())
    }

    /// Adds one big-endian 32-bit word.
    #[inline]
    #[must_use]
    pub fn with_u32(self, word: u32) -> Sum {
        self.with(&word.to_be_bytes())
    }

    /// Sum without the final complement, in host order: the value of a partial checksum field.
    #[inline]
    #[must_use]
    pub fn partial(self) -> u16 {
        u16::from_be_bytes(self.acc.to_ne_bytes())
    }

    /// Checksum, in host order; 0 over data that includes a correct checksum.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.partial()
    }

    /// Checksum as TCP, UDP and ICMPv6 write it: 0xffff in place of 0, which in UDP
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

/// Checksum of `bytes`, in host order; 0 if they include a correct one.
#[inline]
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::new().with(bytes).finish()
}

/// Sum of the pseudo header of TCP and UDP over IPv4 (RFC 9293, 3.1). `len_bytes` is the length of
/// the whole segment.
#[must_use]
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], proto: u8, len_bytes: u16) -> Sum {
    Sum::new()
        .with(&src)
        .with(&dst)
        .with_u16(u16::from(proto))
        .with_u16(len_bytes)
}

/// Sum of the pseudo header of upper-layer protocols over IPv6 (RFC 8200, 8.1). `len_bytes` is the
/// length of the whole upper-layer packet.
#[must_use]
pub fn pseudo_v6(src: &[u8; 16], dst: &[u8; 16], proto: u8, len_bytes: u32) -> Sum {
    Sum::new()
        .with(src)
        .with(dst)
        .with_u32(len_bytes)
        .with_u32(u32::from(proto))
}

/// Updates a checksum field for one changed 16-bit word that it covers (RFC 1624, equation 3).
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
/// Virtio-net's `csum_start` and `csum_offset` ask for this (Virtio 1.3, 5.1.6.2), and with them
/// AF_PACKET with `PACKET_VNET_HDR`. As the kernel does, 0 is written as 0xffff.
///
/// # Errors
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
