// SPDX-License-Identifier: Apache-2.0
//! Flow key, by which frames are judged.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ethertype::EtherType;
use crate::mac::Mac;
use crate::proto::IpProto;

/// Fields of a frame that rules can match, in 56 bytes without padding.
///
/// Every field is always written, to zero where it does not apply, so keys compare and hash as plain
/// bytes. Ports, EtherType and VID are in host order.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// Source address: IPv6, or IPv4 (and an ARP sender's) as `::ffff:a.b.c.d`; zero if neither.
    pub src: [u8; 16],
    /// Destination address, likewise; of ARP the target's.
    pub dst: [u8; 16],
    /// Source port; 0 without [`FlowKey::PORTS`].
    pub src_port: u16,
    /// Destination port; 0 without [`FlowKey::PORTS`].
    pub dst_port: u16,
    /// EtherType behind all tags; 0 for 802.3 frames with a length in its place.
    pub ethertype: u16,
    /// VID of the segment, 0 to 4094. `parse` leaves it 0: the tag is not in the bytes it reads.
    pub vid: u16,
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// IP protocol; for IPv6 the one behind the extension headers. 0 for non-IP.
    pub proto: u8,
    /// Flags that say which of the other fields are valid: [`FlowKey::IPV4`] and so on.
    pub flags: u8,
    /// ICMP or ICMPv6 type; 0 without [`FlowKey::ICMP`].
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code; 0 without [`FlowKey::ICMP`].
    pub icmp_code: u8,
}

const _: () = assert!(size_of::<FlowKey>() == 56);

impl FlowKey {
    /// Flag: an IPv4 packet.
    pub const IPV4: u8 = 1 << 0;
    /// Flag: an IPv6 packet.
    pub const IPV6: u8 = 1 << 1;
    /// Flag: the ports are known (TCP, UDP, UDP-Lite, SCTP, DCCP). A later fragment has none among its
    /// bytes; the caller may fill in those of its datagram's first.
    pub const PORTS: u8 = 1 << 2;
    /// Flag: a fragment, the first one included.
    pub const FRAGMENT: u8 = 1 << 3;
    /// Flag: a fragment other than the first, whose bytes have neither ports nor ICMP type. Always
    /// with `FRAGMENT`.
    pub const LATER_FRAGMENT: u8 = 1 << 4;
    /// Flag: `icmp_type` and `icmp_code` are known: ICMP in IPv4, or ICMPv6 in IPv6.
    pub const ICMP: u8 = 1 << 5;
    /// Flag: an ARP packet.
    pub const ARP: u8 = 1 << 6;

    /// IPv4-mapped form `::ffff:a.b.c.d`, in which `src` and `dst` hold an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
        let [a, b, c, d] = v4;
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
    }

    /// Whether any of `flags` is set.
    #[inline]
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether the frame is IP of either version.
    #[inline]
    #[must_use]
    pub const fn is_ip(&self) -> bool {
        self.has(Self::IPV4 | Self::IPV6)
    }

    /// Whether the EtherType field held an 802.3 length.
    #[inline]
    #[must_use]
    pub const fn is_8023(&self) -> bool {
        self.ethertype < EtherType::FIRST
    }

    /// Source MAC.
    #[inline]
    #[must_use]
    pub const fn src_mac(&self) -> Mac {
        Mac(self.src_mac)
    }

    /// Destination MAC.
    #[inline]
    #[must_use]
    pub const fn dst_mac(&self) -> Mac {
        Mac(self.dst_mac)
    }

    /// Source address of an IP packet, or an ARP sender's; `None` for anything else.
    #[must_use]
    pub fn src_ip(&self) -> Option<IpAddr> {
        self.ip(&self.src)
    }

    /// Destination address of an IP packet, or an ARP target's; `None` for anything else.
    #[must_use]
    pub fn dst_ip(&self) -> Option<IpAddr> {
        self.ip(&self.dst)
    }

    fn ip(&self, bytes: &[u8; 16]) -> Option<IpAddr> {
        if self.has(Self::IPV4 | Self::ARP) {
            let [.., a, b, c, d] = *bytes;
            Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        } else if self.has(Self::IPV6) {
            Some(IpAddr::V6(Ipv6Addr::from(*bytes)))
        } else {
            None
        }
    }
}

/// Formats one line for a log: `vlan 210 udp 10.0.0.1:53 > 10.0.0.2:1024`.
impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.vid != 0 {
            write!(f, "vlan {} ", self.vid)?;
        }
        let (Some(src), Some(dst)) = (self.src_ip(), self.dst_ip()) else {
            return write!(
                f,
                "ethertype {:#06x} {} > {}",
                self.ethertype,
                self.src_mac(),
                self.dst_mac()
            );
        };
        if self.has(Self::ARP) {
            return write!(f, "arp {src} > {dst}");
        }
        match self.proto {
            IpProto::TCP => write!(f, "tcp")?,
            IpProto::UDP => write!(f, "udp")?,
            IpProto::SCTP => write!(f, "sctp")?,
            IpProto::ICMP => write!(f, "icmp")?,
            IpProto::ICMPV6 => write!(f, "icmpv6")?,
            other => write!(f, "protocol {other}")?,
        }
        if self.has(Self::PORTS) {
            let src = std::net::SocketAddr::new(src, self.src_port);
            let dst = std::net::SocketAddr::new(dst, self.dst_port);
            write!(f, " {src} > {dst}")?;
        } else {
            write!(f, " {src} > {dst}")?;
        }
        if self.has(Self::ICMP) {
            write!(f, " type {} code {}", self.icmp_type, self.icmp_code)?;
        }
        if self.has(Self::LATER_FRAGMENT) {
            write!(f, " later fragment")?;
        } else if self.has(Self::FRAGMENT) {
            write!(f, " first fragment")?;
        }
        Ok(())
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowKey({self}, flags {:#04x})", self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_a_log() {
        let mut key = FlowKey {
            src: FlowKey::mapped([10, 0, 0, 1]),
            dst: FlowKey::mapped([10, 0, 0, 2]),
            vid: 210,
            proto: IpProto::ICMP,
            flags: FlowKey::IPV4 | FlowKey::ICMP,
            icmp_type: 8,
            ..FlowKey::default()
        };
        let icmp = "vlan 210 icmp 10.0.0.1 > 10.0.0.2 type 8 code 0";
        assert_eq!(key.to_string(), icmp);
        key.flags = FlowKey::ARP;
        assert_eq!(key.to_string(), "vlan 210 arp 10.0.0.1 > 10.0.0.2");
        key.flags = FlowKey::IPV4 | FlowKey::FRAGMENT | FlowKey::LATER_FRAGMENT;
        key.proto = 99;
        let later = "vlan 210 protocol 99 10.0.0.1 > 10.0.0.2 later fragment";
        assert_eq!(key.to_string(), later);
        let v6 = FlowKey {
            dst_port: 53,
            proto: IpProto::UDP,
            flags: FlowKey::IPV6 | FlowKey::PORTS,
            ..FlowKey::default()
        };
        assert_eq!(v6.to_string(), "udp [::]:0 > [::]:53");
        let other = FlowKey {
            ethertype: EtherType::LLDP,
            ..FlowKey::default()
        };
        let lldp = "ethertype 0x88cc 00:00:00:00:00:00 > 00:00:00:00:00:00";
        assert_eq!(other.to_string(), lldp);
    }
}
