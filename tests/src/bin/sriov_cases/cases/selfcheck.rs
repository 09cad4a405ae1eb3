// SPDX-License-Identifier: Apache-2.0
//! The rig itself: the cable, the VFs, what the PF's driver takes, and an independent peer.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Wire, run, wait_for};

use super::{Case, case, wire};
use crate::rig::{PATIENCE, Rig};
use crate::testpmd::Testpmd;

pub(crate) const CASES: &[Case] = &[
    case(
        "rig-cable",
        "frames of the cable's other end reach the PF, and back, tags and all",
        60,
        cable,
    ),
    case(
        "rig-vfs",
        "the PF makes its VFs, each alone in an IOMMU group",
        120,
        vfs,
    ),
    case(
        "rig-vf-settings",
        "the PF takes MAC, VLAN, QoS, spoof checking and trust for a VF",
        60,
        settings,
    ),
    case(
        "testpmd-on-a-vf",
        "testpmd on a VF under vfio-pci sends back what the cable brings",
        180,
        testpmd,
    ),
];

/// The station at the other end.
const STATION: Mac = Mac([0x02, 0, 0, 0, 0xee, 1]);
/// The VF's.
const VF_MAC: &str = "02:00:00:00:aa:10";
const VF: Mac = Mac([0x02, 0, 0, 0, 0xaa, 0x10]);

/// A frame with a payload by which it is known again.
fn frame(dst: Mac, src: Mac, number: u8) -> Vec<u8> {
    FrameBuilder::new(dst, src).payload(&[number; 46]).build()
}

/// Sends a few frames from one end until one is seen at the other.
fn crosses(from: &mut Wire, to: &mut Wire, vid: u16, dst: Mac) -> Result<()> {
    for _ in 0..20 {
        from.send(vid, &[frame(dst, STATION, 0x5a)])?;
        let heard = to.receive(1, Duration::from_millis(500), |heard, bytes| {
            heard == vid && bytes.get(..6) == Some(&dst.0) && bytes.get(20) == Some(&0x5a)
        });
        if !heard.is_empty() {
            return Ok(());
        }
    }
    anyhow::bail!("no frame in VLAN {vid} came across")
}

fn cable(rig: &Rig) -> Result<()> {
    let mut wire = rig.wire()?;
    run(Command::new("ip").args(["link", "set", &rig.pf, "promisc", "on"]))?;
    let mut pf = Wire::here(&rig.pf)?;
    let result = [0, 210].into_iter().try_for_each(|vid| {
        crosses(&mut wire, &mut pf, vid, Mac::BROADCAST)?;
        crosses(&mut pf, &mut wire, vid, Mac::BROADCAST)
    });
    run(Command::new("ip").args(["link", "set", &rig.pf, "promisc", "off"]))?;
    result
}

fn vfs(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(rig.most_vfs()?)?;
    let mut groups = Vec::new();
    for vf in &vfs {
        ensure!(vf.driver().is_some(), "{vf:?} has no driver");
        let link = format!("/sys/bus/pci/devices/{}/iommu_group", vf.address);
        let group = std::fs::read_link(&link)?;
        let members = std::fs::read_dir(format!("{link}/devices"))?.count();
        ensure!(
            members == 1,
            "{} shares its IOMMU group with {} others",
            vf.address,
            members - 1
        );
        groups.push(group);
    }
    groups.sort();
    groups.dedup();
    ensure!(groups.len() == vfs.len(), "VFs share IOMMU groups");
    Ok(())
}

fn settings(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    vf.set(&["mac", VF_MAC])?;
    vf.set(&["vlan", "210", "qos", "5"])?;
    vf.set(&["spoofchk", "off"])?;
    vf.set(&["trust", "on"])?;
    let line = vf.pf_line()?;
    for said in [
        VF_MAC,
        "vlan 210",
        "qos 5",
        "spoof checking off",
        "trust on",
    ] {
        ensure!(line.contains(said), "{said} is missing in: {line}");
    }
    // The VF asks the PF for its MAC by mail: that the PF answers is what all else rests on.
    let driver = vf.driver().context("the VF has no driver")?;
    vf.bind(&driver)?;
    let netdev = wait_for("the VF's netdev", PATIENCE, || vf.netdev())?;
    let mac = std::fs::read_to_string(format!("/sys/class/net/{netdev}/address"))?;
    ensure!(
        mac.trim() == VF_MAC,
        "the VF's driver says {}: the PF does not answer it",
        mac.trim()
    );
    vf.set(&["trust", "off"])?;
    vf.set(&["spoofchk", "on"])?;
    vf.set(&["vlan", "0"])?;
    vf.set(&["mac", "00:00:00:00:00:00"])?;
    ensure!(
        vf.pf_line()? == rig.vfs(1)?[0].pf_line()?,
        "a VF that was given back is not like a new one: {}, {before:?}",
        vf.pf_line()?
    );
    Ok(())
}

fn testpmd(rig: &Rig) -> Result<()> {
    let mut wire = rig.wire()?;
    let vf = &rig.vfs(1)?[0];
    vf.set(&["mac", VF_MAC])?;
    vf.bind("vfio-pci")?;
    let peer = Testpmd::start(rig, &[&vf.address], "macswap")?;
    wire::ping_echo(&mut wire, 0, VF)?;
    vf.set(&["vlan", "210"])?;
    wire::ping_echo(&mut wire, 210, VF)?;
    let said = peer.end()?;
    let counted = said.lines().find(|line| line.contains("RX-total"));
    rig.note(format!(
        "testpmd-on-a-vf: {}",
        counted.unwrap_or_default().trim()
    ));
    Ok(())
}
