// SPDX-License-Identifier: Apache-2.0
//! Checks of the further addresses and the groups that a request names, by the plugin before it takes
//! anything and by the engine, which believes no plugin.

use std::net::IpAddr;

use ipnet::IpNet;
use sluice_packet::FlowKey;
use sluice_packet::membership::is_snooped;
use sluice_packet::pose::AddressPair;

/// Most address pairs of an attachment: its worker may compare each of them with a frame.
pub const MAX_ADDRESS_PAIRS: usize = 32;
/// Most multicast groups that a request may name.
pub const MAX_MULTICAST_GROUPS: usize = 64;

/// Checks address pairs.
///
/// # Errors
/// Reason why they cannot be, and what is allowed.
pub fn check_address_pairs(pairs: &[AddressPair]) -> Result<(), String> {
    if pairs.len() > MAX_ADDRESS_PAIRS {
        return Err(format!(
            "{} address pairs are too many: name at most {MAX_ADDRESS_PAIRS}, or prefixes in place of \
             addresses",
            pairs.len()
        ));
    }
    for (index, pair) in pairs.iter().enumerate() {
        if pair.mac.is_none() && pair.ip.is_none() {
            return Err("an address pair has mac, ip or both: name one of them".to_owned());
        }
        if let Some(mac) = pair.mac {
            mac.check_unicast()
                .map_err(|error| format!("address pair {pair}: {error}"))?;
        }
        if let Some(ip) = &pair.ip
            && !can_be_sender(ip)
        {
            return Err(format!(
                "address pair {pair}: nobody sends from {ip}; name addresses of hosts"
            ));
        }
        if pairs[..index].contains(pair) {
            return Err(format!("address pair {pair} is there twice: name it once"));
        }
    }
    Ok(())
}

/// Whether a host can have an address of the prefix.
fn can_be_sender(net: &IpNet) -> bool {
    // 0.0.0.0/0 and ::/0 are every address; alone, they are none.
    let nobody = net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len();
    let broadcast =
        matches!(net, IpNet::V4(v4) if v4.prefix_len() == 32 && v4.addr().is_broadcast());
    let within = |group: &IpAddr| group.is_multicast() || group.is_loopback();
    // Of what begins outside, something is outside.
    let wholly = within(&net.network()) && within(&net.broadcast());
    !(nobody || broadcast || wholly)
}

/// Checks multicast groups.
///
/// # Errors
/// Reason why they cannot be, and what is allowed.
pub fn check_multicast_groups(groups: &[IpAddr]) -> Result<(), String> {
    if groups.len() > MAX_MULTICAST_GROUPS {
        return Err(format!(
            "{} multicast groups are too many: name at most {MAX_MULTICAST_GROUPS}",
            groups.len()
        ));
    }
    let octets = |group: &IpAddr| match group {
        IpAddr::V4(v4) => FlowKey::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    };
    match groups.iter().find(|group| !is_snooped(&octets(group))) {
        Some(group) => Err(format!(
            "{group} is not a multicast group that can be given: name groups beyond 224.0.0.0/24 \
             and ff02::/16, which reach every attachment"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use sluice_packet::Mac;
    use sluice_packet::pose::parse_prefix;

    fn pair(mac: Option<[u8; 6]>, ip: Option<&str>) -> AddressPair {
        AddressPair {
            mac: mac.map(Mac),
            ip: ip.map(|ip| parse_prefix(ip).unwrap()),
        }
    }

    #[test]
    fn pairs_of_hosts_are_fine() {
        let vrrp = Some([0, 0, 0x5e, 0, 1, 0x33]);
        let pairs = [
            pair(vrrp, Some("10.0.0.1")),
            pair(vrrp, None),
            pair(None, Some("10.0.0.0/24")),
            pair(None, Some("0.0.0.0/0")),
            pair(None, Some("::/0")),
            pair(None, Some("fd00::1")),
        ];
        assert_eq!(check_address_pairs(&pairs), Ok(()));
        assert_eq!(check_address_pairs(&[]), Ok(()));
    }

    #[test]
    fn what_no_host_has_is_refused() {
        let refused = |pairs: &[AddressPair], why: &str| {
            let error = check_address_pairs(pairs).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(&[pair(None, None)], "mac, ip or both");
        refused(&[pair(Some([1, 0, 0x5e, 0, 0, 1]), None)], "unicast");
        refused(&[pair(Some([0; 6]), None)], "unicast");
        for ip in [
            "0.0.0.0",
            "::",
            "224.0.0.0/4",
            "239.1.1.1",
            "ff02::/16",
            "127.0.0.0/8",
            "::1",
            "255.255.255.255",
        ] {
            refused(&[pair(None, Some(ip))], "nobody sends from");
        }
        let twice = pair(None, Some("10.0.0.1"));
        refused(&[twice, twice], "twice");
        let many: Vec<AddressPair> = (0..33)
            .map(|last| pair(Some([2, 0, 0, 0, 0, last]), None))
            .collect();
        refused(&many, "at most 32");
        assert_eq!(check_address_pairs(&many[..32]), Ok(()));
    }

    #[test]
    fn groups_that_reach_everybody_cannot_be_given() {
        let groups = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(
            check_multicast_groups(&groups(&["239.1.2.3", "ff05::1:3"])),
            Ok(())
        );
        for bad in ["224.0.0.1", "ff02::1", "10.0.0.1", "fd00::1"] {
            let error = check_multicast_groups(&groups(&[bad])).unwrap_err();
            assert!(error.starts_with(bad), "{error}");
        }
        let many: Vec<IpAddr> = (0..65)
            .map(|last| IpAddr::from([239, 0, 0, last]))
            .collect();
        assert!(check_multicast_groups(&many).is_err());
    }
}
