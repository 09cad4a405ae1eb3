// SPDX-License-Identifier: Apache-2.0
//! Verdict `audit` and audited policies: what would be dropped or rejected passes, counted and logged.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use sluice_firewall::{Direction, Hit, Policy, PolicySet, Table, Verdict, carry_over, naive};
use sluice_packet::{EtherType, FlowKey};

const RULES: &str = "
rules:
  - {name: in, direction: both, ethertype: arp, verdict: accept}
  - {name: out, direction: both, ethertype: lldp, verdict: drop}
  - {name: back, direction: both, ethertype: ipv6, verdict: reject, log: true}
  - {name: tried, direction: both, ethertype: ptp, verdict: audit}
";

fn policy(head: &str) -> Policy {
    let text = format!("{head}\n{RULES}");
    Policy::parse("p", &text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Verdict on a frame of this EtherType, and whether it is logged, by table and walk alike.
fn judge(policy: &Policy, direction: Direction, ethertype: u16) -> (Verdict, bool) {
    let key = FlowKey {
        ethertype,
        flags: match ethertype {
            EtherType::IPV6 => FlowKey::IPV6,
            _ => 0,
        },
        ..FlowKey::default()
    };
    let hit: Hit = Table::compile(policy, direction).judge(&key);
    assert_eq!(hit, naive::judge(policy, direction, &key));
    (hit.verdict, hit.log)
}

#[test]
fn a_rule_is_tried() {
    let policy = policy("name: p\ndefault: {ingress: audit, egress: drop}");
    for direction in Direction::BOTH {
        let judge = |ethertype| judge(&policy, direction, ethertype);
        assert_eq!(judge(EtherType::ARP), (Verdict::Accept, false));
        assert_eq!(judge(EtherType::LLDP), (Verdict::Drop, false));
        assert_eq!(judge(EtherType::IPV6), (Verdict::Reject, true));
        assert_eq!(judge(0x88f7), (Verdict::Audit, true));
    }
    assert_eq!(
        judge(&policy, Direction::Ingress, 0x88b5),
        (Verdict::Audit, true)
    );
    assert_eq!(
        judge(&policy, Direction::Egress, 0x88b5),
        (Verdict::Drop, false)
    );
    let passing = [Verdict::Accept, Verdict::Audit].map(Verdict::passes);
    let others = [Verdict::Drop, Verdict::Reject].map(Verdict::passes);
    assert_eq!((passing, others), ([true; 2], [false; 2]));
}

#[test]
fn a_whole_policy_is_tried() {
    let tried = policy("name: p\naudit: true\ndefault: {ingress: reject, egress: accept}");
    for direction in Direction::BOTH {
        let judge = |ethertype| judge(&tried, direction, ethertype);
        assert_eq!(judge(EtherType::ARP), (Verdict::Accept, false));
        assert_eq!(judge(EtherType::LLDP), (Verdict::Audit, true));
        assert_eq!(judge(EtherType::IPV6), (Verdict::Audit, true));
        assert_eq!(judge(0x88f7), (Verdict::Audit, true));
    }
    assert_eq!(
        judge(&tried, Direction::Ingress, 0x88b5),
        (Verdict::Audit, true)
    );
    assert_eq!(
        judge(&tried, Direction::Egress, 0x88b5),
        (Verdict::Accept, false)
    );

    let set = PolicySet::build(1, std::slice::from_ref(&tried)).unwrap();
    let compiled = set.policy(set.named("p").unwrap());
    assert!(compiled.is_audited());
    assert_eq!(compiled.default_verdict(Direction::Ingress), Verdict::Audit);
    assert_eq!(compiled.default_verdict(Direction::Egress), Verdict::Accept);
    let shown = |slot| {
        compiled
            .rule_info(Direction::Ingress, slot)
            .unwrap()
            .to_string()
    };
    let shown: Vec<String> = (0..5).map(shown).collect();
    assert_eq!(
        shown,
        [
            "in (line 6, accept)",
            "out (line 7, audit)",
            "back (line 8, audit)",
            "tried (line 9, audit)",
            "default (audit)",
        ]
    );
    let logs = compiled
        .rule_infos(Direction::Ingress)
        .iter()
        .map(|info| info.log);
    assert_eq!(logs.collect::<Vec<_>>(), [false, true, true, true, true]);

    // Put into force, a rule counts anew what it now drops; one that always passed goes on.
    let meant = policy("name: p\naudit: false\ndefault: {ingress: reject, egress: accept}");
    let next = PolicySet::build(2, &[meant]).unwrap();
    let carried = carry_over(&set, &next);
    assert_eq!(carried.old_slot(0), Some(0));
    assert_eq!((carried.old_slot(1), carried.old_slot(4)), (None, None));
    assert_eq!(carried.old_slot(3), Some(3));
}
