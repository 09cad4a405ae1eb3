// SPDX-License-Identifier: Apache-2.0
//! Reader of one rule.

use std::ops::RangeInclusive;

use sluice_packet::IpProto;

use super::addresses::{MacKind, PrefixKind};
use super::check::check;
use super::foreign;
use super::header_rule;
use super::headers::{EtherTypeKind, IcmpCodeKind, IcmpKind, Icmpv6Kind, PortKind, ProtocolKind};
use super::keys;
use super::kind::Kind;
use super::limit;
use super::reader::{Fields, Reader};
use super::values::{
    CommentKind, DirectionKind, FragmentsKind, LogKind, RuleNameKind, ServiceKind, StateKind,
    VerdictKind,
};
use super::words::Service;
use super::yaml::Node;
use crate::matches::{IcmpTypes, Match};
use crate::policy::Rule;
use crate::states::{State, States};
use crate::verdict::Verdict;

/// Reads one rule. `None` only with a problem.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Rule> {
    let before = reader.count();
    let fields = reader.keyed(node, "a rule", keys::RULE, foreign::IN_RULES)?;
    let name = reader.one::<RuleNameKind>(&fields, "name");
    let comment = reader.one::<CommentKind>(&fields, "comment");
    let directions = reader.required::<DirectionKind>(&fields, "a rule", "direction");
    let verdict = reader.required::<VerdictKind>(&fields, "a rule", "verdict");
    let log = reader.one::<LogKind>(&fields, "log").unwrap_or(0);
    let limit = limit::read(reader, &fields, verdict);
    let states = states(reader, &fields, verdict);
    let mut matches = conditions(reader, &fields);
    let service = reader.one::<ServiceKind>(&fields, "service");
    // With a value missing, more problems would follow from the first.
    if reader.count() == before {
        check(reader, &fields, &matches);
        header_rule::check(reader, &fields, &matches);
    }
    header_rule::complete(&mut matches);
    if let Some(service) = service {
        add(service, &mut matches);
    }
    Some(Rule {
        name,
        comment,
        at: fields.at,
        directions: directions?,
        matches,
        verdict: verdict?,
        log: log > 0,
        log_sample: log.max(1),
        states,
        limit,
    })
}

/// Reads the states that the rule is for.
fn states(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, verdict: Option<Verdict>) -> States {
    let list = reader.several::<StateKind>(fields, "state");
    if !fields.has("state") {
        return States::NEW;
    }
    let except = list.except.clone();
    let left = list.plain().into_iter().filter(|one| !except.contains(one));
    let states = States::of(left);
    if states.contains(State::Invalid) && verdict == Some(Verdict::Reject) {
        reader.problem(
            fields.at("verdict"),
            "frames of `state: invalid` are not answered, since an answer ends good connections; write `drop`",
        );
    }
    states
}

/// Reads the conditions, `service` apart.
fn conditions(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Match {
    let mut matches = Match::default();
    let never = &mut matches.never;
    (matches.from, matches.not_from) = pair::<PrefixKind>(reader, fields, "from", never);
    (matches.to, matches.not_to) = pair::<PrefixKind>(reader, fields, "to", never);
    (matches.protocols, matches.not_protocols) =
        pair::<ProtocolKind>(reader, fields, "protocol", never);
    (matches.source_ports, matches.not_source_ports) =
        pair::<PortKind>(reader, fields, "source-ports", never);
    (matches.ports, matches.not_ports) = pair::<PortKind>(reader, fields, "ports", never);
    // The names of types depend on the version; which it is, is checked later.
    (matches.icmp_types, matches.not_icmp_types) = match matches.protocols[..] {
        [IpProto::ICMPV6] => pair::<Icmpv6Kind>(reader, fields, "icmp-type", never),
        _ => pair::<IcmpKind>(reader, fields, "icmp-type", never),
    };
    (matches.ethertypes, matches.not_ethertypes) =
        pair::<EtherTypeKind>(reader, fields, "ethertype", never);
    (matches.source_macs, matches.not_source_macs) =
        pair::<MacKind>(reader, fields, "source-mac", never);
    (matches.destination_macs, matches.not_destination_macs) =
        pair::<MacKind>(reader, fields, "destination-mac", never);
    let codes = reader.several::<IcmpCodeKind>(fields, "icmp-code").plain();
    apply_codes(reader, fields, &mut matches.icmp_types, &codes);
    let never = &mut matches.never;
    matches.headers = header_rule::conditions(reader, fields, never);
    matches.fragments = reader.one::<FragmentsKind>(fields, "fragments");
    matches
}

/// Reads a condition and its negation: the values that match, and those that do not. Sets `never` if
/// there are values and none of them stands for anything.
pub(super) fn pair<K: Kind>(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
    never: &mut bool,
) -> (Vec<K::Value>, Vec<K::Value>) {
    let list = reader.several::<K>(fields, key);
    let negation = format!("not-{key}");
    let not = reader.negated::<K>(fields, &negation);
    *never |= list.is_nothing;
    // Without an empty set the field must be there nevertheless.
    let is_bare = list.values.is_empty() && (list.is_excepted || fields.has(&negation));
    // What is excepted does not match, like what is negated.
    let not = [list.except, not].concat();
    let values = match is_bare && not.is_empty() {
        true => K::everything(),
        false => list.values.into_iter().map(|(value, _)| value).collect(),
    };
    (values, not)
}

/// Gives each type the codes, once for each range of them.
fn apply_codes(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    icmp_types: &mut Vec<IcmpTypes>,
    codes: &[RangeInclusive<u8>],
) {
    if codes.is_empty() {
        return;
    }
    let every = 0..=u8::MAX;
    if !fields.has("icmp-type") {
        let message = "`icmp-code` needs `icmp-type`: a code means something only with its type";
        reader.problem(fields.at("icmp-code"), message);
    } else if icmp_types.iter().any(|one| one.codes != every) {
        let message = "`icmp-type` names a code already; write it as type and code, such as 3/4, or \
                       leave `icmp-code` out";
        reader.problem(fields.at("icmp-code"), message);
    } else {
        let with_codes = |one: &IcmpTypes| {
            let types = one.types.clone();
            let with_code = |codes: &RangeInclusive<u8>| IcmpTypes {
                types: types.clone(),
                codes: codes.clone(),
            };
            codes.iter().map(with_code).collect::<Vec<_>>()
        };
        *icmp_types = icmp_types.iter().flat_map(with_codes).collect();
    }
}

/// Adds the conditions of a service.
fn add(service: Service, matches: &mut Match) {
    matches.protocols = service.protocols.to_vec();
    matches.ports = service.ports.iter().map(|&port| port..=port).collect();
    matches.without_ports = !service.ports.is_empty();
    let types = service.icmp_types.iter();
    matches.icmp_types = types
        .map(|&(first, last)| IcmpTypes::of(first..=last))
        .collect();
}
