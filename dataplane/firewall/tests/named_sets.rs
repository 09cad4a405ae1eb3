// SPDX-License-Identifier: Apache-2.0
//! Named sets: what they hold, how rules use them, what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use sluice_firewall::{
    Direction, NamedSet, NamedSets, Policy, PolicySet, Problem, SetValues, Table, Verdict, naive,
};
use sluice_packet::{EtherType, FlowKey, IpProto, Vid};

fn samples() -> NamedSets {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/sets");
    let sets = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        NamedSet::parse(&name, &fs::read_to_string(&path).unwrap()).expect(&name)
    });
    NamedSets::new(sets).unwrap()
}

fn set(text: &str) -> NamedSet {
    NamedSet::parse("s.yaml", text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn tcp(from: [u8; 4], port: u16) -> FlowKey {
    FlowKey {
        src: FlowKey::mapped(from),
        dst: FlowKey::mapped([10, 0, 0, 2]),
        dst_port: port,
        ethertype: EtherType::IPV4,
        proto: IpProto::TCP,
        flags: FlowKey::IPV4 | FlowKey::PORTS,
        ..FlowKey::default()
    }
}

/// Whether a rule with these conditions matches, by table and walk alike.
fn matches(sets: &NamedSets, conditions: &str, key: &FlowKey) -> bool {
    let text = format!("name: p\nrules: [{{direction: both, verdict: accept, {conditions}}}]");
    let policy = Policy::parse_with("p", &text, sets);
    let policy = policy.unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"));
    let hit = Table::compile(&policy, Direction::Ingress).judge(key);
    assert_eq!(
        hit,
        naive::judge(&policy, Direction::Ingress, key),
        "{conditions}"
    );
    hit.verdict == Verdict::Accept
}

#[test]
fn sets_hold_values_without_exceptions() {
    let sets = samples();
    let values = |name: &str| sets.get(name).unwrap().values.clone();
    let SetValues::Prefixes(branches) = values("branches") else {
        panic!("{:?}", values("branches"));
    };
    let holds = |address: [u8; 4]| {
        let address = IpAddr::from(Ipv4Addr::from(address));
        branches.iter().filter(|net| net.contains(&address)).count()
    };
    assert_eq!(holds([10, 1, 8, 255]), 1);
    assert_eq!((holds([10, 1, 9, 0]), holds([10, 1, 9, 255])), (0, 0));
    assert_eq!((holds([10, 1, 10, 0]), holds([10, 2, 9, 9])), (1, 1));
    assert_eq!(
        values("web"),
        SetValues::Ports(vec![80..=80, 443..=443, 8000..=8079, 8081..=8099])
    );
    assert!(values("no-port").is_empty() && values("nobody").is_empty());
    let comment = sets.get("branches").unwrap().comment.as_deref();
    assert!(comment.unwrap().starts_with("Networks"));
    assert_eq!(sets.iter().count(), 6);
}

#[test]
fn rules_use_sets_beside_values() {
    let sets = samples();
    let web = "from: [$branches, 10.1.9.7], protocol: tcp, ports: $web";
    assert!(matches(&sets, web, &tcp([10, 1, 1, 1], 8000)));
    assert!(matches(&sets, web, &tcp([10, 1, 9, 7], 443)));
    assert!(!matches(&sets, web, &tcp([10, 1, 9, 8], 443)));
    assert!(!matches(&sets, web, &tcp([10, 1, 1, 1], 8080)));
    let others = "not-from: $branches, protocol: tcp, source-ports: [any, except: $web]";
    assert!(matches(&sets, others, &tcp([10, 1, 9, 8], 443)));
    assert!(!matches(&sets, others, &tcp([10, 1, 1, 1], 443)));
    let mut frame = FlowKey {
        ethertype: EtherType::ARP,
        src_mac: [2, 0, 0x5e, 0, 1, 1],
        ..FlowKey::default()
    };
    assert!(matches(&sets, "source-mac: $phones", &frame));
    frame.src_mac = [2, 0, 0x5e, 0, 0, 1];
    assert!(!matches(&sets, "source-mac: $phones", &frame));
    assert!(matches(&sets, "not-source-mac: [$phones]", &frame));

    let text = "name: p\nvlans: [$voice-vlans, 300]\n";
    let policy = Policy::parse_with("p", text, &sets).unwrap();
    let vids = policy.vlans.iter().flat_map(|range| range.vids());
    let vids: Vec<u16> = vids.map(Vid::get).collect();
    assert_eq!(
        vids,
        [210, 220, 221, 222, 223, 224, 226, 227, 228, 229, 300]
    );
    assert_eq!(policy.sets[0].name, "voice-vlans");
    assert_eq!((policy.vlans[1].at.line, policy.vlans[1].at.column), (2, 9));
}

#[test]
fn an_empty_set_matches_nothing() {
    let sets = samples();
    let (mine, icmp) = (
        tcp([10, 1, 1, 1], 80),
        FlowKey {
            proto: IpProto::ICMP,
            flags: FlowKey::IPV4,
            ..tcp([10, 1, 1, 1], 0)
        },
    );
    assert!(!matches(&sets, "from: $nobody", &mine));
    assert!(!matches(
        &sets,
        "from: [$nobody, $nobody], not-to: 1.2.3.4",
        &mine
    ));
    assert!(!matches(&sets, "protocol: tcp, ports: $no-port", &mine));
    assert!(matches(&sets, "from: [$nobody, 10.0.0.0/8]", &mine));
    // The negation of nothing is whatever has the field.
    assert!(matches(&sets, "not-from: $nobody", &mine));
    assert!(matches(&sets, "from: [any, except: $nobody]", &mine));
    assert!(!matches(&sets, "not-from: $nobody", &FlowKey::default()));
    assert!(matches(
        &sets,
        "protocol: [tcp, udp], not-ports: $no-port",
        &mine
    ));
    let later = FlowKey {
        flags: FlowKey::IPV4 | FlowKey::FRAGMENT | FlowKey::LATER_FRAGMENT,
        ..tcp([10, 1, 1, 1], 0)
    };
    assert!(!matches(
        &sets,
        "protocol: [tcp, udp], not-ports: $no-port",
        &later
    ));
    assert!(matches(&sets, "not-source-mac: $phones", &icmp));

    let text = "name: p\nrules: [{name: r, direction: both, from: $nobody, verdict: drop}]";
    let policy = Policy::parse_with("p", text, &sets).unwrap();
    let warnings = lines(&policy.warnings());
    assert!(
        warnings[0].starts_with("p:2:9: rule `r` never decides: no frame meets"),
        "{warnings:?}"
    );
    // No segment, and so a policy for attachments that name it.
    let set = set("name: none\nvlans: []");
    let sets = NamedSets::new([set]).unwrap();
    assert_eq!(
        Policy::parse_with("p", "name: p\nvlans: $none", &sets)
            .unwrap()
            .vlans,
        []
    );
}

#[test]
fn refusals() {
    let sets = samples();
    let refused = |rule: &str| {
        let text = format!("name: p\nrules:\n- direction: both\n  verdict: drop\n  {rule}\n");
        lines(&Policy::parse_with("p", &text, &sets).expect_err(rule))
    };
    assert_eq!(
        refused("from: $branchs"),
        ["p:5:9: there is no set `branchs`; did you mean `$branches`?"]
    );
    assert_eq!(
        refused("from: [10.0.0.0/8, $offices]"),
        [
            "p:5:22: there is no set `offices`; write it as sets/offices.yaml in the folder of policies"
        ]
    );
    assert_eq!(
        refused("from: $web"),
        ["p:5:9: set `web` has ports, and `from` takes prefixes"]
    );
    assert_eq!(
        refused("protocol: $web"),
        ["p:5:13: `protocol` takes no sets; write the values here"]
    );
    let alone = lines(&Policy::parse("p", "name: p\nvlans: $web").unwrap_err());
    assert!(
        alone[0].starts_with("p:2:8: there is no set `web`"),
        "{alone:?}"
    );
    // Families are of values that are written, as those of sets may change.
    assert!(!matches(
        &sets,
        "from: $branches, to: 'fd00::1'",
        &tcp([10, 1, 1, 1], 80)
    ));

    let refused = |text: &str| lines(&NamedSet::parse("s.yaml", text).expect_err(text));
    assert_eq!(
        refused("name: a"),
        ["s.yaml:1:1: a set needs one of the keys prefixes, ports, macs and vlans"]
    );
    assert_eq!(
        refused("name: a\nports: 1\nmacs: []"),
        [
            "s.yaml:3:1: a set has one of the keys prefixes, ports, macs and vlans; make a set of each"
        ]
    );
    assert_eq!(
        refused("name: a\nprefixes: any"),
        ["s.yaml:2:11: a set has no `any`; rules that are to match everything leave the key out"]
    );
    assert_eq!(
        refused("name: a\nprefixes: [$b]\n"),
        ["s.yaml:2:1: a set takes nothing from another; write the values here"]
    );
    assert_eq!(
        refused("prefixes: []"),
        ["s.yaml:1:1: a set needs the key `name`"]
    );
    assert_eq!(refused("name: a\nports: 80\nexcept: x").len(), 1);
    let twice = [set("name: a\nports: 1"), set("name: a\nports: 2")];
    assert_eq!(
        lines(&NamedSets::new(twice).unwrap_err()),
        ["s.yaml: set `a` is in s.yaml already; give one of them another name"]
    );
}

/// Only policies that use a changed set are compiled anew.
#[test]
fn a_changed_set_changes_its_policies_alone() {
    let build = |port: u16, previous: Option<&PolicySet>| {
        let sets = NamedSets::new([set(&format!("name: web\nports: {port}"))]).unwrap();
        let rule = "direction: ingress, protocol: tcp, verdict: accept";
        let texts = [
            format!("name: with\nrules: [{{{rule}, ports: $web}}]"),
            format!("name: without\nrules: [{{{rule}, ports: 80}}]"),
        ];
        let policies = texts.map(|text| Policy::parse_with("p", &text, &sets).unwrap());
        PolicySet::build_from(1, &policies, previous).unwrap()
    };
    let old = build(443, None);
    let new = build(8443, Some(&old));
    let table = |set: &PolicySet, name: &str| -> *const Table {
        set.policy(set.named(name).unwrap())
            .table(Direction::Ingress)
    };
    assert_ne!(table(&old, "with"), table(&new, "with"));
    assert_eq!(table(&old, "without"), table(&new, "without"));
    let with = new.policy(new.named("with").unwrap());
    assert_eq!(with.sets()[0].file, "s.yaml");
}
