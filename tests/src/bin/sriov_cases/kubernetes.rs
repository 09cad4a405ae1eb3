// SPDX-License-Identifier: Apache-2.0
//! Kubernetes around the virtual machine: containerd and a kubelet in it, with the plugins under the names that the
//! older documents use, and kube-apiserver over etcd beside it on the host, since emulation is too slow for them.
//! One process on either side starts its part for every case that needs it, and ends with it.

use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_tests::cluster::{Api, Cluster, IMAGE, Kubelet, Node, PORT, Setup, deployed};
use sluice_tests::{Netns, bin, wait_for};

use crate::rig::Rig;
use crate::run::Skip;

/// Environment variable with the folder of kube-apiserver, kubelet and flannel's plugin.
const PROGRAMS: &str = "SLUICE_CLUSTER";
/// Environment variable with the folder of the API server on the host.
const SERVER: &str = "SLUICE_SRIOV_API";
/// Address by which the virtual machine reaches the loopback address of the host's namespace.
const HOST: &str = "10.0.2.2";
/// Environment variable with the file that tells of the running cluster.
const RUNNING: &str = "SLUICE_CASE_CLUSTER";
/// Limit for each step: under emulation all takes twenty times as long.
const PATIENCE: Duration = Duration::from_secs(300);
/// Limit for the start of everything.
const START: Duration = Duration::from_secs(900);
/// Kubeconfig of the plugin, where the older documents have it.
pub(crate) const KUBECONFIG: &str = "/etc/kubernetes/node-kubeconfig.yaml";
/// File of the documents' conf among those that containerd reads.
const CONF: &str = "10-multus.conf";

/// Folder of the running cluster, and how long its parts took to start.
#[derive(Debug, Serialize, Deserialize)]
struct Running {
    folder: PathBuf,
    seconds: Vec<(String, f64)>,
}

/// Runs etcd and kube-apiserver on the host, in a network namespace of their own, until standard input ends.
/// Their state is in `folder`; the namespace's name is written to the file `netns` there once all is ready.
pub(crate) fn serve(folder: &Path) -> Result<()> {
    let programs = PathBuf::from(std::env::var_os(PROGRAMS).context("no folder of programs")?);
    let netns = Netns::new("api")?;
    let cluster = Cluster::serve_from(folder, &netns, PATIENCE, &programs)?;
    for object in deployed("rbac.yaml")? {
        cluster.create(&netns, &object)?;
    }
    let modern = deployed("crds.yaml")?;
    let modern = modern.into_iter().find(|object| {
        object["metadata"]["name"] == "network-attachment-definitions.k8s.cni.cncf.io"
    });
    cluster.create(&netns, &modern.context("no CRD of today's networks")?)?;
    for group in ["kubernetes.com", "kubernetes-network.cni.cncf.io"] {
        cluster.create(&netns, &printed_crd(group))?;
    }
    let token = cluster.token(&netns, "kube-system", "sluicegate")?;
    cluster.kubeconfig("sluicegate", &token)?;
    fs::write(folder.join("netns.new"), netns.name())?;
    fs::rename(folder.join("netns.new"), folder.join("netns"))?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Runs the node's part in the virtual machine, tells of it in the file `running`, and keeps it until standard
/// input ends. `server` is the folder of [`serve`].
fn keep(running: &Path, server: &Path) -> Result<()> {
    let programs = PathBuf::from(std::env::var_os(PROGRAMS).context("no folder of programs")?);
    let mut seconds = Vec::new();
    let mut last = Instant::now();
    let mut started = |what: &str| {
        let took = last.elapsed().as_secs_f64();
        println!("   {what}: {took:.0} s");
        seconds.push((what.to_owned(), took));
        last = Instant::now();
    };
    fs::create_dir_all("/run/flannel")?;
    for (file, subnet) in [("subnet", "10.244.1.1/24"), ("blue", "10.245.1.1/24")] {
        let network = format!("{}.0.0/16", &subnet[..6]);
        let text = format!(
            "FLANNEL_NETWORK={network}\nFLANNEL_SUBNET={subnet}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
        fs::write(format!("/run/flannel/{file}.env"), text)?;
    }
    fs::create_dir_all("/etc/kubernetes")?;
    fs::copy(server.join("sluicegate.kubeconfig"), KUBECONFIG)?;
    relay()?;
    let setup = Setup {
        netns: Netns::here("node")?,
        // The root is an overlay, which no overlay can be laid over.
        parent: PathBuf::from("/run"),
        patience: PATIENCE,
        plugins: vec![
            ("multus".to_owned(), bin("sluicegate")),
            ("sriov".to_owned(), bin("sluicegate-vf")),
            ("flannel".to_owned(), programs.join("flannel")),
        ],
        runtime: None,
    };
    let node = Node::start(
        setup,
        |_| json!({"cniVersion": "1.0.0", "name": "none", "plugins": [{"type": "loopback"}]}),
    )?;
    started("containerd");
    let api = Api::new(server, PATIENCE);
    let kubelet = Kubelet::start(&node, &api, &programs);
    if kubelet.is_err() {
        println!("{}", node.log("kubelet.log"));
    }
    let _kubelet = kubelet?;
    started("kubelet");
    let text = serde_json::to_string(&Running {
        folder: node.dir().to_owned(),
        seconds,
    })?;
    let new = running.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, running)?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Relays the API server's port on this machine's loopback address to the host's: the server's certificate and
/// every configuration name that address.
fn relay() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", PORT)).context("the API server's port")?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect((HOST, PORT)) else {
                continue;
            };
            let copies = client
                .try_clone()
                .and_then(|other| Ok((other, server.try_clone()?)));
            if let Ok((client_too, server_too)) = copies {
                std::thread::spawn(move || copy(client, server));
                std::thread::spawn(move || copy(server_too, client_too));
            }
        }
    });
    Ok(())
}

/// Copies one direction of a connection, to its end.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Runs [`keep`] where the environment has the server's folder.
pub(crate) fn node(running: &Path) -> Result<()> {
    let server = std::env::var_os(SERVER).context("no API server")?;
    keep(running, Path::new(&server))
}

/// CRD of the older documents, as printed.
fn printed_crd(group: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("networks.{group}")},
        "spec": {"group": group, "version": "v1", "scope": "Namespaced", "names": {
            "plural": "networks", "singular": "network", "kind": "Network",
            "shortNames": ["net"]}}})
}

/// Process that keeps the cluster. Dropping it ends the cluster.
pub(crate) struct Keeper {
    child: Child,
    running: PathBuf,
}

impl Keeper {
    /// Starts the cluster for the cases, if its programs are there.
    pub(crate) fn start(rig: &Rig, folder: &Path) -> Result<Option<Keeper>> {
        if !rig.vm || std::env::var_os(SERVER).is_none_or(|folder| folder.is_empty()) {
            return Ok(None);
        }
        println!("== the cluster");
        let running = folder.join("cluster.json");
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--node")
            .arg(&running)
            .args(["--vm", "--pf", &rig.pf]);
        let mut child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
        let started = wait_for("the cluster", START, || {
            let ended = child.try_wait().ok().flatten().is_some();
            (running.exists() || ended).then_some(())
        });
        let keeper = Keeper { child, running };
        started?;
        ensure!(keeper.running.exists(), "the cluster did not start");
        Ok(Some(keeper))
    }

    /// Tells a case's process of the cluster.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env(RUNNING, &self.running);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = wait_for("the cluster's end", PATIENCE, || {
            self.child.try_wait().ok().flatten()
        });
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Node of the running cluster, as a case sees it.
pub(crate) struct Kubernetes {
    pub(crate) node: Node,
    pub(crate) api: Api,
}

impl Kubernetes {
    /// Connects to the cluster; without one, the case is skipped. Pods get their networks by `conf`.
    pub(crate) fn of(rig: &Rig, conf: &Value) -> Result<Kubernetes> {
        rig.only_in_vm("needs PFs of the names in the documents")?;
        let Some(running) = std::env::var_os(RUNNING) else {
            bail!(Skip(
                "needs containerd, kube-apiserver and kubelet, which are built on Debian 12 only"
                    .to_owned()
            ));
        };
        let programs = PathBuf::from(std::env::var_os(PROGRAMS).unwrap_or_default());
        if !programs.join("flannel").exists() {
            bail!(Skip(
                "needs flannel's plugin, which comes from Debian 11's archive".to_owned()
            ));
        }
        let running: Running = serde_json::from_str(&fs::read_to_string(running)?)?;
        let node = Node::attach(Netns::here("node")?, &running.folder, PATIENCE)?;
        let server = std::env::var_os(SERVER).context("no API server")?;
        let api = Api::new(Path::new(&server), PATIENCE);
        node.configure(CONF, conf)?;
        Ok(Kubernetes { node, api })
    }

    /// Creates a network object of the older kind.
    pub(crate) fn network(
        &self,
        group: &str,
        name: &str,
        plugin: &str,
        args: &Value,
    ) -> Result<()> {
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": "Network",
            "metadata": {"name": name, "namespace": "default"}, "plugin": plugin,
            "args": json!([args]).to_string()});
        self.api.create(&self.node.netns, &object)
    }

    /// Creates a pod and waits until it runs. Returns its sandbox's id and how long that took.
    pub(crate) fn run(&self, pod: &Value) -> Result<(String, Duration)> {
        let name = pod["metadata"]["name"]
            .as_str()
            .context("a pod without name")?;
        let start = Instant::now();
        self.api.create(&self.node.netns, pod)?;
        let running = self.api.running(&self.node.netns, "default", name);
        if running.is_err() {
            let events = self
                .api
                .events(&self.node.netns, "default", "FailedCreatePodSandBox");
            println!("   events: {events:?}\n   {}", self.node.log("cni.log"));
            self.node.show_logs();
        }
        running?;
        Ok((self.node.cri.find(name)?.sandbox, start.elapsed()))
    }

    /// Reads the pod's status of its networks: name of each interface with its addresses.
    pub(crate) fn status(&self, name: &str) -> Result<Vec<Value>> {
        let pod = self.api.pod(&self.node.netns, "default", name)?;
        let text = pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"]
            .as_str()
            .with_context(|| {
                let log = self.node.log("cni.log");
                format!("no status of the networks: {pod}\n{log}")
            })?;
        Ok(serde_json::from_str(text)?)
    }

    /// Deletes a pod and waits until its sandbox is gone as well. Returns how long that took.
    pub(crate) fn delete(&self, name: &str) -> Result<Duration> {
        let start = Instant::now();
        self.api.delete(&self.node.netns, "default", name)?;
        wait_for("the sandbox to be gone", PATIENCE, || {
            let stopped = self.node.cri.ready_sandboxes().ok()?;
            stopped.iter().all(|there| there != name).then_some(())
        })?;
        Ok(start.elapsed())
    }
}

/// Pod of one container, which sleeps.
pub(crate) fn pod(name: &str, annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        "spec": {"nodeName": "node", "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "Never",
                "command": ["/bin/sleep", "100000"]}]}})
}
