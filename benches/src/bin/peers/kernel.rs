// SPDX-License-Identifier: Apache-2.0
//! AF_PACKET uplinks: a pod's frames leave by one end of a veth pair and reach a pod behind the other. A worker for each end, with the whole firewall at both. The pair is in a
//! network namespace that nobody else is in, and goes with its sockets.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use sluice_benches::pools;
use sluice_benches::scene::{pod, policies, wire};
use sluice_datapath::ports::af_packet::{AfPacket, AfPacketConfig};
use sluice_datapath::ports::generator::Generator;
use sluice_datapath::ports::null::NullPort;
use sluice_datapath::{PodPort, SteppedWorker, UplinkSpec};

use crate::Options;
use crate::frames::Source;
use crate::ring::two;

const RULES: u16 = 100;
const FLOWS: u32 = 1024;

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    for size in [64, 1500] {
        match ends() {
            Ok(ends) => measure(options, size, ends)?,
            Err(why) => {
                println!("# kernel: not measured: {why:#}");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Creates a veth pair and opens an uplink on both ends.
fn ends() -> Result<[AfPacket; 2]> {
    // A thread of its own, as it moves to another namespace.
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own (as root)")?;
        ip("link add pv0 type veth peer name pv1")?;
        ip("link set pv0 up")?;
        ip("link set pv1 up")?;
        let open = |device: &str| -> Result<AfPacket> {
            let line = ip(&format!("-o link show {device}"))?;
            let index = line.split(':').next().unwrap_or_default().parse()?;
            let uplink = AfPacket::open(AfPacketConfig {
                // There are no super-frames on a pair that no kernel sends on.
                super_frames: false,
                ..AfPacketConfig::new(device, index, 1500)
            })?;
            Ok(uplink)
        };
        Ok([open("pv0")?, open("pv1")?])
    });
    made.join()
        .unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")))
}

fn ip(arguments: &str) -> Result<String> {
    let mut command = Command::new("ip");
    let out = command
        .args(arguments.split(' '))
        .output()
        .context("running ip")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "ip {arguments}: {said}");
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn measure(options: &Options, size: usize, ends: [AfPacket; 2]) -> Result<()> {
    let mut source = Source::new(0, size, FLOWS, RULES)?;
    let frames: Vec<_> = (0..FLOWS).map(|_| source.next_frame().to_vec()).collect();
    let [out, back] = ends;
    let mut sender = worker(out, 0, Box::new(Generator::new(&frames)?))?;
    let mut receiver = worker(back, 1, Box::new(NullPort))?;
    two(
        options,
        (&format!("afpacket_veth_{size}"), "Mpps"),
        move || sender.round(),
        || receiver.round(),
    )
}

/// Worker with one uplink and one pod.
fn worker(uplink: AfPacket, number: usize, port: Box<dyn PodPort>) -> Result<SteppedWorker> {
    let mut worker = SteppedWorker::new(pools(), policies(RULES), 131_072)?;
    let uplink = worker.add_uplink(UplinkSpec {
        port: Box::new(uplink),
        ..wire()
    })?;
    worker.attach(pod(uplink, number, 0), port)?;
    Ok(worker)
}
