// SPDX-License-Identifier: Apache-2.0
//! Segment: what the windows need of a TCP header.

use sluice_packet::tcp::{Tcp, flag};

/// Sequence space and window of one TCP segment, and the options that matter to a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// Sequence number of the first byte, a SYN included.
    pub seq: u32,
    /// Sequence number behind the last byte, SYN and FIN included.
    pub end: u32,
    /// Acknowledgement number; 0 without the ACK flag.
    pub ack: u32,
    /// Right edge of the highest SACK block; the acknowledgement number if there is none.
    pub sack: u32,
    /// Window as written, unscaled.
    pub window: u16,
    /// Whether the ACK flag is set.
    pub has_ack: bool,
    /// Window scale that a SYN offers, at most 14 (RFC 7323, 2.3).
    pub scale: Option<u8>,
    /// Whether a SYN permits selective acknowledgements (RFC 2018).
    pub sack_permitted: bool,
}

/// Option kinds: window scale, SACK permitted, SACK (RFC 7323, RFC 2018).
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;

impl Segment {
    /// Reads a segment; `payload_bytes` is the length of its data by the IP header, which frames of
    /// segmentation offload make longer than any MTU.
    #[inline]
    #[must_use]
    pub fn read(tcp: &Tcp<'_>, payload_bytes: u32) -> Segment {
        let flags = tcp.flags();
        let is_syn = flags & flag::SYN != 0;
        let has_ack = flags & flag::ACK != 0;
        let seq = tcp.seq();
        let ack = if has_ack { tcp.ack() } else { 0 };
        let ends = u32::from(is_syn) + u32::from(flags & flag::FIN != 0);
        let mut segment = Segment {
            seq,
            end: seq.wrapping_add(payload_bytes).wrapping_add(ends),
            ack,
            sack: ack,
            window: tcp.window(),
            has_ack,
            scale: None,
            sack_permitted: false,
        };
        // Timestamps alone fill twelve bytes; a header without options is not looked at.
        if tcp.header_len() > sluice_packet::tcp::MIN_HEADER_LEN {
            segment.read_options(tcp, is_syn);
        }
        segment
    }

    fn read_options(&mut self, tcp: &Tcp<'_>, is_syn: bool) {
        // Behind a malformed option nothing can be read.
        for option in tcp.options().map_while(Result::ok) {
            match (option.kind, option.data) {
                (SCALE, &[scale]) if is_syn => self.scale = Some(scale.min(14)),
                (SACK_PERMITTED, []) if is_syn => self.sack_permitted = true,
                (SACK, blocks) if !is_syn && self.has_ack => {
                    for block in blocks.chunks_exact(8) {
                        let right = u32::from_be_bytes([block[4], block[5], block[6], block[7]]);
                        if is_after(right, self.sack) {
                            self.sack = right;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether sequence number `a` lies behind `b`, modulo 2^32 (RFC 1982).
#[inline(always)]
pub(crate) const fn is_after(a: u32, b: u32) -> bool {
    // The sign bit of the difference.
    b.wrapping_sub(a) >> 31 != 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use sluice_packet::tcp::TcpFields;

    use super::*;

    fn read(flags: u8, options: &[u8], payload: u32) -> Segment {
        let fields = TcpFields {
            seq: 0xffff_fff0,
            ack: 1000,
            flags,
            window: 512,
            ..TcpFields::default()
        };
        let mut bytes = fields.to_bytes().to_vec();
        bytes.extend_from_slice(options);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes[12] = u8::try_from(bytes.len() / 4).unwrap() << 4;
        Segment::read(&Tcp::new(&bytes).unwrap(), payload)
    }

    #[test]
    fn syn_and_fin_take_a_number_and_data_counts_by_the_ip_length() {
        assert_eq!(read(flag::SYN, &[], 0).end, 0xffff_fff1);
        assert_eq!(read(flag::SYN, &[], 10).end, 0xffff_fffb, "RFC 7413");
        assert_eq!(read(flag::FIN | flag::ACK, &[], 15).end, 0);
        assert_eq!(read(flag::ACK, &[], 65_495).end, 65_479);
    }

    #[test]
    fn options_count_where_they_belong() {
        let syn = read(flag::SYN, &[2, 4, 5, 0xb4, 1, 3, 3, 99, 4, 2], 0);
        assert_eq!((syn.scale, syn.sack_permitted), (Some(14), true));
        assert_eq!((syn.ack, syn.has_ack), (0, false));
        let ack = read(flag::ACK, &[3, 3, 7, 4, 2], 0);
        assert_eq!((ack.scale, ack.sack_permitted), (None, false));
        let sack = [
            5, 18, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0x08, 0, 0, 0, 0x0c, 0,
        ];
        assert_eq!(read(flag::ACK, &sack, 0).sack, 0x2000);
        assert_eq!(read(flag::RST, &sack, 0).sack, 0);
        // Cut within a block, and a malformed option before it.
        assert_eq!(read(flag::ACK, &[5, 6, 0, 0, 0x10, 0], 0).sack, 1000);
        assert_eq!(
            read(flag::ACK, &[5, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0x20, 0], 0).sack,
            1000
        );
    }

    #[test]
    fn order_is_modulo_2_32() {
        assert!(is_after(1, 0) && is_after(0, u32::MAX) && is_after(0x7fff_ffff, 0));
        assert!(!is_after(0, 0) && !is_after(0, 1) && !is_after(u32::MAX, 0));
    }
}
