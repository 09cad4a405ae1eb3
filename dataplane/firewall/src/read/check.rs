// SPDX-License-Identifier: Apache-2.0
//! Refusal of conditions that no frame can meet together.

use ipnet::IpNet;
use sluice_packet::{EtherType, IpProto};

use super::header_rule;
use super::reader::{Fields, Reader};
use crate::matches::Match;

/// Protocols whose ports can be read.
const WITH_PORTS: &[u8] = &[
    IpProto::TCP,
    IpProto::UDP,
    IpProto::SCTP,
    IpProto::DCCP,
    IpProto::UDP_LITE,
];

/// Keys that `service` stands for.
const OF_SERVICES: &[&str] = &[
    "protocol",
    "not-protocol",
    "ports",
    "not-ports",
    "icmp-type",
    "not-icmp-type",
    "icmp-code",
];

/// Refuses conditions that no frame can meet together.
pub(super) fn check(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    check_service(reader, fields);
    check_ports(reader, fields, matches);
    check_icmp(reader, fields, matches);
    check_ethertypes(reader, fields, matches);
    check_families(reader, fields, matches);
}

fn check_service(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) {
    if !fields.has("service") {
        return;
    }
    for key in OF_SERVICES {
        if fields.has(key) {
            let message =
                format!("`{key}` is what `service` says already; leave one of the two out");
            reader.problem(fields.at(key), message);
        }
    }
}

fn check_ports(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    let all_have_ports = matches
        .protocols
        .iter()
        .all(|protocol| WITH_PORTS.contains(protocol));
    if !matches.protocols.is_empty() && all_have_ports {
        return;
    }
    let conditions = [
        ("source-ports", &matches.source_ports),
        ("not-source-ports", &matches.not_source_ports),
        ("ports", &matches.ports),
        ("not-ports", &matches.not_ports),
    ];
    for (key, _) in conditions.iter().filter(|(_, ports)| !ports.is_empty()) {
        // Exceptions are negated values of the positive key, which is said already.
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
    for key in ["icmp-type", "not-icmp-type"] {
        if fields.has(key) && !one_icmp {
            let message = format!(
                "`{key}` needs `protocol: icmp` or `protocol: icmpv6`, one of them: their numbers mean \
                 different things"
            );
            reader.problem(fields.at(key), message);
        }
    }
}

fn check_ethertypes(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    let is_ip = |ethertype: &u16| matches!(*ethertype, EtherType::IPV4 | EtherType::IPV6);
    let is_arp = |ethertype: &u16| *ethertype == EtherType::ARP;
    let all_ip = matches.ethertypes.iter().all(is_ip);
    let of_ip = ["protocol", "not-protocol", "service", "fragments"];
    for key in of_ip.iter().chain(header_rule::OF_IP).copied() {
        let given = match key {
            "protocol" => !matches.protocols.is_empty(),
            key => fields.has(key),
        };
        if given && !all_ip {
            let message = format!(
                "`{key}` goes with `ethertype` ipv4 or ipv6 only; leave one of the two keys out"
            );
            reader.problem(fields.at("ethertype"), message);
            return;
        }
    }
    let addressed = |ethertype: &u16| is_ip(ethertype) || is_arp(ethertype);
    let nets = [
        &matches.from,
        &matches.to,
        &matches.not_from,
        &matches.not_to,
    ];
    if nets.iter().any(|nets| !nets.is_empty()) && !matches.ethertypes.iter().all(addressed) {
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

    fn of_options(fields: &Fields<'_, '_>, key: &str, v4: bool) -> Option<Families> {
        let is_given = fields.has(key) || fields.has(&format!("not-{key}"));
        is_given.then_some(Families { v4, v6: !v4 })
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
        (
            "ip-options",
            Families::of_options(fields, "ip-options", true),
        ),
        (
            "extension-headers",
            Families::of_options(fields, "extension-headers", false),
        ),
    ];
    let conditions = conditions.map(|(key, families)| families.map(|families| (key, families)));
    // What is in a set may change; a rule that is about nothing for a while is no mistake of its own.
    let written = conditions.into_iter().flatten();
    let conditions: Vec<(&str, Families)> =
        written.filter(|(key, _)| !fields.has_set(key)).collect();
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
