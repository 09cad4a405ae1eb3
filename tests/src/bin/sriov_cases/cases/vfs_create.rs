// SPDX-License-Identifier: Apache-2.0
//! `sluicectl vfs create` on a real PF: what it makes, and whose VFs it leaves alone.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::{Netns, bin, run, wait_for};

use super::engine::served;
use super::{Case, case};
use crate::engine;
use crate::far::ping;
use crate::rig::{PATIENCE, Rig};
use crate::vf::{Vf, sysfs};

pub(crate) const CASES: &[Case] = &[
    case(
        "vfs-create",
        "VFs are made by netdev, by address and from a file, with their netdevs; what cannot be is refused",
        240,
        create,
    ),
    case(
        "vfs-create-refused-in-use",
        "no VF is taken from a pod, the node, a namespace, a device plugin or a program; each is named",
        400,
        in_use,
    ),
];

/// Runs `sluicectl vfs create` and returns whether it succeeded, and what it said.
fn vfs_create(rig: &Rig, args: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(bin("sluicectl"))
        .args(["vfs", "create", "--state-dir"])
        .arg(rig.path("state"))
        .args(args)
        .output()?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}

fn made(rig: &Rig, args: &[&str]) -> Result<String> {
    let (done, said) = vfs_create(rig, args)?;
    ensure!(done, "{args:?}: {said}");
    Ok(said)
}

/// Returns why it was refused; the number of VFs is as before.
fn refused(rig: &Rig, args: &[&str]) -> Result<String> {
    let before = number(rig)?;
    let (done, said) = vfs_create(rig, args)?;
    ensure!(!done, "{args:?}: {said}");
    ensure!(number(rig)? == before, "{args:?} left {} VFs", number(rig)?);
    Ok(said)
}

fn number(rig: &Rig) -> Result<String> {
    let text = fs::read_to_string(sysfs(&rig.pf).join("sriov_numvfs"))?;
    Ok(text.trim().to_owned())
}

/// Opens the group of a VF, as a program does that drives it.
fn held_open(vf: &Vf) -> Result<fs::File> {
    vf.bind("vfio-pci")?;
    let group = fs::read_link(vf.device().join("iommu_group"))?;
    let group = group.file_name().context("no group")?;
    let node = std::path::Path::new("/dev/vfio").join(group);
    Ok(fs::File::options().read(true).write(true).open(node)?)
}

fn create(rig: &Rig) -> Result<()> {
    let pf = rig.pf.as_str();
    let json = made(rig, &["--json", "--dry-run", pf, "2"])?;
    let answer: Value = serde_json::from_str(&json)?;
    ensure!(answer[0]["outcome"] == "would_create", "{json}");
    ensure!(number(rig)? == "0", "a dry run made VFs");
    let json = made(rig, &["--json", pf, "2"])?;
    let answer: Value = serde_json::from_str(&json)?;
    ensure!(
        answer[0]["outcome"] == "created" && answer[0]["vfs"].as_array().map(Vec::len) == Some(2),
        "{json}"
    );
    for index in 0..2 {
        let vf = Vf::of(pf, index)?;
        ensure!(
            vf.driver().is_some() && vf.netdev().is_some(),
            "VF {index} was not waited for"
        );
    }
    let again = made(rig, &[pf, "2"])?;
    ensure!(again.contains("has its 2 VFs"), "{again}");
    // From a file, by address, to another number, without a driver of the kernel.
    let real = fs::canonicalize(sysfs(pf))?;
    let address = real.file_name().context("no address")?.to_string_lossy();
    let file = rig.path("vfs.yaml");
    fs::write(
        &file,
        format!("vfs:\n  - {{pf: \"{address}\", count: 3, autoprobe: false}}\n"),
    )?;
    let from = file.display().to_string();
    let said = made(rig, &["--from", &from])?;
    let driver = Vf::of(pf, 2)?.driver();
    fs::write(sysfs(pf).join("sriov_drivers_autoprobe"), "1")?;
    ensure!(number(rig)? == "3", "{said}");
    ensure!(driver.is_none(), "it has {driver:?}");
    let most = fs::read_to_string(sysfs(pf).join("sriov_totalvfs"))?;
    let more = (most.trim().parse::<u32>()? + 1).to_string();
    let said = refused(rig, &[pf, &more])?;
    ensure!(
        said.contains("VFs, ") && said.contains("asked for"),
        "{said}"
    );
    let said = refused(rig, &["lo", "1"])?;
    ensure!(said.contains("no SR-IOV PF lo"), "{said}");
    let vf = Vf::of(pf, 0)?;
    let said = refused(rig, &[&vf.address, "1"])?;
    ensure!(said.contains("is a VF, of PF"), "{said}");
    fs::write(&file, "vfs:\n  - {pf: 0000:01:00.0, number: 3}\n")?;
    let said = refused(rig, &["--from", &from])?;
    ensure!(said.contains("vfs.yaml:2:"), "{said}");
    made(rig, &[pf, "0"])?;
    ensure!(number(rig)? == "0", "VFs are left");
    Ok(())
}

fn in_use(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(5)?;
    let pf = rig.pf.as_str();
    let engine = engine::start(rig)?;
    // VF 0: a pod of the engine.
    let served = served(rig, &engine, "vfs-in-use")?;
    // VF 1: set up on the node. VF 2: in a namespace, moved there by hand.
    let up = wait_for("a netdev", PATIENCE, || vfs[1].netdev())?;
    run(Command::new("ip").args(["link", "set", &up, "up"]))?;
    let other = Netns::new("other")?;
    let away = wait_for("a netdev", PATIENCE, || vfs[2].netdev())?;
    run(Command::new("ip").args(["link", "set", &away, "netns", other.name()]))?;
    // VF 3: a device plugin's. VF 4: nobody's.
    let checkpoint = rig.path("checkpoint");
    let given = json!({"Data": {"PodDeviceEntries": [{"DeviceIDs": [&vfs[3].address]}]}});
    fs::write(&checkpoint, given.to_string())?;
    let checkpoint = checkpoint.display().to_string();
    for count in ["0", "7"] {
        let said = refused(rig, &["--kubelet-checkpoint", &checkpoint, pf, count])?;
        for (vf, user) in [
            (&vfs[0], "is held by net0 of container vfs-in-use"),
            (&vfs[1], "is in use on the node as"),
            (&vfs[2], "has its netdev in another namespace"),
            (&vfs[3], "is a pod's by a device plugin"),
        ] {
            let line = format!("{} {user}", vf.address);
            ensure!(said.contains(&line), "{line} is not in: {said}");
        }
        ensure!(!said.contains(&vfs[4].address), "{said}");
    }
    // The number that it has is nobody's loss.
    made(rig, &["--kubelet-checkpoint", &checkpoint, pf, "5"])?;
    ping(served.far.netns(), served.net0.ip())?;
    drop(served.peer);
    served.net0.del(rig)?;
    run(Command::new("ip").args(["link", "set", &up, "down"]))?;
    other.ip(&["link", "set", &away, "netns", "1"])?;
    // A program that is not ours has VF 4 open.
    drop(engine);
    let held = held_open(&vfs[4])?;
    let said = refused(rig, &[pf, "7"])?;
    drop(held);
    let line = format!("{} is open in", vfs[4].address);
    ensure!(said.contains(&line), "{line} is not in: {said}");
    rig.nothing_held()?;
    made(rig, &[pf, "7"])?;
    ensure!(number(rig)? == "7", "it has {}", number(rig)?);
    Ok(())
}
