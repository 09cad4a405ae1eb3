// SPDX-License-Identifier: Apache-2.0
//! Kernel mode: the VF's netdev in the pod.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_tests::Netns;
use sluice_tests::cni::Sandbox;

use super::{Case, case};
use crate::far::{Far, no_ping, ping};
use crate::rig::Rig;

pub(crate) const CASES: &[Case] = &[
    case(
        "kernel-untagged",
        "kernel mode: a pod's VF answers the cable; DEL puts all back",
        180,
        untagged,
    ),
    case(
        "kernel-vlan",
        "kernel mode in a port VLAN with QoS, spoof checking and trust set; DEL puts all back",
        180,
        vlan,
    ),
    case(
        "kernel-vf-to-vf",
        "two pods on VFs of one PF reach each other, not across VLANs",
        240,
        vf_to_vf,
    ),
];

fn untagged(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(2)?;
    let before = vfs[0].snapshot()?;
    let plugins = rig.plugins()?;
    let pod = Netns::new("pod")?;
    let sandbox = Sandbox::new("kernel-untagged", &pod, "net0");
    let conf =
        rig.conf(json!({"mode": "kernel", "vf": 0, "ipam": rig.host_local("10.56.217.0/24")}));
    let result = plugins.add(&sandbox, &conf)?;
    let address = result["ips"][0]["address"]
        .as_str()
        .context("no address")?
        .to_owned();
    ensure!(result["interfaces"][0]["name"] == "net0", "{result}");
    ensure!(vfs[0].netdev().is_none(), "the netdev is still on the node");
    let link = pod.ip(&["address", "show", "dev", "net0"])?;
    ensure!(link.contains(&address), "{address} is not on net0: {link}");
    if rig.wire.is_some() {
        let far = Far::new(rig, Some("10.56.217.250/24"))?;
        ping(far.netns(), address.split('/').next().unwrap_or_default())?;
    }
    plugins
        .call("CHECK", &sandbox, &with_prev(&conf, &result))?
        .ok()
        .context("CHECK")?;
    // Somebody changes the VF behind our back.
    vfs[0].set(&["mac", "02:00:00:00:be:49"])?;
    let drifted = plugins.call("CHECK", &sandbox, &with_prev(&conf, &result))?;
    let said = drifted.ok().err().context("CHECK sees no drift")?;
    let said = said.to_string();
    ensure!(said.contains("02:00:00:00:be:49"), "{said}");
    plugins.del(&sandbox, &conf)?;
    vfs[0].expect(&before)?;
    // Twice is as good as once.
    plugins.del(&sandbox, &conf)?;
    rig.nothing_held()
}

/// The conf with a result of ADD in it, as the runtime gives it to CHECK.
fn with_prev(conf: &serde_json::Value, result: &serde_json::Value) -> serde_json::Value {
    let mut conf = conf.clone();
    conf["prevResult"] = result.clone();
    conf
}

fn vlan(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    // What was set before is what must come back, not what a new VF has.
    vf.set(&["mac", "02:00:00:00:be:01"])?;
    vf.set(&["vlan", "33", "qos", "2"])?;
    vf.bind("igbvf")
        .or_else(|error| if rig.vm { Err(error) } else { Ok(()) })?;
    let before = vf.snapshot()?;
    let plugins = rig.plugins()?;
    let pod = Netns::new("pod")?;
    let sandbox = Sandbox::new("kernel-vlan", &pod, "net1");
    let mac = "02:00:00:00:0a:21";
    let conf = rig.conf(json!({
        "mode": "kernel", "vf": 0, "vlan": 210, "vlanQoS": 5, "mac": mac, "spoofchk": "off", "trust": "on",
        "ipam": rig.host_local("10.21.0.0/24"),
    }));
    let result = plugins.add(&sandbox, &conf)?;
    let line = vf.pf_line()?;
    for said in [mac, "vlan 210", "qos 5", "spoof checking off", "trust on"] {
        ensure!(line.contains(said), "{said} is missing in: {line}");
    }
    let link = pod.ip(&["link", "show", "dev", "net1"])?;
    ensure!(
        link.contains(mac),
        "net1 has another MAC than {mac}: {link}"
    );
    if rig.wire.is_some() {
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        let far = Far::new(rig, Some("10.21.0.251/24"))?;
        let address = address.split('/').next().unwrap_or_default();
        no_ping(far.netns(), address)?;
        far.netns()
            .ip(&["address", "flush", "dev", rig.wire_name()?])?;
        far.vlan(210, "10.21.0.250/24")?;
        ping(far.netns(), address)?;
    }
    plugins.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn vf_to_vf(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(3)?;
    let before: Vec<_> = vfs.iter().map(|vf| vf.snapshot()).collect::<Result<_>>()?;
    let plugins = rig.plugins()?;
    let mut pods = Vec::new();
    for (index, vid) in [210, 210, 220].into_iter().enumerate() {
        let pod = Netns::new("pod")?;
        let sandbox = Sandbox::new(&format!("pod-{index}"), &pod, "net0");
        let conf = rig.conf(json!({"mode": "kernel", "vf": index, "vlan": vid, "ipam": rig.host_local("10.21.0.0/24")}));
        let result = plugins.add(&sandbox, &conf)?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        let address = address.split('/').next().unwrap_or_default().to_owned();
        pods.push((pod, sandbox, conf, address));
    }
    ping(&pods[0].0, &pods[1].3)?;
    ping(&pods[1].0, &pods[0].3)?;
    no_ping(&pods[0].0, &pods[2].3)?;
    for ((_, sandbox, conf, _), (vf, before)) in pods.iter().zip(vfs.iter().zip(&before)) {
        plugins.del(sandbox, conf)?;
        vf.expect(before)?;
    }
    rig.nothing_held()
}
