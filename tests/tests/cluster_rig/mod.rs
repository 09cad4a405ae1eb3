// SPDX-License-Identifier: Apache-2.0
//! A node in a network namespace of its own: containerd with the plugins under test, and, if asked for,
//! a kube-apiserver over etcd and a kubelet. All real, all with state of their own.
#![allow(dead_code, reason = "the cases and the bench use different parts")]

pub(crate) mod cri;
pub(crate) mod kube;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::{Netns, Process, bin, root_or_skip, run, skip, wait_for};
use tempfile::TempDir;

use cri::Cri;

/// The only image there is: busybox, for sandboxes and containers.
pub(crate) const IMAGE: &str = "sluicegate.test/busybox:1";

/// Returns the folder with kube-apiserver and kubelet; without one, reports the skip of `case`.
pub(crate) fn programs_or_skip(case: &str) -> Option<PathBuf> {
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

/// Reads the objects in a file of deploy/.
pub(crate) fn deployed(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(file);
    let text = fs::read_to_string(&path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) cri: Cri,
    containerd: Process,
    dir: TempDir,
}

impl Node {
    /// Starts a node whose pods get their networks by `conflist`.
    pub(crate) fn start(conflist: impl FnOnce(&Path) -> Value) -> Result<Node> {
        // In a path that holds nothing of the test's name: sockets' paths are short.
        let dir = TempDir::with_prefix("sg-node-")?;
        let at = |name: &str| dir.path().join(name);
        for name in ["bin", "net.d", "logs", "nets", "cni", "ipam"] {
            fs::create_dir(at(name))?;
        }
        for name in ["sluicegate", "sluicegate-vf"] {
            symlink(bin(name), at("bin").join(name))?;
        }
        for entry in fs::read_dir("/usr/lib/cni").context("the reference plugins")? {
            let path = entry?.path();
            symlink(&path, at("bin").join(path.file_name().unwrap_or_default()))?;
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
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{dir}/bin"
    conf_dir = "{dir}/net.d"
"#,
            dir = dir.path().display()
        );
        fs::write(at("containerd.toml"), config)?;
        let netns = Netns::new("node")?;
        let log = fs::File::create(at("containerd.log"))?;
        let mut command = netns.daemon("containerd");
        command
            .arg("--config")
            .arg(at("containerd.toml"))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        let containerd = Process::start(&mut command)?;
        let socket = at("containerd.sock");
        let connect = || Cri::connect(&socket, &at("logs")).ok();
        let cri = wait_for("containerd", Duration::from_secs(30), connect)?;
        image(&dir.path().join("image"), &socket)?;
        Ok(Node {
            netns,
            cri,
            containerd,
            dir,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir().join("containerd.sock")
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(name)).unwrap_or_default()
    }

    /// Writes a configuration to the folder in which the meta plugin finds it by name.
    pub(crate) fn network(&self, conf: &Value) {
        let name = conf["name"].as_str().unwrap();
        fs::write(
            self.dir().join(format!("nets/{name}.conf")),
            conf.to_string(),
        )
        .unwrap();
    }

    /// Lists the reservations of host-local and the records of the plugins, which must go with the pods.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["ipam", "cni"] {
            collect(&self.dir().join(folder), &mut found);
        }
        found.retain(|name| !name.starts_with("last_reserved") && name != "lock");
        found
    }

    /// Counts the links in the node's namespace that can be the other end of a pod's interface.
    pub(crate) fn veths(&self) -> usize {
        let links = self
            .netns
            .ip(&["-o", "link", "show", "type", "veth"])
            .unwrap();
        links.lines().count()
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
        for (sandbox, _) in self.cri.sandboxes().unwrap_or_default() {
            let _ = self
                .cri
                .stop(&sandbox)
                .and_then(|()| self.cri.remove(&sandbox));
        }
        if std::thread::panicking() {
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
        self.containerd.kill();
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

/// Makes the busybox image and imports it.
fn image(dir: &Path, socket: &Path) -> Result<()> {
    let root = dir.join("root");
    fs::create_dir_all(root.join("bin"))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    fs::copy(busybox.context("no busybox")?, root.join("bin/busybox"))?;
    for name in ["sh", "sleep", "ip", "ping", "cat"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    let tar = |from: &Path, to: &Path, names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(from).arg("-cf").arg(to).args(names);
        run(&mut command)
    };
    tar(&root, &dir.join("layer.tar"), &["bin"])?;
    let sum = run(Command::new("sha256sum").arg(dir.join("layer.tar")))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    let config = json!({"architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}});
    fs::write(dir.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(dir.join("manifest.json"), manifest.to_string())?;
    let all = dir.join("image.tar");
    tar(dir, &all, &["manifest.json", "config.json", "layer.tar"])?;
    let mut import = Command::new("ctr");
    import
        .arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images", "import"])
        .arg(&all);
    run(&mut import)?;
    fs::remove_dir_all(dir)?;
    Ok(())
}
