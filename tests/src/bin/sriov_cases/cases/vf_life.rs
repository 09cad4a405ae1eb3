// SPDX-License-Identifier: Apache-2.0
//! VFs that vanish under their attachments and come back, and PFs that go down: what is told, and that it
//! works again by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_api::{LinkState, UplinkStatus};
use sluice_tests::cni::Sandbox;
use sluice_tests::{Netns, Sluiced, bin, run, wait_for};

use super::engine::{Served, served};
use super::{Case, case};
use crate::engine;
use crate::far::{ping, ping_once};
use crate::rig::{PATIENCE, Rig, set_vfs, settled};
use crate::vf::{Vf, sysfs};

pub(crate) const CASES: &[Case] = &[
    case(
        "add-with-pf-down",
        "ADD on a PF that is down is refused with the command that mends it, and works after that",
        240,
        pf_down_before_add,
    ),
    case(
        "pf-down-and-up-under-traffic",
        "a PF set down under traffic is told in status and health, and traffic resumes when it is up",
        300,
        pf_down_up,
    ),
    case(
        "vf-reset-by-root",
        "a VF that root resets under traffic is brought up anew",
        240,
        reset,
    ),
    case(
        "vfs-removed-and-made-again",
        "sriov_numvfs 0 under an attachment ends at once, and N gives it its VF back with MAC and VLAN",
        400,
        removed_and_made,
    ),
    case(
        "vf-back-while-engine-is-away",
        "a VF that was made anew while no engine ran is taken up by the next one",
        400,
        made_without_engine,
    ),
    case(
        "pf-driver-unbound",
        "a PF whose driver is unbound takes its VFs along, and gives them back with it",
        400,
        driver_unbound,
    ),
];

/// Runs `ip link set PF STATE`.
fn set_pf(rig: &Rig, state: &str) -> Result<()> {
    run(Command::new("ip").args(["link", "set", &rig.pf, state])).map(drop)
}

/// Returns the status of the uplink that is a VF.
fn uplink(engine: &Sluiced, vf: &Vf) -> Result<UplinkStatus> {
    let status = engine.client().status()?;
    let found = status.uplinks.into_iter();
    let mut found = found.filter(|uplink| uplink.name == vf.address);
    found.next().context("the engine has no such uplink")
}

/// Waits until the VF's link is one of `links`; returns the reason told.
fn wait_for_link(engine: &Sluiced, vf: &Vf, links: &[LinkState]) -> Result<String> {
    let what = format!("the VF to be one of {links:?}");
    wait_for(&what, PATIENCE, || {
        let uplink = uplink(engine, vf).ok()?;
        let is_so = links.contains(&uplink.link);
        is_so.then(|| uplink.link_reason.unwrap_or_default())
    })
}

/// Waits until health has no problem of the VF.
fn wait_for_health(engine: &Sluiced, vf: &Vf) -> Result<()> {
    wait_for("health without the VF's problem", PATIENCE, || {
        let health = engine.client().health().ok()?;
        let mut problems = health.problems.iter();
        (!problems.any(|problem| problem.contains(&vf.address))).then_some(())
    })
}

/// Fails unless every frame is accounted for.
fn balanced(engine: &Sluiced) -> Result<()> {
    let balance = engine.client().balance()?;
    ensure!(balance.balanced, "{balance:?}");
    Ok(())
}

/// Number of lines of the engine's log that contain `words`.
fn lines(rig: &Rig, words: &str) -> Result<usize> {
    let text = fs::read_to_string(rig.path("sluiced.log"))?;
    Ok(text.lines().filter(|line| line.contains(words)).count())
}

/// Ends the case: DEL gives the VF back, and nothing is held.
fn end(rig: &Rig, served: Served) -> Result<()> {
    drop(served.peer);
    served.net0.del(rig)?;
    drop(served.pod);
    rig.nothing_held()
}

fn pf_down_before_add(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let engine = engine::start(rig)?;
    let pod = Netns::new("pod")?;
    let conf = engine::conf(
        rig,
        json!({"vf": 0, "vlan": 210, "ipam": rig.host_local("10.21.0.0/24")}),
    );
    let sandbox = Sandbox::new("pf-down", &pod, "net0");
    let plugins = rig.plugins()?;
    set_pf(rig, "down")?;
    let said = plugins.call("ADD", &sandbox, &conf)?.refused(11);
    set_pf(rig, "up")?;
    let said = said?;
    ensure!(
        said.contains(&format!("ip link set {} up", rig.pf)),
        "the refusal has no mend: {said}"
    );
    rig.nothing_held()?;
    vf.expect(&before)?;
    settled(&rig.pf)?;
    plugins.add(&sandbox, &conf)?;
    wait_for_link(&engine, vf, &[LinkState::Up])?;
    plugins.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn pf_down_up(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let engine = engine::start(rig)?;
    let served = served(rig, &engine, "pf-down-up")?;
    let mut traffic = served.far.netns().command("ping");
    traffic.args(["-n", "-q", "-i", "0.05", served.net0.ip()]);
    traffic.stdout(std::process::Stdio::null());
    let traffic = sluice_tests::Process::start(&mut traffic)?;
    set_pf(rig, "down")?;
    let mend = format!("ip link set {} up", rig.pf);
    // The PF refuses VFs a moment before its netdev reads down, which is told first.
    let told = wait_for("status to tell the mend", PATIENCE, || {
        let uplink = uplink(&engine, vf).ok()?;
        let is_away = [LinkState::Down, LinkState::Waiting].contains(&uplink.link);
        (is_away && uplink.link_reason?.contains(&mend)).then_some(())
    });
    let health = engine.client().health();
    set_pf(rig, "up")?;
    told?;
    let health = health?;
    ensure!(
        health
            .problems
            .iter()
            .any(|problem| problem.contains(&mend)),
        "health does not tell: {:?}",
        health.problems
    );
    ping(served.far.netns(), served.net0.ip())?;
    wait_for_link(&engine, vf, &[LinkState::Up])?;
    wait_for_health(&engine, vf)?;
    drop(traffic);
    balanced(&engine)?;
    end(rig, served)?;
    vf.expect(&before)
}

fn reset(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let engine = engine::start(rig)?;
    let served = served(rig, &engine, "vf-reset")?;
    fs::write(vf.device().join("reset"), "1")?;
    ping(served.far.netns(), served.net0.ip())?;
    let nic = uplink(&engine, vf)?.nic.context("no counters of the NIC")?;
    ensure!(
        nic.resets >= 1 && nic.rx_frames < 1 << 31 && nic.rx_bytes < 1 << 31,
        "counters of the NIC after the reset: {nic:?}"
    );
    balanced(&engine)?;
    end(rig, served)?;
    vf.expect(&before)
}

fn removed_and_made(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(2)?[0];
    let before = vf.snapshot()?;
    let engine = engine::start(rig)?;
    let served = served(rig, &engine, "vfs-removed")?;
    let held = vf.pf_line()?;
    // As root would by mistake; the kernel waits until the engine has closed the VF.
    let start = Instant::now();
    set_vfs(&rig.pf, 0)?;
    let took = start.elapsed();
    rig.note(format!("the kernel waited {took:.1?} for the engine"));
    ensure!(took < Duration::from_secs(60), "removing took {took:?}");
    let told = wait_for_link(&engine, vf, &[LinkState::Gone])?;
    ensure!(told.contains("taken up"), "{told}");
    wait_for("health to tell", PATIENCE, || {
        let problems = engine.client().health().ok()?.problems;
        let mut problems = problems.iter();
        problems
            .any(|problem| problem.contains(&vf.address))
            .then_some(())
    })?;
    ensure!(
        !ping_once(served.far.netns(), served.net0.ip()),
        "a pod without its VF answers"
    );
    set_vfs(&rig.pf, 2)?;
    ping(served.far.netns(), served.net0.ip())?;
    ensure!(
        vf.driver().as_deref() == Some("vfio-pci"),
        "{:?}",
        vf.driver()
    );
    ensure!(
        vf.pf_line()? == held,
        "before {held}, now {}",
        vf.pf_line()?
    );
    wait_for_health(&engine, vf)?;
    ensure!(
        lines(rig, "is back, and taken up")? == 1,
        "the log does not tell once that it is back"
    );
    balanced(&engine)?;
    end(rig, served)?;
    vf.expect(&before)
}

fn made_without_engine(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let mut engine = engine::start(rig)?;
    let served = served(rig, &engine, "vf-back")?;
    engine.process().kill();
    set_vfs(&rig.pf, 0)?;
    set_vfs(&rig.pf, 1)?;
    settled(&rig.pf)?;
    wait_for("the new VF's netdev", PATIENCE, || vf.netdev())?;
    let engine = engine::start(rig)?;
    engine.wait_link("vf-back", "net0")?;
    ping(served.far.netns(), served.net0.ip())?;
    wait_for_health(&engine, vf)?;
    end(rig, served)?;
    vf.expect(&before)
}

/// PF without its driver. Dropped, it has it again, under its old name and set up.
struct Unbound {
    pf: String,
    address: String,
    driver: PathBuf,
    mac: String,
}

impl Unbound {
    fn new(pf: &str) -> Result<Unbound> {
        let folder = fs::canonicalize(sysfs(pf))?;
        let address = folder.file_name().context("no address")?;
        let unbound = Unbound {
            pf: pf.to_owned(),
            address: address.to_string_lossy().into_owned(),
            driver: fs::canonicalize(folder.join("driver"))?,
            mac: fs::read_to_string(Path::new("/sys/class/net").join(pf).join("address"))?,
        };
        fs::write(unbound.driver.join("unbind"), &unbound.address)?;
        Ok(unbound)
    }

    /// Binds the driver again and gives the netdev its name.
    fn bind(&self) -> Result<()> {
        if sysfs(&self.pf).exists() {
            return Ok(());
        }
        let folder = Path::new("/sys/bus/pci/devices").join(&self.address);
        if !folder.join("driver").exists() {
            fs::write(self.driver.join("bind"), &self.address)?;
        }
        let name = wait_for("the PF's netdev", PATIENCE, || {
            let entry = fs::read_dir(folder.join("net")).ok()?.next()?.ok()?;
            Some(entry.file_name().to_string_lossy().into_owned())
        })?;
        let address = Path::new("/sys/class/net").join(&name).join("address");
        ensure!(
            fs::read_to_string(address)? == self.mac,
            "the PF has another MAC address now"
        );
        run(Command::new("ip").args(["link", "set", &name, "name", &self.pf]))?;
        run(Command::new("ip").args(["link", "set", &self.pf, "up"]))?;
        Ok(())
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        if let Err(error) = self.bind() {
            eprintln!("the PF {} is not back: {error:#}", self.pf);
        }
    }
}

fn driver_unbound(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let engine = engine::start(rig)?;
    let served = served(rig, &engine, "pf-unbound")?;
    let held = vf.pf_line()?;
    let start = Instant::now();
    let unbound = Unbound::new(&rig.pf)?;
    let took = start.elapsed();
    rig.note(format!("the kernel waited {took:.1?} for the engine"));
    ensure!(took < Duration::from_secs(60), "unbinding took {took:?}");
    wait_for_link(&engine, vf, &[LinkState::Gone])?;
    unbound.bind()?;
    let made = run(Command::new(bin("sluicectl"))
        .args(["vfs", "create", &rig.pf, "1", "--state-dir"])
        .arg(rig.path("state")))?;
    ensure!(made.contains(&vf.address), "{made}");
    ping(served.far.netns(), served.net0.ip())?;
    ensure!(
        vf.pf_line()? == held,
        "before {held}, now {}",
        vf.pf_line()?
    );
    wait_for_health(&engine, vf)?;
    balanced(&engine)?;
    end(rig, served)?;
    ensure!(
        vf.driver().as_deref() == Some("igbvf"),
        "the VF is left to {:?}",
        vf.driver()
    );
    Ok(())
}
