// SPDX-License-Identifier: Apache-2.0
//! Rig of a case: the PF, the other end of its cable, a folder for configurations and state, the plugins.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sluice_tests::cni::Plugins;
use sluice_tests::{Wire, run, wait_for};
use tempfile::TempDir;

use crate::run::Skip;
use crate::vf::{Vf, sysfs};

/// Limit for anything that a busy, emulated machine does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// PF under test and its surroundings.
pub(crate) struct Rig {
    /// Netdev of the PF.
    pub(crate) pf: String,
    /// Netdev at the other end of the PF's cable.
    pub(crate) wire: Option<String>,
    /// Whether this is the virtual machine, in which all PFs are ours.
    pub(crate) vm: bool,
    dir: TempDir,
    plugins: RefCell<Option<Plugins>>,
    notes: RefCell<Vec<String>>,
}

impl Rig {
    pub(crate) fn new(pf: &str, wire: Option<&str>, vm: bool) -> Result<Rig> {
        ensure!(
            sysfs(pf).join("sriov_numvfs").is_file(),
            "{pf} is no SR-IOV PF of this machine: set SLUICEGATE_PF to the netdev of one"
        );
        Ok(Rig {
            pf: pf.to_owned(),
            wire: wire.map(str::to_owned),
            vm,
            dir: TempDir::with_prefix("sluice-sriov-")?,
            plugins: RefCell::default(),
            notes: RefCell::default(),
        })
    }

    /// Fails if the PF has VFs, which may be in use.
    pub(crate) fn check_idle(&self) -> Result<()> {
        let count = fs::read_to_string(sysfs(&self.pf).join("sriov_numvfs"))?;
        ensure!(
            count.trim() == "0",
            "{} has {} VFs, which the cases would take away: free it first (echo 0 > {})",
            self.pf,
            count.trim(),
            sysfs(&self.pf).join("sriov_numvfs").display()
        );
        Ok(())
    }

    /// Lists the PFs that the cases may use: in the virtual machine all four.
    pub(crate) fn pfs(&self) -> Vec<&str> {
        if self.vm {
            vec!["enp12s0f0", "enp12s0f1", "enp2s0", "enp4s0f3"]
        } else {
            vec![&self.pf]
        }
    }

    /// Prepares the state in which a case begins: PF up, no VFs, wire up.
    pub(crate) fn prepare(&self) -> Result<()> {
        for pf in self.pfs() {
            set_vfs(pf, 0)?;
            run(Command::new("ip").args(["link", "set", pf, "up"]))?;
        }
        if let Some(wire) = &self.wire {
            run(Command::new("ip").args(["link", "set", wire, "up", "promisc", "on"]))?;
        }
        Ok(())
    }

    /// Removes the VFs again.
    pub(crate) fn clean(&self) -> Result<()> {
        for pf in self.pfs() {
            set_vfs(pf, 0)?;
        }
        Ok(())
    }

    /// Creates `count` VFs of the PF, bound to the kernel's default driver.
    pub(crate) fn vfs(&self, count: usize) -> Result<Vec<Vf>> {
        self.vfs_of(&self.pf, count)
    }

    /// Creates VFs as [`Rig::vfs`] does, of another PF.
    pub(crate) fn vfs_of(&self, pf: &str, count: usize) -> Result<Vec<Vf>> {
        set_vfs(pf, 0)?;
        set_vfs(pf, count)?;
        settled(pf)?;
        let vfs = (0..count)
            .map(|index| Vf::of(pf, index))
            .collect::<Result<Vec<_>>>()?;
        for vf in &vfs {
            wait_for(
                "the kernel to give the VF a driver and a netdev",
                PATIENCE,
                || vf.netdev(),
            )?;
        }
        Ok(vfs)
    }

    /// Returns the maximum number of VFs: seven on the emulated NIC.
    pub(crate) fn most_vfs(&self) -> Result<usize> {
        let text = fs::read_to_string(sysfs(&self.pf).join("sriov_totalvfs"))?;
        Ok(text.trim().parse::<usize>()?.min(7))
    }

    /// Returns the netdev at the other end of the cable, or the skip of this case.
    pub(crate) fn wire_name(&self) -> Result<&str> {
        self.wire.as_deref().ok_or_else(|| {
            Skip(
                "needs the netdev at the other end of the PF's cable: set SLUICEGATE_WIRE"
                    .to_owned(),
            )
            .into()
        })
    }

    /// Opens a raw socket on the other end of the cable.
    pub(crate) fn wire(&self) -> Result<Wire> {
        Wire::here(self.wire_name()?)
    }

    /// Skips the case unless this is the virtual machine.
    pub(crate) fn only_in_vm(&self, why: &str) -> Result<()> {
        if self.vm {
            return Ok(());
        }
        bail!(Skip(why.to_owned()))
    }

    /// Returns a path in the case's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the plugins, which are installed at the first call.
    pub(crate) fn plugins(&self) -> Result<Plugins> {
        let mut plugins = self.plugins.borrow_mut();
        if let Some(plugins) = &*plugins {
            return Ok(plugins.clone());
        }
        let installed = Plugins::install(&self.path("plugins"))?;
        *plugins = Some(installed.clone());
        Ok(installed)
    }

    /// Makes a configuration of the interface plugin for the PF; members of `with` are added or replace others.
    pub(crate) fn conf(&self, with: Value) -> Value {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "sriov-net", "type": "sluicegate-vf", "if0": self.pf,
            "cniDir": self.path("cni"), "stateDir": self.path("state"),
        });
        if let (Some(conf), Value::Object(with)) = (conf.as_object_mut(), with) {
            conf.extend(with);
        }
        conf
    }

    /// Makes an `ipam` member: host-local on `subnet`, with its store in the case's folder.
    pub(crate) fn host_local(&self, subnet: &str) -> Value {
        json!({"type": "host-local", "dataDir": self.path("ipam"), "ranges": [[{"subnet": subnet}]]})
    }

    /// Lists the addresses that host-local holds as reserved.
    pub(crate) fn reserved(&self) -> Vec<String> {
        let names = files_below(&self.path("ipam"));
        names
            .into_iter()
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .collect()
    }

    /// Lists the files of VFs' journal records.
    pub(crate) fn journal(&self) -> Vec<String> {
        files_below(&self.path("state/vfs"))
            .into_iter()
            .filter(|name| name.ends_with(".json"))
            .collect()
    }

    /// Fails if a VF, an address or a record is still held.
    pub(crate) fn nothing_held(&self) -> Result<()> {
        ensure!(
            self.journal().is_empty(),
            "the journal still has {:?}",
            self.journal()
        );
        ensure!(
            self.reserved().is_empty(),
            "ipam still has {:?}",
            self.reserved()
        );
        Ok(())
    }

    /// Adds a note to the case's row of the report.
    pub(crate) fn note(&self, text: String) {
        println!("   {text}");
        self.notes.borrow_mut().push(text);
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// Prints the end of each log of this case's programs, after a failure.
    pub(crate) fn show_logs(&self) {
        for entry in fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path.extension().is_some_and(|ext| ext == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                println!("   -- {}", path.display());
                for line in &lines[lines.len().saturating_sub(40)..] {
                    println!("   {line}");
                }
            }
        }
    }
}

/// Sets the number of VFs of a PF.
pub(crate) fn set_vfs(pf: &str, count: usize) -> Result<()> {
    let path = sysfs(pf).join("sriov_numvfs");
    let now = fs::read_to_string(&path)?;
    if now.trim() == count.to_string() {
        return Ok(());
    }
    fs::write(&path, count.to_string())
        .with_context(|| format!("cannot write {count} to {}", path.display()))
}

/// Waits until a PF has its link back after its VFs were made: `igb` resets the PF for that, and
/// answers no VF meanwhile.
pub(crate) fn settled(pf: &str) -> Result<()> {
    let carrier = Path::new("/sys/class/net").join(pf).join("carrier");
    let mut since = None;
    wait_for("the PF's link", PATIENCE, || {
        let up = fs::read_to_string(&carrier).is_ok_and(|text| text.trim() == "1");
        if !up {
            since = None;
            return None;
        }
        let since = *since.get_or_insert_with(Instant::now);
        (since.elapsed() > Duration::from_millis(2500)).then_some(())
    })
}

/// Lists the names of the files in a folder, at any depth.
pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}
