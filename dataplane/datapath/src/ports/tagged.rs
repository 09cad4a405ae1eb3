// SPDX-License-Identifier: Apache-2.0
//! A frame as it leaves the engine: its outermost tag, which inside is kept beside the bytes, goes
//! back behind the MACs.

use sluice_mem::Mbuf;
use sluice_packet::VlanTag;

use crate::frame::FrameInfo;
use crate::frame::tagging::Tagging;
use crate::ports::seam::Sent;

/// Both MACs: what stands before the tag.
const MACS_LEN: usize = 12;

/// Both MACs and a tag.
const HEAD_LEN: usize = MACS_LEN + VlanTag::LEN;

/// The bytes of a frame with its tag in place, in two parts that are written one after the other:
/// the frame itself is not touched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tagged<'a> {
    /// MACs and tag; nothing of it counts without a tag.
    head: [u8; HEAD_LEN],
    /// `HEAD_LEN`, or 0 without a tag.
    head_len: usize,
    rest: &'a [u8],
}

impl<'a> Tagged<'a> {
    /// `frame` with `tag` in it.
    #[inline]
    pub(super) fn new(frame: &'a [u8], tag: Option<VlanTag>) -> Tagged<'a> {
        let mut head = [0; HEAD_LEN];
        match (tag, frame.split_first_chunk::<MACS_LEN>()) {
            (Some(tag), Some((macs, rest))) => {
                head[..MACS_LEN].copy_from_slice(macs);
                head[MACS_LEN..].copy_from_slice(&tag.to_bytes());
                Tagged {
                    head,
                    head_len: HEAD_LEN,
                    rest,
                }
            }
            _ => Tagged {
                head,
                head_len: 0,
                rest: frame,
            },
        }
    }

    /// Returns the frame for the wire, with the tag that its facts name.
    #[inline]
    pub(super) fn to_wire(mbuf: &'a Mbuf) -> Tagged<'a> {
        Tagged::new(mbuf.data(), FrameInfo::of(mbuf).tag())
    }

    /// Returns the frame for a pod, with the tag that the attachment is to see.
    #[inline]
    pub(super) fn to_pod(mbuf: &'a Mbuf, tagging: Tagging) -> Tagged<'a> {
        Tagged::new(mbuf.data(), tagging.tag_for(FrameInfo::of(mbuf)))
    }

    /// Length in bytes, tag included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.head_len + self.rest.len()
    }

    /// The bytes in one piece, if there is no tag.
    #[inline]
    pub(super) fn whole(&self) -> Option<&'a [u8]> {
        (self.head_len == 0).then_some(self.rest)
    }

    /// The bytes in order.
    #[inline]
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], self.rest]
    }

    /// Copies it to the front of `space`; its length, or `None` if it does not fit.
    #[inline]
    pub(super) fn copy_to(&self, space: &mut [u8]) -> Option<usize> {
        let (head, rest) = space.get_mut(..self.len())?.split_at_mut(self.head_len);
        head.copy_from_slice(&self.head[..self.head_len]);
        rest.copy_from_slice(self.rest);
        Some(self.len())
    }
}

/// Puts the tag that a frame's facts name into its bytes, for drivers that send out of mbufs. False, and
/// nothing changed, if the frame has no two MACs or the mbuf no room before it.
#[inline]
#[must_use]
pub(super) fn put_in(mbuf: &mut Mbuf) -> bool {
    let Some(tag) = FrameInfo::of(mbuf).tag() else {
        return true;
    };
    if mbuf.len() < MACS_LEN || !mbuf.prepend(VlanTag::LEN) {
        return false;
    }
    let frame = mbuf.data_mut();
    frame.copy_within(VlanTag::LEN..HEAD_LEN, 0);
    frame[MACS_LEN..HEAD_LEN].copy_from_slice(&tag.to_bytes());
    true
}

impl Sent {
    /// Adds one frame of `bytes` bytes.
    #[inline]
    pub(super) fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_tag_stands_behind_the_macs() {
        let frame: Vec<u8> = (0..20).collect();
        let tagged = Tagged::new(
            &frame,
            Some(VlanTag {
                tpid: 0x88a8,
                tci: 0x60d2,
            }),
        );
        let mut space = [0xff; 30];
        assert_eq!(tagged.copy_to(&mut space), Some(24));
        assert_eq!(space[..12], frame[..12]);
        assert_eq!(space[12..16], [0x88, 0xa8, 0x60, 0xd2]);
        assert_eq!(space[16..24], frame[12..]);
        assert_eq!(space[24], 0xff);
        assert_eq!(tagged.copy_to(&mut space[..23]), None);
    }

    #[test]
    fn without_a_tag_nothing_changes() {
        let frame: Vec<u8> = (0..20).collect();
        let untagged = Tagged::new(&frame, None);
        assert_eq!(untagged.parts().concat(), frame);
        assert_eq!(untagged.whole(), Some(&frame[..]));
    }

    #[test]
    fn what_has_no_macs_gets_no_tag() {
        let tag = Some(VlanTag {
            tpid: 0x8100,
            tci: 1,
        });
        assert_eq!(Tagged::new(&[1; 11], tag).parts().concat(), [1; 11]);
        assert_eq!(Tagged::new(&[1; 12], tag).len(), 16);
    }
}
