// SPDX-License-Identifier: Apache-2.0
//! Reference implementation of a policy's meaning: walk the written rules, take the first that
//! matches. Tests compare [`crate::Table`] with it; nothing that forwards frames uses it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::FlowKey;

use crate::policy::{Match, Policy};
use crate::table::Hit;
use crate::verdict::Direction;

/// Judges a frame with this key by `policy`; `Hit::rule` counts the rules of this direction only.
///
/// `key` is one that [`sluice_packet::parse`] can give (an IPv4 EtherType with the IPv4 flag and so
/// on).
#[must_use]
pub fn judge(policy: &Policy, direction: Direction, key: &FlowKey) -> Hit {
    let mut slot = 0;
    for (_, rule) in policy.rules_of(direction) {
        if matches(&rule.matches, key) {
            return Hit {
                rule: slot,
                verdict: rule.verdict,
                log: rule.log,
            };
        }
        slot += 1;
    }
    Hit {
        rule: slot,
        verdict: policy.default.of(direction),
        log: false,
    }
}

fn matches(rule: &Match, key: &FlowKey) -> bool {
    let ports = key.has(FlowKey::PORTS);
    let icmp = key.has(FlowKey::ICMP);
    (!rule.is_ip_only() || key.is_ip())
        && (rule.ethertypes.is_empty() || rule.ethertypes.contains(&key.ethertype))
        && (rule.protocols.is_empty() || key.is_ip() && rule.protocols.contains(&key.proto))
        && holds(&rule.from, key.src_ip())
        && holds(&rule.to, key.dst_ip())
        && within(&rule.source_ports, ports.then_some(key.src_port))
        && within(&rule.ports, ports.then_some(key.dst_port))
        && within(&rule.icmp_types, icmp.then_some(key.icmp_type))
        && (rule.source_macs.is_empty() || rule.source_macs.contains(&key.src_mac()))
        && (rule.destination_macs.is_empty() || rule.destination_macs.contains(&key.dst_mac()))
}

fn holds(prefixes: &[IpNet], address: Option<IpAddr>) -> bool {
    prefixes.is_empty()
        || address.is_some_and(|address| prefixes.iter().any(|net| net.contains(&address)))
}

fn within<T: PartialOrd>(ranges: &[RangeInclusive<T>], value: Option<T>) -> bool {
    ranges.is_empty()
        || value.is_some_and(|value| ranges.iter().any(|range| range.contains(&value)))
}
