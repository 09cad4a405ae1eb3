// SPDX-License-Identifier: Apache-2.0
//! Whole cluster of one node on a [`Machine`]: etcd, API server with ServiceAccount admission, controller-manager,
//! scheduler, containerd and kubelet, all real, and `kubectl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::machine::{Daemon, Machine, NODE_ADDRESS};
use super::{ADMIN, IMAGE, image};
use crate::{run, wait_for};

/// Address of the API server's Service.
const SERVICE: &str = "10.96.0.1";
/// Kubeconfig of the administrator, on the machine.
pub const ADMIN_CONFIG: &str = "/etc/kubernetes/admin.conf";
/// Sysctls that the kubelet sets for the whole machine.
const SYSCTLS: [&str; 5] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
];

/// Cluster of one node. Its parts end with it.
#[derive(Debug)]
pub struct WholeCluster {
    /// The node.
    pub machine: Machine,
    programs: PathBuf,
    kubelet: Option<Daemon>,
    /// etcd, API server, controller-manager, scheduler and containerd.
    daemons: Vec<Daemon>,
    sysctls: Vec<(&'static str, String)>,
}

impl WholeCluster {
    /// Starts everything but the node's network; `programs` is the folder with Kubernetes' programs.
    ///
    /// # Errors
    /// A part does not start, or is not ready in time; the error says which, and its log's end.
    pub fn start(programs: &Path) -> Result<WholeCluster> {
        let machine = Machine::start()?;
        let sysctls = SYSCTLS.iter().filter_map(|key| {
            let value = fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?;
            Some((*key, value))
        });
        let mut cluster = WholeCluster {
            machine,
            programs: programs.to_owned(),
            kubelet: None,
            daemons: Vec::new(),
            sysctls: sysctls.collect(),
        };
        cluster.control_plane()?;
        cluster.containerd()?;
        cluster.start_kubelet()?;
        Ok(cluster)
    }

    fn daemon(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let daemon = self.machine.daemon(name, command)?;
        self.daemons.push(daemon);
        Ok(())
    }

    fn control_plane(&mut self) -> Result<()> {
        let folder = self.machine.path("/etc/kubernetes");
        fs::create_dir_all(&folder)?;
        let address = format!("{SERVICE}/32");
        self.machine
            .netns
            .ip(&["address", "add", &address, "dev", "lo"])?;
        let mut etcd = self.machine.command("etcd");
        etcd.args(["--data-dir", "/var/lib/etcd", "--unsafe-no-fsync"])
            .args(["--listen-client-urls", "http://127.0.0.1:2379"])
            .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        self.daemon("etcd", &mut etcd)?;
        let key = folder.join("sa.key");
        run(Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048"))?;
        fs::write(
            folder.join("tokens.csv"),
            format!("{ADMIN},admin,1,system:masters\n"),
        )?;
        let mut server = self.machine.command(self.programs.join("kube-apiserver"));
        server
            .args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=0.0.0.0",
            ])
            .arg(format!("--advertise-address={NODE_ADDRESS}"))
            .args(["--secure-port=443", "--allow-privileged=true"])
            .args([
                "--cert-dir=/etc/kubernetes/pki",
                "--token-auth-file=/etc/kubernetes/tokens.csv",
            ])
            .args([
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg("--service-account-signing-key-file=/etc/kubernetes/sa.key")
            .arg("--service-account-key-file=/etc/kubernetes/sa.key")
            .args([
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=InternalIP",
            ]);
        self.daemon("kube-apiserver", &mut server)?;
        let certificate = folder.join("pki/apiserver.crt");
        let patience = self.machine.patience;
        wait_for("the API server's certificate", patience, || {
            certificate.exists().then_some(())
        })?;
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://{SERVICE}"),
                "certificate-authority": "/etc/kubernetes/pki/apiserver.crt"}}],
            "users": [{"name": "u", "user": {"token": ADMIN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        fs::write(self.machine.path(ADMIN_CONFIG), config.to_string())?;
        let ready = || self.kubectl(&["get", "--raw", "/readyz"]).ok();
        let waited = wait_for("the API server to be ready", patience, ready);
        waited.with_context(|| self.tail("kube-apiserver"))?;
        let mut controllers = self
            .machine
            .command(self.programs.join("kube-controller-manager"));
        controllers
            .args([
                "--kubeconfig",
                ADMIN_CONFIG,
                "--leader-elect=false",
                "--port=0",
            ])
            .args([
                "--bind-address=127.0.0.1",
                "--flex-volume-plugin-dir=/var/lib/flex",
            ])
            .arg("--service-account-private-key-file=/etc/kubernetes/sa.key")
            .arg("--root-ca-file=/etc/kubernetes/pki/apiserver.crt");
        self.daemon("kube-controller-manager", &mut controllers)?;
        let mut scheduler = self.machine.command(self.programs.join("kube-scheduler"));
        scheduler
            .args([
                "--kubeconfig",
                ADMIN_CONFIG,
                "--leader-elect=false",
                "--port=0",
            ])
            .arg("--bind-address=127.0.0.1");
        self.daemon("kube-scheduler", &mut scheduler)
    }

    fn containerd(&mut self) -> Result<()> {
        let root = self.machine.path("/var/lib/containerd");
        fs::create_dir_all(&root)?;
        let config = format!(
            r#"version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
"#
        );
        fs::create_dir_all(self.machine.path("/etc/containerd"))?;
        fs::write(self.machine.path("/etc/containerd/config.toml"), config)?;
        let mut command = self.machine.command("containerd");
        self.daemon("containerd", &mut command)?;
        let socket = self.machine.path("/run/containerd/containerd.sock");
        let answers = || {
            let mut version = Command::new("ctr");
            run(version.arg("-a").arg(&socket).arg("version")).ok()
        };
        wait_for("containerd", self.machine.patience, answers)?;
        image::import(&self.machine.path("/run/image"), &socket)
    }

    /// Imports an image archive into the node's containerd.
    ///
    /// # Errors
    /// containerd refuses it.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let socket = self.machine.path("/run/containerd/containerd.sock");
        let mut command = Command::new("ctr");
        command
            .arg("-a")
            .arg(socket)
            .args(["-n", "k8s.io", "images", "import"]);
        run(command.arg(archive))?;
        Ok(())
    }

    /// Starts the kubelet.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_kubelet(&mut self) -> Result<()> {
        let config = json!({"kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false, "enforceNodeAllocatable": [], "failSwapOn": false,
            "makeIPTablesUtilChains": false, "authentication": {"anonymous": {"enabled": true},
            "webhook": {"enabled": false}}, "authorization": {"mode": "AlwaysAllow"},
            "readOnlyPort": 0, "address": "0.0.0.0", "syncFrequency": "2s",
            "nodeStatusUpdateFrequency": "2s", "clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local",
            "evictionHard": {"memory.available": "1Mi"}});
        fs::write(
            self.machine.path("/etc/kubernetes/kubelet.json"),
            config.to_string(),
        )?;
        let mut command = self.machine.command(self.programs.join("kubelet"));
        command
            .args([
                "--config",
                "/etc/kubernetes/kubelet.json",
                "--kubeconfig",
                ADMIN_CONFIG,
            ])
            .args([
                "--container-runtime",
                "remote",
                "--hostname-override",
                "node",
            ])
            .args([
                "--container-runtime-endpoint",
                "unix:///run/containerd/containerd.sock",
            ])
            .args([
                "--pod-infra-container-image",
                IMAGE,
                "--node-ip",
                NODE_ADDRESS,
            ])
            .args(["--runtime-cgroups", "/", "--kubelet-cgroups", "/"]);
        self.kubelet = Some(self.machine.daemon("kubelet", &mut command)?);
        Ok(())
    }

    /// Ends the kubelet, as an upgrade of it does.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn stop_kubelet(&mut self) -> Result<()> {
        let mut kubelet = self.kubelet.take().context("no kubelet")?;
        kubelet.end(Signal::TERM, self.machine.patience)
    }

    /// Returns the folder with Kubernetes' programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Makes a command of kubectl with the administrator's rights.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.machine.command(self.programs.join("kubectl"));
        command.env("KUBECONFIG", ADMIN_CONFIG).env("HOME", "/run");
        command
    }

    /// Runs kubectl and returns its output.
    ///
    /// # Errors
    /// It fails; the error has its output.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(self.kubectl_command().args(arguments))
    }

    /// Reads an object, or a list of objects, as JSON.
    ///
    /// # Errors
    /// As [`WholeCluster::kubectl`].
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// Waits until `check` finds what it looks for in an object of the cluster; the error has the object's state.
    ///
    /// # Errors
    /// It does not within the machine's patience.
    pub fn wait_until(
        &self,
        what: &str,
        arguments: &[&str],
        check: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait_for(what, self.machine.patience, || {
            last = self.get(arguments).ok()?;
            if check(&last) { Some(()) } else { None }
        });
        found.with_context(|| format!("{arguments:?}: {}", last["status"]))?;
        Ok(last)
    }

    /// Removes the control groups of the node's containers, which outlive them.
    fn remove_cgroups(&self) {
        let mut list = Command::new("ctr");
        let socket = self.machine.path("/run/containerd/containerd.sock");
        list.arg("-a")
            .arg(socket)
            .args(["-n", "k8s.io", "containers", "list", "--quiet"]);
        let containers = run(&mut list).unwrap_or_default();
        self.machine.end();
        for controller in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            for container in containers.split_whitespace() {
                let group = controller.path().join("k8s.io").join(container);
                let gone = || fs::remove_dir(&group).is_ok() || !group.exists();
                let _ = wait_for("a control group", Duration::from_secs(5), || {
                    gone().then_some(())
                });
            }
        }
    }

    /// Returns the end of a daemon's log.
    pub fn tail(&self, name: &str) -> String {
        let log = self.machine.log(name);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Prints what tells of a failure: pods, events and the ends of the logs.
    pub fn show(&self) {
        for arguments in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "-n",
                "kube-system",
                "daemonset/sluiced",
                "--tail=40",
            ],
            &[
                "logs",
                "-n",
                "kube-system",
                "daemonset/sluice-agent",
                "--tail=40",
            ],
        ] {
            match self.kubectl(arguments) {
                Ok(text) => eprintln!("--- {arguments:?}\n{text}"),
                Err(error) => eprintln!("--- {arguments:?}\n{error:#}"),
            }
        }
        eprintln!("--- kubelet\n{}", self.tail("kubelet"));
    }
}

impl Drop for WholeCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        self.kubelet = None;
        self.remove_cgroups();
        for (key, value) in &self.sysctls {
            let _ = fs::write(Path::new("/proc/sys").join(key), value);
        }
    }
}
