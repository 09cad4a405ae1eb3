// SPDX-License-Identifier: Apache-2.0
//! Engine mode: the VF driven by the engine, the pod behind a memif.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use sluice_tests::{Netns, Sluiced, run, wait_for};

use super::{Case, case};
use crate::engine::{self, Interface, vnf};
use crate::far::{Far, no_ping, ping, ping_once};
use crate::rig::{PATIENCE, Rig};

pub(crate) const CASES: &[Case] = &[
    case(
        "engine-vlan",
        "cable, VF, VLAN pipeline, memif, pod and back; denied flows are counted; DEL puts all back",
        300,
        vlan,
    ),
    case(
        "engine-untagged",
        "a VF without a VLAN: untagged frames only",
        240,
        untagged,
    ),
    case(
        "engine-two-vlans",
        "one pod with net0 and net1 on two VFs and two VLANs",
        300,
        two_vlans,
    ),
    case(
        "engine-vf-to-vf",
        "two pods on VFs of one PF through the NIC's switch",
        300,
        vf_to_vf,
    ),
    case(
        "engine-trunk",
        "a trunk VF: the pod sends and gets tagged frames of its VLANs",
        300,
        trunk,
    ),
    case(
        "engine-pf-down-and-up",
        "after the PF went down and up traffic resumes",
        300,
        pf_down_up,
    ),
    case(
        "engine-killed",
        "kill -9 of the engine: the next one drives the same VF on",
        300,
        killed,
    ),
    case(
        "engine-gone-at-del",
        "DEL with no engine puts the VF back",
        240,
        gone,
    ),
    case(
        "engine-hung-at-del",
        "DEL with a hung engine ends soon; the VF comes back when the engine does",
        300,
        hung,
    ),
];

/// Whether UDP to `port` of the pod is answered, from inside namespace `netns`.
pub(super) fn udp_echo(netns: &Netns, to: &str, port: u16) -> Result<bool> {
    let to = format!("{to}:{port}");
    netns.enter(move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(&to)?;
        socket.send(b"who is there")?;
        let mut answer = [0; 64];
        Ok(socket
            .recv(&mut answer)
            .is_ok_and(|length| &answer[..length] == b"who is there"))
    })
}

fn vlan(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let far = Far::new(rig, None)?;
    far.vlan(210, "10.21.0.250/24")?;
    let engine = engine::start(rig)?;
    let pod = Netns::new("pod")?;
    let conf = engine::conf(
        rig,
        json!({"vf": 0, "vlan": 210, "ipam": rig.host_local("10.21.0.0/24")}),
    );
    let net0 = Interface::add(rig, "engine-vlan", &pod, "net0", conf)?;
    ensure!(
        vf.driver().as_deref() == Some("vfio-pci"),
        "bound to {:?}",
        vf.driver()
    );
    ensure!(vf.pf_line()?.contains("vlan 210"), "{}", vf.pf_line()?);
    let peer = vnf(rig, &pod, &[&net0])?;
    engine.wait_link("engine-vlan", "net0")?;
    ping(far.netns(), net0.ip())?;
    ensure!(udp_echo(far.netns(), net0.ip(), 7)?, "no UDP echo");
    let (passed, dropped) = (
        engine.rule("net-210", "ingress", "echo")?,
        engine.rule("net-210", "ingress", "default")?,
    );
    ensure!(passed >= 1, "the rule that let UDP through counted nothing");
    for _ in 0..3 {
        ensure!(
            !udp_echo(far.netns(), net0.ip(), 9)?,
            "UDP to a port that no rule allows was answered"
        );
    }
    wait_for("three drops to be counted", PATIENCE, || {
        // Neighbours' multicast may be among them.
        (engine.rule("net-210", "ingress", "default").ok()? >= dropped + 3).then_some(())
    })?;
    drop(peer);
    net0.del(rig)?;
    vf.expect(&before)?;
    ensure!(
        engine.client().attachments()?.is_empty(),
        "the engine still has an attachment"
    );
    rig.nothing_held()
}

fn untagged(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let far = Far::new(rig, Some("10.56.217.250/24"))?;
    let engine = engine::start(rig)?;
    let pod = Netns::new("pod")?;
    let conf = engine::conf(
        rig,
        json!({"vf": 0, "ipam": rig.host_local("10.56.217.0/24")}),
    );
    let net0 = Interface::add(rig, "engine-untagged", &pod, "net0", conf)?;
    let peer = vnf(rig, &pod, &[&net0])?;
    engine.wait_link("engine-untagged", "net0")?;
    ping(far.netns(), net0.ip())?;
    drop(peer);
    net0.del(rig)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn two_vlans(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(2)?;
    let before = [vfs[0].snapshot()?, vfs[1].snapshot()?];
    let far = Far::new(rig, None)?;
    far.vlan(210, "10.21.0.250/24")?;
    far.vlan(220, "10.22.0.250/24")?;
    let engine = engine::start(rig)?;
    let pod = Netns::new("pod")?;
    let mut nets = Vec::new();
    for (ifname, vid, subnet) in [("net0", 210, "10.21.0.0/24"), ("net1", 220, "10.22.0.0/24")] {
        let conf = engine::conf(rig, json!({"vlan": vid, "ipam": rig.host_local(subnet)}));
        nets.push(Interface::add(rig, "virtual-firewall", &pod, ifname, conf)?);
    }
    let peer = vnf(rig, &pod, &[&nets[0], &nets[1]])?;
    for net in &nets {
        engine.wait_link("virtual-firewall", &net.sandbox.ifname)?;
        ping(far.netns(), net.ip())?;
    }
    drop(peer);
    // One goes; the other is not touched.
    nets[0].del(rig)?;
    vfs[0].expect(&before[0])?;
    let peer = vnf(rig, &pod, &[&nets[1]])?;
    ping(far.netns(), nets[1].ip())?;
    drop(peer);
    nets[1].del(rig)?;
    vfs[1].expect(&before[1])?;
    rig.nothing_held()
}

fn vf_to_vf(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(2)?;
    let before = [vfs[0].snapshot()?, vfs[1].snapshot()?];
    let engine = engine::start(rig)?;
    // One pod by the engine, the other with the netdev of its VF: two drivers, one switch.
    let (ours, theirs) = (Netns::new("pod")?, Netns::new("pod")?);
    let ipam = rig.host_local("10.21.0.0/24");
    let conf = engine::conf(rig, json!({"vf": 0, "vlan": 210, "ipam": ipam}));
    let net0 = Interface::add(rig, "by-engine", &ours, "net0", conf)?;
    let conf = rig.conf(json!({"mode": "kernel", "vf": 1, "vlan": 210, "ipam": ipam}));
    let other = Interface::add(rig, "by-kernel", &theirs, "net0", conf)?;
    let peer = vnf(rig, &ours, &[&net0])?;
    engine.wait_link("by-engine", "net0")?;
    ping(&theirs, net0.ip())?;
    drop(peer);
    other.del(rig)?;
    net0.del(rig)?;
    vfs[0].expect(&before[0])?;
    vfs[1].expect(&before[1])?;
    rig.nothing_held()
}

fn trunk(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let mut wire = rig.wire()?;
    let engine = engine::start(rig)?;
    let pod = Netns::new("pod")?;
    let conf = engine::conf(
        rig,
        json!({"vf": 0, "vlans": [210, 220], "mac": "02:00:00:00:0a:41"}),
    );
    let sandbox = sluice_tests::cni::Sandbox::new("engine-trunk", &pod, "net0");
    rig.plugins()?.add(&sandbox, &conf)?;
    // testpmd in the pod, on the memif: sends every frame back, tag and all.
    let mut command = pod.command("dpdk-testpmd");
    command.args([
        "--no-pci",
        "--no-huge",
        "--no-shconf",
        "--no-telemetry",
        "-m",
        "256",
        "--lcores",
        "0@(0-1),1@(0-1)",
        "--file-prefix",
        "sluice-trunk",
    ]);
    command.arg("--vdev=net_memif0,role=client,socket=sluicegate/net0,socket-abstract=yes");
    command.args([
        "--",
        "--total-num-mbufs=4096",
        "--auto-start",
        "--forward-mode=macswap",
        "--no-lsc-interrupt",
        "--no-flush-rx",
    ]);
    let log = std::fs::File::create(rig.path("pod-testpmd.log"))?;
    command
        .stdin(std::process::Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log);
    let peer = sluice_tests::Process::start(&mut command)?;
    engine.wait_link("engine-trunk", "net0")?;
    let mac = sluice_packet::Mac([2, 0, 0, 0, 0x0a, 0x41]);
    for vid in [210, 220] {
        super::wire::ping_echo(&mut wire, vid, mac)?;
    }
    super::wire::silent(&mut wire, 300, mac)?;
    drop(peer);
    rig.plugins()?.del(&sandbox, &conf)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

/// A pod `name` on VLAN 210 that answers the far end.
pub(super) struct Served {
    pub(super) pod: Netns,
    pub(super) net0: Interface,
    pub(super) peer: sluice_tests::Process,
    pub(super) far: Far,
}

pub(super) fn served(rig: &Rig, engine: &Sluiced, name: &str) -> Result<Served> {
    let far = Far::new(rig, None)?;
    far.vlan(210, "10.21.0.250/24")?;
    let pod = Netns::new("pod")?;
    let conf = engine::conf(
        rig,
        json!({"vf": 0, "vlan": 210, "ipam": rig.host_local("10.21.0.0/24")}),
    );
    let net0 = Interface::add(rig, name, &pod, "net0", conf)?;
    let peer = vnf(rig, &pod, &[&net0])?;
    engine.wait_link(name, "net0")?;
    ping(far.netns(), net0.ip())?;
    Ok(Served {
        pod,
        net0,
        peer,
        far,
    })
}

fn pf_down_up(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let engine = engine::start(rig)?;
    let served = served(rig, &engine, "pf-down-up")?;
    run(Command::new("ip").args(["link", "set", &rig.pf, "down"]))?;
    std::thread::sleep(Duration::from_secs(2));
    run(Command::new("ip").args(["link", "set", &rig.pf, "up"]))?;
    ping(served.far.netns(), served.net0.ip())?;
    drop(served.peer);
    served.net0.del(rig)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn killed(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let engine = engine::start(rig)?;
    let served = served(rig, &engine, "killed")?;
    let engine = engine.kill_and_restart()?;
    engine
        .wait_link("killed", "net0")
        .context("after the restart")?;
    ping(served.far.netns(), served.net0.ip()).context("after the restart")?;
    drop(served.peer);
    served.net0.del(rig)?;
    vf.expect(&before)?;
    drop(served.pod);
    rig.nothing_held()
}

fn gone(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let mut engine = engine::start(rig)?;
    let served = served(rig, &engine, "gone")?;
    drop(served.peer);
    engine.process().kill();
    served.net0.del(rig)?;
    vf.expect(&before)?;
    rig.nothing_held()
}

fn hung(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let before = vf.snapshot()?;
    let mut engine = engine::start(rig)?;
    let served = served(rig, &engine, "hung")?;
    drop(served.peer);
    engine.process().signal(Signal::STOP)?;
    let start = Instant::now();
    let answer = served.net0.del(rig);
    let took = start.elapsed();
    let touched = vf.driver();
    engine.process().signal(Signal::CONT)?;
    answer?;
    ensure!(took < Duration::from_secs(20), "DEL took {took:?}");
    ensure!(
        touched.as_deref() == Some("vfio-pci"),
        "DEL unbound a VF that the engine had open"
    );
    // What was only marked is finished by the engine when it starts again at the latest.
    let engine = engine.kill_and_restart()?;
    vf.expect(&before)?;
    ensure!(
        engine.client().attachments()?.is_empty(),
        "the engine still has the attachment"
    );
    ensure!(
        !ping_once(served.far.netns(), served.net0.ip()),
        "the pod still answers"
    );
    no_ping(served.far.netns(), served.net0.ip())?;
    rig.nothing_held()
}
