// SPDX-License-Identifier: Apache-2.0
//! Machine of a cluster: mount, pid and network namespaces in which the folders of a node are its own, so that
//! manifests with a node's usual paths can be applied as they stand, and everything ends with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Netns, Process, cni, run, wait_for};

/// Folders that a machine has for itself: where they are in its own folder, and where its processes see them.
const FOLDERS: [(&str, &str); 5] = [
    ("etc", "/etc"),
    ("opt", "/opt"),
    ("run", "/run"),
    ("var-lib", "/var/lib"),
    ("var-log", "/var/log"),
];

/// Address of the node within the cluster.
pub const NODE_ADDRESS: &str = "192.0.2.10";

/// Machine with folders of its own, a network of its own, and pid 1 of its own. Its processes end with it.
#[derive(Debug)]
pub struct Machine {
    /// Network namespace of the machine: `eth0` leads to the wire's `lan0`, `eth1` to `wire0`.
    pub netns: Netns,
    /// Far end of its netdevs.
    pub wire: Netns,
    /// Limit for each thing that is waited for.
    pub patience: Duration,
    /// Pid 1 of the machine, as seen from here.
    init: u32,
    holder: Process,
    dir: TempDir,
}

impl Machine {
    /// Starts a machine with the distribution's CNI plugins and a bridge as primary network.
    ///
    /// # Errors
    /// A namespace or a mount cannot be made.
    pub fn start() -> Result<Machine> {
        let dir = TempDir::with_prefix("sg-machine-")?;
        let [netns, wire] = [Netns::new("node")?, Netns::new("wire")?];
        netns.veth("eth0", &wire, "lan0")?;
        netns.veth("eth1", &wire, "wire0")?;
        let with_prefix = format!("{NODE_ADDRESS}/24");
        netns.ip(&["address", "add", &with_prefix, "dev", "eth0"])?;
        wire.ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"])?;
        netns.ip(&["route", "add", "default", "via", "192.0.2.1"])?;
        let mut script = String::from("set -e\n");
        run(Command::new("cp")
            .arg("-a")
            .arg("/etc")
            .arg(dir.path().join("etc")))?;
        for (name, place) in FOLDERS {
            let folder = dir.path().join(name);
            fs::create_dir_all(&folder)?;
            script += &format!("mount --bind {} {place}\n", folder.display());
        }
        // As systemd leaves a machine: what is mounted anywhere reaches every peer.
        script += "mount --make-rshared /\necho up > /run/up\n";
        // Pid 1 reaps what its children leave.
        script += "while :; do sleep 3600 & wait; done\n";
        let at = |path: &str| dir.path().join(path);
        for folder in ["opt/cni/bin", "run/netns", "var-lib/kubelet", "var-lib/cni"] {
            fs::create_dir_all(at(folder))?;
        }
        let _ = fs::remove_dir_all(at("etc/cni"));
        fs::create_dir_all(at("etc/cni/net.d"))?;
        for entry in fs::read_dir(cni::REFERENCE_PLUGINS).context("the reference plugins")? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            fs::copy(&path, at("opt/cni/bin").join(name))?;
        }
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", netns.path().display()))
            .args(["unshare", "--mount", "--propagation", "slave", "--pid"])
            .args(["--fork", "--mount-proc", "--kill-child", "sh", "-c"])
            .arg(&script)
            .stdin(Stdio::null());
        let holder = Process::start(&mut command)?;
        let up = at("run/up");
        let patience = Duration::from_secs(90);
        wait_for("the machine's mounts", patience, || {
            up.exists().then_some(())
        })?;
        let init = child_of(holder.pid()).context("the machine has no pid 1")?;
        Ok(Machine {
            netns,
            wire,
            patience,
            init,
            holder,
            dir,
        })
    }

    /// Returns the path from here of a path on the machine, below one of its own folders.
    pub fn path(&self, path: &str) -> PathBuf {
        for (name, place) in FOLDERS {
            if let Some(rest) = path.strip_prefix(place) {
                return self
                    .dir
                    .path()
                    .join(name)
                    .join(rest.trim_start_matches('/'));
            }
        }
        PathBuf::from(path)
    }

    /// Makes a command that runs `program` on the machine. It ends with the machine, not with the test.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--net", "--pid", "--wdns=/", "--"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command on the machine to its end and returns its output.
    ///
    /// # Errors
    /// It fails; the error has its output.
    pub fn run(&self, command: &[&str]) -> Result<String> {
        let (program, rest) = command.split_first().context("no program")?;
        run(self.command(program).args(rest))
    }

    /// Starts a daemon on the machine, which logs to `/var/log/NAME.log` there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn daemon(&self, name: &str, command: &mut Command) -> Result<Daemon> {
        let path = self.path(&format!("/var/log/{name}.log"));
        let log = fs::File::options().create(true).append(true).open(path)?;
        command.stdout(log.try_clone()?).stderr(log);
        let entered = Process::start(command)?;
        Ok(Daemon { entered })
    }

    /// Reads a log of [`Machine::daemon`].
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("/var/log/{name}.log"))).unwrap_or_default()
    }

    /// Lists files, links, namespaces and cgroups that a node may be left with.
    ///
    /// # Errors
    /// A program that lists them failed.
    pub fn inventory(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for folder in [
            "/opt",
            "/etc/cni",
            "/etc/sluicegate",
            "/run/sluicegate",
            "/run/netns",
            "/run/cdi",
            "/var/lib/sluicegate",
            "/var/lib/cni",
            "/var/lib/kubelet/device-plugins",
        ] {
            walk(&self.path(folder), &mut |path| {
                let name = path.strip_prefix(self.dir.path()).unwrap_or(path);
                found.push(name.display().to_string());
            });
        }
        let links = self.netns.ip(&["-o", "link", "show"])?;
        found.extend(links.lines().filter_map(|line| {
            Some(format!(
                "link {}",
                line.split(':').nth(1)?.split('@').next()?.trim()
            ))
        }));
        let tables = self.run(&["nft", "list", "tables"])?;
        found.extend(tables.lines().map(|line| format!("nft {line}")));
        found.sort();
        Ok(found)
    }
}

impl Machine {
    /// Ends every process of the machine: pid 1 takes all others with it.
    pub(super) fn end(&self) {
        if let Some(init) = Pid::from_raw(self.init.cast_signed()) {
            let _ = kill_process(init, Signal::KILL);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
        self.holder.kill();
    }
}

/// Program that runs on a machine until this value is dropped.
#[derive(Debug)]
pub struct Daemon {
    /// The nsenter that waits for it.
    entered: Process,
}

impl Daemon {
    /// Returns the pid of the program, as seen from here.
    ///
    /// # Errors
    /// It has ended.
    pub fn pid(&self) -> Result<u32> {
        child_of(self.entered.pid()).context("the program has ended")
    }

    /// Ends the program by a signal and waits until it is gone.
    ///
    /// # Errors
    /// It is gone already, or does not end.
    pub fn end(&mut self, signal: Signal, patience: Duration) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("pid 0")?;
        kill_process(pid, signal)?;
        wait_for("a daemon to end", patience, || {
            (!self.entered.alive()).then_some(())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = self
            .pid()
            .ok()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.entered.kill();
    }
}

/// Returns the only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = || {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    wait_for("a child", Duration::from_secs(2), children).ok()
}

/// Calls `each` with every file and folder below `folder`.
fn walk(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        each(&path);
        if path.is_dir() && !path.is_symlink() {
            walk(&path, each);
        }
    }
}

/// Whether a pid of the machine's own namespace is `inner` for the process `pid`.
fn is_inner(pid: u32, inner: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("NSpid:"));
    line.and_then(|line| line.split_whitespace().last()?.parse().ok()) == Some(inner)
}

impl Machine {
    /// Returns the pid from here of a process that the machine knows as `inner`.
    ///
    /// # Errors
    /// There is none.
    pub fn outer_pid(&self, inner: u32) -> Result<u32> {
        let ours = fs::read_link(format!("/proc/{}/ns/pid", self.init))?;
        ensure!(inner > 0, "pid 0");
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if is_inner(pid, inner)
                && fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == ours)
            {
                return Ok(pid);
            }
        }
        anyhow::bail!("the machine has no process {inner}")
    }
}
