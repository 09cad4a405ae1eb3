// SPDX-License-Identifier: Apache-2.0
//! DEL when what it takes down is no longer as ADD left it.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_tests::cni::Sandbox;
use sluice_tests::{Netns, wait_for};

use super::{Case, case};
use crate::rig::{PATIENCE, Rig};

pub(crate) const CASES: &[Case] = &[
    case(
        "del-netns-gone",
        "DEL after the pod's namespace is gone puts the VF back",
        120,
        netns_gone,
    ),
    case(
        "del-too-late",
        "a late DEL of an older owner changes nothing of the new one's VF",
        120,
        too_late,
    ),
    case(
        "add-refused-leaves-nothing",
        "an ADD that fails at a late step leaves the VF as it was",
        120,
        refused,
    ),
];

fn netns_gone(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    vf.set(&["mac", "02:00:00:00:be:02"])?;
    if rig.vm {
        vf.bind("igbvf")?;
    }
    let before = vf.snapshot()?;
    let plugins = rig.plugins()?;
    let pod = Netns::new("pod")?;
    let mut sandbox = Sandbox::new("netns-gone", &pod, "net0");
    let conf =
        rig.conf(json!({"mode": "kernel", "vlan": 210, "ipam": rig.host_local("10.21.0.0/24")}));
    plugins.add(&sandbox, &conf)?;
    drop(pod);
    // The kernel gives the netdev back to the node, under the name it had in the pod or another.
    wait_for("the netdev to come back", PATIENCE, || vf.netdev())?;
    sandbox.netns = None;
    plugins.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn too_late(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let plugins = rig.plugins()?;
    let (old, new) = (Netns::new("pod")?, Netns::new("pod")?);
    let conf = rig.conf(json!({"mode": "kernel", "vf": 0, "vlan": 210}));
    let older = Sandbox::new("the-older", &old, "net0");
    let newer = Sandbox::new("the-newer", &new, "net0");
    plugins.add(&older, &conf)?;
    let message = plugins.call("ADD", &newer, &conf)?.refused(11)?;
    ensure!(
        message.contains("the-older"),
        "the refusal does not name the holder: {message}"
    );
    plugins.del(&older, &conf)?;
    plugins.add(&newer, &conf)?;
    plugins.del(&older, &conf)?;
    ensure!(
        vf.pf_line()?.contains("vlan 210"),
        "the late DEL took the VLAN: {}",
        vf.pf_line()?
    );
    new.ip(&["link", "show", "dev", "net0"])?;
    plugins.del(&newer, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn refused(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let plugins = rig.plugins()?;
    let pod = Netns::new("pod")?;
    let sandbox = Sandbox::new("refused", &pod, "net0");
    // ipam runs last, and cannot: its range is not of its subnet.
    let mut ipam = rig.host_local("10.21.0.0/24");
    ipam["ranges"] = json!([[{"subnet": "10.21.0.0/24", "rangeStart": "10.99.0.1"}]]);
    let conf = rig.conf(json!({"mode": "kernel", "vlan": 210, "ipam": ipam}));
    let answer = plugins.call("ADD", &sandbox, &conf)?;
    ensure!(answer.ok().is_err(), "ADD succeeded: {}", answer.stdout);
    vf.expect(&before)?;
    rig.nothing_held()
}
