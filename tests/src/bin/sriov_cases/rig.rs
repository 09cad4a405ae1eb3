//! What a case stands on: the PF, the other end of its cable, a folder for confs and state, plugins.

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

/// How long what a busy, emulated machine does may take before it is taken for broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A PF to try cases on.
pub(crate) struct Rig {
    /// Its netdev.
    pub(crate) pf: String,
    /// The netdev at the other end of its cable.
    pub(crate) wire: Option<String>,
    /// Whether this is the virtual machine, with PFs that are all ours.
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

    /// Refuses a PF whose VFs may be somebody's.
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

    /// The PFs that the cases may use: in the virtual machine all four.
    pub(crate) fn pfs(&self) -> Vec<&str> {
        if self.vm {
            vec!["enp12s0f0", "enp12s0f1", "enp2s0", "enp4s0f3"]
        } else {
            vec![&self.pf]
        }
    }

    /// Makes what a case finds: PF up, no VFs, the wire up.
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

    /// Takes the VFs away again.
    pub(crate) fn clean(&self) -> Result<()> {
        for pf in self.pfs() {
            set_vfs(pf, 0)?;
        }
        Ok(())
    }

    /// Makes `count` VFs of the PF and gives them, on the driver that the kernel put them on.
    pub(crate) fn vfs(&self, count: usize) -> Result<Vec<Vf>> {
        self.vfs_of(&self.pf, count)
    }

    /// As [`Rig::vfs`], of another PF.
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

    /// How many VFs a case may make: seven on the emulated NIC.
    pub(crate) fn most_vfs(&self) -> Result<usize> {
        let text = fs::read_to_string(sysfs(&self.pf).join("sriov_totalvfs"))?;
        Ok(text.trim().parse::<usize>()?.min(7))
    }

    /// The other end of the cable, or the skip of this case.
    pub(crate) fn wire_name(&self) -> Result<&str> {
        self.wire.as_deref().ok_or_else(|| {
            Skip(
                "needs the netdev at the other end of the PF's cable: set SLUICEGATE_WIRE"
                    .to_owned(),
            )
            .into()
        })
    }

    /// A raw socket on the other end of the cable.
    pub(crate) fn wire(&self) -> Result<Wire> {
        Wire::here(self.wire_name()?)
    }

    /// A skip unless this is the virtual machine.
    pub(crate) fn only_in_vm(&self, why: &str) -> Result<()> {
        if self.vm {
            return Ok(());
        }
        bail!(Skip(why.to_owned()))
    }

    /// A path in the case's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The plugins.
    pub(crate) fn plugins(&self) -> Result<Plugins> {
        let mut plugins = self.plugins.borrow_mut();
        if let Some(plugins) = &*plugins {
            return Ok(plugins.clone());
        }
        let installed = Plugins::install(&self.path("plugins"))?;
        *plugins = Some(installed.clone());
        Ok(installed)
    }

    /// A conf of the interface plugin on the PF, with `with` added to it or put in its place.
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

    /// An ipam member: host-local on `subnet`, with its store in the case's folder.
    pub(crate) fn host_local(&self, subnet: &str) -> Value {
        json!({"type": "host-local", "dataDir": self.path("ipam"), "ranges": [[{"subnet": subnet}]]})
    }

    /// Addresses that host-local has given and not taken back.
    pub(crate) fn reserved(&self) -> Vec<String> {
        let names = files_below(&self.path("ipam"));
        names
            .into_iter()
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .collect()
    }

    /// Journal records of VFs: their files.
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

    /// Notes a finding for the table.
    pub(crate) fn note(&self, text: String) {
        println!("   {text}");
        self.notes.borrow_mut().push(text);
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// Prints the ends of the logs that programs of this case wrote, after a failure.
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

/// Sets how many VFs a PF has.
fn set_vfs(pf: &str, count: usize) -> Result<()> {
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
fn settled(pf: &str) -> Result<()> {
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

/// Names of files at any depth.
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
