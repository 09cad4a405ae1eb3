// SPDX-License-Identifier: Apache-2.0
//! Reader of one rule, which also checks that its conditions can hold together.

use ipnet::IpNet;
use sluice_packet::{EtherType, IpProto};

use super::reader::{Fields, Reader};
use super::values;
use super::yaml::Node;
use crate::policy::{Match, Rule};

const KEYS: &[&str] = &[
    "name",
    "direction",
    "from",
    "to",
    "protocol",
    "source-ports",
    "ports",
    "icmp-type",
    "ethertype",
    "source-mac",
    "destination-mac",
    "verdict",
    "log",
];

/// Protocols whose ports can be read.
const WITH_PORTS: &[u8] = &[
    IpProto::TCP,
    IpProto::UDP,
    IpProto::SCTP,
    IpProto::DCCP,
    IpProto::UDP_LITE,
];

/// Reads one rule. `None` only with a problem.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Rule> {
    let before = reader.count();
    let fields = reader.fields(node, "a rule", KEYS)?;
    let name = reader.one(&fields, "name", values::rule_name);
    let directions = reader.required(&fields, "a rule", "direction", values::directions);
    let verdict = reader.required(&fields, "a rule", "verdict", values::verdict);
    let log = reader.one(&fields, "log", values::boolean).unwrap_or(false);
    let matches = Match {
        from: plain(reader.several(&fields, "from", values::prefix)),
        to: plain(reader.several(&fields, "to", values::prefix)),
        protocols: plain(reader.several(&fields, "protocol", values::protocol)),
        source_ports: plain(reader.several(&fields, "source-ports", values::ports)),
        ports: plain(reader.several(&fields, "ports", values::ports)),
        icmp_types: plain(reader.several(&fields, "icmp-type", values::icmp_types)),
        ethertypes: plain(reader.several(&fields, "ethertype", values::ethertype)),
        source_macs: plain(reader.several(&fields, "source-mac", values::mac)),
        destination_macs: plain(reader.several(&fields, "destination-mac", values::mac)),
    };
    // With a value missing, more problems would follow from the first.
    if reader.count() == before {
        check(reader, &fields, &matches);
    }
    Some(Rule {
        name,
        at: fields.at,
        directions: directions?,
        matches,
        verdict: verdict?,
        log,
    })
}

fn plain<T, P>(values: Vec<(T, P)>) -> Vec<T> {
    values.into_iter().map(|(value, _)| value).collect()
}

/// Refuses conditions that no frame can meet together.
fn check(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    check_ports(reader, fields, matches);
    check_icmp(reader, fields, matches);
    check_ethertypes(reader, fields, matches);
    check_families(reader, fields, matches);
}

fn check_ports(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    let all_have_ports = matches
        .protocols
        .iter()
        .all(|protocol| WITH_PORTS.contains(protocol));
    if !matches.protocols.is_empty() && all_have_ports {
        return;
    }
    for key in ["source-ports", "ports"] {
        if fields.has(key) {
            let message = format!(
                "`{key}` needs `protocol`, and of it only tcp, udp or sctp (one or several)"
            );
            reader.problem(fields.at(key), message);
        }
    }
}

fn check_icmp(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    let one_icmp = matches!(matches.protocols[..], [IpProto::ICMP | IpProto::ICMPV6]);
    if fields.has("icmp-type") && !one_icmp {
        reader.problem(
            fields.at("icmp-type"),
            "`icmp-type` needs `protocol: icmp` or `protocol: icmpv6`, one of them: their numbers \
             mean different things",
        );
    }
}

fn check_ethertypes(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    let is_ip = |ethertype: &u16| matches!(*ethertype, EtherType::IPV4 | EtherType::IPV6);
    let is_arp = |ethertype: &u16| *ethertype == EtherType::ARP;
    if fields.has("protocol") && !matches.ethertypes.iter().all(is_ip) {
        reader.problem(
            fields.at("ethertype"),
            "`protocol` goes with `ethertype` ipv4 or ipv6 only; leave one of the two keys out",
        );
        return;
    }
    let addressed = |ethertype: &u16| is_ip(ethertype) || is_arp(ethertype);
    if (fields.has("from") || fields.has("to")) && !matches.ethertypes.iter().all(addressed) {
        reader.problem(
            fields.at("ethertype"),
            "`from` and `to` go with `ethertype` ipv4, ipv6 or arp only; match other frames by \
             `source-mac` and `destination-mac`",
        );
    }
}

/// IP versions for which a condition can hold.
#[derive(Clone, Copy)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    fn of_prefixes(nets: &[IpNet]) -> Option<Families> {
        (!nets.is_empty()).then(|| Families {
            v4: nets.iter().any(|net| matches!(net, IpNet::V4(_))),
            v6: nets.iter().any(|net| matches!(net, IpNet::V6(_))),
        })
    }

    fn of_ethertypes(ethertypes: &[u16]) -> Option<Families> {
        // ARP carries IPv4 addresses.
        let is_v4 = |ethertype: &u16| matches!(*ethertype, EtherType::IPV4 | EtherType::ARP);
        let families = Families {
            v4: ethertypes.iter().any(is_v4),
            v6: ethertypes.contains(&EtherType::IPV6),
        };
        (families.v4 || families.v6).then_some(families)
    }

    fn of_protocols(protocols: &[u8]) -> Option<Families> {
        match protocols {
            [IpProto::ICMP] => Some(Families {
                v4: true,
                v6: false,
            }),
            [IpProto::ICMPV6] => Some(Families {
                v4: false,
                v6: true,
            }),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        if self.v4 { "IPv4" } else { "IPv6" }
    }
}

fn check_families(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    let conditions = [
        ("from", Families::of_prefixes(&matches.from)),
        ("to", Families::of_prefixes(&matches.to)),
        ("ethertype", Families::of_ethertypes(&matches.ethertypes)),
        ("protocol", Families::of_protocols(&matches.protocols)),
    ];
    let conditions = conditions.map(|(key, families)| families.map(|families| (key, families)));
    let conditions: Vec<(&str, Families)> = conditions.into_iter().flatten().collect();
    for (index, (key, families)) in conditions.iter().enumerate() {
        let clash = conditions[..index]
            .iter()
            .find(|(_, earlier)| !(families.v4 && earlier.v4 || families.v6 && earlier.v6));
        if let Some((other, other_families)) = clash {
            let message = format!(
                "`{key}` is {} and `{other}` is {}: no frame is both; make two rules, or change one \
                 of the two",
                families.name(),
                other_families.name()
            );
            reader.problem(fields.at(key), message);
            return;
        }
    }
}
