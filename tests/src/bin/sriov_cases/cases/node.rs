// SPDX-License-Identifier: Apache-2.0
//! The node's side of VFs, without plugin and engine: settings and netdevs through our own netlink,
//! a VF opened through VFIO, and what the operator's tool says.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sluice_sriov::settings::{VfChange, VfLink, VfVlan};
use sluice_sriov::sysfs::Sysfs;
use sluice_sriov::{Error, PciAddr, links};
use sluice_tests::{Netns, bin, run, wait_for};

use super::{Case, case};
use crate::rig::{PATIENCE, Rig};
use crate::vf::Vf;

pub(crate) const CASES: &[Case] = &[
    case(
        "vf-settings-by-netlink",
        "every setting of a VF is made, read back and put back; a refusal names it",
        60,
        settings,
    ),
    case(
        "vf-netdev-to-pod-and-back",
        "a VF's netdev goes into a network namespace under another name, and comes back",
        60,
        netdev,
    ),
    case(
        "vf-opened-through-vfio",
        "a VF under vfio-pci is opened, mapped, reset and closed, and never twice at once",
        120,
        open,
    ),
    case(
        "sluicectl-vfs-and-doctor",
        "the tool shows the PF's VFs as they are, and finds the node fit",
        60,
        tool,
    ),
];

/// The namespace of this process: its first thread stays where it is.
const HERE: &str = "/proc/self/ns/net";
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0xbb, 0x01];

fn settings(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(2)?[1];
    let index = u32::try_from(vf.index)?;
    let sysfs = Sysfs::default();
    let address: PciAddr = vf.address.parse()?;
    ensure!(
        sysfs.place_of_vf(address)? == (sysfs.pf_of_netdev(&rig.pf)?, index),
        "sysfs has the VF elsewhere"
    );
    let before = links::vf_settings(&rig.pf, index)?;
    let line_before = vf.pf_line()?;
    let vlan = VfVlan {
        vid: 210,
        qos: 5,
        is_8021ad: false,
    };
    let spoofchk = before.spoofchk.context("the PF tells no spoofchk")?;
    let trust = before.trust.context("the PF tells no trust")?;
    for change in [
        VfChange::Vlan(vlan),
        VfChange::Mac(MAC),
        VfChange::Spoofchk(!spoofchk),
        VfChange::Trust(!trust),
    ] {
        links::set_vf(&rig.pf, index, change).with_context(|| change.to_string())?;
    }
    let now = links::vf_settings(&rig.pf, index)?;
    ensure!(
        (now.mac, now.vlan, now.spoofchk, now.trust)
            == (Some(MAC), Some(vlan), Some(!spoofchk), Some(!trust)),
        "the kernel says {now:?}"
    );
    let line = vf.pf_line()?;
    for said in ["02:00:00:00:bb:01", "vlan 210", "qos 5"] {
        ensure!(line.contains(said), "ip says {line}");
    }
    let other = links::vf_settings(&rig.pf, 0)?;
    ensure!(
        other.mac != Some(MAC),
        "the other VF was changed: {other:?}"
    );
    for change in before.changes_from(&now) {
        links::set_vf(&rig.pf, index, change)?;
    }
    ensure!(
        links::vf_settings(&rig.pf, index)? == before && vf.pf_line()? == line_before,
        "not as before: {}, {line_before}",
        vf.pf_line()?
    );
    if rig
        .only_in_vm("whether a PF takes a link state is its driver's choice")
        .is_ok()
    {
        let refused = links::set_vf(&rig.pf, index, VfChange::Link(VfLink::Disable));
        let Err(Error::Setting { setting, .. }) = &refused else {
            anyhow::bail!("a link state that igb does not know: {refused:?}");
        };
        ensure!(setting.contains("link_state"), "{setting}");
    }
    let none = links::vf_settings(&rig.pf, 200);
    ensure!(
        matches!(none, Err(Error::NoSuchVf { count: 2, .. })),
        "{none:?}"
    );
    Ok(())
}

fn netdev(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let name = wait_for("the VF's netdev", PATIENCE, || vf.netdev())?;
    let mac = links::netdev(&name)?.context("it is not there")?.mac;
    let pod = Netns::new("vfpod")?;
    links::move_to(&name, &pod.path(), "net1")?;
    ensure!(links::netdev(&name)?.is_none(), "{name} is still here");
    let there = links::within(&pod.path(), || links::netdev("net1"))?;
    let there = there.context("net1 is not in the namespace")?;
    ensure!(
        there.mac == mac && !there.up && !there.addressed,
        "{there:?}"
    );
    // A name that is taken: nothing moves.
    let taken = links::within(&pod.path(), || links::move_to("net1", HERE.as_ref(), "lo"));
    ensure!(taken.is_err(), "a second lo");
    let there = links::within(&pod.path(), || links::netdev("net1"))?;
    ensure!(
        there.is_some(),
        "net1 has gone after a move that was refused"
    );
    links::within(&pod.path(), || links::move_to("net1", HERE.as_ref(), &name))?;
    ensure!(links::netdev(&name)?.is_some(), "{name} did not come back");
    ensure!(
        vf.netdev().as_deref() == Some(&*name),
        "sysfs has it under another name"
    );
    Ok(())
}

fn opened(vf: &Vf) -> Result<(bool, String)> {
    let output = Command::new(bin("open_vf")).arg(&vf.address).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

fn open(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let (fine, said) = opened(vf)?;
    ensure!(
        !fine && said.contains("not to vfio-pci"),
        "under its kernel driver: {said}"
    );
    vf.bind("vfio-pci")?;
    for _ in 0..2 {
        let (fine, said) = opened(vf)?;
        ensure!(fine, "{said}");
        for part in [
            &*vf.address,
            "BAR 0: 16384 bytes",
            "is held by open_vf",
            "round 2 closed",
        ] {
            ensure!(said.contains(part), "{part} is missing in: {said}");
        }
    }
    Ok(())
}

fn tool(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(2)?[1];
    vf.set(&["mac", "02:00:00:00:bb:02"])?;
    vf.set(&["vlan", "220"])?;
    vf.bind("vfio-pci")?;
    let text = run(Command::new(bin("sluicectl")).args(["--json", "vfs", &rig.pf]))?;
    let pfs: Value = serde_json::from_str(&text)?;
    let shown = &pfs[0]["vfs"][1];
    ensure!(
        pfs[0]["netdev"] == *rig.pf && pfs[0]["up"] == true,
        "{text}"
    );
    ensure!(
        shown["address"] == *vf.address
            && shown["driver"] == "vfio-pci"
            && shown["iommu_group"].is_u64()
            && shown["settings"]["vlan"]["vid"] == 220
            && shown["settings"]["mac"] == "02:00:00:00:bb:02",
        "{text}"
    );
    let table = run(Command::new(bin("sluicectl")).arg("vfs"))?;
    ensure!(table.contains("02:00:00:00:bb:02"), "{table}");
    rig.note(format!("sluicectl vfs:\n{table}"));
    let findings = run(Command::new(bin("sluicectl")).arg("doctor"))?;
    rig.note(format!("sluicectl doctor:\n{findings}"));
    Ok(())
}
