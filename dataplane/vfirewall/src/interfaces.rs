// SPDX-License-Identifier: Apache-2.0
//! Interface table: which interface a frame came in on, and which addresses are the firewall's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sluice_packet::{EtherType, Mac, Vid, VlanTag};

/// Index of an interface in its table.
pub type InterfaceId = u16;

/// Most interfaces, over all legs.
pub const MAX_INTERFACES: usize = 64;

/// Interface: a VLAN of a leg, with the firewall's addresses in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name: the leg's on an access leg, with `.VID` behind it on a trunk.
    pub name: String,
    /// Index of its leg.
    pub leg: usize,
    /// Whether its frames are tagged.
    pub tagged: bool,
    /// Segment that it is in, for policies and logs; 0 where it is not known.
    pub vlan: Vid,
    /// MAC address of its leg.
    pub mac: Mac,
    /// Largest IP packet.
    pub mtu: u16,
    /// Addresses of the firewall, with the prefixes that are on the link.
    pub addresses: Vec<IpNet>,
    /// Name of its policy; `None`: the one of its segment.
    pub policy: Option<String>,
    /// Whether sources must have their route here (RFC 3704, 2.2: strict).
    pub reverse_path: bool,
}

impl Interface {
    /// Link-local address that the MAC gives (RFC 4291, appendix A).
    #[must_use]
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let (fifth, sixth) = (word(a ^ 2, b), word(c, 0xff));
        Ipv6Addr::new(0xfe80, 0, 0, 0, fifth, sixth, word(0xfe, d), word(e, f))
    }

    /// Whether the firewall has this address here.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        address == IpAddr::V6(self.link_local())
            || self.addresses.iter().any(|own| own.addr() == address)
    }

    /// Whether a host with this address can be on the link.
    #[must_use]
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V6(v6) if is_link_local_v6(v6) => true,
            _ => self.addresses.iter().any(|own| own.contains(&address)),
        }
    }

    /// Own address to talk to `peer` from: on the same prefix, else the first of its kind.
    #[must_use]
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        if let IpAddr::V6(v6) = peer
            && is_link_local_v6(v6)
        {
            return Some(self.link_local().into());
        }
        let mut own = self.addresses.iter();
        let near = own.clone().find(|own| own.contains(&peer));
        let near = near.or_else(|| own.find(|own| own.addr().is_ipv4() == peer.is_ipv4()));
        near.map(IpNet::addr)
            .or_else(|| peer.is_ipv6().then(|| self.link_local().into()))
    }

    /// Whether the address is that of one host on a prefix of the link: not the prefix's own and not
    /// its broadcast address.
    #[must_use]
    pub fn is_directed_broadcast(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|own| match own {
            IpNet::V4(net) => {
                net.prefix_len() < 31 && (net.broadcast() == address || net.network() == address)
            }
            IpNet::V6(_) => false,
        })
    }

    /// Tag of its frames.
    #[must_use]
    pub fn tag(&self) -> Option<VlanTag> {
        self.tagged
            .then(|| VlanTag::new(EtherType::VLAN, self.vlan))
    }
}

/// Whether the address is in fe80::/10.
#[must_use]
pub const fn is_link_local_v6(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// All interfaces, immutable.
#[derive(Debug, Default)]
pub struct InterfaceTable {
    all: Vec<Interface>,
    /// Interfaces of each leg by the VID of the tag, 0 being untagged.
    by_vid: Vec<HashMap<Vid, InterfaceId>>,
    own: HashMap<IpAddr, InterfaceId>,
}

impl InterfaceTable {
    /// Builds the table. Names, VLANs of a leg and addresses are unique: the configuration was checked.
    #[must_use]
    pub fn new(all: Vec<Interface>, legs: usize) -> InterfaceTable {
        let mut by_vid = vec![HashMap::new(); legs];
        let mut own = HashMap::new();
        for (id, interface) in (0..).zip(&all) {
            let vid = if interface.tagged {
                interface.vlan
            } else {
                Vid::UNTAGGED
            };
            if let Some(of_leg) = by_vid.get_mut(interface.leg) {
                of_leg.insert(vid, id);
            }
            for address in &interface.addresses {
                own.insert(address.addr(), id);
            }
        }
        InterfaceTable { all, by_vid, own }
    }

    /// Interface of a leg whose frames bear this VID, 0 being none.
    #[must_use]
    pub fn of(&self, leg: usize, vid: Vid) -> Option<InterfaceId> {
        self.by_vid.get(leg)?.get(&vid).copied()
    }

    /// Interface of that index.
    ///
    /// # Panics
    /// If the index is another table's and this one is smaller.
    #[must_use]
    pub fn get(&self, id: InterfaceId) -> &Interface {
        &self.all[usize::from(id)]
    }

    /// Interfaces in their order.
    pub fn iter(&self) -> impl Iterator<Item = (InterfaceId, &Interface)> {
        (0..).zip(&self.all)
    }

    /// Number of interfaces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the address, other than a link-local one, is the firewall's on any interface.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains_key(&address)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn interface(addresses: &[&str]) -> Interface {
        Interface {
            name: "net1".into(),
            leg: 0,
            tagged: false,
            vlan: Vid::UNTAGGED,
            mac: Mac([2, 0, 0x5e, 0x10, 0, 1]),
            mtu: 1500,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            policy: None,
            reverse_path: false,
        }
    }

    #[test]
    fn own_addresses_and_sources() {
        let one = interface(&["10.21.0.1/24", "10.31.0.1/16", "fd21::1/64"]);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            one.link_local(),
            "fe80::5eff:fe10:1".parse::<Ipv6Addr>().unwrap()
        );
        assert!(one.has(ip("10.21.0.1")) && one.has(ip("fe80::5eff:fe10:1")));
        assert!(!one.has(ip("10.21.0.2")));
        assert_eq!(one.source_for(ip("10.31.7.7")), Some(ip("10.31.0.1")));
        assert_eq!(one.source_for(ip("192.0.2.1")), Some(ip("10.21.0.1")));
        assert_eq!(one.source_for(ip("fe80::9")), Some(ip("fe80::5eff:fe10:1")));
        assert_eq!(one.source_for(ip("2001:db8::1")), Some(ip("fd21::1")));
        assert!(one.is_directed_broadcast([10, 21, 0, 255].into()));
        assert!(one.is_directed_broadcast([10, 31, 0, 0].into()));
        assert!(!one.is_directed_broadcast([10, 31, 0, 255].into()));
        assert!(one.is_on_link(ip("fe80::1")) && !one.is_on_link(ip("fd22::1")));
    }
}
