// SPDX-License-Identifier: Apache-2.0
//! Keys of other firewalls, each with one sentence that says what to write in its place.

use super::yaml::{Node, Value};

/// Key of another firewall's language.
pub(crate) struct Foreign {
    /// Key as they write it.
    pub(crate) key: &'static str,
    /// Keys of ours that say it.
    pub(crate) ours: &'static [&'static str],
    /// Clause that says what to write; `{}` stands for the value.
    pub(crate) write: &'static str,
    /// Value in place of one that is not plain text.
    pub(crate) example: &'static str,
}

const fn foreign(
    key: &'static str,
    ours: &'static [&'static str],
    write: &'static str,
    example: &'static str,
) -> Foreign {
    Foreign {
        key,
        ours,
        write,
        example,
    }
}

const VERDICT: &[&str] = &["verdict"];
const ADDRESSES: &str = "name addresses, in `from` and `to`; pods are not selected by labels, but an \
                         attachment may name a policy as its own";
const DEFAULTS: &str = "write the verdict of each direction under `default`, such as `default: {ingress: \
                        drop, egress: accept}`";
const PORTS: &str = "write `ports: {}`, and its `protocol`";
const SOURCE_PORTS: &str = "write `source-ports: {}`, and its `protocol`";
const ICMP_TYPE: &str = "write `icmp-type: {}`, and its `protocol`";
const ORDER: &str = "leave it out: rules are judged in the order in which they are written";
const DIRECTIONS: &str = "leave it out, and write `direction: ingress` for frames towards the pod, `egress` \
                          for those from it; a policy has its `uplink`";
const STATE: &str =
    "leave it out and write `stateful: true` in the policy: answers pass without a rule then";
const CIDR: &str = "write `{}` alone, and what is excepted as an item `except` of the same list";

/// Keys that others have in a policy: Kubernetes, nftables, OVN.
pub(crate) const IN_POLICIES: &[Foreign] = &[
    foreign("acls", &["rules"], "write `rules`, a list", ""),
    foreign(
        "chain",
        &[],
        "leave it out: a policy has `rules`, with a `direction` each",
        "",
    ),
    foreign(
        "egress",
        &["rules", "default"],
        "write `rules` with `direction: egress`, and `default: {egress: drop}`",
        "",
    ),
    foreign("hook", &[], DIRECTIONS, ""),
    foreign(
        "ingress",
        &["rules", "default"],
        "write `rules` with `direction: ingress`, and `default: {ingress: drop}`",
        "",
    ),
    foreign(
        "namespace",
        &[],
        "leave it out: an attachment is judged by the policy of its VLAN, and the one that it names",
        "",
    ),
    foreign("policy", &["default"], DEFAULTS, ""),
    foreign("policyTypes", &["default"], DEFAULTS, ""),
    foreign("podSelector", &[], ADDRESSES, ""),
    foreign("priority", &[], ORDER, ""),
    foreign("selector", &[], ADDRESSES, ""),
    foreign(
        "table",
        &[],
        "leave it out: a policy is a file of its own",
        "",
    ),
    foreign("types", &["default"], DEFAULTS, ""),
];

/// Keys that others have in a rule: nftables, iptables, OVN, Kubernetes, Calico, Cilium.
pub(crate) const IN_RULES: &[Foreign] = &[
    foreign("accept", VERDICT, "write `verdict: accept`", ""),
    foreign("action", VERDICT, "write `verdict: {}`", "accept"),
    foreign("allow", VERDICT, "write `verdict: accept`", ""),
    foreign("block", VERDICT, "write `verdict: drop`", ""),
    foreign(
        "cidr",
        &["from", "to"],
        "write `from: {}` or `to: {}`",
        "10.0.0.0/8",
    ),
    foreign("counter", &[], "leave it out: every rule counts", ""),
    foreign("ct", &[], STATE, ""),
    foreign("ct-state", &[], STATE, ""),
    foreign("daddr", &["to"], "write `to: {}`", "10.0.0.0/8"),
    foreign("deny", VERDICT, "write `verdict: drop`", ""),
    foreign(
        "destination",
        &["to", "ports"],
        "write `to: {}`, and ports as `ports`",
        "10.0.0.0/8",
    ),
    foreign("dport", &["ports"], PORTS, "443"),
    foreign("dports", &["ports"], PORTS, "443"),
    foreign("drop", VERDICT, "write `verdict: drop`", ""),
    foreign("dst", &["to"], "write `to: {}`", "10.0.0.0/8"),
    foreign(
        "endPort",
        &["ports"],
        "write a range, such as `ports: 8000-8099`",
        "",
    ),
    foreign("fromCIDR", &["from"], "write `from: {}`", "10.0.0.0/8"),
    foreign("fromEndpoints", &["from"], ADDRESSES, ""),
    foreign(
        "icmp",
        &["protocol", "icmp-type"],
        "write `protocol: icmp` and `icmp-type`",
        "",
    ),
    foreign("iif", &[], DIRECTIONS, ""),
    foreign("iifname", &[], DIRECTIONS, ""),
    foreign("inport", &[], DIRECTIONS, ""),
    foreign(
        "ip",
        &["from", "to"],
        "write `from` and `to` as keys of the rule",
        "",
    ),
    foreign("ip-protocol", &["protocol"], "write `protocol: {}`", "tcp"),
    foreign("ipBlock", &["from", "to"], CIDR, "10.0.0.0/8"),
    foreign(
        "jump",
        &[],
        "write the rules here: a policy calls no other",
        "",
    ),
    foreign(
        "match",
        &["from", "to", "protocol", "ports"],
        "write each condition as a key of its own: `from`, `to`, `protocol`, `ports`",
        "",
    ),
    foreign(
        "meter",
        &[],
        "write `limit: {frames: 1000/s}`; `log: true` is limited by itself",
        "",
    ),
    foreign("namespaceSelector", &["from", "to"], ADDRESSES, ""),
    foreign(
        "nets",
        &["from", "to"],
        "write `from: {}` or `to: {}`",
        "10.0.0.0/8",
    ),
    foreign(
        "notNets",
        &["not-from", "not-to"],
        "write `not-from: {}` or `not-to: {}`",
        "10.0.0.0/8",
    ),
    foreign("notPorts", &["not-ports"], "write `not-ports: {}`", "443"),
    foreign("oif", &[], DIRECTIONS, ""),
    foreign("oifname", &[], DIRECTIONS, ""),
    foreign("outport", &[], DIRECTIONS, ""),
    foreign("podSelector", &["from", "to"], ADDRESSES, ""),
    foreign("port", &["ports"], PORTS, "443"),
    foreign(
        "prefix",
        &[],
        "leave it out: a line of the log names the policy and the rule",
        "",
    ),
    foreign("priority", &[], ORDER, ""),
    foreign("proto", &["protocol"], "write `protocol: {}`", "tcp"),
    foreign("reject", VERDICT, "write `verdict: reject`", ""),
    foreign("saddr", &["from"], "write `from: {}`", "10.0.0.0/8"),
    foreign("selector", &["from", "to"], ADDRESSES, ""),
    foreign(
        "severity",
        &[],
        "leave it out: a line of the log names the policy and the rule",
        "",
    ),
    foreign(
        "source",
        &["from", "source-ports"],
        "write `from: {}`, and ports as `source-ports`",
        "10.0.0.0/8",
    ),
    foreign("sport", &["source-ports"], SOURCE_PORTS, "53"),
    foreign("sports", &["source-ports"], SOURCE_PORTS, "53"),
    foreign("src", &["from"], "write `from: {}`", "10.0.0.0/8"),
    foreign("target", VERDICT, "write `verdict: {}`", "accept"),
    foreign(
        "tcp",
        &["protocol", "ports"],
        "write `protocol: tcp`, and `ports`",
        "",
    ),
    foreign("toCIDR", &["to"], "write `to: {}`", "10.0.0.0/8"),
    foreign("toEndpoints", &["to"], ADDRESSES, ""),
    foreign(
        "toPorts",
        &["ports", "protocol"],
        "write `protocol: tcp` and `ports: 443`",
        "",
    ),
    foreign("type", &["icmp-type"], ICMP_TYPE, "echo-request"),
    foreign(
        "udp",
        &["protocol", "ports"],
        "write `protocol: udp`, and `ports`",
        "",
    ),
];

/// Keys of objects that others list under `from`, `to` and `ports`.
pub(crate) const IN_LISTS: &[Foreign] = &[
    foreign("cidr", &[], CIDR, "10.0.0.0/8"),
    foreign(
        "endPort",
        &[],
        "write a range, such as `ports: 8000-8099`",
        "",
    ),
    foreign("ipBlock", &[], CIDR, "10.0.0.0/8"),
    foreign("namespaceSelector", &[], ADDRESSES, ""),
    foreign("podSelector", &[], ADDRESSES, ""),
    foreign(
        "port",
        &[],
        "write the number alone, and `protocol` as a key of the rule",
        "",
    ),
    foreign(
        "protocol",
        &[],
        "write `protocol` as a key of the rule, and ports as numbers alone",
        "",
    ),
];

/// Verdicts of others.
const VERDICTS: &[(&str, &str)] = &[
    ("allow", "accept"),
    ("allow-related", "accept"),
    ("allow-stateless", "accept"),
    ("block", "drop"),
    ("deny", "drop"),
    ("log", "accept` and `log: true"),
    ("pass", "accept"),
    ("permit", "accept"),
];

/// First words of scripts.
const SCRIPTS: &[&str] = &[
    "table",
    "flush",
    "add",
    "define",
    "include",
    "nft",
    "iptables",
    "ip6tables",
    "*filter",
    "*raw",
];

impl Foreign {
    /// Clause with its example, for the grammar page.
    pub(crate) fn advice(&self) -> String {
        self.write.replace("{}", self.example)
    }

    /// Finds a key among those of others.
    pub(super) fn find(key: &str, keys: &'static [Foreign]) -> Option<&'static Foreign> {
        // Some write `ct state`, `ct_state` or `ip protocol`.
        let key = key.replace([' ', '_'], "-");
        keys.iter().find(|foreign| foreign.key == key)
    }

    /// Sentence for an operator who wrote this key with this value.
    pub(super) fn sentence(&self, what: &str, written: &str, value: &Node<'_>) -> String {
        let value = text_of(value).unwrap_or(self.example);
        let theirs = value.to_lowercase();
        let verdict = VERDICTS.iter().find(|(word, _)| *word == theirs);
        let value = match verdict {
            Some((_, ours)) => ours,
            None => value,
        };
        format!(
            "{what} has no key `{written}`; {}",
            self.write.replace("{}", value)
        )
    }
}

/// Plain text of a value; of a map that of its `cidr`.
fn text_of<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Map(entries) => {
            let cidr = entries.iter().find(|entry| entry.key == "cidr")?;
            text_of(&cidr.value)
        }
        _ => None,
    }
}

/// Sentence for a text that is no YAML but a script of another firewall.
pub(super) fn script(text: &str) -> Option<&'static str> {
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next()?.split_whitespace().next()?;
    SCRIPTS.contains(&first).then_some(
        "this is a script for nft or iptables; write a policy in YAML: `name`, `vlans`, `default` with a \
         verdict for each direction, and `rules` with `from`, `to`, `protocol`, `ports` and `verdict`",
    )
}

/// Sentence for a whole document in another language; `None` if it may be a policy.
pub(super) fn document(root: &Node<'_>) -> Option<&'static str> {
    match &root.value {
        Value::Map(entries) => {
            let has = |key: &str| entries.iter().any(|entry| entry.key == key);
            (has("apiVersion") && has("kind")).then_some(
                "this is an object of Kubernetes; write a policy: `name`, `vlans`, `default` with a \
                 verdict for each direction, and `rules` with `from`, `to`, `protocol`, `ports` and \
                 `verdict`",
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{POLICY, RULE};
    use super::*;

    #[test]
    fn keys_of_others_lead_to_keys_of_ours() {
        for (foreigns, ours) in [(IN_POLICIES, POLICY), (IN_RULES, RULE)] {
            let names: Vec<&str> = ours.iter().map(|key| key.name).collect();
            for foreign in foreigns {
                assert!(!names.contains(&foreign.key), "{} is ours", foreign.key);
                for key in foreign.ours {
                    assert!(names.contains(key), "{key}");
                    let said = foreign.write.contains(&format!("`{key}"));
                    assert!(
                        said || foreign.write == ADDRESSES || foreign.write == CIDR,
                        "{}",
                        foreign.key
                    );
                }
                let has_example = !foreign.example.is_empty();
                assert_eq!(foreign.write.contains("{}"), has_example, "{}", foreign.key);
            }
        }
        assert!(IN_LISTS.iter().all(|foreign| foreign.ours.is_empty()));
    }
}
