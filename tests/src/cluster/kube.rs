// SPDX-License-Identifier: Apache-2.0
//! Real kube-apiserver over etcd.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Api, Kubelet, Node};
use crate::{Netns, Process, run, wait_for};
use anyhow::Result;
use serde_json::Value;

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

pub(super) fn logged<'a>(command: &'a mut Command, path: &Path) -> Result<&'a mut Command> {
    let log = fs::File::options().create(true).append(true).open(path)?;
    Ok(command
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log)))
}
