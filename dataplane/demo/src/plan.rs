// SPDX-License-Identifier: Apache-2.0
//! The demo's networks and policies: what is written for the engine and for the runtime.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use sluice_packet::Vid;

use super::home::Home;

/// The uplink's name in the engine's configuration, policies and attachments.
pub(super) const UPLINK: &str = "wire0";
/// The uplink's device in the node's namespace.
pub(super) const UPLINK_DEVICE: &str = "uplink0";
/// The other end of it, in the wire's namespace.
pub(super) const WIRE_DEVICE: &str = "trunk0";

/// Echo by UDP and TCP (RFC 862).
pub(super) const ECHO_PORT: u16 = 7;
/// Syslog: policy `voice` drops it, by a rule of that name.
pub(super) const DENIED_PORT: u16 = 514;
/// Telnet: policy `voice` rejects it.
pub(super) const REJECTED_PORT: u16 = 23;
/// No rule of policy `voice` speaks of it.
pub(super) const UNKNOWN_PORT: u16 = 9999;
/// UDP port that the frames of the measurement go to.
pub(super) const RATE_PORT: u16 = 9000;
/// Rules of the measurement's policy.
pub(super) const RATE_RULES: usize = 100;

/// VLAN of the demo, with its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// VLAN number; also the second byte of its addresses.
    pub(super) vid: u8,
    /// Name of its policy.
    pub(super) policy: &'static str,
}

/// The first interface of the VNF's pod.
pub(super) const VOICE: Segment = Segment {
    vid: 210,
    policy: "voice",
};
/// The second interface of the VNF's pod.
pub(super) const DATA: Segment = Segment {
    vid: 220,
    policy: "data",
};
/// The two pods of the measurement.
pub(super) const LOCAL: Segment = Segment {
    vid: 230,
    policy: "hundred",
};

impl Segment {
    /// VLAN identifier.
    pub(super) fn vid(self) -> Vid {
        Vid::new(u16::from(self.vid)).unwrap_or_default()
    }

    /// The wire host's address in it.
    pub(super) fn wire_host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.vid, 0, 1)
    }

    /// IPv4 prefix of the VLAN.
    pub(super) fn prefix(self) -> String {
        format!("10.{}.0.0/24", self.vid)
    }
}

/// The engine's configuration file.
pub(super) fn engine_config(home: &Home) -> String {
    let dir = home.dir().display();
    format!(
        "uplinks:\n  - {{name: {UPLINK}, device: {UPLINK_DEVICE}}}\n\
         workers: {{count: 1}}\n\
         policies: {dir}/policies\n\
         state_dir: {dir}/state\n\
         run_dir: {dir}/run\n\
         log: info\n"
    )
}

/// Policy `voice`. Echo by UDP is answered, or (`echo` other than "accept") is not.
pub(super) fn voice(echo: &str) -> String {
    let net = VOICE.prefix();
    format!(
        "name: voice\nuplink: {UPLINK}\nvlans: [{vid}]\n\
         default: {{ingress: drop, egress: drop}}\nrules:\n\
         {arp}\
         {ping}\
         \x20 - {{name: echo-udp, direction: ingress, from: {net}, protocol: udp, ports: {ECHO_PORT}, verdict: {echo}}}\n\
         \x20 - {{name: echo-udp-answer, direction: egress, protocol: udp, source-ports: {ECHO_PORT}, verdict: accept}}\n\
         \x20 - {{name: echo-tcp, direction: ingress, from: {net}, protocol: tcp, ports: {ECHO_PORT}, verdict: accept}}\n\
         \x20 - {{name: echo-tcp-answer, direction: egress, protocol: tcp, source-ports: {ECHO_PORT}, verdict: accept}}\n\
         \x20 - {{name: no-syslog, direction: ingress, protocol: udp, ports: {DENIED_PORT}, verdict: drop}}\n\
         \x20 - {{name: no-telnet, direction: ingress, protocol: tcp, ports: {REJECTED_PORT}, verdict: reject}}\n\
         \x20 - {{name: to-firewall, direction: ingress, from: {net}, to: {data}, protocol: udp, verdict: accept}}\n",
        vid = VOICE.vid,
        data = DATA.prefix(),
        arp = ARP_RULE,
        ping = PING_RULES,
    )
}

/// Policy `data`.
pub(super) fn data() -> String {
    format!(
        "name: data\nvlans: [{}]\ndefault: {{ingress: drop, egress: drop}}\nrules:\n\
         {ARP_RULE}{PING_RULES}\
         \x20 - {{name: echo, direction: ingress, protocol: udp, ports: {ECHO_PORT}, verdict: accept}}\n\
         \x20 - {{name: echo-answer, direction: egress, protocol: udp, source-ports: {ECHO_PORT}, verdict: accept}}\n\
         \x20 - {{name: echo-tcp, direction: ingress, protocol: tcp, ports: {ECHO_PORT}, verdict: accept}}\n\
         \x20 - {{name: echo-tcp-answer, direction: egress, protocol: tcp, source-ports: {ECHO_PORT}, verdict: accept}}\n\
         \x20 - {{name: from-firewall, direction: egress, from: {voice}, protocol: udp, verdict: accept}}\n",
        DATA.vid,
        voice = VOICE.prefix(),
    )
}

/// UDP port that the virtual firewall lets through.
pub(super) const FIREWALL_ALLOWED: u16 = 8443;
/// UDP port that a rule of the virtual firewall's own drops.
pub(super) const FIREWALL_DENIED: u16 = 8444;

/// The virtual firewall's own policies: file and text.
pub(super) fn firewall_policies() -> [(&'static str, String); 2] {
    let inside = format!(
        "name: inside\nvlans: [{}]\ndefault: {{ingress: drop, egress: drop}}\nrules:\n{ARP_RULE}\
         \x20 - {{name: service, direction: ingress, protocol: udp, ports: {FIREWALL_ALLOWED}, verdict: accept}}\n\
         \x20 - {{name: no-backup, direction: ingress, protocol: udp, ports: {FIREWALL_DENIED}, verdict: drop}}\n",
        VOICE.vid
    );
    let outside = format!(
        "name: outside\nvlans: [{}]\ndefault: {{ingress: drop, egress: drop}}\nrules:\n{ARP_RULE}\
         \x20 - {{name: service, direction: egress, protocol: udp, ports: {FIREWALL_ALLOWED}-{FIREWALL_DENIED}, verdict: accept}}\n",
        DATA.vid
    );
    [("inside.yaml", inside), ("outside.yaml", outside)]
}

/// The policy of the measurement: a hundred rules, of which the last is the one that accepts.
pub(super) fn hundred() -> String {
    let mut text = format!(
        "name: hundred\nvlans: [{}]\ndefault: {{ingress: drop, egress: drop}}\nrules:\n",
        LOCAL.vid
    );
    for number in 1..RATE_RULES {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  - {{name: not-{number}, direction: both, from: 198.51.{number}.0/24, protocol: udp, \
             ports: {}-{}, verdict: drop}}",
            20_000 + 10 * number,
            20_005 + 10 * number
        );
    }
    let _ = writeln!(
        text,
        "  - {{name: measured, direction: both, from: {}, protocol: udp, ports: {RATE_PORT}, \
         verdict: accept}}",
        LOCAL.prefix()
    );
    text
}

const ARP_RULE: &str = "  - {name: arp, direction: both, ethertype: arp, verdict: accept}\n";
const PING_RULES: &str = "  - {name: ping, direction: ingress, protocol: icmp, icmp-type: 8, verdict: accept}\n  \
     - {name: pong, direction: egress, protocol: icmp, icmp-type: 0, verdict: accept}\n";

/// The configuration of the VNF's pod: the ordinary primary network and two engine attachments.
pub(super) fn pod_network(home: &Home) -> Value {
    let mark = home.mark();
    json!({
        "cniVersion": "1.0.0",
        "name": format!("{mark}-pod"),
        "type": "sluicegate",
        "cniDir": home.path("cni"),
        "delegates": [
            {
                "cniVersion": "1.0.0", "name": format!("{mark}-primary"), "type": "bridge",
                "masterplugin": true, "bridge": bridge(home), "isGateway": true, "ipMasq": false,
                "ipam": {"type": "host-local", "dataDir": home.path("host-local"),
                    "subnet": "10.88.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
            },
            attachment(home, VOICE),
            attachment(home, DATA),
        ],
    })
}

/// The bridge of the primary network.
pub(super) fn bridge(home: &Home) -> String {
    format!("{}br", home.mark())
}

/// The configuration of an engine attachment without addresses: a router's, which sends others'.
pub(super) fn router_attachment(home: &Home, segment: Segment) -> Value {
    let mut conf = attachment(home, segment);
    if let Some(conf) = conf.as_object_mut() {
        conf.remove("ipam");
    }
    conf
}

/// The configuration of one engine attachment in a VLAN.
pub(super) fn attachment(home: &Home, segment: Segment) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": format!("{}-{}", home.mark(), segment.policy),
        "type": "sluicegate-vf", "mode": "engine", "uplink": UPLINK, "vlan": segment.vid,
        "daemonSocket": home.path("run/control/sluiced.sock"),
        "runDir": home.path("run"), "stateDir": home.path("state"), "cniDir": home.path("cni"),
        "ipam": {"type": "host-local", "dataDir": home.path("host-local"),
            "subnet": segment.prefix(), "rangeStart": format!("10.{}.0.10", segment.vid),
            "gateway": segment.wire_host().to_string()},
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use sluice_firewall::{Policy, PolicySet};

    #[test]
    fn the_policies_are_ones() {
        let texts = [voice("accept"), voice("drop"), data(), hundred()];
        let policies: Vec<Policy> = texts
            .iter()
            .map(|text| Policy::parse("demo.yaml", text).unwrap())
            .collect();
        for policy in &policies {
            assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
        }
        for (file, text) in firewall_policies() {
            let policy = Policy::parse(file, &text).unwrap();
            assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
        }
        assert_eq!(policies[3].rules.len(), RATE_RULES);
        let [_, voice, data, hundred] = &policies[..] else {
            panic!()
        };
        let set = PolicySet::build(1, &[voice.clone(), data.clone(), hundred.clone()]).unwrap();
        for segment in [VOICE, DATA, LOCAL] {
            assert!(set.segment(UPLINK, segment.vid()).is_some(), "{segment:?}");
        }
    }
}
