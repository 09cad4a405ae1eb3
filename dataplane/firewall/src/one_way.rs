// SPDX-License-Identifier: Apache-2.0
//! Warnings about traffic that cannot work as a policy lets it pass: without address resolution, or
//! without its answers.

use ipnet::IpNet;
use sluice_packet::{EtherType, IpProto};

use crate::compile::Region;
use crate::matches::{IcmpTypes, Match};
use crate::own_ports;
use crate::policy::{Policy, Rule};
use crate::problem::{Position, Problem};
use crate::states::State;
use crate::verdict::{Direction, Verdict};

/// Ports that clients send from, where a rule does not say (Linux's own range).
const CLIENT_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;
/// ICMPv6 types of neighbour solicitations and advertisements.
const NEIGHBOURS: [u8; 2] = [135, 136];

impl Policy {
    /// Finds what a policy lets pass in vain: IP without ARP or neighbour discovery, TCP whose answers its
    /// other direction drops, and in a stateful policy UDP protocols whose other end sends by itself. A policy may leave them to nobody: each policy that judges
    /// a frame must accept it. Only plain cases are found; what is said is probable.
    #[must_use]
    pub fn one_way_warnings(&self) -> Vec<Problem> {
        let view = View::new(self);
        let mut warnings = Vec::new();
        warnings.extend(view.without_arp());
        warnings.extend(view.without_neighbours());
        match self.stateful {
            true => warnings.extend(own_ports::warnings(self)),
            false => warnings.extend(view.without_answers()),
        }
        warnings
    }
}

/// A policy, with the rules that accept something in each direction.
struct View<'p> {
    policy: &'p Policy,
    accepting: Vec<(&'p Rule, Region)>,
}

impl<'p> View<'p> {
    fn new(policy: &'p Policy) -> View<'p> {
        let rules = policy.rules.iter();
        let accepting = rules
            .filter(|rule| rule.verdict == Verdict::Accept && rule.states.contains(State::New));
        View {
            policy,
            accepting: accepting
                .map(|rule| (rule, Region::new(&rule.matches)))
                .collect(),
        }
    }

    /// First rule of a direction that accepts something of a region.
    fn accepts(&self, direction: Direction, region: &Region) -> Option<&'p Rule> {
        let of_direction = |rule: &Rule| rule.directions.includes(direction);
        let found = self.accepting.iter();
        found
            .filter(|(rule, own)| of_direction(rule) && own.intersects(region))
            .map(|(rule, _)| *rule)
            .next()
    }

    fn is_open(&self, direction: Direction) -> bool {
        self.policy.default.of(direction) == Verdict::Accept
    }

    /// Directions that are closed by default and in which `needs` finds a rule, with the first such
    /// rule's position.
    fn closed(
        &self,
        needs: impl Fn(Direction) -> Option<&'p Rule>,
    ) -> Option<(Vec<Direction>, Position)> {
        let closed = Direction::BOTH.into_iter().filter(|&d| !self.is_open(d));
        let found: Vec<_> = closed.filter_map(|d| Some((d, needs(d)?.at))).collect();
        let at = found.iter().map(|(_, at)| *at).min()?;
        Some((found.into_iter().map(|(d, _)| d).collect(), at))
    }

    fn without_arp(&self) -> Option<Problem> {
        let (v4, arp) = (region_of(ipv4()), region_of(ethertype(EtherType::ARP)));
        let (directions, at) = self.closed(|direction| {
            let mut v4_rules = self.accepting.iter().filter(|(rule, region)| {
                rule.directions.includes(direction) && is_of_ipv4(rule, region, &v4)
            });
            let (rule, _) = v4_rules.next()?;
            self.accepts(direction, &arp).is_none().then_some(*rule)
        })?;
        Some(self.problem(
            at,
            format!(
                "IPv4 passes here, but ARP does not ({}): no host finds the other's MAC address; add \
                 a rule with `ethertype: arp`",
                names(&directions)
            ),
        ))
    }

    fn without_neighbours(&self) -> Option<Problem> {
        let (v4, v6) = (region_of(ipv4()), region_of(ipv6()));
        let (directions, at) = self.closed(|direction| {
            // A rule for both versions may be meant for IPv4 alone.
            let only_v6 = self.accepting.iter().find(|(rule, region)| {
                let is_v6 = region.intersects(&v6);
                let names_v6 = rule.matches.ethertypes.contains(&EtherType::IPV6)
                    || rule
                        .matches
                        .from
                        .iter()
                        .chain(&rule.matches.to)
                        .any(is_ipv6);
                rule.directions.includes(direction)
                    && is_v6
                    && (names_v6 || !is_of_ipv4(rule, region, &v4))
            });
            let (rule, _) = only_v6?;
            let all_pass = NEIGHBOURS.iter().all(|&icmp_type| {
                let region = region_of(Match {
                    protocols: vec![IpProto::ICMPV6],
                    icmp_types: vec![IcmpTypes::of(icmp_type..=icmp_type)],
                    ..Match::default()
                });
                self.accepts(direction, &region).is_some()
            });
            (!all_pass).then_some(*rule)
        })?;
        Some(self.problem(
            at,
            format!(
                "IPv6 passes here, but neighbour discovery does not ({}): no host finds the other's \
                 MAC address; add a rule with `protocol: icmpv6` and `icmp-type: [135, 136]`",
                names(&directions)
            ),
        ))
    }

    fn without_answers(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        for direction in Direction::BOTH {
            let back = opposite(direction);
            if self.is_open(back) {
                continue;
            }
            let (way, answers) = match direction {
                Direction::Ingress => ("in", "out"),
                Direction::Egress => ("out", "in"),
            };
            let advice = format!(
                "no rule lets its answers {answers}, and the policy is not stateful; write `stateful: true`, \
                 or add a rule for {back} with `protocol: tcp` and `source-ports`"
            );
            let tcp = region_of(tcp());
            // From the pods everything is often let out by default and little of it meant.
            let lets_in = direction == Direction::Ingress && self.is_open(direction);
            if lets_in && self.accepts(back, &tcp).is_none() {
                let message = format!("the default of {direction} lets TCP {way}, but {advice}");
                warnings.push(self.problem(Position::default(), message));
            }
            for (rule, region) in &self.accepting {
                let lets_tcp = rule.directions.includes(direction) && region.intersects(&tcp);
                if lets_tcp
                    && self
                        .accepts(back, &region_of(answers_to(&rule.matches)))
                        .is_none()
                {
                    let message = format!("this rule lets TCP {way}, but {advice}");
                    warnings.push(self.problem(rule.at, message));
                }
            }
        }
        warnings
    }

    fn problem(&self, at: Position, message: String) -> Problem {
        Problem::new(&self.policy.file, at, message)
    }
}

/// Whether a rule is about IPv4 too. One about ICMPv6 alone is not, though its number could stand in
/// an IPv4 header.
fn is_of_ipv4(rule: &Rule, region: &Region, v4: &Region) -> bool {
    rule.matches.protocols != [IpProto::ICMPV6] && region.intersects(v4)
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

fn names(directions: &[Direction]) -> String {
    let names: Vec<String> = directions.iter().map(ToString::to_string).collect();
    names.join(" and ")
}

fn region_of(matches: Match) -> Region {
    Region::new(&matches)
}

fn ethertype(ethertype: u16) -> Match {
    Match {
        ethertypes: vec![ethertype],
        ..Match::default()
    }
}

/// Everything of IPv4; with a prefix, so that prefixes of IPv6 have nothing in common with it.
fn ipv4() -> Match {
    Match {
        from: vec![IpNet::V4(ipnet::Ipv4Net::default())],
        to: vec![IpNet::V4(ipnet::Ipv4Net::default())],
        ..ethertype(EtherType::IPV4)
    }
}

/// Everything of IPv6.
fn ipv6() -> Match {
    Match {
        from: vec![IpNet::V6(ipnet::Ipv6Net::default())],
        to: vec![IpNet::V6(ipnet::Ipv6Net::default())],
        ..ethertype(EtherType::IPV6)
    }
}

fn tcp() -> Match {
    Match {
        protocols: vec![IpProto::TCP],
        source_ports: vec![0..=u16::MAX],
        ..Match::default()
    }
}

fn is_ipv6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// TCP that answers what a rule matches.
fn answers_to(rule: &Match) -> Match {
    let any_port = rule.source_ports.is_empty() && rule.not_source_ports.is_empty();
    let client_ports = match any_port {
        true => vec![CLIENT_PORTS],
        false => rule.source_ports.clone(),
    };
    Match {
        from: rule.to.clone(),
        not_from: rule.not_to.clone(),
        to: rule.from.clone(),
        not_to: rule.not_from.clone(),
        protocols: vec![IpProto::TCP],
        source_ports: rule.ports.clone(),
        not_source_ports: rule.not_ports.clone(),
        ports: client_ports,
        not_ports: rule.not_source_ports.clone(),
        source_macs: rule.destination_macs.clone(),
        not_source_macs: rule.not_destination_macs.clone(),
        destination_macs: rule.source_macs.clone(),
        not_destination_macs: rule.not_source_macs.clone(),
        ..Match::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// Warnings of a policy with these defaults and rules, each cut to its line and first words.
    fn warn(ingress: &str, egress: &str, rules: &[&str]) -> Vec<String> {
        let mut text = format!("name: p\ndefault: {{ingress: {ingress}, egress: {egress}}}\n");
        if !rules.is_empty() {
            text.push_str("rules:\n");
        }
        for rule in rules {
            text.push_str(&format!("  - {{verdict: accept, {rule}}}\n"));
        }
        let policy = Policy::parse("p", &text).unwrap();
        let warnings = policy.one_way_warnings();
        warnings
            .iter()
            .map(|one| {
                let end = one.message.find([':', '(']).map(|at| at.min(60));
                format!("{} {}", one.line, &one.message[..end.unwrap_or(60)])
            })
            .collect()
    }

    const ARP: &str = "direction: both, ethertype: arp";
    const ND: &str = "direction: both, protocol: icmpv6, icmp-type: [135, 136]";

    #[test]
    fn address_resolution() {
        let udp = "direction: ingress, protocol: udp, ports: [53]";
        let no_arp = ["4 IPv4 passes here, but ARP does not "];
        assert_eq!(warn("drop", "accept", &[udp]), no_arp);
        assert_eq!(warn("reject", "accept", &[udp]), no_arp);
        assert!(warn("drop", "accept", &[udp, ARP]).is_empty());
        assert!(warn("accept", "accept", &[udp]).is_empty());
        assert!(warn("drop", "drop", &[]).is_empty(), "closed on purpose");
        // A rule without any condition about IP lets ARP pass as well.
        let all = "direction: both, source-mac: [02:00:00:00:00:01]";
        assert!(
            warn("drop", "drop", &[all])
                .iter()
                .all(|one| !one.contains("ARP"))
        );

        let v6 = "direction: ingress, from: [fd00::/8], protocol: udp, ports: [53]";
        let no_nd = ["4 IPv6 passes here, but neighbour discovery does not "];
        assert_eq!(warn("drop", "accept", &[v6]), no_nd);
        assert!(warn("drop", "accept", &[v6, ND]).is_empty());
        let half = "direction: both, protocol: icmpv6, icmp-type: [135]";
        assert_eq!(warn("drop", "accept", &[v6, half]), no_nd);
        let both = "direction: ingress, from: [10.0.0.0/8, fd00::/8], protocol: udp, ports: [53]";
        assert_eq!(warn("drop", "accept", &[both]).len(), 2);
        assert!(warn("drop", "accept", &[both, ARP, ND]).is_empty());
    }

    #[test]
    fn answers_of_tcp() {
        let into = "direction: ingress, protocol: tcp, ports: [22], from: [10.0.0.0/8]";
        let no_answers =
            ["4 this rule lets TCP in, but no rule lets its answers out, and the fire"];
        let cut: Vec<String> = no_answers.iter().map(|one| one[..62].to_owned()).collect();
        let back = "direction: egress, protocol: tcp, source-ports: [22], to: [10.0.0.0/8]";
        assert_eq!(warn("drop", "drop", &[into, ARP]), cut);
        assert!(warn("drop", "accept", &[into, ARP]).is_empty());
        assert!(warn("drop", "drop", &[into, back, ARP]).is_empty());
        // Answers to elsewhere, from another port, and by the same port the other way round.
        for other in [
            "direction: egress, protocol: tcp, source-ports: [22], to: [11.0.0.0/8]",
            "direction: egress, protocol: tcp, source-ports: [23]",
            "direction: egress, protocol: udp, source-ports: [22]",
        ] {
            let found = warn("drop", "drop", &[into, other, ARP]);
            assert!(found.contains(&cut[0]), "{other}: {found:?}");
        }
        let both_ways = "direction: both, protocol: tcp, ports: [22]";
        assert_eq!(warn("drop", "drop", &[both_ways, ARP]).len(), 2);
        let inwards = warn("accept", "drop", &[ARP]);
        assert_eq!(inwards.len(), 1, "{inwards:?}");
        assert!(inwards[0].starts_with("0 the default of ingress lets TCP in"));
        let established = "direction: ingress, protocol: tcp, source-ports: [443]";
        assert!(warn("drop", "accept", &[ARP, established]).is_empty());
        let udp = "direction: ingress, protocol: udp, ports: [53]";
        assert!(
            warn("drop", "drop", &[udp, ARP]).is_empty(),
            "may go one way"
        );
    }
}
