// SPDX-License-Identifier: Apache-2.0
//! Policy sets: lookup, sharing of tables, counters across changes, warnings.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod random;

use proptest::prelude::*;
use sluice_firewall::{
    CarryOver, CompiledPolicy, Direction, Policy, PolicySet, Table, Verdict, carry_over,
};
use sluice_packet::Vid;

fn policy(text: &str) -> Policy {
    let name = text.split(['\n', ' ']).nth(1).unwrap();
    Policy::parse(&format!("{name}.yaml"), text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn vid(vid: u16) -> Vid {
    Vid::new(vid).unwrap()
}

fn get<'s>(set: &'s PolicySet, name: &str) -> &'s CompiledPolicy {
    set.policy(set.named(name).unwrap())
}

fn same_table(a: &Table, b: &Table) -> bool {
    std::ptr::eq(a, b)
}

const WEB: &str = "name: web
vlans: [untagged, 10-12]
default: {ingress: drop, egress: accept}
rules:
  - name: http
    direction: ingress
    protocol: tcp
    ports: [80, 443]
    verdict: accept
  - direction: both
    ethertype: arp
    verdict: accept
";

#[test]
fn segments_by_uplink_and_vid() {
    let here = policy("name: here\nuplink: wire0\nvlans: [20, 4094]\n");
    let there = policy("name: there\nuplink: wire1\nvlans: 20\n");
    let named = policy("name: named\n");
    let set = PolicySet::build(7, &[policy(WEB), here, there, named]).unwrap();
    assert_eq!(set.version(), 7);
    let segment = |uplink, number| {
        let index = set.segment(uplink, vid(number));
        index.map(|index| set.policy(index).name())
    };
    assert_eq!(segment("wire0", 0), Some("web"));
    assert_eq!(segment("wire9", 12), Some("web"));
    assert_eq!(segment("wire0", 13), None);
    assert_eq!(segment("wire0", 20), Some("here"));
    assert_eq!(segment("wire1", 20), Some("there"));
    assert_eq!(segment("wire2", 20), None);
    assert_eq!(segment("wire0", 4094), Some("here"));
    assert!(set.named("named").is_some());
    assert!(set.named("nobody").is_none());
    assert_eq!(set.iter().count(), 4);

    let empty = PolicySet::empty();
    assert_eq!((empty.version(), empty.slots()), (0, 0));
    assert_eq!(empty.segment("wire0", vid(10)), None);
}

#[test]
fn one_policy_per_segment_and_name() {
    let refused = |policies: &[Policy]| -> Vec<String> {
        let problems = PolicySet::build(1, policies).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    };
    let wide = policy("name: wide\nuplink: wire0\nvlans: [1, 5-100]\n");
    assert_eq!(
        refused(&[policy(WEB), wide]),
        [
            "wide.yaml:3:12: VLAN 10 of uplink wire0 has policy `web` already (web.yaml:2); a segment \
          has one VLAN policy, so take it out of one of the two"
        ]
    );
    let untagged = policy("name: flat\nvlans: 0\n");
    assert_eq!(
        refused(&[policy(WEB), untagged, policy(WEB)]),
        [
            "flat.yaml:2:8: the untagged segment of every uplink has policy `web` already \
             (web.yaml:2); a segment has one VLAN policy, so take it out of one of the two",
            "web.yaml: policy `web` is in web.yaml already; give one of them another name",
            "web.yaml:2:9: the untagged segment of every uplink has policy `web` already \
             (web.yaml:2); a segment has one VLAN policy, so take it out of one of the two",
            "web.yaml:2:19: VLAN 10 of every uplink has policy `web` already (web.yaml:2); a segment \
             has one VLAN policy, so take it out of one of the two",
        ]
    );
    let apart = [
        policy("name: a\nuplink: wire0\nvlans: 5\n"),
        policy("name: b\nuplink: wire1\nvlans: 5\n"),
    ];
    assert!(PolicySet::build(1, &apart).is_ok());
}

#[test]
fn slots_are_flat_and_described() {
    let data = policy("name: data\ndefault: {egress: reject}\n");
    let set = PolicySet::build(1, &[policy(WEB), data]).unwrap();
    // web: 2 + default towards the pod, 1 + default from it; data: the defaults.
    assert_eq!(set.slots(), 3 + 2 + 1 + 1);
    let described: Vec<String> = set
        .rules()
        .map(|(policy, direction, info)| format!("{} {direction} {info}", policy.name()))
        .collect();
    assert_eq!(
        described,
        [
            "web ingress http (line 5, accept)",
            "web ingress #2 (line 10, accept)",
            "web ingress default (drop)",
            "web egress #2 (line 10, accept)",
            "web egress default (accept)",
            "data ingress default (drop)",
            "data egress default (reject)",
        ]
    );
    let web = get(&set, "web");
    assert_eq!(web.slot_base(Direction::Egress), 3);
    let info = web.rule_info(Direction::Egress, 0).unwrap();
    assert_eq!((info.label(), info.number), ("#2".to_owned(), 2));
    assert!(web.rule_info(Direction::Egress, 2).is_none());
    assert_eq!(web.default_verdict(Direction::Egress), Verdict::Accept);
    assert_eq!(web.written_rules(), 2);
}

#[test]
fn tables_of_unchanged_content_are_kept() {
    let other = policy("name: other\ndefault: {ingress: reject}\n");
    let old = PolicySet::build(1, &[policy(WEB), other.clone()]).unwrap();

    // Other names, comments, lines, notation: the same content.
    let renamed = "name: web2 # renamed
vlans: 99
default:
  egress: accept
rules:

  - direction: ingress
    protocol: 6
    ports: [443, 80-80]
    verdict: accept
  - direction: both
    ethertype: 0x0806
    verdict: accept
";
    let edited = WEB.replace("443", "8443");
    let policies = [policy(&edited), policy(renamed), other];
    let new = PolicySet::build_from(2, &policies, Some(&old)).unwrap();
    for direction in Direction::BOTH {
        let was = get(&old, "web").table(direction);
        assert!(same_table(was, get(&new, "web2").table(direction)));
        let other = get(&old, "other").table(direction);
        assert!(same_table(other, get(&new, "other").table(direction)));
    }
    let table = |set, direction| get(set, "web").table(direction) as *const Table;
    assert_ne!(
        table(&old, Direction::Ingress),
        table(&new, Direction::Ingress)
    );
    assert_eq!(
        table(&old, Direction::Egress),
        table(&new, Direction::Egress)
    );
    // Within one set too.
    let twice = [policy(WEB), policy(renamed)];
    let set = PolicySet::build(3, &twice).unwrap();
    assert!(same_table(
        get(&set, "web").table(Direction::Ingress),
        get(&set, "web2").table(Direction::Ingress)
    ));
}

#[test]
fn counts_follow_their_rule() {
    let old = PolicySet::build(1, &[policy(WEB)]).unwrap();
    let text = "name: web
default: {ingress: drop, egress: drop}
rules:
  - direction: both
    ethertype: arp
    verdict: accept
  - name: https
    direction: ingress
    protocol: tcp
    ports: [80, 443]
    verdict: accept
  - direction: both
    ethertype: arp
    verdict: accept
  - name: http
    direction: ingress
    protocol: tcp
    ports: [80, 443]
    verdict: accept
";
    let first = policy("name: aaa\n");
    let new = PolicySet::build(2, &[first, policy(text)]).unwrap();
    let slot =
        |set: &PolicySet, direction, rule: usize| get(set, "web").slot_base(direction) + rule;
    let carry: CarryOver = carry_over(&old, &new);
    let ingress = |rule| carry.old_slot(slot(&new, Direction::Ingress, rule));
    assert_eq!(ingress(0), Some(slot(&old, Direction::Ingress, 1)), "moved");
    assert_eq!(ingress(1), None, "another name");
    assert_eq!(ingress(2), None, "written a second time");
    assert_eq!(ingress(3), Some(slot(&old, Direction::Ingress, 0)), "moved");
    assert_eq!(
        ingress(4),
        Some(slot(&old, Direction::Ingress, 2)),
        "default"
    );
    let egress = |rule| carry.old_slot(slot(&new, Direction::Egress, rule));
    assert_eq!(egress(0), Some(slot(&old, Direction::Egress, 0)));
    assert_eq!(egress(2), None, "the default's verdict changed");
    assert_eq!(carry.iter().count(), 4);
    assert_eq!(carry.old_slot(new.slots()), None);

    // To itself, every slot is its own.
    assert!(
        carry_over(&new, &new)
            .iter()
            .eq((0..new.slots()).map(|slot| (slot, slot)))
    );
    // Another policy's rules are other rules.
    let renamed = PolicySet::build(3, &[policy(&WEB.replace("name: web", "name: wob"))]).unwrap();
    assert_eq!(carry_over(&old, &renamed).iter().count(), 0);
}

#[test]
fn warns_of_rules_that_never_decide() {
    let policy = policy(
        "name: w
rules:
  - name: net
    direction: both
    from: 10.0.0.0/8
    verdict: accept
  - {direction: ingress, from: [10.1.0.0/16, 10.2.0.0/16], protocol: tcp, ports: 22, verdict: drop}
  - {direction: ingress, from: 11.0.0.0/8, verdict: drop}
  - name: same
    direction: both
    from: 11.0.0.0/8
    verdict: drop
  - {direction: egress, from: 11.0.0.0/8, verdict: drop}
  - {direction: ingress, ethertype: arp, from: 10.0.0.0/8, verdict: drop}
  - {direction: both, verdict: drop}
  - name: late
    direction: both
    ethertype: lldp
    verdict: accept
",
    );
    let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "w.yaml:7:5: rule #2 never decides: rule `net` (line 3) matches everything it matches, \
             and comes first; its drop never happens; move it up or narrow the earlier rule",
            "w.yaml:13:5: rule #5 never decides: rule `same` (line 9) matches everything it \
             matches, and comes first; it changes nothing; remove it",
            "w.yaml:16:5: rule `late` never decides: rule #7 (line 15) matches everything it \
             matches, and comes first; its accept never happens; move it up or narrow the earlier \
             rule",
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A rule that is said never to decide does not, and removing it changes no verdict.
    #[test]
    fn warnings_are_true(
        policy in random::policy(1..16),
        keys in prop::collection::vec(random::key(), 40),
    ) {
        let mut policy = policy;
        for (number, rule) in policy.rules.iter_mut().enumerate() {
            rule.at.line = number + 1;
        }
        let hidden: Vec<usize> = policy.warnings().iter().map(|warning| warning.line).collect();
        let mut without = policy.clone();
        without.rules.retain(|rule| !hidden.contains(&rule.at.line));
        for direction in Direction::BOTH {
            let (table, less) = (Table::compile(&policy, direction), Table::compile(&without, direction));
            for key in &keys {
                let (hit, other) = (table.judge(key), less.judge(key));
                prop_assert_eq!((hit.verdict, hit.log), (other.verdict, other.log));
            }
        }
    }
}
