// SPDX-License-Identifier: Apache-2.0
//! vfio mode: the VF for a program of the pod itself, here testpmd.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_packet::Mac;
use sluice_tests::Netns;
use sluice_tests::cni::Sandbox;

use super::{Case, case, wire};
use crate::rig::Rig;
use crate::testpmd::Testpmd;

pub(crate) const CASES: &[Case] = &[
    case(
        "vfio-testpmd",
        "vfio mode: testpmd on the VF it was given echoes in its port VLAN; DEL puts all back",
        240,
        with_testpmd,
    ),
    case(
        "vfio-old-dictionary",
        "the old `dpdk` dictionary means vfio mode; igb_uio becomes vfio-pci with a warning",
        120,
        dictionary,
    ),
];

fn with_testpmd(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let plugins = rig.plugins()?;
    let pod = Netns::new("pod")?;
    let sandbox = Sandbox::new("vfio-testpmd", &pod, "net0");
    let conf = rig.conf(json!({"mode": "vfio", "vf": 0, "vlan": 210, "mac": "02:00:00:00:0a:31"}));
    let result = plugins.add(&sandbox, &conf)?;
    ensure!(
        vf.driver().as_deref() == Some("vfio-pci"),
        "bound to {:?}",
        vf.driver()
    );
    ensure!(
        result["interfaces"][0]["pciID"] == vf.address.as_str(),
        "the result names another VF: {result}"
    );
    let line = vf.pf_line()?;
    ensure!(
        line.contains("vlan 210") && line.contains("02:00:00:00:0a:31"),
        "{line}"
    );
    if rig.wire.is_some() {
        let mut wire = rig.wire()?;
        let peer = Testpmd::start(rig, &[&vf.address], "macswap")?;
        wire::ping_echo(&mut wire, 210, Mac([2, 0, 0, 0, 0x0a, 0x31]))?;
        peer.end()?;
    }
    plugins.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn dictionary(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let driver = before_driver(vf)?;
    let plugins = rig.plugins()?;
    let pod = Netns::new("pod")?;
    let sandbox = Sandbox::new("vfio-dictionary", &pod, "net0");
    let conf = rig.conf(json!({
        "type": "sriov", "if0name": "north0",
        "dpdk": {"kernel_driver": driver, "dpdk_driver": "igb_uio", "dpdk_tool": "/opt/dpdk/usertools/dpdk-devbind.py"},
    }));
    let answer = plugins.call("ADD", &sandbox, &conf)?;
    let result = answer.ok()?;
    ensure!(
        vf.driver().as_deref() == Some("vfio-pci"),
        "bound to {:?}",
        vf.driver()
    );
    ensure!(
        answer.stderr.contains("igb_uio"),
        "no warning names igb_uio: {:?}, {result}",
        answer.stderr
    );
    plugins.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn before_driver(vf: &crate::vf::Vf) -> Result<String> {
    vf.driver().context("the VF has no kernel driver")
}
