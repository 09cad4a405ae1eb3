// SPDX-License-Identifier: Apache-2.0
//! The `sriov` examples of the documents that users of the older plugin have, unchanged but for the
//! folders that state is kept in.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_tests::Netns;
use sluice_tests::cni::Sandbox;

use super::{Case, case};
use crate::rig::Rig;

pub(crate) const CASES: &[Case] = &[
    case(
        "document-sriov-conf",
        "the documents' sriov-conf: 10.56.217.171 on a VF of enp12s0f1",
        120,
        sriov_conf,
    ),
    case(
        "document-vlanid-l2enable",
        "the documents' sriov-vlanid-l2enable-conf: north, VLAN 210, no address",
        120,
        l2enable,
    ),
    case(
        "document-dpdk",
        "the documents' DPDK delegate: north0 of enp4s0f3 under vfio-pci",
        120,
        dpdk,
    ),
];

/// A document's conf with what a runtime adds to it, and with our folders for state.
fn complete(rig: &Rig, name: &str, mut conf: Value) -> Value {
    conf["name"] = name.into();
    conf["cniVersion"] = "0.3.1".into();
    conf["cniDir"] = json!(rig.path("cni"));
    conf["stateDir"] = json!(rig.path("state"));
    if conf["ipam"].is_object() {
        conf["ipam"]["dataDir"] = json!(rig.path("ipam"));
    }
    conf
}

const NEEDS: &str = "needs PFs of the names in the documents";

fn sriov_conf(rig: &Rig) -> Result<()> {
    rig.only_in_vm(NEEDS)?;
    let vf = &rig.vfs_of("enp12s0f1", 1)?[0];
    let before = vf.snapshot()?;
    let conf = complete(
        rig,
        "sriov-conf",
        json!({"type": "sriov", "if0": "enp12s0f1", "ipam": {
        "type": "host-local", "subnet": "10.56.217.0/24", "rangeStart": "10.56.217.171", "rangeEnd": "10.56.217.181",
        "routes": [{"dst": "0.0.0.0/0"}], "gateway": "10.56.217.1"}}),
    );
    let (plugins, pod) = (rig.plugins()?, Netns::new("pod")?);
    let sandbox = Sandbox::new("multus-multi-net-poc", &pod, "net0");
    let result = plugins.add(&sandbox, &conf)?;
    ensure!(
        result["ips"][0]["address"] == "10.56.217.171/24",
        "{result}"
    );
    let text = pod.ip(&["address", "show", "dev", "net0"])?;
    ensure!(text.contains("10.56.217.171/24"), "{text}");
    let routes = pod.ip(&["route"])?;
    ensure!(
        routes.contains("default via 10.56.217.1 dev net0"),
        "{routes}"
    );
    plugins.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn l2enable(rig: &Rig) -> Result<()> {
    rig.only_in_vm(NEEDS)?;
    let vf = &rig.vfs_of("enp2s0", 1)?[0];
    let before = vf.snapshot()?;
    let conf = complete(
        rig,
        "sriov-vlanid-l2enable-conf",
        json!({"type": "sriov", "if0": "enp2s0", "vlan": 210, "if0name": "north", "l2enable": true}),
    );
    let (plugins, pod) = (rig.plugins()?, Netns::new("pod")?);
    let sandbox = Sandbox::new("multus-multi-net-poc", &pod, "net1");
    plugins.add(&sandbox, &conf)?;
    let text = pod.ip(&["-4", "address", "show", "dev", "north"])?;
    ensure!(!text.contains("inet "), "north has an address: {text}");
    ensure!(vf.pf_line()?.contains("vlan 210"), "{}", vf.pf_line()?);
    plugins.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn dpdk(rig: &Rig) -> Result<()> {
    rig.only_in_vm(NEEDS)?;
    let vf = &rig.vfs_of("enp4s0f3", 1)?[0];
    let before = vf.snapshot()?;
    let conf = complete(
        rig,
        "minion1-multus-demo-network",
        json!({"type": "sriov", "if0": "enp4s0f3", "if0name": "north0",
        "dpdk": {"kernel_driver": "ixgbevf", "dpdk_driver": "igb_uio", "dpdk_tool": "/opt/dpdk/usertools/dpdk-devbind.py"}}),
    );
    let (plugins, pod) = (rig.plugins()?, Netns::new("pod")?);
    let sandbox = Sandbox::new("minion1", &pod, "net0");
    plugins.add(&sandbox, &conf)?;
    ensure!(
        vf.driver().as_deref() == Some("vfio-pci"),
        "bound to {:?}",
        vf.driver()
    );
    plugins.del(&sandbox, &conf)?;
    // The record says igbvf, and wins over the conf's ixgbevf.
    vf.expect(&before)?;
    rig.nothing_held()
}
