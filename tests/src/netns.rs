// SPDX-License-Identifier: Apache-2.0
//! Network namespace that is deleted when its value is dropped.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run;

/// Named network namespace (`ip netns add`) with its loopback up. Its name holds this process's id. Deleted on
/// drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// Whether it is the namespace that this process is in, of which the name alone was made.
    here: bool,
}

/// Makes a name that no other namespace has.
fn unique(role: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("sg-{role}-{}-{serial}", std::process::id())
}

impl Netns {
    /// Creates a namespace. `role` is a short word for people: `wire`, `pod`.
    ///
    /// # Errors
    /// `ip netns add` failed: not root, or no iproute2.
    pub fn new(role: &str) -> Result<Netns> {
        let name = unique(role);
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let netns = Netns { name, here: false };
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Names the namespace that this process is in, where netdevs of the machine are needed. Only the name goes
    /// on drop.
    ///
    /// # Errors
    /// `ip netns attach` failed: not root, or no iproute2.
    pub fn here(role: &str) -> Result<Netns> {
        let mut netns = Netns::of(role, std::process::id())?;
        netns.here = true;
        Ok(netns)
    }

    /// Names the namespace that process `pid` is in. Only the name goes on drop.
    ///
    /// # Errors
    /// As [`Netns::here`]; there is no such process.
    pub fn of(role: &str, pid: u32) -> Result<Netns> {
        let name = unique(role);
        run(Command::new("ip").args(["netns", "attach", &name, &pid.to_string()]))?;
        Ok(Netns { name, here: false })
    }

    /// Returns the name, for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the namespace's file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/var/run/netns").join(&self.name)
    }

    /// Runs `ip` in this namespace and returns its output.
    ///
    /// # Errors
    /// The command failed; the error holds what it said.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Makes a command that runs `program` in this namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Makes a command that runs `program` in this namespace and a mount namespace of its own, with `/sys` as
    /// it is: its mounts go with it. In the namespace that this process is in, the program shares its mounts too.
    pub fn daemon(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        if self.here {
            return Command::new(program);
        }
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .args(["unshare", "--mount", "--propagation", "slave", "--"])
            .arg(program);
        command
    }

    /// Creates a veth pair: `ours` here and `theirs` in `other`, both up.
    ///
    /// # Errors
    /// The pair could not be made.
    pub fn veth(&self, ours: &str, other: &Netns, theirs: &str) -> Result<()> {
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

    /// Runs `work` on a thread of its own inside this namespace.
    ///
    /// # Errors
    /// The namespace could not be entered, or `work` failed.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file =
                    File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&file),
                    Some(LinkNameSpaceType::Network),
                )
                .with_context(|| format!("cannot enter {}", path.display()))?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A failure leaves a namespace that bears our pid; the run's leftover check reports it.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}
