// SPDX-License-Identifier: Apache-2.0
//! Warnings about tunnels and BFD in stateful policies: their other end answers from no port that it was sent to.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use sluice_firewall::Policy;

fn warnings(head: &str, rules: &[&str]) -> Vec<String> {
    let arp = "  - {direction: both, ethertype: arp, verdict: accept}\n";
    let neighbours = "  - {direction: both, service: neighbour-discovery, verdict: accept}\n";
    let rule = |rule: &&str| format!("  - {{verdict: accept, {rule}}}\n");
    let rules: String = rules.iter().map(rule).collect();
    let text = format!("name: a\n{head}rules:\n{arp}{neighbours}{rules}");
    let policy = Policy::parse("a.yaml", &text).expect(&text);
    let warnings = policy.one_way_warnings();
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn one_way_alone_is_told_with_the_rule_that_is_missing() {
    let vxlan = "direction: egress, protocol: udp, ports: [vxlan]";
    let told = warnings("version: 2\n", &[vxlan]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("lets VXLAN out"), "{told:?}");
    assert!(told[0].contains("a rule for ingress with `protocol: udp` and `ports: 4789`"));
    assert!(told[0].starts_with("a.yaml:6:"), "{told:?}");

    let gtp = "direction: ingress, protocol: [udp, tcp], ports: [2152, 3784]";
    let told = warnings("version: 2\n", &[gtp]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("lets GTP-U in") && told[1].contains("lets BFD in"));
}

#[test]
fn what_comes_back_by_a_rule_or_a_default_is_not() {
    let both = "direction: both, protocol: udp, ports: [4789]";
    assert_eq!(warnings("version: 2\n", &[both]), [""; 0]);
    let out = "direction: egress, protocol: udp, ports: [4789]";
    let open = "version: 2\ndefault: {ingress: accept}\n";
    assert_eq!(warnings(open, &[out]), [""; 0]);
    let wide = "direction: ingress, protocol: udp";
    assert_eq!(warnings("version: 2\n", &[out, wide]), [""; 0]);
    let not_meant = "direction: egress, protocol: udp, ports: [1024-65535]";
    assert_eq!(warnings("version: 2\n", &[not_meant]), [""; 0]);
    assert_eq!(
        warnings("", &[out]),
        [""; 0],
        "a stateless policy judges every frame"
    );
}
