// SPDX-License-Identifier: Apache-2.0
//! Real kube-apiserver over etcd, and a kubelet over the node's containerd.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Api, IMAGE, Node};
use crate::{Netns, Process, run, wait_for};
use anyhow::Result;
use serde_json::{Value, json};

/// Bearer token of the administrator.
pub const ADMIN: &str = "admin-token";
/// Port of the API server on the loopback address.
pub const PORT: u16 = 16443;

/// API server over etcd in a network namespace, and perhaps a kubelet.
#[derive(Debug)]
pub struct Cluster {
    api: Api,
    patience: Duration,
    dir: PathBuf,
    programs: PathBuf,
    etcd: Process,
    server: Option<Process>,
    kubelet: Option<Kubelet>,
}

impl Cluster {
    /// Starts etcd and the API server on `node`. `programs` is the folder with kube-apiserver and kubelet.
    ///
    /// # Errors
    /// One of them does not start, or the server is not ready in time.
    pub fn start(node: &Node, programs: &Path) -> Result<Cluster> {
        Cluster::serve_from(
            &node.dir().join("kube"),
            &node.netns,
            node.patience,
            programs,
        )
    }

    /// Starts etcd and the API server as [`Cluster::start`] does, with their state in `dir`.
    ///
    /// # Errors
    /// One of them does not start, or the server is not ready in time.
    pub fn serve_from(
        dir: &Path,
        netns: &Netns,
        patience: Duration,
        programs: &Path,
    ) -> Result<Cluster> {
        fs::create_dir_all(dir)?;
        let mut command = netns.daemon("etcd");
        command
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .args(["--listen-client-urls", "http://127.0.0.1:2379"])
            .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
            .args(["--unsafe-no-fsync"]);
        let etcd = Process::start(logged(&mut command, &dir.join("etcd.log"))?)?;
        let key = dir.join("sa.key");
        run(Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048"))?;
        let tokens = format!("{ADMIN},admin,1,system:masters\n");
        fs::write(dir.join("tokens.csv"), tokens)?;
        let mut cluster = Cluster {
            api: Api::new(dir, patience),
            patience,
            dir: dir.to_owned(),
            programs: programs.to_owned(),
            etcd,
            server: None,
            kubelet: None,
        };
        cluster.serve(netns)?;
        let admin = cluster.kubeconfig("admin", ADMIN)?;
        anyhow::ensure!(admin.exists(), "no kubeconfig");
        Ok(cluster)
    }

    /// Starts a kubelet on `node`.
    ///
    /// # Errors
    /// As [`Kubelet::start`].
    pub fn kubelet(&mut self, node: &Node) -> Result<()> {
        self.kubelet = Some(Kubelet::start(node, &self.api, &self.programs)?);
        Ok(())
    }

    /// Starts the API server (again).
    ///
    /// # Errors
    /// It does not start, or is not ready in time.
    pub fn serve(&mut self, netns: &Netns) -> Result<()> {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let mut command = netns.daemon(self.programs.join("kube-apiserver"));
        command
            .args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=127.0.0.1",
            ])
            .args([
                "--advertise-address=127.0.0.1",
                &format!("--secure-port={PORT}"),
            ])
            .arg(format!("--cert-dir={}", at("certs")))
            .arg(format!("--token-auth-file={}", at("tokens.csv")))
            .args([
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!(
                "--service-account-signing-key-file={}",
                at("sa.key")
            ))
            .arg(format!("--service-account-key-file={}", at("sa.key")))
            .args([
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
            ]);
        let log = self.dir.join("apiserver.log");
        self.server = Some(Process::start(logged(&mut command, &log)?)?);
        let ready = || {
            let answer = self.api.ask(netns, "GET", "/readyz", &Value::Null).ok()?;
            (answer.0 == 200).then_some(())
        };
        wait_for("kube-apiserver to be ready", self.patience, ready)
    }

    /// Kills the API server.
    pub fn kill(&mut self) {
        self.server = None;
    }
}

impl Deref for Cluster {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kubelet = None;
        self.server = None;
        self.etcd.kill();
    }
}

/// Running kubelet. What it sets for the whole machine is put back on drop.
#[derive(Debug)]
pub struct Kubelet {
    process: Process,
    sysctls: Vec<(&'static str, String)>,
}

/// Sysctls that the kubelet sets for the whole machine.
const SYSCTLS: [&str; 5] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
];

impl Kubelet {
    /// Starts a kubelet, named `node`, from the folder `programs`.
    ///
    /// # Errors
    /// It does not start, or the node is not ready in time.
    pub fn start(node: &Node, api: &Api, programs: &Path) -> Result<Kubelet> {
        let mut sysctls = Vec::new();
        for key in SYSCTLS {
            if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(key)) {
                sysctls.push((key, value));
            }
        }
        let config = json!({"kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false, "enforceNodeAllocatable": [], "failSwapOn": false,
            "makeIPTablesUtilChains": false, "authentication": {"anonymous": {"enabled": true},
            "webhook": {"enabled": false}}, "authorization": {"mode": "AlwaysAllow"},
            "readOnlyPort": 0, "address": "127.0.0.1", "syncFrequency": "2s",
            "evictionHard": {"memory.available": "1Mi"}});
        let file = node.dir().join("kubelet.json");
        fs::write(&file, config.to_string())?;
        let root = node.dir().join("kubelet");
        let mut command = node.netns.daemon(programs.join("kubelet"));
        command
            .arg("--config")
            .arg(&file)
            .arg("--kubeconfig")
            .arg(api.kubeconfig("admin", ADMIN)?)
            .arg("--root-dir")
            .arg(&root)
            .arg("--cert-dir")
            .arg(root.join("pki"))
            .args([
                "--container-runtime",
                "remote",
                "--container-runtime-endpoint",
            ])
            .arg(format!("unix://{}", node.socket().display()))
            .args([
                "--hostname-override",
                "node",
                "--pod-infra-container-image",
                IMAGE,
            ])
            .args(["--runtime-cgroups", "/", "--kubelet-cgroups", "/"]);
        let log = node.dir().join("kubelet.log");
        let process = Process::start(logged(&mut command, &log)?)?;
        let kubelet = Kubelet { process, sysctls };
        let ready = || {
            let node = api
                .must(&node.netns, "GET", "/api/v1/nodes/node", &Value::Null)
                .ok()?;
            let conditions = node["status"]["conditions"].as_array()?.clone();
            let mut ready = conditions.iter().filter(|one| one["type"] == "Ready");
            ready.any(|one| one["status"] == "True").then_some(())
        };
        wait_for("the kubelet to be ready", node.patience, ready)?;
        Ok(kubelet)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.process.kill();
        for (key, value) in &self.sysctls {
            let _ = fs::write(Path::new("/proc/sys").join(key), value);
        }
    }
}

fn logged<'a>(command: &'a mut Command, path: &Path) -> Result<&'a mut Command> {
    let log = fs::File::options().create(true).append(true).open(path)?;
    Ok(command
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log)))
}
