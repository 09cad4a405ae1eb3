// SPDX-License-Identifier: Apache-2.0
//! VLAN tags: 802.1Q and 802.1ad (QinQ), IEEE 802.1Q-2022 clause 9.

use std::fmt;

use crate::ethertype::EtherType;
use crate::vid::Vid;

/// VLAN tag: protocol number and control information, both in host order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// Tag protocol identifier: 0x8100, 0x88a8, ...
    pub tpid: u16,
    /// Tag control information: priority (3 bits), drop eligible (1), VID (12).
    pub tci: u16,
}

impl VlanTag {
    /// Bytes of a tag in a frame.
    pub const LEN: usize = 4;

    /// Makes a tag of priority 0.
    #[inline]
    #[must_use]
    pub const fn new(tpid: u16, vid: Vid) -> VlanTag {
        VlanTag {
            tpid,
            tci: vid.get(),
        }
    }

    /// Decodes the four bytes behind the source MAC.
    #[inline]
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 4]) -> VlanTag {
        VlanTag {
            tpid: u16::from_be_bytes([bytes[0], bytes[1]]),
            tci: u16::from_be_bytes([bytes[2], bytes[3]]),
        }
    }

    /// Encodes the four bytes behind the source MAC.
    #[inline]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let [a, b] = self.tpid.to_be_bytes();
        let [c, d] = self.tci.to_be_bytes();
        [a, b, c, d]
    }

    /// VID of the tag; `None` for the reserved 4095, which no frame may carry.
    #[inline]
    #[must_use]
    pub const fn vid(self) -> Option<Vid> {
        Vid::new(self.tci & 0x0fff)
    }

    /// Priority code point, 0 to 7.
    #[inline]
    #[must_use]
    pub const fn pcp(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// Whether the frame may be dropped first (drop eligible indicator).
    #[inline]
    #[must_use]
    pub const fn dei(self) -> bool {
        self.tci & 0x1000 != 0
    }
}

impl fmt::Debug for VlanTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#06x}/{} pcp {}",
            self.tpid,
            self.tci & 0x0fff,
            self.pcp()
        )
    }
}

/// Reads the tag right behind the MACs, if there is one whose TPID is in `tpids`.
///
/// To remove it: copy the 12 bytes of the MACs four bytes on and trim four bytes from the front.
#[inline]
#[must_use]
pub fn outer_tag(frame: &[u8], tpids: &[u16]) -> Option<VlanTag> {
    let (_, rest) = frame.split_first_chunk::<12>()?;
    let tag = VlanTag::from_bytes(*rest.first_chunk()?);
    // Not `contains`, which is a call: there are two at most, usually.
    let is_tag = tpids
        .iter()
        .fold(false, |is, &tpid| is | (tpid == tag.tpid));
    is_tag.then_some(tag)
}

/// View of a tag and the bytes behind it.
#[derive(Debug, Clone, Copy)]
pub struct Vlan<'a> {
    tag: VlanTag,
    next: u16,
    payload: &'a [u8],
}

impl<'a> Vlan<'a> {
    /// Makes the view; `bytes` begins at the TPID, 12 bytes into the frame. `None` if it is not a
    /// tag's TPID, or if the tag and the EtherType behind it are incomplete.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Vlan<'a>> {
        let (head, payload) = bytes.split_first_chunk::<6>()?;
        let [a, b, c, d, e, f] = *head;
        let tag = VlanTag::from_bytes([a, b, c, d]);
        EtherType::is_tag(tag.tpid).then_some(Vlan {
            tag,
            next: u16::from_be_bytes([e, f]),
            payload,
        })
    }

    /// Tag that is viewed.
    #[must_use]
    pub fn tag(&self) -> VlanTag {
        self.tag
    }

    /// EtherType behind the tag, host order.
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        self.next
    }

    /// Bytes behind that EtherType.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn tag_fields() {
        let tag = VlanTag::from_bytes([0x88, 0xa8, 0xb0, 0xd2]);
        assert_eq!(
            (tag.tpid, tag.vid(), tag.pcp(), tag.dei()),
            (0x88a8, Vid::new(210), 5, true)
        );
        assert_eq!(tag.to_bytes(), [0x88, 0xa8, 0xb0, 0xd2]);
        let reserved = VlanTag {
            tpid: 0x8100,
            tci: 0xffff,
        };
        assert_eq!(reserved.vid(), None);
    }

    #[test]
    fn outer_tag_needs_its_tpid_and_all_four_bytes() {
        let mut frame = [0; 16];
        frame[12..].copy_from_slice(&[0x81, 0x00, 0x00, 0xd2]);
        let tag = outer_tag(&frame, &[0x88a8, 0x8100]).unwrap();
        assert_eq!(tag.vid(), Vid::new(210));
        assert_eq!(outer_tag(&frame, &[0x88a8]), None);
        assert_eq!(outer_tag(&frame[..15], &[0x8100]), None);
    }

    #[test]
    fn qinq_by_views() {
        let bytes = [0x88, 0xa8, 0, 100, 0x81, 0x00, 0, 210, 0x08, 0x00, 0x45];
        let outer = Vlan::new(&bytes).unwrap();
        assert_eq!(
            (outer.tag().vid(), outer.ethertype()),
            (Vid::new(100), EtherType::VLAN)
        );
        let inner = Vlan::new(&bytes[4..]).unwrap();
        assert_eq!(
            (inner.tag().vid(), inner.ethertype(), inner.payload()),
            (Vid::new(210), EtherType::IPV4, &[0x45][..])
        );
        assert!(Vlan::new(&bytes[8..]).is_none());
        assert!(Vlan::new(&bytes[..5]).is_none());
    }
}
