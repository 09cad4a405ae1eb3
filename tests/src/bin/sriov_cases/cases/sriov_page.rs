// SPDX-License-Identifier: Apache-2.0
//! Section "From PF to pod" of docs/sriov.md, executed as it stands.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sluice_tests::{Netns, bin, run};

use super::{Case, case};
use crate::rig::Rig;

pub(crate) const CASES: &[Case] = &[case(
    "sriov-page-from-pf-to-pod",
    "the commands of docs/sriov.md from a PF to a pod and back, as they stand",
    300,
    from_pf_to_pod,
)];

/// PF of the section.
const PF: &str = "enp2s0";
/// Netdev at the other end of its cable.
const WIRE: &str = "wire2";
/// First words of blocks that are for the station at the other end.
const FAR: &str = "# at the far end";

fn from_pf_to_pod(rig: &Rig) -> Result<()> {
    rig.only_in_vm("takes the PF by the name it has on the page")?;
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(checkout.join("docs/sriov.md"))?;
    let blocks = blocks(&page)?;
    ensure!(blocks.len() >= 5, "{} blocks", blocks.len());
    let before = {
        let vf = &rig.vfs_of(PF, 1)?[0];
        vf.snapshot()?
    };
    run(Command::new("sh").args([
        "-c",
        &format!("echo 0 > /sys/class/net/{PF}/device/sriov_numvfs"),
    ]))?;

    let far = Netns::new("far")?;
    run(Command::new("ip").args(["link", "set", WIRE, "netns", far.name()]))?;
    far.ip(&["link", "set", WIRE, "up"])?;
    far.ip(&[
        "link", "add", "link", WIRE, "name", "vlan210", "type", "vlan", "id", "210",
    ])?;
    far.ip(&["link", "set", "vlan210", "up"])?;
    far.ip(&["address", "add", "10.21.0.250/24", "dev", "vlan210"])?;

    let mut script = String::from("set -ex\npids=\ntrap 'kill $pids' EXIT\n");
    for block in &blocks {
        if block.starts_with(FAR) {
            script += &format!("ip netns exec {} sh -ex <<'EOF'\n{block}EOF\n", far.name());
        } else {
            for line in block.lines() {
                script += &format!("{line}\n");
                if line.starts_with("PATH=$PWD") {
                    script += &path_to_tested()?;
                }
                if line.ends_with(" &") {
                    script += "pids=\"$pids $!\"\n";
                }
            }
        }
    }
    let path = rig.path("page.sh");
    fs::write(&path, &script)?;
    // Into a file: what runs in the background would hold a pipe open.
    let log = rig.path("page.log");
    let out = fs::File::create(&log)?;
    let mut command = Command::new("sh");
    command.arg(&path).current_dir(&checkout);
    command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    let status = command.status()?;
    let _ = far.ip(&["link", "set", WIRE, "netns", "1"]);
    let said = fs::read_to_string(&log)?;
    ensure!(status.success(), "it ended with {status}: {said}");
    for word in ["pod/net1", "02:00:5e:21:00:10", "0% packet loss", "ping"] {
        ensure!(
            said.contains(word),
            "{word} is not in what was said: {said}"
        );
    }
    let vf = crate::vf::Vf::of(PF, 0)?;
    ensure!(
        vf.driver().as_deref() == Some("igbvf") && vf.pf_line()? == before.pf_line(),
        "the VF is not as it was: {}",
        vf.pf_line()?
    );
    Ok(())
}

/// Returns the lines that put the programs under test first in PATH: they may lie elsewhere than a release
/// build's.
fn path_to_tested() -> Result<String> {
    let mut lines = String::new();
    for name in ["sluiced", "examples/vnf"] {
        let folder = bin(name);
        let folder = folder.parent().context("no folder")?;
        lines += &format!("PATH={}:$PATH\n", folder.display());
    }
    Ok(lines)
}

/// Returns the shell blocks of the section.
fn blocks(page: &str) -> Result<Vec<String>> {
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("From PF to pod"));
    let section = section.context("docs/sriov.md has no such section")?;
    let parts = section.split("```sh\n").skip(1);
    Ok(parts
        .filter_map(|part| part.split("```").next())
        .map(str::to_owned)
        .collect())
}
