// SPDX-License-Identifier: Apache-2.0
//! Allowed address pairs of an attachment, as anti-spoofing compares them: OpenStack Neutron's and OVN's
//! port security have the same.

use std::net::IpAddr;

use sluice_packet::Mac;
use sluice_packet::pose::AddressPair;

use super::identity::key_address;

/// Bits of an IPv6 address before the IPv4 address that is mapped into it.
const MAPPED_BITS: u8 = 96;

/// Pairs of one attachment.
#[derive(Debug, Default)]
pub(crate) struct AllowedPairs(Box<[Pair]>);

#[derive(Debug)]
struct Pair {
    /// The attachment's own MAC address where the pair names none.
    mac: Mac,
    /// `None`: any address.
    prefix: Option<Prefix>,
}

/// Prefix of addresses in the form that a flow's key has them.
#[derive(Debug)]
struct Prefix {
    bits: u128,
    mask: u128,
    is_v4: bool,
}

impl Prefix {
    fn new(address: IpAddr, length: u8) -> Prefix {
        let is_v4 = address.is_ipv4();
        let length = if is_v4 { length + MAPPED_BITS } else { length };
        let host_bits = 128_u32.saturating_sub(length.into());
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Prefix {
            bits: u128::from_be_bytes(key_address(&address)) & mask,
            mask,
            is_v4,
        }
    }

    fn contains(&self, address: &[u8; 16]) -> bool {
        let bits = u128::from_be_bytes(*address);
        // A short prefix of IPv6 has all of IPv4 in it, which it does not mean.
        bits & self.mask == self.bits && self.is_v4 == is_mapped(bits)
    }

    fn is_one_address(&self) -> bool {
        self.mask == u128::MAX
    }
}

/// Whether an address is one of IPv4, as a flow's key has it.
fn is_mapped(bits: u128) -> bool {
    bits >> 32 == 0xffff
}

impl AllowedPairs {
    /// Makes the pairs of an attachment whose MAC address is `own`.
    pub(crate) fn new(pairs: &[AddressPair], own: Mac) -> AllowedPairs {
        let one = |pair: &AddressPair| Pair {
            mac: pair.mac.unwrap_or(own),
            prefix: pair.ip.map(|net| Prefix::new(net.addr(), net.prefix_len())),
        };
        AllowedPairs(pairs.iter().map(one).collect())
    }

    /// Whether a pair has this MAC address.
    pub(crate) fn has_mac(&self, mac: Mac) -> bool {
        self.0.iter().any(|pair| pair.mac == mac)
    }

    /// Whether an address (as in [`sluice_packet::FlowKey::src`]) may be behind a MAC address.
    pub(crate) fn allow(&self, mac: Mac, address: &[u8; 16]) -> bool {
        let has = |prefix: &Prefix| prefix.contains(address);
        let mut pairs = self.0.iter().filter(|pair| pair.mac == mac);
        pairs.any(|pair| pair.prefix.as_ref().is_none_or(has))
    }

    /// Whether a pair names a prefix that has the address.
    pub(crate) fn have(&self, mac: Mac, address: &[u8; 16]) -> bool {
        self.prefixes(mac).any(|prefix| prefix.contains(address))
    }

    /// Whether a pair names this one address, and no prefix that only has it in it.
    pub(crate) fn name(&self, mac: Mac, address: &[u8; 16]) -> bool {
        self.prefixes(mac)
            .any(|prefix| prefix.is_one_address() && prefix.contains(address))
    }

    fn prefixes(&self, mac: Mac) -> impl Iterator<Item = &Prefix> {
        let pairs = self.0.iter().filter(move |pair| pair.mac == mac);
        pairs.filter_map(|pair| pair.prefix.as_ref())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use sluice_packet::pose::parse_prefix;

    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const VIRTUAL: Mac = Mac([0, 0, 0x5e, 0, 1, 0x33]);

    fn pairs(of: &[(Option<Mac>, &str)]) -> AllowedPairs {
        let pair = |&(mac, ip): &(Option<Mac>, &str)| AddressPair {
            mac,
            ip: (ip != "any").then(|| parse_prefix(ip).unwrap()),
        };
        AllowedPairs::new(&of.iter().map(pair).collect::<Vec<_>>(), OWN)
    }

    fn address(text: &str) -> [u8; 16] {
        key_address(&text.parse().unwrap())
    }

    #[test]
    fn an_address_belongs_to_the_pairs_mac_alone() {
        let pairs = pairs(&[(Some(VIRTUAL), "10.0.0.1"), (None, "10.1.0.0/16")]);
        for (mac, ip, allowed) in [
            (VIRTUAL, "10.0.0.1", true),
            (VIRTUAL, "10.0.0.2", false),
            (VIRTUAL, "10.1.2.3", false),
            (OWN, "10.1.2.3", true),
            (OWN, "10.2.0.0", false),
            (OWN, "10.0.0.1", false),
        ] {
            assert_eq!(pairs.allow(mac, &address(ip)), allowed, "{mac} {ip}");
        }
        assert!(pairs.has_mac(VIRTUAL) && pairs.has_mac(OWN));
        assert!(!pairs.has_mac(Mac([2; 6])));
    }

    #[test]
    fn a_prefix_of_one_family_has_no_address_of_the_other() {
        let pairs = pairs(&[(None, "::/0"), (Some(VIRTUAL), "0.0.0.0/0")]);
        assert!(pairs.allow(OWN, &address("fd00::1")));
        assert!(!pairs.allow(OWN, &address("10.0.0.1")));
        assert!(pairs.allow(VIRTUAL, &address("10.0.0.1")));
        assert!(!pairs.allow(VIRTUAL, &address("fd00::1")));
    }

    #[test]
    fn only_a_single_address_is_named() {
        let pairs = pairs(&[(None, "10.0.0.0/24"), (None, "fd00::1"), (None, "any")]);
        let own = |ip| (pairs.have(OWN, &address(ip)), pairs.name(OWN, &address(ip)));
        assert_eq!(own("10.0.0.5"), (true, false));
        assert_eq!(own("fd00::1"), (true, true));
        assert_eq!(own("fd00::2"), (false, false));
        assert!(pairs.allow(OWN, &address("fd00::2")), "any");
    }
}
