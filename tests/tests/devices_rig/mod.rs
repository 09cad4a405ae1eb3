// SPDX-License-Identifier: Apache-2.0
//! Node of a cluster with engine, agent, kubelet and scheduler, all real; only the SR-IOV card is a sysfs laid out in a
//! folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_agent::devices::messages::{AllocateRequest, AllocateResponse, Ids};
use sluice_api::client::Client;
use sluice_tests::cluster::{
    ADMIN, CardVf, Cluster, DeviceFile, Kubelet, Node, Setup, deployed, lay_out_card,
};
use sluice_tests::{Netns, Process, bin, run, wait_for};

/// Image of busybox and the example `vnf`.
pub(crate) const IMAGE: &str = "sluicegate.test/vnf:1";
/// Limit for each thing that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Resource of the engine's attachments.
pub(crate) const ATT: &str = "sluicegate.io/att";
/// Resource of VFs, from a configuration of the SR-IOV network device plugin.
pub(crate) const VFS: &str = "intel.com/vfs";

/// Resource of VFs for VFIO.
pub(crate) const VFIO: &str = "sluicegate.io/vfio";
/// Resource of VFs with vhost-net beside them.
pub(crate) const VHOST: &str = "sluicegate.io/vhost";

/// VFs of the card: two for [`VFS`], one for [`VFIO`], one for [`VHOST`].
const CARD: [CardVf; 4] = [
    CardVf {
        address: "0000:01:10.0",
        driver: "igbvf",
        iommu_group: None,
    },
    CardVf {
        address: "0000:01:10.2",
        driver: "igbvf",
        iommu_group: None,
    },
    CardVf {
        address: "0000:01:10.4",
        driver: "vfio-pci",
        iommu_group: Some(7),
    },
    CardVf {
        address: "0000:01:10.6",
        driver: "igbvf",
        iommu_group: None,
    },
];
/// Device files that come with the last two, and that open nothing.
pub(crate) const FILES: [DeviceFile; 4] = [
    DeviceFile {
        path: "vfio/vfio",
        major: 10,
        minor: 196,
    },
    DeviceFile {
        path: "vfio/7",
        major: 511,
        minor: 0,
    },
    DeviceFile {
        path: "vhost-net",
        major: 10,
        minor: 238,
    },
    DeviceFile {
        path: "net/tun",
        major: 10,
        minor: 200,
    },
];

pub(crate) struct Rig {
    pub(crate) agent: Option<Process>,
    pub(crate) kubelet: Option<Kubelet>,
    _engine: Process,
    _scheduler: Process,
    pub(crate) cluster: Cluster,
    pub(crate) node: Node,
    pub(crate) wire: Netns,
    programs: PathBuf,
}

fn conflist(dir: &Path) -> Value {
    let ipam = json!({"type": "host-local", "dataDir": dir.join("ipam"),
        "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]});
    let bridge = json!({"name": "pod-net", "cniVersion": "1.0.0", "type": "bridge", "bridge": "cni0",
        "isGateway": true, "ipam": ipam});
    let conf = json!({"type": "sluicegate", "cniDir": dir.join("cni"), "confDir": dir.join("nets"),
        "delegates": [bridge], "LogFile": dir.join("cni.log"), "LogLevel": "verbose",
        "kubeconfig": dir.join("kube/admin.kubeconfig"), "kubeletDir": dir.join("kubelet")});
    json!({"cniVersion": "1.0.0", "name": "node-net", "plugins": [conf]})
}

impl Rig {
    pub(crate) fn start(programs: &Path) -> Rig {
        let mut setup = Setup::new().unwrap();
        setup.patience = PATIENCE;
        let node = Node::start(setup, conflist).unwrap();
        image(&node);
        let cluster = Cluster::start(&node, programs).unwrap();
        for object in deployed("crds.yaml").unwrap() {
            if object["metadata"]["name"] != "networks.kubernetes.com" {
                cluster.create(&node.netns, &object).unwrap();
            }
        }
        let wire = Netns::new("wire").unwrap();
        node.netns.veth("wire0", &wire, "wire0").unwrap();
        let engine = node.engine().unwrap();
        lay_out_card(&node.dir().join("sys"), &CARD).unwrap();
        node.device_files(&FILES).unwrap();
        let mut rig = Rig {
            agent: None,
            kubelet: None,
            _engine: engine,
            _scheduler: scheduler(&node, &cluster, programs),
            cluster,
            node,
            wire,
            programs: programs.to_owned(),
        };
        // The agent first: it waits for a kubelet.
        rig.start_agent();
        rig.start_kubelet();
        rig
    }

    pub(crate) fn dir(&self) -> &Path {
        self.node.dir()
    }

    pub(crate) fn start_kubelet(&mut self) {
        self.kubelet = Some(Kubelet::start(&self.node, &self.cluster, &self.programs).unwrap());
    }

    pub(crate) fn start_agent(&mut self) {
        let dir = self.dir();
        let pcidp = json!({"resourceList": [
            {"resourceName": "vfs", "selectors": [{"vendors": ["8086"], "drivers": ["igbvf"], "pfNames": ["enp1s0#0-1"]}],
                "additionalInfo": {"*": {"token": "x"}}},
            {"resourceName": "rdma", "selectors": [{"isRdma": true}]}]});
        fs::write(dir.join("pcidp.json"), pcidp.to_string()).unwrap();
        let config = format!(
            "engine_socket: {0}/run/control/sluiced.sock\nrun_dir: {0}/run\nlog: debug,h2=info,hyper=info,tower=info\n\
             devices:\n  kubelet_dir: {0}/kubelet\n  cni_dir: {0}/cni\n  state_dir: {0}/state\n  cdi_dir: {0}/cdi\n  \
             sysfs: {0}/sys\n  configFile: {0}/pcidp.json\n  pools:\n  - resource: {ATT}\n    kind: engine\n    count: 2\n    \
             uplinks: [wire0]\n  - {{resource: {VFIO}, kind: vfs, mode: vfio, selectors: [{{drivers: [vfio-pci]}}]}}\n  - \
             {{resource: {VHOST}, kind: vfs, mode: kernel, selectors: [{{pfs: ['enp1s0#3'], need_vhost_net: true}}]}}\n",
            dir.display()
        );
        fs::write(dir.join("agent.yaml"), config).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("agent.log"))
            .unwrap();
        let mut command = Command::new(bin("sluice-agent"));
        command.arg("--config").arg(dir.join("agent.yaml"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.agent = Some(Process::start(&mut command).unwrap());
    }

    pub(crate) fn client(&self) -> Client {
        self.node.engine_client()
    }

    /// Number of devices that the node has of a resource: allocatable, and capacity.
    pub(crate) fn has(&self, resource: &str) -> Option<(String, String)> {
        let netns = &self.node.netns;
        let node = self
            .cluster
            .must(netns, "GET", "/api/v1/nodes/node", &Value::Null);
        let status = node.ok()?["status"].clone();
        let of = |kind: &str| Some(status[kind][resource].as_str()?.to_owned());
        Some((of("allocatable")?, of("capacity")?))
    }

    /// Waits until the node has so many devices that may be given out.
    pub(crate) fn wait_allocatable(&self, resource: &str, count: &str) {
        let mut last = None;
        let reached = wait_for("allocatable devices", PATIENCE, || {
            last = self.has(resource);
            last.as_ref()
                .is_some_and(|(free, _)| free == count)
                .then_some(())
        });
        if reached.is_err() {
            eprintln!("--- agent.log\n{}", self.node.log("agent.log"));
            panic!("{resource}: {last:?}, wanted {count}");
        }
    }

    /// Makes a pod with one device and the network of that name.
    pub(crate) fn pod(&self, name: &str, resource: &str, network: &str, script: &str) {
        let limits = json!({resource: "1"});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "default", "name": name,
                "annotations": {"k8s.v1.cni.cncf.io/networks": network}},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                "enableServiceLinks": false,
                // Nobody takes the taint of a new node away: there is no controller-manager.
                "tolerations": [{"operator": "Exists"}], "containers": [{
                "name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script],
                "resources": {"limits": limits, "requests": limits},
                "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true,
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}}}]}});
        self.cluster.create(&self.node.netns, &pod).unwrap();
    }

    pub(crate) fn wait_running(&self, name: &str) {
        if let Err(error) = self.cluster.running(&self.node.netns, "default", name) {
            self.node.show_logs();
            eprintln!("--- agent.log\n{}", self.node.log("agent.log"));
            panic!("{error:#}");
        }
    }

    pub(crate) fn delete(&self, name: &str) {
        self.cluster
            .delete(&self.node.netns, "default", name)
            .unwrap();
    }

    pub(crate) fn exec(&self, pod: &str, script: &str) -> String {
        let container = self.node.cri.find(pod).unwrap().container;
        self.node
            .cri
            .exec(&container, &["/bin/sh", "-c", script])
            .unwrap()
    }

    /// Ids of a resource that pods have, by the kubelet's pod-resources socket: pod and id.
    pub(crate) fn pod_resources(&self, resource: &str) -> Vec<(String, String)> {
        let socket = self.dir().join("kubelet/pod-resources/kubelet.sock");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let list = runtime
            .block_on(sluice_agent::devices::client::pod_resources(&socket))
            .unwrap();
        let mut found = Vec::new();
        for pod in list.pods {
            for devices in pod
                .containers
                .iter()
                .flat_map(|container| &container.devices)
            {
                if devices.resource_name == resource {
                    let ids = devices.device_ids.iter();
                    found.extend(ids.map(|id| (pod.name.clone(), id.clone())));
                }
            }
        }
        found.sort();
        found
    }

    /// Calls Allocate as the kubelet does.
    pub(crate) fn allocate(&self, resource: &str, id: &str) -> Result<AllocateResponse, String> {
        let name = format!("sluicegate-{}.sock", resource.replace('/', "_"));
        let socket = self.dir().join("kubelet/device-plugins").join(name);
        let ids = Ids {
            ids: vec![id.to_owned()],
        };
        let request = AllocateRequest {
            containers: vec![ids],
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let asked = sluice_agent::devices::client::allocate(&socket, request);
        runtime
            .block_on(asked)
            .map_err(|error| format!("{error:#}"))
    }

    /// Sets the carrier of the PF.
    pub(crate) fn carrier(&self, up: bool) {
        let path = self.dir().join("sys/class/net/enp1s0/carrier");
        fs::write(path, if up { "1\n" } else { "0\n" }).unwrap();
    }
}

fn scheduler(node: &Node, cluster: &Cluster, programs: &Path) -> Process {
    let log = fs::File::create(node.dir().join("scheduler.log")).unwrap();
    let mut command = node.netns.daemon(programs.join("kube-scheduler"));
    command
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig("scheduler", ADMIN).unwrap())
        .args([
            "--leader-elect=false",
            "--port=0",
            "--bind-address=127.0.0.1",
        ])
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Process::start(&mut command).unwrap()
}

/// Imports an image with busybox and the example `vnf`: no registry is asked.
fn image(node: &Node) {
    let dir = node.dir().join("vnf-image");
    let root = dir.join("root/bin");
    fs::create_dir_all(&root).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let busybox = busybox.iter().find(|path| path.exists()).unwrap();
    fs::copy(busybox, root.join("busybox")).unwrap();
    for name in ["sh", "sleep", "cat", "sed", "id", "grep", "env"] {
        symlink("busybox", root.join(name)).unwrap();
    }
    run(Command::new("strip")
        .arg("-o")
        .arg(root.join("vnf"))
        .arg(bin("vnf")))
    .unwrap();
    let tar = |from: &Path, to: &Path, names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(from).arg("-cf").arg(to).args(names);
        run(&mut command).unwrap();
    };
    tar(&dir.join("root"), &dir.join("layer.tar"), &["bin"]);
    let sum = run(Command::new("sha256sum").arg(dir.join("layer.tar"))).unwrap();
    let sum = sum.split_whitespace().next().unwrap();
    let config = json!({"architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}});
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let all = dir.join("image.tar");
    tar(&dir, &all, &["manifest.json", "config.json", "layer.tar"]);
    let mut import = Command::new("ctr");
    import.arg("-a").arg(node.socket());
    import.args(["-n", "k8s.io", "images", "import"]).arg(&all);
    run(&mut import).unwrap();
    fs::remove_dir_all(&dir).unwrap();
}
