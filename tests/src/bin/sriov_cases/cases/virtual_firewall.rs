// SPDX-License-Identifier: Apache-2.0
//! A virtual firewall in a pod, with a VF of two PFs each: it forwards between what is at the far ends.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_tests::{Netns, Process, bin, wait_for};

use super::engine::udp_echo;
use super::{Case, case};
use crate::engine::{self, Interface};
use crate::far::{Far, ping};
use crate::rig::{PATIENCE, Rig};

pub(crate) const CASES: &[Case] = &[case(
    "vfirewall-two-pfs",
    "a firewall pod on VFs of two PFs routes between their far ends; what its own rule denies it logs",
    300,
    two_pfs,
)];

/// Policies of the pod, for its legs in VLANs 210 and 220.
const POLICIES: [(&str, &str); 2] = [
    (
        "inside",
        "name: inside\nvlans: [210]\ndefault: {ingress: drop, egress: drop}\nrules:\n\
         \x20 - {name: arp, direction: ingress, ethertype: [arp], verdict: accept}\n\
         \x20 - {name: ping, direction: ingress, protocol: icmp, verdict: accept}\n\
         \x20 - {name: no-echo, direction: ingress, protocol: udp, ports: [7], verdict: drop}\n\
         \x20 - {name: answers, direction: egress, protocol: icmp, verdict: accept}\n",
    ),
    (
        "outside",
        "name: outside\nvlans: [220]\ndefault: {ingress: drop, egress: drop}\nrules:\n\
         \x20 - {name: arp, direction: ingress, ethertype: [arp], verdict: accept}\n\
         \x20 - {name: answers, direction: ingress, protocol: icmp, verdict: accept}\n\
         \x20 - {name: ping, direction: egress, protocol: icmp, verdict: accept}\n",
    ),
];

/// Addresses of the stations at the far ends.
const INSIDE: &str = "10.21.0.250";
const OUTSIDE: &str = "10.22.0.250";

/// Starts the firewall on two interfaces of a pod; its log goes to `denied.json`.
fn firewall(rig: &Rig, pod: &Netns, legs: [(&Interface, u16); 2]) -> Result<Process> {
    let policies = rig.path("pod-policies");
    fs::create_dir_all(&policies)?;
    for (name, text) in POLICIES {
        fs::write(policies.join(format!("{name}.yaml")), text)?;
    }
    let mut command = pod.command(bin("vfirewall"));
    command.arg("--policies").arg(&policies);
    for (leg, vlan) in legs {
        command.arg("--memif").arg(format!(
            "socket=@sluicegate/{},mac={},vlan={vlan},ip={}",
            leg.sandbox.ifname, leg.mac, leg.address
        ));
    }
    command
        .stdin(Stdio::null())
        .stdout(fs::File::create(rig.path("denied.json"))?)
        .stderr(fs::File::create(rig.path("vfirewall.log"))?);
    Process::start(&mut command)
}

fn two_pfs(rig: &Rig) -> Result<()> {
    rig.only_in_vm("needs two PFs with the other ends of their cables")?;
    let vfs = [
        rig.vfs_of("enp12s0f1", 1)?.remove(0),
        rig.vfs_of("enp2s0", 1)?.remove(0),
    ];
    let before = [vfs[0].snapshot()?, vfs[1].snapshot()?];
    let (inside, outside) = (Far::on("wire1", None)?, Far::on("wire2", None)?);
    inside.vlan(210, &format!("{INSIDE}/24"))?;
    outside.vlan(220, &format!("{OUTSIDE}/24"))?;
    let engine = engine::start(rig)?;
    let pod = Netns::new("pod")?;
    let leg = |ifname: &str, pf: &str, vlan: u16, subnet: &str| {
        let with = json!({"if0": pf, "vf": 0, "vlan": vlan, "antiSpoof": "mac",
            "ipam": rig.host_local(subnet)});
        Interface::add(rig, "firewall", &pod, ifname, engine::conf(rig, with))
    };
    let net0 = leg("net0", "enp12s0f1", 210, "10.21.0.0/24")?;
    let net1 = leg("net1", "enp2s0", 220, "10.22.0.0/24")?;
    let peer = firewall(rig, &pod, [(&net0, 210), (&net1, 220)])?;
    for ifname in ["net0", "net1"] {
        engine.wait_link("firewall", ifname)?;
    }
    for (far, to, via) in [
        (&inside, "10.22.0.0/24", net0.ip()),
        (&outside, "10.21.0.0/24", net1.ip()),
    ] {
        far.netns().ip(&["route", "add", to, "via", via])?;
    }
    ping(inside.netns(), OUTSIDE)
        .with_context(|| fs::read_to_string(rig.path("vfirewall.log")).unwrap_or_default())?;
    let (_, sent) = inside.frames(210)?;
    let (received, _) = outside.frames(220)?;
    ensure!(sent >= 1 && received >= 1, "the wires carried nothing");
    // The engine's VLAN policy lets it in; the pod's own rule does not let it through.
    ensure!(
        !udp_echo(inside.netns(), OUTSIDE, 7)?,
        "UDP that the pod's rule denies was answered"
    );
    let denied = wait_for("the pod's log of what it denied", PATIENCE, || {
        let log = fs::read_to_string(rig.path("denied.json")).ok()?;
        let line = log.lines().find(|line| line.contains("no-echo"))?;
        serde_json::from_str::<serde_json::Value>(line).ok()
    })?;
    ensure!(
        denied["destination"] == OUTSIDE && denied["vlan"] == 210,
        "{denied}"
    );
    ensure!(
        engine.rule("net-210", "ingress", "echo")? >= 1,
        "the frame that the pod denied never passed the node's policy"
    );
    drop(peer);
    for interface in [&net0, &net1] {
        interface.del(rig)?;
    }
    for (vf, before) in vfs.iter().zip(&before) {
        vf.expect(before)?;
    }
    rig.nothing_held()
}
