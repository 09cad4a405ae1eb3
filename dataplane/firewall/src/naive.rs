// SPDX-License-Identifier: Apache-2.0
//! Reference implementation of a policy's meaning: walk the written rules, take the first that
//! matches. Tests compare [`crate::Table`] with it; nothing that forwards frames uses it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::{FlowKey, Headers, Mac};

use crate::header_match::both;
use crate::masked_mac::MaskedMac;
use crate::matches::{IcmpTypes, Match, has_l4};
use crate::policy::Policy;
use crate::states::State;
use crate::table::Hit;
use crate::verdict::{Direction, Verdict};

/// Judges a frame with this key and these header fields by `policy`; `Hit::rule` counts the rules of this
/// direction only.
///
/// `key` is one that [`sluice_packet::parse`] can give (an IPv4 EtherType with the IPv4 flag and so
/// on), and `headers` are those of the same frame.
#[must_use]
pub fn judge_with(policy: &Policy, direction: Direction, key: &FlowKey, headers: &Headers) -> Hit {
    judge_in(policy, direction, State::New, key, headers)
}

/// Judges a frame whose connection is in `state`.
#[must_use]
pub fn judge_in(
    policy: &Policy,
    direction: Direction,
    state: State,
    key: &FlowKey,
    headers: &Headers,
) -> Hit {
    let holds = |rule: &Match| rule.headers.holds(headers);
    walk(policy, direction, state, key, holds)
}

/// Judges a key alone: conditions on header fields count as met, as in [`crate::Table::judge`].
#[must_use]
pub fn judge(policy: &Policy, direction: Direction, key: &FlowKey) -> Hit {
    walk(policy, direction, State::New, key, |_| true)
}

fn walk(
    policy: &Policy,
    direction: Direction,
    state: State,
    key: &FlowKey,
    by_headers: impl Fn(&Match) -> bool,
) -> Hit {
    let mut slot = 0;
    for (_, rule) in policy.rules_of(direction) {
        let is_for = rule.states.contains(state);
        if is_for && matches(&rule.matches, key) && by_headers(&rule.matches) {
            return hit(policy, slot, rule.verdict, rule.log);
        }
        slot += 1;
    }
    match state.default_verdict() {
        None => {
            let log = policy.log_default.is_some_and(|of| of.includes(direction));
            hit(policy, slot, policy.default.of(direction), log)
        }
        Some(verdict) => Hit {
            rule: slot,
            verdict,
            log: false,
        },
    }
}

/// Hit of a rule or a default. What is audited passes and is logged.
fn hit(policy: &Policy, rule: u32, written: Verdict, log: bool) -> Hit {
    let verdict = match written {
        Verdict::Drop | Verdict::Reject if policy.audit => Verdict::Audit,
        written => written,
    };
    Hit {
        rule,
        verdict,
        log: log || verdict == Verdict::Audit,
    }
}

fn matches(rule: &Match, key: &FlowKey) -> bool {
    let ports = key.has(FlowKey::PORTS);
    let source_port = ports.then_some(key.src_port);
    let port = ports.then_some(key.dst_port);
    let excused = rule.without_ports && !has_l4(key.proto);
    let icmp = key.has(FlowKey::ICMP);
    let icmp = icmp.then_some((key.icmp_type, key.icmp_code));
    let protocol = key.is_ip().then_some(key.proto);
    let (source, destination) = (key.src_mac(), key.dst_mac());
    let in_net = |net: &IpNet, address: &IpAddr| net.contains(address);
    let in_range = |range: &RangeInclusive<u16>, port: &u16| range.contains(port);
    let of_type = |one: &IcmpTypes, icmp: &(u8, u8)| one.contains(icmp.0, icmp.1);
    let in_mask = |one: &MaskedMac, mac: &Mac| one.contains(*mac);
    !rule.never
        && (!(rule.is_ip_only() || rule.headers.is_about_ip()) || key.is_ip())
        && both(
            &rule.ethertypes,
            &rule.not_ethertypes,
            Some(key.ethertype),
            u16::eq,
        )
        && both(&rule.protocols, &rule.not_protocols, protocol, u8::eq)
        && rule
            .fragments
            .is_none_or(|fragments| key.is_ip() && fragments.include(key))
        && both(&rule.from, &rule.not_from, key.src_ip(), in_net)
        && both(&rule.to, &rule.not_to, key.dst_ip(), in_net)
        && both(
            &rule.source_ports,
            &rule.not_source_ports,
            source_port,
            in_range,
        )
        && (excused || both(&rule.ports, &rule.not_ports, port, in_range))
        && both(&rule.icmp_types, &rule.not_icmp_types, icmp, of_type)
        && both(
            &rule.source_macs,
            &rule.not_source_macs,
            Some(source),
            in_mask,
        )
        && both(
            &rule.destination_macs,
            &rule.not_destination_macs,
            Some(destination),
            in_mask,
        )
}
