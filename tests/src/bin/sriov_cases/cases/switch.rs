// SPDX-License-Identifier: Apache-2.0
//! Two pods on the engine, each on a VF of one PF: frames between them pass the NIC's own switch and both pods'
//! policies.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_tests::{Netns, Sluiced, wait_for};

use super::engine::udp_echo;
use super::{Case, case};
use crate::engine::{self, Interface, vnf};
use crate::far::ping;
use crate::rig::{PATIENCE, Rig};

pub(crate) const CASES: &[Case] = &[case(
    "engine-both-policies",
    "VF to VF through the NIC's switch: what the sender's policy or the receiver's denies is dropped there",
    300,
    both_policies,
)];

/// Policies: the VLAN lets everything through, either attachment has one of its own.
const POLICIES: [(&str, &str); 3] = [
    (
        "net-230",
        "name: net-230\nvlans: [230]\ndefault: {ingress: accept, egress: accept}\n",
    ),
    (
        "sender",
        "name: sender\ndefault: {ingress: accept, egress: drop}\nrules:\n\
         \x20 - {name: arp, direction: egress, ethertype: [arp], verdict: accept}\n\
         \x20 - {name: ping, direction: egress, protocol: icmp, verdict: accept}\n\
         \x20 - {name: echo, direction: egress, protocol: udp, ports: [7, 9], verdict: accept}\n\
         \x20 - {name: closed, direction: egress, protocol: udp, ports: [11], verdict: drop}\n",
    ),
    (
        "receiver",
        "name: receiver\ndefault: {ingress: drop, egress: accept}\nrules:\n\
         \x20 - {name: arp, direction: ingress, ethertype: [arp], verdict: accept}\n\
         \x20 - {name: ping, direction: ingress, protocol: icmp, verdict: accept}\n\
         \x20 - {name: echo, direction: ingress, protocol: udp, ports: [7], verdict: accept}\n\
         \x20 - {name: closed, direction: ingress, protocol: udp, ports: [9, 11], verdict: drop}\n",
    ),
];

/// Waits until a rule has decided on at least `least` frames.
fn decided(engine: &Sluiced, policy: &str, direction: &str, rule: &str, least: u64) -> Result<()> {
    wait_for(&format!("rule {rule} of {policy}"), PATIENCE, || {
        (engine.rule(policy, direction, rule).ok()? >= least).then_some(())
    })
    .with_context(|| format!("{:?}", engine.rule(policy, direction, rule)))
}

fn both_policies(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(2)?;
    let before = [vfs[0].snapshot()?, vfs[1].snapshot()?];
    fs::create_dir_all(rig.path("policies"))?;
    for (name, text) in POLICIES {
        fs::write(rig.path("policies").join(format!("{name}.yaml")), text)?;
    }
    let engine = engine::start(rig)?;
    let (one, two) = (Netns::new("pod")?, Netns::new("pod")?);
    let ipam = rig.host_local("10.23.0.0/24");
    // The sender has the node's kernel as its stack, by a tap; the receiver is a network function on a memif.
    let conf = engine::conf(
        rig,
        json!({"vf": 0, "vlan": 230, "tap": true, "firewall": "sender", "ipam": ipam}),
    );
    let sender = Interface::add(rig, "sender", &one, "net0", conf)?;
    let conf = engine::conf(
        rig,
        json!({"vf": 1, "vlan": 230, "firewall": "receiver", "ipam": ipam}),
    );
    let receiver = Interface::add(rig, "receiver", &two, "net0", conf)?;
    for vf in &vfs {
        ensure!(
            vf.driver().as_deref() == Some("vfio-pci"),
            "VF {} is bound to {:?}",
            vf.index,
            vf.driver()
        );
    }
    let peer = vnf(rig, &two, &[&receiver])?;
    engine.wait_link("receiver", "net0")?;
    ping(&one, receiver.ip())?;
    ensure!(udp_echo(&one, receiver.ip(), 7)?, "no UDP echo");
    decided(&engine, "sender", "egress", "echo", 1)?;
    decided(&engine, "receiver", "ingress", "echo", 1)?;
    // Let out by the sender's policy, not in by the receiver's.
    for _ in 0..2 {
        ensure!(!udp_echo(&one, receiver.ip(), 9)?, "UDP to port 9 passed");
    }
    decided(&engine, "receiver", "ingress", "closed", 2)?;
    // Not let out: the receiver's policy never sees it.
    let seen = engine.rule("receiver", "ingress", "closed")?;
    for _ in 0..2 {
        ensure!(!udp_echo(&one, receiver.ip(), 11)?, "UDP to port 11 passed");
    }
    decided(&engine, "sender", "egress", "closed", 2)?;
    ensure!(
        engine.rule("receiver", "ingress", "closed")? == seen,
        "a frame that the sender's policy dropped came to the receiver"
    );
    drop(peer);
    for interface in [&sender, &receiver] {
        interface.del(rig)?;
    }
    for (vf, before) in vfs.iter().zip(&before) {
        vf.expect(before)?;
    }
    rig.nothing_held()
}
