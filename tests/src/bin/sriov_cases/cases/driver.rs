// SPDX-License-Identifier: Apache-2.0
//! The driver alone, without an engine around it, beside DPDK's on the same VF.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sluice_packet::Mac;
use sluice_tests::{Process, bin, wait_for};

use super::{Case, case, wire};
use crate::rig::{PATIENCE, Rig};
use crate::testpmd::Testpmd;
use crate::vf::Vf;

pub(crate) const CASES: &[Case] = &[
    case(
        "driver-echo",
        "our driver on a VF under vfio-pci sends back what the cable brings: untagged, port VLAN, trunk",
        180,
        echo,
    ),
    case(
        "driver-rates",
        "frames per second of our driver and of testpmd on the same VF, 64 bytes, sent back as they are",
        400,
        rates,
    ),
];

const VF: Mac = Mac([0x02, 0, 0, 0, 0xaa, 0x20]);
const VF_MAC: &str = "02:00:00:00:aa:20";
const OTHER_MAC: &str = "02:00:00:00:aa:21";

/// The example, started on a VF with these words; what it prints goes to a file.
struct Forward {
    process: Process,
    log: std::path::PathBuf,
}

impl Forward {
    fn start(rig: &Rig, vf: &Vf, words: &[&str]) -> Result<Forward> {
        let log = rig.path("forward.log");
        let out = std::fs::File::create(&log)?;
        let mut command = Command::new(bin("examples/igbvf_forward"));
        command.arg(&vf.address).args(words);
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut process = Process::start(&mut command)?;
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_for("our driver to open the VF", PATIENCE, || {
            (text().contains(" is ") || !process.alive()).then_some(())
        })?;
        ensure!(text().contains(" is Up"), "it says: {}", text());
        Ok(Forward { process, log })
    }

    fn end(mut self) -> Result<Value> {
        wait_for("our driver to end", PATIENCE, || {
            (!self.process.alive()).then_some(())
        })?;
        let text = std::fs::read_to_string(&self.log)?;
        let line = text.lines().last().context("it printed nothing")?;
        serde_json::from_str(line).with_context(|| text.clone())
    }
}

fn echo(rig: &Rig) -> Result<()> {
    let vf = &rig.vfs(1)?[0];
    let mut wire = rig.wire()?;
    vf.set(&["mac", VF_MAC])?;
    vf.bind("vfio-pci")?;
    for (vlan, words, vids, silent) in [
        ("0", [].as_slice(), [0].as_slice(), 210),
        ("210", &["--port", "210"], &[210], 220),
        ("0", &["--trunk", "210,220"], &[210, 220], 300),
    ] {
        vf.set(&["vlan", vlan])?;
        let all = [
            &[VF_MAC, "--mode", "macswap", "--seconds", "8", "--count"],
            words,
        ]
        .concat();
        let forward = Forward::start(rig, vf, &all)?;
        for &vid in vids {
            wire::ping_echo(&mut wire, vid, VF).with_context(|| format!("with {words:?}"))?;
        }
        wire::silent(&mut wire, silent, VF).with_context(|| format!("with {words:?}"))?;
        let said = forward.end()?;
        ensure!(said["sent"].as_u64() >= Some(1), "{said}");
    }
    Ok(())
}

fn rates(rig: &Rig) -> Result<()> {
    let vfs = rig.vfs(2)?;
    for (vf, mac) in vfs.iter().zip([VF_MAC, OTHER_MAC]) {
        vf.set(&["mac", mac])?;
        vf.bind("vfio-pci")?;
    }
    // The same source for both: our generator on the other VF.
    let generate = format!("generate={VF_MAC}");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut seam = Value::Null;
    for round in 0..3 {
        let source = [OTHER_MAC, "--mode", &generate, "--seconds", "12"];
        let words = [VF_MAC, "--mode", "io", "--seconds", "6"];
        let counted = [words.as_slice(), &["--count"]].concat();
        let generator = Forward::start(rig, &vfs[1], &source)?;
        std::fs::rename(rig.path("forward.log"), rig.path("generator.log"))?;
        let forward = Forward::start(rig, &vfs[0], &words)?;
        ours.push(number(&forward.end()?, "frames_per_second")?);
        drop(generator);
        if round == 0 {
            let generator = Forward::start(rig, &vfs[1], &source)?;
            std::fs::rename(rig.path("forward.log"), rig.path("generator.log"))?;
            seam = Forward::start(rig, &vfs[0], &counted)?.end()?["per_frame"].clone();
            drop(generator);
        }
        theirs.push(testpmd_rate(rig, &vfs)?);
    }
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    rig.note(format!(
        "under emulation, so the ratio alone says something: ours {:.0} frames/s ({:.0} to {:.0}), \
         testpmd {:.0} ({:.0} to {:.0}), ratio {:.2}",
        ours[1],
        ours[0],
        ours[2],
        theirs[1],
        theirs[0],
        theirs[2],
        ours[1] / theirs[1]
    ));
    rig.note(format!("our driver, per frame: {seam}"));
    Ok(())
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key]
        .as_f64()
        .with_context(|| format!("no {key} in {value}"))
}

/// testpmd on the first VF for six seconds, under the same load.
fn testpmd_rate(rig: &Rig, vfs: &[Vf]) -> Result<f64> {
    let peer = Testpmd::start(rig, &[&vfs[0].address], "io")?;
    let generate = format!("generate={VF_MAC}");
    let source = [OTHER_MAC, "--mode", &generate, "--seconds", "6"];
    let generator = Forward::start(rig, &vfs[1], &source)?;
    let generated = generator.end()?;
    std::thread::sleep(Duration::from_millis(200));
    let said = peer.end()?;
    let sent = said
        .lines()
        .filter(|line| line.contains("TX-packets"))
        .find_map(|line| {
            line.split("TX-packets:")
                .nth(1)?
                .split_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        });
    let Some(sent) = sent else {
        bail!("testpmd told no TX-packets: {said}");
    };
    Ok(sent / number(&generated, "seconds")?)
}
