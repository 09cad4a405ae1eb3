// SPDX-License-Identifier: Apache-2.0
//! Checksums that a kernel left for a NIC to fill in, recognised by what is in their fields: for sources of
//! frames that do not say so, as AF_XDP.
//!
//! Of TCP and UDP such a field holds the pseudo header's sum, of SCTP zero. A complete checksum is the
//! same number once in 2^16 (2^32) frames; then completing it writes what was there.

use crate::checksum::{self, Sum, pseudo_v4, pseudo_v6};
use crate::{EtherType, IpProto, VlanTag};

/// Bytes of both MACs.
const MACS: usize = 12;
/// Most tags that are passed over.
const MAX_TAGS: usize = 2;
/// Of an IPv4 header: more fragments, and the fragment's offset.
const FRAGMENT: u16 = 0x3fff;

/// Upper-layer packet of a frame: where it lies, its protocol, and the pseudo header's sum.
struct Upper {
    start: usize,
    len: usize,
    proto: u8,
    pseudo: Sum,
}

/// Fills in the checksum of a TCP, UDP or SCTP packet if it was left open, and says whether it was. Frames of
/// other kinds, fragments, and those that are cut short stay as they are. `crc32c` is SCTP's sum
/// (RFC 9260, appendix A).
pub fn complete(frame: &mut [u8], crc32c: fn(&[u8]) -> u32) -> bool {
    let Some(upper) = upper(frame) else {
        return false;
    };
    let Some(packet) = frame.get_mut(upper.start..upper.start + upper.len) else {
        return false;
    };
    match upper.proto {
        IpProto::TCP => sum(packet, 16, upper.pseudo),
        IpProto::UDP => sum(packet, 6, upper.pseudo),
        IpProto::SCTP => crc(packet, crc32c),
        _ => false,
    }
}

fn sum(packet: &mut [u8], field: usize, pseudo: Sum) -> bool {
    let is_open = packet
        .get(field..field + 2)
        .is_some_and(|bytes| bytes == pseudo.partial().to_be_bytes() && bytes != [0, 0]);
    let offset = u16::try_from(field).unwrap_or(u16::MAX);
    is_open && checksum::complete(packet, 0, offset).is_ok()
}

fn crc(packet: &mut [u8], crc32c: fn(&[u8]) -> u32) -> bool {
    const FIELD: std::ops::Range<usize> = 8..12;
    if packet.get(FIELD) != Some(&[0; 4]) {
        return false;
    }
    // Written as the table gives it, lowest byte first.
    let sum = crc32c(packet).to_le_bytes();
    packet[FIELD].copy_from_slice(&sum);
    true
}

fn upper(frame: &[u8]) -> Option<Upper> {
    let word = |at: usize| {
        let bytes = frame.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let mut at = MACS;
    let mut tags = 0;
    while tags < MAX_TAGS && matches!(word(at)?, EtherType::VLAN | EtherType::QINQ) {
        at += VlanTag::LEN;
        tags += 1;
    }
    let ethertype = word(at)?;
    let ip = frame.get(at + 2..)?;
    let start = at + 2;
    match ethertype {
        EtherType::IPV4 => {
            let header: &[u8; 20] = ip.first_chunk()?;
            let header_len = usize::from(header[0] & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT;
            if header[0] >> 4 != 4 || header_len < 20 || fragment != 0 || total > ip.len() {
                return None;
            }
            let len = total.checked_sub(header_len)?;
            let (src, dst) = (
                header[12..16].try_into().ok()?,
                header[16..20].try_into().ok()?,
            );
            let pseudo = pseudo_v4(src, dst, header[9], u16::try_from(len).ok()?);
            Some(Upper {
                start: start + header_len,
                len,
                proto: header[9],
                pseudo,
            })
        }
        EtherType::IPV6 => {
            let header: &[u8; 40] = ip.first_chunk()?;
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if header[0] >> 4 != 6 || 40 + len > ip.len() {
                return None;
            }
            let (src, dst) = (
                header[8..24].try_into().ok()?,
                header[24..40].try_into().ok()?,
            );
            let pseudo = pseudo_v6(src, dst, header[6], u32::try_from(len).ok()?);
            Some(Upper {
                start: start + 40,
                len,
                proto: header[6],
                pseudo,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A frame with an upper-layer packet of `proto`, and the sum of its pseudo header.
    fn frame(v6: bool, tags: &[u8], proto: u8, packet: &[u8]) -> (Vec<u8>, usize, Sum) {
        let mut frame = vec![2; MACS];
        frame.extend(tags);
        let len = u16::try_from(packet.len()).unwrap();
        let pseudo = if v6 {
            let (src, dst) = ([0xfd; 16], [0xfe; 16]);
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([proto, 64]);
            frame.extend(src);
            frame.extend(dst);
            pseudo_v6(&src, &dst, proto, u32::from(len))
        } else {
            let (src, dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
            frame.extend([0x08, 0, 0x45, 0]);
            frame.extend((len + 20).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, proto, 0, 0]);
            frame.extend(src);
            frame.extend(dst);
            pseudo_v4(src, dst, proto, len)
        };
        let start = frame.len();
        frame.extend(packet);
        // Padding that is not of the packet, and counts in no sum.
        frame.extend([0xee; 7]);
        (frame, start, pseudo)
    }

    fn fake_crc(bytes: &[u8]) -> u32 {
        u32::try_from(bytes.len()).unwrap()
    }

    #[test]
    fn open_sums_become_right_ones_behind_any_tags() {
        let tags: [&[u8]; 3] = [&[], &[0x81, 0, 0, 210], &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 8]];
        for (proto, field) in [(6, 16), (17, 6)] {
            for v6 in [false, true] {
                for tags in tags {
                    let packet: Vec<u8> = (0..61).collect();
                    let (mut frame, start, pseudo) = frame(v6, tags, proto, &packet);
                    let open = pseudo.partial().to_be_bytes();
                    frame[start + field..start + field + 2].copy_from_slice(&open);
                    assert!(complete(&mut frame, fake_crc), "{proto} {v6} {tags:?}");
                    let right = pseudo.with(&frame[start..start + 61]).finish();
                    assert_eq!(right, 0, "{proto} {v6} {tags:?}");
                    assert!(frame.ends_with(&[0xee; 7]));
                    let before = frame.clone();
                    assert!(!complete(&mut frame, fake_crc), "it is complete");
                    assert_eq!(frame, before);
                }
            }
        }
    }

    #[test]
    fn what_is_not_open_stays() {
        let packet = [1; 40];
        for (proto, change) in [(6, None), (17, None), (1, None), (17, Some((20, 0x20)))] {
            let (mut frame, start, pseudo) = frame(false, &[], proto, &packet);
            if let Some((at, value)) = change {
                // A first fragment, whose field would be open.
                frame[at] = value;
                let open = pseudo.partial().to_be_bytes();
                frame[start + 6..start + 8].copy_from_slice(&open);
            }
            let before = frame.clone();
            assert!(!complete(&mut frame, fake_crc), "{proto}");
            assert_eq!(frame, before);
        }
        let (mut no_sum, start, _) = frame(false, &[], 17, &packet);
        no_sum[start + 6..start + 8].fill(0);
        assert!(!complete(&mut no_sum, fake_crc), "UDP without a checksum");
    }

    #[test]
    fn an_sctp_checksum_of_zero_is_an_open_one() {
        let (mut frame, start, _) = frame(true, &[], 132, &[0; 28]);
        assert!(complete(&mut frame, fake_crc));
        assert_eq!(frame[start + 8..start + 12], 28u32.to_le_bytes());
        assert!(!complete(&mut frame, fake_crc));
    }

    #[test]
    fn no_cut_of_a_frame_panics() {
        for proto in [6, 17, 132] {
            for v6 in [false, true] {
                let (whole, _, _) = frame(v6, &[0x81, 0, 0, 1], proto, &[0; 30]);
                for len in 0..whole.len() - 7 {
                    assert!(!complete(&mut whole[..len].to_vec(), fake_crc));
                }
            }
        }
    }
}
