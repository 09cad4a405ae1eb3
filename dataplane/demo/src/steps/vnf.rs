// SPDX-License-Identifier: Apache-2.0
//! The VNF: a program in the pod that finds its memifs by their abstract names and answers on them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::pod::Pod;
use super::testbed::Testbed;
use crate::Scene;
use crate::failure::{Failure, expect_eq};
use crate::interface::{Interface, is_up};
use crate::interrupt::Poll;
use crate::plan::ECHO_PORT;
use crate::process::Daemon;
use crate::report::Findings;

/// Longest time for its links to come up, and for it to end.
const LIMIT: Duration = Duration::from_secs(20);

/// The user and group `nobody`: the VNF gets no privilege at all.
pub(super) const NOBODY: u32 = 65_534;

/// The VNF; ended on drop.
#[derive(Debug)]
pub(crate) struct Vnf {
    daemon: Daemon,
}

impl Vnf {
    /// Fails if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        self.daemon.check_alive()
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Ends it.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.daemon.end().map(drop)
    }
}

pub(crate) fn start(
    scene: &Scene,
    testbed: &Testbed<'_>,
    pod: &Pod<'_>,
    findings: &mut Findings,
) -> Result<Vnf, Failure> {
    let mut command = Command::new(for_nobody(scene, &scene.programs.vnf)?);
    for interface in [&pod.voice, &pod.data] {
        let Interface {
            socket,
            address,
            mac,
            ..
        } = interface;
        command
            .arg("--memif")
            .arg(format!("socket=@{socket},ip={address}/24,mac={mac}"));
    }
    command
        .args(["--port", &ECHO_PORT.to_string()])
        .uid(NOBODY)
        .gid(NOBODY);
    let namespace = pod.sandbox.pod();
    let daemon = Daemon::start(namespace, &mut command, &scene.home.log("vnf"), LIMIT)?;
    let mut vnf = Vnf { daemon };
    for interface in [&pod.voice, &pod.data] {
        let mut peer = None;
        scene
            .interrupt
            .wait_for(&format!("the link of {}", interface.ifname), LIMIT, || {
                vnf.check_alive()?;
                let status = testbed
                    .engine
                    .attachment(&pod.sandbox.container, interface.ifname)?;
                if is_up(&status) {
                    peer = status.peer;
                    return Ok(Poll::Found(()));
                }
                Ok(Poll::NotYet(
                    status.last_down.unwrap_or_else(|| "it is down".to_owned()),
                ))
            })?;
        findings.line(format!(
            "{}: link up over @{}, the peer calls itself {:?}",
            interface.ifname,
            interface.socket,
            peer.unwrap_or_default()
        ));
    }
    let capabilities = capabilities(vnf.daemon.pid())?;
    expect_eq("the VNF's effective capabilities", &0, &capabilities)?;
    findings.line(format!(
        "it runs as user {NOBODY}, without capabilities, with no device and nothing mounted for it"
    ));
    findings.fact("vnf_pid", vnf.daemon.pid());
    findings.proven(
        "the pod attaches without mount, privilege or driver",
        "abstract sockets in its own namespace",
    );
    Ok(vnf)
}

/// The program at a place where everybody may execute it, as in a container's image: where it is, or
/// a copy of it if that is below somebody's private folder.
pub(super) fn for_nobody(scene: &Scene, installed: &Path) -> Result<PathBuf, Failure> {
    let open = |path: &Path, bits: u32| {
        path.metadata()
            .is_ok_and(|found| found.permissions().mode() & bits == bits)
    };
    let mut folders = installed.ancestors().skip(1);
    if open(installed, 0o005) && folders.all(|folder| open(folder, 0o001)) {
        return Ok(installed.to_owned());
    }
    let image = scene.home.path("image");
    let copy = image.join(installed.file_name().unwrap_or_default());
    let mode =
        |path: &Path, bits| std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits));
    let copied = std::fs::create_dir_all(&image)
        .and_then(|()| std::fs::copy(installed, &copy))
        .and_then(|_| mode(&copy, 0o755))
        .and_then(|()| mode(&image, 0o755))
        // Enough to pass through; what else is in there stays root's.
        .and_then(|()| mode(scene.home.dir(), 0o711));
    copied.map_err(Failure::broken(format!(
        "copy {} for the pod",
        installed.display()
    )))?;
    Ok(copy)
}

/// The effective capabilities of a process, as a mask.
fn capabilities(pid: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(Failure::broken(format!("read {path}")))?;
    let mask = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.ok_or_else(|| Failure::unexpected(path, "a line CapEff", text))
}
