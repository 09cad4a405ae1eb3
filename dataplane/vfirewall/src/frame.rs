// SPDX-License-Identifier: Apache-2.0
//! Buffer of one frame, with room before it for a tag or for the headers of an answer.

use sluice_packet::reject::RejectBuffer;
use sluice_packet::{Mac, VlanTag, eth};

/// Bytes free before a received frame: the headers of an ICMP error and a tag.
pub const HEADROOM: usize = 128;

/// Bytes of the two MACs, which move when a tag comes or goes.
const MACS: usize = 12;

/// Frame in a buffer of its own. Nothing here allocates but [`Frame::new`].
#[derive(Debug, Default)]
pub struct Frame {
    room: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Frame {
    /// Makes an empty frame that has room for `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Frame {
        Frame {
            room: vec![0; HEADROOM + capacity].into(),
            start: HEADROOM,
            len: 0,
        }
    }

    /// Number of bytes that a frame may have behind the headroom.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.room.len().saturating_sub(HEADROOM)
    }

    /// Bytes of the frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.room
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// Bytes of the frame, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.room
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// Makes room for a new frame of `len` bytes, whose content is whatever was there before. `None`,
    /// with nothing changed, if it does not fit.
    pub fn reset(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.capacity() {
            return None;
        }
        self.start = HEADROOM;
        self.len = len;
        Some(self.bytes_mut())
    }

    /// Replaces the frame by `bytes`; `false`, with nothing changed, if they do not fit.
    pub fn set(&mut self, bytes: &[u8]) -> bool {
        self.reset(bytes.len())
            .map(|to| to.copy_from_slice(bytes))
            .is_some()
    }

    /// Removes the tag behind the MACs. The caller has seen that there is one.
    pub fn remove_tag(&mut self) {
        let bytes = self.bytes_mut();
        if bytes.len() >= MACS + VlanTag::LEN {
            bytes.copy_within(..MACS, VlanTag::LEN);
            self.start += VlanTag::LEN;
            self.len -= VlanTag::LEN;
        }
    }

    /// Puts a tag behind the MACs; `false`, with nothing changed, if there is no room for it.
    pub fn add_tag(&mut self, tag: VlanTag) -> bool {
        if self.len < MACS || !self.prepend(VlanTag::LEN) {
            return false;
        }
        let bytes = self.bytes_mut();
        bytes.copy_within(VlanTag::LEN..VlanTag::LEN + MACS, 0);
        bytes[MACS..MACS + VlanTag::LEN].copy_from_slice(&tag.to_bytes());
        true
    }

    /// Writes both MACs.
    pub fn set_macs(&mut self, dst: Mac, src: Mac) {
        if let Some(macs) = self.bytes_mut().first_chunk_mut::<MACS>() {
            macs[..6].copy_from_slice(&dst.0);
            macs[6..].copy_from_slice(&src.0);
        }
    }

    /// Swaps the MACs: the frame goes back to its sender.
    pub fn swap_macs(&mut self) {
        if let Some(macs) = self.bytes_mut().first_chunk_mut::<MACS>() {
            macs.rotate_left(6);
        }
    }

    /// Bytes from offset `l3` on, without the link's padding if `len` says where the packet ends.
    #[must_use]
    pub fn packet(&self, l3: u16) -> &[u8] {
        self.bytes().get(usize::from(l3)..).unwrap_or_default()
    }
}

impl RejectBuffer for Frame {
    fn frame(&self) -> &[u8] {
        self.bytes()
    }

    fn frame_mut(&mut self) -> &mut [u8] {
        self.bytes_mut()
    }

    fn prepend(&mut self, len_bytes: usize) -> bool {
        let Some(start) = self.start.checked_sub(len_bytes) else {
            return false;
        };
        self.start = start;
        self.len += len_bytes;
        true
    }

    fn truncate(&mut self, len_bytes: usize) {
        self.len = self.len.min(len_bytes);
    }
}

/// Most bytes of a frame whose IP packet has `mtu` bytes, with one tag.
#[must_use]
pub const fn frame_len(mtu: u16) -> usize {
    eth::HEADER_LEN + VlanTag::LEN + mtu as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_packet::{EtherType, Vid, outer_tag};

    #[test]
    fn a_tag_comes_and_goes() {
        let mut frame = Frame::new(64);
        let bytes: Vec<u8> = (0..60).collect();
        assert!(frame.set(&bytes));
        let tag = VlanTag::new(EtherType::VLAN, Vid::MAX);
        assert!(frame.add_tag(tag));
        assert_eq!(frame.bytes().len(), 64);
        assert_eq!(outer_tag(frame.bytes(), &[EtherType::VLAN]), Some(tag));
        assert_eq!(frame.bytes()[..12], bytes[..12]);
        assert_eq!(frame.bytes()[16..], bytes[12..]);
        frame.remove_tag();
        assert_eq!(frame.bytes(), bytes);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut frame = Frame::new(20);
        assert!(frame.set(&[7; 20]));
        assert!(!frame.set(&[8; 21]));
        assert!(!frame.prepend(HEADROOM + 1));
        assert_eq!(frame.bytes(), [7; 20]);
        assert!(frame.prepend(HEADROOM));
        assert!(!frame.add_tag(VlanTag::new(EtherType::VLAN, Vid::MAX)));
    }
}
