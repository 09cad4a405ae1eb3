// SPDX-License-Identifier: Apache-2.0
//! The demo's network namespaces: the wire's, the node's, the pods'.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::failure::Failure;
use super::traces;
use sluice_host::Netns;

/// Folder in which iproute2 keeps named namespaces.
pub(super) const FOLDER: &str = "/run/netns";

/// Named network namespace. Deleted on drop, with the processes that are still in it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    ip: PathBuf,
    netns: Netns,
    deleted: AtomicBool,
}

impl Namespace {
    /// Creates a namespace, its loopback up.
    pub(super) fn add(ip: &Path, name: &str) -> Result<Namespace, Failure> {
        run_ip(ip, &["netns", "add", name])?;
        let path = Path::new(FOLDER).join(name);
        let netns = Netns::open_path(&path).map_err(|error| {
            let _ = run_ip(ip, &["netns", "del", name]);
            Failure::broken(format!("open the namespace {name}"))(error)
        })?;
        let namespace = Namespace {
            name: name.to_owned(),
            ip: ip.to_owned(),
            netns,
            deleted: AtomicBool::new(false),
        };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Name, for `ip netns`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Path of its file, as a runtime gives it in `CNI_NETNS`.
    pub(super) fn path(&self) -> &Path {
        self.netns.path()
    }

    /// Runs `ip` in the namespace and returns its output.
    pub(super) fn ip(&self, args: &[&str]) -> Result<String, Failure> {
        let args: Vec<&str> = ["-n", &self.name].iter().chain(args).copied().collect();
        run_ip(&self.ip, &args)
    }

    /// Makes a veth pair: `ours` here and `theirs` in `other`, both up.
    pub(super) fn veth(&self, ours: &str, other: &Namespace, theirs: &str) -> Result<(), Failure> {
        self.ip(&[
            "link",
            "add",
            "name",
            ours,
            "type",
            "veth",
            "peer",
            "name",
            theirs,
            "netns",
            &other.name,
        ])?;
        self.ip(&["link", "set", ours, "up"])?;
        other.ip(&["link", "set", theirs, "up"])?;
        Ok(())
    }

    /// Runs `work` on a thread of its own in it. Threads and processes started there stay there.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        self.netns
            .run(work)
            .map_err(Failure::broken("work in a namespace"))
    }

    /// Starts a program in it.
    pub(super) fn start(&self, command: &mut Command) -> Result<Child, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.enter(|| command.spawn())?
            .map_err(Failure::broken(format!("start {program}")))
    }

    /// Names of links in it, the loopback excepted.
    pub(super) fn links(&self) -> Result<Vec<String>, Failure> {
        let text = self.read("/proc/thread-self/net/dev")?;
        let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
        let names = names.map(|(name, _)| name.trim().to_owned());
        Ok(names.filter(|name| name != "lo").collect())
    }

    /// Names of its unix sockets: `@name` for abstract ones, which belong to the namespace.
    pub(super) fn unix_sockets(&self) -> Result<Vec<String>, Failure> {
        Ok(super::unix_sockets::names(
            &self.read("/proc/thread-self/net/unix")?,
        ))
    }

    /// Keeps IPv6 from sending of its own accord on links that are made from now on.
    pub(super) fn silence_ipv6(&self) -> Result<(), Failure> {
        let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
        let written = self.enter(|| match std::fs::write(path, "1") {
            // A kernel without IPv6 is silent already.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })?;
        written.map_err(Failure::broken(format!("disable IPv6 in {}", self.name)))
    }

    /// Lists its nftables tables, one a line.
    pub(super) fn nft_tables(&self, nft: &Path) -> Result<String, Failure> {
        let listed = self.enter(|| Command::new(nft).args(["list", "tables"]).output())?;
        let output = listed.map_err(Failure::broken("run nft"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn read(&self, path: &str) -> Result<String, Failure> {
        let read = self.enter(|| std::fs::read_to_string(path))?;
        read.map_err(Failure::broken(format!("read {path} in {}", self.name)))
    }

    /// Lists the processes in the namespace: pid and program.
    pub(super) fn processes(&self) -> Vec<(i32, String)> {
        let (dev, ino) = self.netns.id();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let inside = std::fs::metadata(entry.path().join("ns/net"))
                .is_ok_and(|there| (there.dev(), there.ino()) == (dev, ino));
            if inside {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push((pid, name.trim().to_owned()));
            }
        }
        found
    }

    /// Deletes the namespace. Processes of this demo that are still in it are killed and reported as a
    /// failure. Those of others (a node's agent looks into every namespace) are left alone and returned.
    pub(super) fn delete(&self) -> Result<Vec<String>, Failure> {
        if self.deleted.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let in_it = self.processes();
        let (own, guests): (Vec<_>, Vec<_>) = in_it.into_iter().partition(|(pid, _)| is_own(*pid));
        for (pid, _) in &own {
            if let Some(pid) = Pid::from_raw(*pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        run_ip(&self.ip, &["netns", "del", &self.name])?;
        let names = |processes: Vec<(i32, String)>| -> Vec<String> {
            let name = |(pid, name): (i32, String)| format!("{name} (pid {pid})");
            processes.into_iter().map(name).collect()
        };
        if own.is_empty() {
            return Ok(names(guests));
        }
        Err(Failure::unexpected(
            format!("processes in namespace {} at its end", self.name),
            "none",
            names(own).join(", "),
        ))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // On the way out of a failure, which is what is reported; the comparison at the end finds a
        // namespace that stays.
        let _ = self.delete();
    }
}

/// Whether a process is the demo's: it runs a program of this build, or this process started it or what
/// started it.
fn is_own(pid: i32) -> bool {
    let ours = i32::try_from(std::process::id()).unwrap_or_default();
    if traces::is_ours(&Path::new("/proc").join(pid.to_string())) {
        return true;
    }
    let mut ancestor = pid;
    while ancestor > 1 {
        if ancestor == ours {
            return true;
        }
        let status = std::fs::read_to_string(format!("/proc/{ancestor}/status"));
        let status = status.unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        ancestor = parent.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0);
    }
    false
}

fn run_ip(ip: &Path, args: &[&str]) -> Result<String, Failure> {
    let what = || format!("run ip {}", args.join(" "));
    let output = Command::new(ip)
        .args(args)
        .output()
        .map_err(Failure::broken(what()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::broken(what())(said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
