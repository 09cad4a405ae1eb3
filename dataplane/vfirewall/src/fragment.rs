// SPDX-License-Identifier: Apache-2.0
//! Fragments of an IPv4 packet (RFC 791, 3.2).

use sluice_packet::checksum;
use sluice_packet::ipv4::{Ipv4, MAX_HEADER_LEN};
use sluice_packet::reject::RejectBuffer;

use crate::frame::Frame;

/// Flag of an option that is copied into every fragment.
const COPIED: u8 = 0x80;
/// Option that is none.
const NO_OPERATION: u8 = 1;
/// MF in the flags and offset.
const MORE: u16 = 0x2000;

/// Fragments of one packet, one after another.
#[derive(Debug)]
pub struct Fragments<'a> {
    link: &'a [u8],
    ip: Ipv4<'a>,
    header: &'a [u8],
    /// Bytes of payload in each but the last.
    each: usize,
    done: usize,
}

impl<'a> Fragments<'a> {
    /// Begins to cut the packet at offset `l3` of a frame into pieces of at most `mtu` bytes. `None` if it
    /// is no IPv4 packet, or the MTU leaves no room for data.
    #[must_use]
    pub fn new(frame: &'a [u8], l3: u16, mtu: usize) -> Option<Fragments<'a>> {
        let (link, packet) = frame.split_at_checked(usize::from(l3))?;
        let ip = Ipv4::new(packet).ok()?;
        let header = packet.get(..ip.header_len())?;
        let each = mtu.checked_sub(header.len())? & !7;
        (each > 0).then_some(Fragments {
            link,
            ip,
            header,
            each,
            done: 0,
        })
    }

    /// Writes the next one; `false` if there is none, or no room for it.
    pub fn write_next(&mut self, to: &mut Frame) -> bool {
        let rest = self.ip.payload().get(self.done..).unwrap_or_default();
        let piece = &rest[..rest.len().min(self.each)];
        let head = self.link.len() + self.header.len();
        let Some(room) = to.reset(head + piece.len()).filter(|_| !piece.is_empty()) else {
            return false;
        };
        let is_last = piece.len() == rest.len();
        room[..self.link.len()].copy_from_slice(self.link);
        room[head..].copy_from_slice(piece);
        let header = &mut room[self.link.len()..head];
        header.copy_from_slice(self.header);
        let offset = usize::from(self.ip.fragment_offset()) + self.done;
        let more = !is_last || self.ip.more_fragments();
        let units = u16::try_from(offset / 8).unwrap_or(u16::MAX) & 0x1fff;
        let total = u16::try_from(header.len() + piece.len()).unwrap_or(u16::MAX);
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[6..8].copy_from_slice(&(units | if more { MORE } else { 0 }).to_be_bytes());
        if offset != 0 {
            blank_options(header);
        }
        header[10..12].fill(0);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        self.done += piece.len();
        to.truncate(head + piece.len());
        true
    }
}

/// Blanks the options that belong into the first fragment alone.
fn blank_options(header: &mut [u8]) {
    let mut at = 20;
    while let Some(&kind) = header.get(at) {
        let len = match kind {
            0 => return,
            NO_OPERATION => 1,
            _ => header.get(at + 1).map_or(0, |&len| usize::from(len)),
        };
        let Some(option) = header.get_mut(at..at + len).filter(|_| len > 0) else {
            return;
        };
        if kind & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        at += len;
    }
}

const _: () = assert!(
    MAX_HEADER_LEN + 8 <= 68,
    "RFC 791: every link takes 68 bytes"
);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sluice_packet::Mac;
    use sluice_packet::build::FrameBuilder;

    proptest! {
        #[test]
        fn the_pieces_make_the_packet(len in 0usize..3000, mtu in 68usize..1500, options: bool) {
            let data: Vec<u8> = (0..=250).cycle().take(len).collect();
            // Router alert is copied, record route is not.
            let options: &[u8] = if options { &[148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0] } else { &[] };
            let frame = FrameBuilder::new(Mac([2; 6]), Mac([4; 6]))
                .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
                .ip_options(options)
                .id(77)
                .udp(1, 2)
                .payload(&data)
                .build();
            let whole = Ipv4::new(&frame[14..]).unwrap();
            let mut fragments = Fragments::new(&frame, 14, mtu).unwrap();
            let mut to = Frame::new(2048);
            let mut joined = Vec::new();
            let mut more = true;
            while fragments.write_next(&mut to) {
                prop_assert!(more);
                let piece = Ipv4::new(&to.bytes()[14..]).unwrap();
                prop_assert!(usize::from(piece.total_len()) <= mtu);
                prop_assert!(piece.checksum_ok());
                prop_assert_eq!(usize::from(piece.fragment_offset()), joined.len());
                prop_assert_eq!(piece.id(), 77);
                let kinds: Vec<u8> = piece.options().map(|option| option.unwrap().kind).collect();
                let expected: &[u8] = match (options.is_empty(), joined.is_empty()) {
                    (true, _) => &[],
                    (false, true) => &[148, 7],
                    (false, false) => &[148],
                };
                prop_assert_eq!(kinds, expected);
                joined.extend_from_slice(piece.payload());
                more = piece.more_fragments();
            }
            prop_assert!(!more);
            prop_assert_eq!(joined, whole.payload());
        }
    }
}
