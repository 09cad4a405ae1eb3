// SPDX-License-Identifier: Apache-2.0
//! Link control: frames by which the two ends of one link speak with each other, and which a bridge
//! takes in or drops, but never forwards.
//!
//! * 01:80:c2:00:00:00 to :0f are filtered by every VLAN bridge (IEEE 802.1Q-2022, table 8-1): spanning
//!   tree, PAUSE, LACP, 802.1X, LLDP.
//! * 01:80:c2:00:00:20 to :2f are those of the registration protocols (table 10-1). A bridge that does
//!   not know one forwards its frames, and a switch behind it that does would then register the VLANs
//!   and groups that a pod names (GVRP, MVRP, GMRP, MMRP).
//! * 01:00:0c:xx:xx:xx are Cisco's: CDP, VTP, DTP, UDLD, PAgP, PVST+, CGMP. By one DTP frame a pod could
//!   ask a switch to make a trunk of its port.
//!
//! 01:80:c2:00:00:30 to :3f (connectivity fault management) go end to end by design, and are
//! groups like any other.

use crate::ethertype::EtherType;
use crate::key::FlowKey;
use crate::mac::Mac;

/// Whether frames to the address end at the next bridge.
#[inline]
#[must_use]
pub const fn is_reserved_group(mac: Mac) -> bool {
    match mac.octets() {
        [0x01, 0x80, 0xc2, 0, 0, last] => last < 0x10 || last & 0xf0 == 0x20,
        [0x01, 0x00, 0x0c, ..] => true,
        _ => false,
    }
}

/// Whether the frame is link control by what is in it, whatever its address: MAC control (PAUSE, PFC),
/// slow protocols (LACP, OAM), LLDP, 802.1X, MVRP, MMRP, and spanning tree's BPDUs (LLC SAP 0x42).
/// `l3` is the offset of the bytes behind the EtherType.
#[must_use]
pub fn is_link_control(frame: &[u8], key: &FlowKey, l3: u16) -> bool {
    match key.ethertype {
        EtherType::MAC_CONTROL
        | EtherType::SLOW
        | EtherType::EAPOL
        | EtherType::LLDP
        | EtherType::MVRP
        | EtherType::MMRP => true,
        0 => {
            let llc = frame.get(usize::from(l3)..).and_then(<[u8]>::first_chunk);
            llc == Some(&[0x42, 0x42, 0x03])
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::build::FrameBuilder;
    use crate::{InnerTag, parse};

    #[test]
    fn reserved_groups() {
        let standard = |last: u8| is_reserved_group(Mac([1, 0x80, 0xc2, 0, 0, last]));
        let reserved: Vec<u8> = (0..=255).filter(|&last| standard(last)).collect();
        let expected: Vec<u8> = (0..0x10).chain(0x20..0x30).collect();
        assert_eq!(reserved, expected);
        let is_reserved = |text: &str| is_reserved_group(text.parse().unwrap());
        for group in [
            "01:00:0c:cc:cc:cc",
            "01:00:0c:cc:cc:cd",
            "01:00:0c:dd:dd:dd",
        ] {
            assert!(is_reserved(group), "{group}");
        }
        for other in [
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "33:33:00:00:00:01",
            "01:80:c2:00:01:00",
            "01:1b:19:00:00:00",
            "00:00:0c:cc:cc:cc",
        ] {
            assert!(!is_reserved(other), "{other}");
        }
    }

    #[test]
    fn contents_of_any_address() {
        let to = FrameBuilder::new(Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]));
        let is_control = |frame: Vec<u8>| {
            let parsed = parse(&frame, InnerTag::Allow).unwrap();
            is_link_control(&frame, &parsed.key, parsed.l3)
        };
        for ethertype in [0x8808, 0x8809, 0x888e, 0x88cc, 0x88f5, 0x88f6] {
            assert!(is_control(to.clone().ethertype(ethertype).build()));
        }
        for ethertype in [0x88f7, 0x8902, 0x8906, 0x88b5] {
            assert!(!is_control(to.clone().ethertype(ethertype).build()));
        }
        let llc = |bytes: &[u8]| is_control(to.clone().ethertype(38).payload(bytes).build());
        assert!(llc(&[0x42, 0x42, 3, 0, 0, 0, 0]));
        assert!(!llc(&[0xfe, 0xfe, 3, 0x83]), "IS-IS");
        assert!(!llc(&[0x42]));
        let udp = to
            .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
            .udp(1, 2);
        assert!(!is_control(udp.build()));
    }
}
