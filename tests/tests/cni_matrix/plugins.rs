// SPDX-License-Identifier: Apache-2.0
//! Reference plugins that the matrix runs, and how each is configured.

use serde_json::{Value, json};

use crate::cni_rig::Host;

/// Folder of the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Reference plugins that are taken through the matrix.
pub(super) const PLUGINS: [&str; 13] = [
    "bridge",
    "ptp",
    "macvlan",
    "ipvlan",
    "vlan",
    "host-device",
    "loopback",
    "tuning",
    "portmap",
    "firewall",
    "bandwidth",
    "sbr",
    "vrf",
];

/// Reference plugins, each with the chain that it is the last of.
pub(super) fn chain(host: &Host, plugin: &str, subnet: &str, device: &str) -> Value {
    let ipam = host.host_local(subnet);
    let alone = |mut conf: Value| {
        conf["type"] = plugin.into();
        json!([conf])
    };
    let behind_ptp = |conf: Value| {
        let mut chain = json!([{"type": "ptp", "ipam": ipam}, conf]);
        chain[1]["type"] = plugin.into();
        chain
    };
    match plugin {
        "bridge" => {
            alone(json!({"bridge": "br0", "isGateway": true, "ipMasq": true, "ipam": ipam}))
        }
        "ptp" => alone(json!({"ipMasq": true, "ipam": ipam})),
        "macvlan" | "ipvlan" => alone(json!({"master": "m0", "ipam": ipam})),
        "vlan" => alone(json!({"master": "m0", "vlanId": 210, "ipam": ipam})),
        "host-device" => alone(json!({"device": device, "ipam": ipam})),
        "loopback" => alone(json!({})),
        "portmap" => behind_ptp(json!({"capabilities": {"portMappings": true}, "snat": true,
            "runtimeConfig": {"portMappings":
                [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}})),
        "bandwidth" => behind_ptp(json!({"ingressRate": 1_000_000, "ingressBurst": 1_000_000,
            "egressRate": 1_000_000, "egressBurst": 1_000_000})),
        "tuning" => behind_ptp(json!({"sysctl": {"net.ipv4.conf.IFNAME.forwarding": "1"}})),
        "vrf" => behind_ptp(json!({"vrfname": "blue"})),
        _ => behind_ptp(json!({})),
    }
}

/// Plugins that need more than namespaces, bridges and veths of the kernel.
pub(super) const OF_KERNEL: [&str; 7] = [
    "bandwidth",
    "vrf",
    "ipvlan",
    "macvlan",
    "vlan",
    "firewall",
    "portmap",
];

/// Shell that runs a reference plugin with programs such as iptables in its reach.
pub(super) fn real(plugin: &str) -> String {
    format!("printf '%s' \"$conf\" | /usr/bin/env PATH=$PATH {REFERENCE}/{plugin}")
}
