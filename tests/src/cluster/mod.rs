// SPDX-License-Identifier: Apache-2.0
//! Node of a cluster: containerd with the plugins under test and, if asked for, a kube-apiserver over etcd and a
//! kubelet. All real, all with state of their own.

mod api;
mod card;
mod control;
mod cri;
mod device_files;
mod engine;
mod files_image;
mod image;
mod kube;
mod kubelet;
mod machine;

pub use api::Api;
pub use card::{CardVf, lay_out_card};
pub use control::{ADMIN_CONFIG, WholeCluster};
pub use cri::{Cri, HostPath, NodeContainer, Pod};
pub use device_files::DeviceFile;
pub use kube::{ADMIN, Cluster, PORT};
pub use kubelet::Kubelet;
pub use machine::{Daemon, Machine, NODE_ADDRESS};

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Netns, Process, bin, cni, root_or_skip, skip, wait_for};

/// Name of the only image there is: busybox, for sandboxes and containers.
pub const IMAGE: &str = "sluicegate.test/busybox:1";

/// Returns the folder with kube-apiserver and kubelet; without one, reports the skip of `case`.
pub fn programs_or_skip(case: &str) -> Option<PathBuf> {
    if !root_or_skip(case) {
        return None;
    }
    let folder = std::env::var_os("SLUICE_CLUSTER").map(PathBuf::from);
    if folder.is_none() {
        skip(
            case,
            "needs containerd, kube-apiserver and kubelet (make test-cluster)",
        );
    }
    folder
}

/// Reads the objects in a file of deploy/ or deploy/base/.
///
/// # Errors
/// The file cannot be read, or is no YAML.
pub fn deployed(file: &str) -> Result<Vec<Value>> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut path = deploy.join(file);
    if !path.exists() {
        path = deploy.join("base").join(file);
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())
}

/// Surroundings of a node.
#[derive(Debug)]
pub struct Setup {
    /// Network namespace that the node is in.
    pub netns: Netns,
    /// Folder in which the node's own is made: on a file system that overlayfs can write to.
    pub parent: PathBuf,
    /// Limit for each thing that is waited for.
    pub patience: Duration,
    /// Plugins beside our two and the distribution's: name and program.
    pub plugins: Vec<(String, PathBuf)>,
    /// Folder of the programs of a containerd that knows CDI, in place of the distribution's. The specifications are in
    /// `cdi` of the node's folder.
    pub runtime: Option<PathBuf>,
}

impl Setup {
    /// Creates a node's surroundings with a network namespace of its own.
    ///
    /// # Errors
    /// The namespace cannot be made.
    pub fn new() -> Result<Setup> {
        Ok(Setup {
            netns: Netns::new("node")?,
            parent: std::env::temp_dir(),
            patience: Duration::from_secs(60),
            plugins: Vec::new(),
            runtime: None,
        })
    }
}

/// Node of a cluster, with a running containerd.
#[derive(Debug)]
pub struct Node {
    /// Network namespace that the node is in.
    pub netns: Netns,
    /// Client of its containerd.
    pub cri: Cri,
    /// Limit for each thing that is waited for.
    pub patience: Duration,
    /// Runtime and folder, if this value started the one and made the other.
    owned: Option<(Process, TempDir)>,
    dir: PathBuf,
}

impl Node {
    /// Starts a node whose pods get their networks by `conflist`, which is made for the node's folder.
    ///
    /// # Errors
    /// Something that the node needs cannot be made, or containerd does not answer.
    ///
    /// # Panics
    /// Our plugins were not built.
    pub fn start(setup: Setup, conflist: impl FnOnce(&Path) -> Value) -> Result<Node> {
        // In a path that holds nothing of the test's name: sockets' paths are short.
        let dir = TempDir::with_prefix_in("sg-node-", &setup.parent)?;
        let at = |name: &str| dir.path().join(name);
        for name in ["bin", "net.d", "logs", "nets", "cni", "ipam"] {
            fs::create_dir(at(name))?;
        }
        let link = |name: &str, program: &Path| {
            symlink(program, at("bin").join(name)).with_context(|| format!("plugin {name}"))
        };
        for name in ["sluicegate", "sluicegate-vf"] {
            link(name, &bin(name))?;
        }
        for (name, program) in &setup.plugins {
            link(name, program)?;
        }
        for entry in fs::read_dir(cni::REFERENCE_PLUGINS).context("the reference plugins")? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            link(&name, &path)?;
        }
        let conf = serde_json::to_string_pretty(&conflist(dir.path()))?;
        fs::write(at("net.d/10-sluicegate.conflist"), conf)?;
        let config = format!(
            r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
  address = "{dir}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
{cdi}  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{dir}/bin"
    conf_dir = "{dir}/net.d"
"#,
            dir = dir.path().display(),
            cdi = match &setup.runtime {
                Some(_) => format!(
                    "  enable_cdi = true\n  cdi_spec_dirs = [\"{}/cdi\"]\n",
                    dir.path().display()
                ),
                None => String::new(),
            }
        );
        fs::write(at("containerd.toml"), config)?;
        let log = fs::File::create(at("containerd.log"))?;
        let mut command = match &setup.runtime {
            Some(folder) => {
                let mut command = setup.netns.daemon(folder.join("containerd"));
                // Its shim is looked for there first.
                let path = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{path}", folder.display()));
                command
            }
            None => setup.netns.daemon("containerd"),
        };
        command
            .arg("--config")
            .arg(at("containerd.toml"))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        let containerd = Process::start(&mut command)?;
        let socket = at("containerd.sock");
        let connect = || Cri::connect(&socket, &at("logs"), setup.patience).ok();
        let cri = wait_for("containerd", setup.patience, connect)?;
        image::import(&dir.path().join("image"), &socket)?;
        Ok(Node {
            netns: setup.netns,
            cri,
            patience: setup.patience,
            dir: dir.path().to_owned(),
            owned: Some((containerd, dir)),
        })
    }

    /// Connects to a node that another process started with its folder at `dir`.
    ///
    /// # Errors
    /// Its containerd does not answer.
    pub fn attach(netns: Netns, dir: &Path, patience: Duration) -> Result<Node> {
        Ok(Node {
            netns,
            cri: Cri::connect(&dir.join("containerd.sock"), &dir.join("logs"), patience)?,
            patience,
            dir: dir.to_owned(),
            owned: None,
        })
    }

    /// Returns the node's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of containerd's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("containerd.sock")
    }

    /// Reads a log in the node's folder.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(name)).unwrap_or_default()
    }

    /// Writes a configuration to the folder in which the meta plugin finds it by name.
    ///
    /// # Errors
    /// It cannot be written, or has no name.
    pub fn network(&self, conf: &Value) -> Result<()> {
        let name = conf["name"].as_str().context("the conf has no name")?;
        let path = self.dir().join(format!("nets/{name}.conf"));
        fs::write(&path, conf.to_string()).with_context(|| path.display().to_string())
    }

    /// Lists the reservations of host-local and the records of the plugins, which must go with the pods.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["ipam", "cni"] {
            collect(&self.dir().join(folder), &mut found);
        }
        found.retain(|name| !name.starts_with("last_reserved") && name != "lock");
        found
    }

    /// Counts the links in the node's namespace that can be the other end of a pod's interface.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn veths(&self) -> Result<usize> {
        let links = self.netns.ip(&["-o", "link", "show", "type", "veth"])?;
        Ok(links.lines().count())
    }

    /// Names the network namespace of a sandbox.
    ///
    /// # Errors
    /// The sandbox does not run.
    pub fn pod_netns(&self, sandbox: &str) -> Result<Netns> {
        let path = self
            .dir()
            .join("state/io.containerd.runtime.v2.task/k8s.io");
        let path = path.join(sandbox).join("init.pid");
        let pid =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Netns::of("pod", pid.trim().parse()?)
    }

    /// Replaces the configuration that pods get their networks by, and waits until containerd has one of its name.
    ///
    /// # Errors
    /// It cannot be written, or containerd does not take it.
    pub fn configure(&self, file: &str, conf: &Value) -> Result<()> {
        let folder = self.dir().join("net.d");
        let text = serde_json::to_string_pretty(conf)?;
        // Written in place: containerd reads its folder again at a write, not when a file is moved there.
        fs::write(folder.join(file), &text)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name() != file {
                fs::remove_file(entry.path())?;
            }
        }
        let name = format!("\"Name\":{}", conf["name"]);
        let loaded = || (self.cri.network_conf().ok()?.contains(&name)).then_some(());
        wait_for(
            "containerd to load the configuration",
            self.patience,
            loaded,
        )
    }

    /// Prints the lines of the logs that tell of failures.
    pub fn show_logs(&self) {
        for name in ["containerd.log", "cni.log", "kubelet.log"] {
            let text = self.log(name);
            let telling = |line: &&str| {
                let levels = [
                    "level=error",
                    "level=fatal",
                    "[error]",
                    "[info]",
                    "[warning]",
                ];
                line.starts_with(['E', 'F']) || levels.iter().any(|level| line.contains(level))
            };
            let lines: Vec<&str> = text.lines().filter(telling).collect();
            let last = &lines[lines.len().saturating_sub(30)..];
            eprintln!("--- {name}\n{}", last.join("\n"));
        }
    }
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        } else {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some((mut containerd, _dir)) = self.owned.take() else {
            return;
        };
        for (sandbox, _) in self.cri.sandboxes().unwrap_or_default() {
            let _ = self
                .cri
                .stop(&sandbox)
                .and_then(|()| self.cri.remove(&sandbox));
        }
        if std::thread::panicking() {
            self.show_logs();
        }
        containerd.kill();
        // Shims outlive containerd by design; ours have the socket in their arguments.
        let socket = self.socket().display().to_string();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&arguments).contains(&socket)
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}
