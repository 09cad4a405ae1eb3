// SPDX-License-Identifier: Apache-2.0
//! Route table: longest-prefix match, in a trie of the `prefix-trie` crate.

use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use crate::interfaces::{InterfaceId, InterfaceTable};

/// Route to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Interface that packets leave on.
    pub interface: InterfaceId,
    /// Next hop; `None`: the destination itself, which is on the link.
    pub via: Option<IpAddr>,
}

/// Routes by prefix, immutable.
#[derive(Debug, Default)]
pub struct RouteTable(JointPrefixMap<IpNet, Route>);

impl RouteTable {
    /// Builds the table of the interfaces' own prefixes and of static routes. Where both name a prefix,
    /// the interface's is taken.
    #[must_use]
    pub fn new(interfaces: &InterfaceTable, statics: &[(IpNet, Route)]) -> RouteTable {
        let mut table = JointPrefixMap::default();
        for (prefix, route) in statics {
            table.insert(prefix.trunc(), *route);
        }
        for (interface, one) in interfaces.iter() {
            for address in &one.addresses {
                let route = Route {
                    interface,
                    via: None,
                };
                table.insert(address.trunc(), route);
            }
        }
        RouteTable(table)
    }

    /// Route of the longest prefix that contains `destination`.
    #[must_use]
    pub fn lookup(&self, destination: IpAddr) -> Option<Route> {
        let (_, route) = self.0.get_lpm(&IpNet::from(destination))?;
        Some(*route)
    }

    /// Next hop towards `destination`, and the interface that it is on.
    #[must_use]
    pub fn next_hop(&self, destination: IpAddr) -> Option<(InterfaceId, IpAddr)> {
        let route = self.lookup(destination)?;
        Some((route.interface, route.via.unwrap_or(destination)))
    }

    /// Number of routes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Addresses that share long prefixes with each other, of both kinds.
    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0..4u8, 0..4u8, any::<u8>()).prop_map(|(b, c, d)| IpAddr::from([10, b, c, d]));
        let v6 = (0..4u16, 0..4u16, any::<u16>())
            .prop_map(|(b, c, h)| IpAddr::from([0xfd00, b, c, 0, 0, 0, 0, h]));
        prop_oneof![v4, v6]
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), 0..=128u8).prop_filter_map("too long", |(address, len)| {
            let len = if address.is_ipv4() { len % 33 } else { len };
            IpNet::new(address, len).ok().map(|net| net.trunc())
        })
    }

    proptest! {
        #[test]
        fn the_longest_prefix_decides(
            prefixes in proptest::collection::vec(prefix(), 0..40),
            asked in proptest::collection::vec(address(), 1..20),
        ) {
            let statics: Vec<(IpNet, Route)> = prefixes
                .iter()
                .zip(0..)
                .map(|(net, interface)| (*net, Route { interface, via: None }))
                .collect();
            let table = RouteTable::new(&InterfaceTable::default(), &statics);
            for address in asked {
                let naive = statics
                    .iter()
                    .filter(|(net, _)| net.contains(&address))
                    .max_by_key(|(net, route)| (net.prefix_len(), route.interface));
                prop_assert_eq!(table.lookup(address), naive.map(|(_, route)| *route));
            }
        }
    }
}
