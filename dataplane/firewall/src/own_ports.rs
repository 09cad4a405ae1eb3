// SPDX-License-Identifier: Apache-2.0
//! Warnings about UDP protocols whose ends both send to the well-known port, each from a port of its own: what comes
//! back is no answer to a stateful policy.

use std::ops::RangeInclusive;

use sluice_packet::IpProto;

use crate::compile::Region;
use crate::matches::Match;
use crate::policy::{Policy, Rule};
use crate::problem::Problem;
use crate::states::State;
use crate::verdict::{Direction, Verdict};

/// Protocols whose ends send so: GTP-U (3GPP TS 29.281, 4.4.2), BFD (RFC 5881, 4; RFC 5883), VXLAN (RFC 7348, 5), Geneve (RFC 8926,
/// 3.3), MPLS-in-UDP (RFC 7510, 3).
const PROTOCOLS: [(&str, u16); 6] = [
    ("GTP-U", 2152),
    ("BFD", 3784),
    ("multihop BFD", 4784),
    ("VXLAN", 4789),
    ("Geneve", 6081),
    ("MPLS-in-UDP", 6635),
];

/// Most ports of a range that is taken to mean one of them.
const MEANT: u16 = 16;

/// Finds rules of a stateful policy that let such a protocol pass one way alone.
pub(crate) fn warnings(policy: &Policy) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for direction in Direction::BOTH {
        let (way, back) = match direction {
            Direction::Ingress => ("in", Direction::Egress),
            Direction::Egress => ("out", Direction::Ingress),
        };
        if policy.default.of(back) == Verdict::Accept {
            continue;
        }
        for (name, port) in PROTOCOLS {
            let means_it = accepting(policy, direction).find(|rule| means(rule, port));
            let Some(rule) = means_it else {
                continue;
            };
            let to_port = Region::new(&Match {
                protocols: vec![IpProto::UDP],
                ports: vec![port..=port],
                ..Match::default()
            });
            let comes_back = |rule: &&Rule| Region::new(&rule.matches).intersects(&to_port);
            if accepting(policy, back).any(|rule| comes_back(&rule)) {
                continue;
            }
            let message = format!(
                "this rule lets {name} {way}, whose other end sends from a port of its own to port {port} too: that is \
                 no answer; add a rule for {back} with `protocol: udp` and `ports: {port}`"
            );
            warnings.push(Problem::new(&policy.file, rule.at, message));
        }
    }
    warnings
}

/// Rules that let first frames of a direction pass.
fn accepting(policy: &Policy, direction: Direction) -> impl Iterator<Item = &Rule> {
    policy.rules.iter().filter(move |rule| {
        rule.verdict == Verdict::Accept
            && rule.states.contains(State::New)
            && rule.directions.includes(direction)
    })
}

/// Whether a rule names a port of UDP, not just a wide range that it is in.
fn means(rule: &Rule, port: u16) -> bool {
    let names_it = |range: &RangeInclusive<u16>| {
        range.contains(&port) && range.end().saturating_sub(*range.start()) < MEANT
    };
    rule.matches.protocols.contains(&IpProto::UDP) && rule.matches.ports.iter().any(names_it)
}
