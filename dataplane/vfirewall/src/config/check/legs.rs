// SPDX-License-Identifier: Apache-2.0
//! Checks of legs and their interfaces.

use ipnet::IpNet;
use sluice_packet::{Mac, Vid};
use sluice_pod::MemifArg;
use sluice_yaml::{Location, Scalar, Spanned, unplaced};

use super::Check;
use crate::config::interface_file::InterfaceFile;
use crate::config::raw::{RawLeg, RawVlan};
use crate::config::{LegConfig, MAX_LEGS};
use crate::interfaces::{Interface, MAX_INTERFACES};

/// Least MTU of IPv6 (RFC 8200, 5), which all links here are to carry.
const MIN_MTU: u16 = 1280;
/// Largest MTU: jumbo frames.
const MAX_MTU: u16 = 9216;
const DEFAULT_MTU: u16 = 1500;

/// Interface, with the place of what was written of it.
type Placed = (Location, String, Interface);

impl Check<'_> {
    /// Checks all legs; returns them and their interfaces.
    pub(super) fn legs(&mut self, raw: Vec<Spanned<RawLeg>>) -> (Vec<LegConfig>, Vec<Interface>) {
        let (mut legs, mut interfaces) = (Vec::<LegConfig>::new(), Vec::new());
        if raw.is_empty() || raw.len() > MAX_LEGS {
            let message = format!("{} legs: from 1 to {MAX_LEGS} are possible", raw.len());
            self.problem(None, "legs", message);
            return (legs, interfaces);
        }
        for (index, raw) in raw.into_iter().enumerate() {
            let key = format!("legs[{index}]");
            let at = raw.referenced;
            let Some((leg, own)) = self.leg(&key, at, raw.value, legs.len()) else {
                continue;
            };
            if legs.iter().any(|before| before.name == leg.name) {
                let message = format!("two legs are called {}: set `name`", leg.name);
                self.problem(Some(at), key, message);
                continue;
            }
            legs.push(leg);
            for (at, key, interface) in own {
                self.unique(at, &key, &interface, &interfaces);
                interfaces.push(interface);
            }
        }
        if interfaces.len() > MAX_INTERFACES {
            let message = format!(
                "{} interfaces over all legs: {MAX_INTERFACES} are possible",
                interfaces.len()
            );
            self.problem(None, "legs", message);
        }
        (legs, interfaces)
    }

    /// Checks that an interface has no address and no prefix of another.
    fn unique(&mut self, at: Location, key: &str, one: &Interface, others: &[Interface]) {
        for other in others {
            for (own, theirs) in one
                .addresses
                .iter()
                .flat_map(|own| other.addresses.iter().map(move |theirs| (own, theirs)))
            {
                if own.contains(&theirs.network()) || theirs.contains(&own.network()) {
                    let message = format!(
                        "{own} overlaps {theirs} of {}: a prefix is on one link only",
                        other.name
                    );
                    self.problem(Some(at), key, message);
                }
            }
        }
    }

    fn leg(
        &mut self,
        key: &str,
        at: Location,
        raw: RawLeg,
        number: usize,
    ) -> Option<(LegConfig, Vec<Placed>)> {
        let memif = self.memif(key, at, &raw)?;
        let socket = raw.socket.as_ref().map_or("", |socket| &socket.value);
        let beside = match InterfaceFile::beside(socket) {
            Ok(beside) => beside,
            Err(message) => {
                self.problem(Some(at), format!("{key}.socket"), message);
                return None;
            }
        };
        let mac = self.mac(key, at, socket, raw.mac.as_ref(), beside.as_ref())?;
        let beside = beside.unwrap_or_default();
        let default = beside.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        let default = default.filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu));
        let default = default.unwrap_or(DEFAULT_MTU);
        let range = (MIN_MTU, MAX_MTU);
        let mtu = self.number(&format!("{key}.mtu"), raw.mtu.as_ref(), default, range);
        let leg = LegConfig {
            name: memif.name,
            address: memif.address,
            memif: memif.config,
            mac,
            mtu,
        };
        let interfaces = match raw.vlans {
            None => {
                let from_file = |value: String| unplaced(value);
                let vlan = RawVlan {
                    vlan: raw
                        .vlan
                        .or_else(|| beside.vid().map(|vid| from_file(vid.to_string()))),
                    addresses: raw
                        .addresses
                        .or_else(|| Some(beside.addresses().into_iter().map(from_file).collect())),
                    policy: raw.policy,
                    mtu: None,
                    reverse_path: raw.reverse_path,
                };
                let interface = self.interface(key, at, vlan, &leg, number, false)?;
                vec![(at, key.to_owned(), interface)]
            }
            Some(vlans) => {
                let own = [&raw.vlan, &raw.policy, &raw.reverse_path];
                if own.iter().any(|value| value.is_some()) || raw.addresses.is_some() {
                    let message = "a leg with `vlans` has its `vlan`, `addresses`, `policy` and \
                                   `reverse_path` there";
                    self.problem(Some(at), key, message);
                }
                self.trunk(key, vlans, &leg, number)
            }
        };
        Some((leg, interfaces))
    }

    fn trunk(
        &mut self,
        key: &str,
        vlans: Vec<Spanned<RawVlan>>,
        leg: &LegConfig,
        number: usize,
    ) -> Vec<Placed> {
        let mut made: Vec<Placed> = Vec::new();
        for (index, raw) in vlans.into_iter().enumerate() {
            let key = format!("{key}.vlans[{index}]");
            let at = raw.referenced;
            let Some(interface) = self.interface(&key, at, raw.value, leg, number, true) else {
                continue;
            };
            if made
                .iter()
                .any(|(.., before)| before.vlan == interface.vlan)
            {
                let message = format!("VLAN {} is here twice", interface.vlan);
                self.problem(Some(at), key, message);
                continue;
            }
            let others: Vec<Interface> = made.iter().map(|(.., one)| one.clone()).collect();
            self.unique(at, &key, &interface, &others);
            made.push((at, key, interface));
        }
        made
    }

    fn memif(&mut self, key: &str, at: Location, raw: &RawLeg) -> Option<MemifArg> {
        let values = [
            ("socket", &raw.socket),
            ("role", &raw.role),
            ("id", &raw.id),
            ("secret", &raw.secret),
            ("name", &raw.name),
            ("queues", &raw.queues),
            ("ring-size", &raw.ring_size),
            ("buffer-size", &raw.buffer_size),
        ];
        let pairs: Vec<(&str, &str)> = values
            .iter()
            .filter_map(|(key, value)| Some((*key, value.as_ref()?.value.as_str())))
            .collect();
        match MemifArg::from_pairs(&pairs) {
            Ok(memif) => Some(memif),
            Err(error) => {
                self.problem(Some(at), key, format!("{error:#}"));
                None
            }
        }
    }

    fn mac(
        &mut self,
        key: &str,
        at: Location,
        socket: &str,
        raw: Option<&Scalar>,
        beside: Option<&InterfaceFile>,
    ) -> Option<Mac> {
        let from_file = beside.and_then(|file| file.mac.as_deref());
        let key = format!("{key}.mac");
        let (at, text) = match (raw, from_file) {
            (Some(raw), _) => (raw.referenced, raw.value.as_str()),
            (None, Some(mac)) => (at, mac),
            (None, None) => {
                let place = InterfaceFile::path(socket).map_or_else(
                    || "there is no interface.json beside an abstract socket".to_owned(),
                    |path| format!("there is no {}", path.display()),
                );
                let message = format!("{place}: name the MAC address that the attachment has");
                self.problem(Some(at), key, message);
                return None;
            }
        };
        match Mac::parse_unicast(text) {
            Ok(mac) => Some(mac),
            Err(error) => {
                self.problem(Some(at), key, error.to_string());
                None
            }
        }
    }

    fn interface(
        &mut self,
        key: &str,
        at: Location,
        raw: RawVlan,
        leg: &LegConfig,
        number: usize,
        trunk: bool,
    ) -> Option<Interface> {
        let vlan = match &raw.vlan {
            None if trunk => {
                self.problem(Some(at), key, "name the `vlan`; 0 is the untagged one");
                return None;
            }
            None => Vid::UNTAGGED,
            Some(vlan) => self.parsed(&format!("{key}.vlan"), vlan)?,
        };
        let mut addresses: Vec<IpNet> = Vec::new();
        for raw in raw.addresses.iter().flatten() {
            let key = format!("{key}.addresses");
            let Some(net) = self.parsed::<IpNet>(&key, raw) else {
                continue;
            };
            let is_host = net.addr().is_ipv6() || net.prefix_len() >= 31 || {
                net.addr() != net.network() && net.addr() != net.broadcast()
            };
            let is_single = !net.addr().is_multicast()
                && !net.addr().is_unspecified()
                && !net.addr().is_loopback();
            if !is_host || !is_single {
                let message = format!("{net} is no address of a host with its prefix length");
                self.problem(Some(raw.referenced), key, message);
            } else if addresses.contains(&net) {
                self.problem(Some(raw.referenced), key, format!("{net} is here twice"));
            } else {
                addresses.push(net);
            }
        }
        if addresses.is_empty() {
            let message = "it has no address: write `addresses`, as in [10.21.0.1/24]";
            self.problem(Some(at), key, message);
        }
        let name = match trunk {
            true => format!("{}.{vlan}", leg.name),
            false => leg.name.clone(),
        };
        let range = (MIN_MTU, leg.mtu);
        let mtu = self.number(&format!("{key}.mtu"), raw.mtu.as_ref(), leg.mtu, range);
        let reverse_path = match raw.reverse_path.as_ref() {
            None => true,
            Some(word) if word.value == "strict" => true,
            Some(word) if word.value == "off" => false,
            Some(word) => {
                let message = format!("\"{}\" is not allowed: use strict or off", word.value);
                self.problem(
                    Some(word.referenced),
                    format!("{key}.reverse_path"),
                    message,
                );
                true
            }
        };
        Some(Interface {
            name,
            leg: number,
            tagged: trunk && !vlan.is_untagged(),
            vlan,
            mac: leg.mac,
            mtu,
            addresses,
            policy: raw.policy.map(|policy| policy.value),
            reverse_path,
        })
    }
}
