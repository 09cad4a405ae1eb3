// SPDX-License-Identifier: Apache-2.0
//! Pods of the older documents, made by a kubelet: objects, annotations and configurations as they are printed
//! there.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::{Netns, bin, wait_for};

use super::{Case, case};
use crate::engine;
use crate::far::{Far, ping};
use crate::kubernetes::{KUBECONFIG, Kubernetes, pod};
use crate::rig::{PATIENCE, Rig, files_below};
use crate::vf::{Snapshot, Vf};

pub(crate) const CASES: &[Case] = &[
    case(
        "document-pod",
        "multus-multi-net-poc by a kubelet: eth0 of flannel, net0 10.56.217.171 on a VF, north in VLAN 210",
        900,
        vfs,
    )
    .in_cluster(),
    case(
        "document-pod-engine",
        "the same pod on the engine: memifs net0 and north, judged and counted",
        900,
        on_the_engine,
    )
    .in_cluster(),
    case(
        "document-pod-five",
        "a pod of five interfaces: eth0, two VFs, a second overlay network and a ptp as net0 to net3",
        900,
        five,
    )
    .in_cluster(),
    case(
        "document-pod-minion1",
        "the minion1 conf: a VF in DPDK mode and flannel in one call",
        900,
        minion1,
    )
    .in_cluster(),
];

const GROUP: &str = "kubernetes.com";
const OTHER_GROUP: &str = "kubernetes-network.cni.cncf.io";
const POC: &str = "multus-multi-net-poc";

/// The documents' conf: the API server says which networks a pod gets.
fn by_api_server() -> Value {
    json!({"name": "node-cni-network", "type": "multus", "kubeconfig": KUBECONFIG})
}

fn sriov_conf() -> Value {
    json!({"if0": "enp12s0f1", "ipam": {"type": "host-local", "subnet": "10.56.217.0/24",
        "rangeStart": "10.56.217.171", "rangeEnd": "10.56.217.181",
        "routes": [{"dst": "0.0.0.0/0"}], "gateway": "10.56.217.1"}})
}

fn l2enable_conf() -> Value {
    json!({"if0": "enp2s0", "vlan": 210, "if0name": "north", "l2enable": true})
}

fn flannel_conf() -> Value {
    json!({"delegate": {"isDefaultGateway": true}})
}

fn with(mut conf: Value, more: &Value) -> Value {
    if let (Some(conf), Some(more)) = (conf.as_object_mut(), more.as_object()) {
        conf.extend(more.clone());
    }
    conf
}

/// VFs of a case and their state before it.
struct Before(Vec<(Vf, Snapshot)>);

impl Before {
    fn of(rig: &Rig, pfs: &[&str]) -> Result<Before> {
        rig.only_in_vm("needs PFs of the names in the documents")?;
        let mut all = Vec::new();
        for pf in pfs {
            for vf in rig.vfs_of(pf, 2)? {
                let snapshot = vf.snapshot()?;
                all.push((vf, snapshot));
            }
        }
        Ok(Before(all))
    }

    /// Returns the first VF of a PF.
    fn first(&self, pf: &str) -> Result<&Vf> {
        let mut vfs = self.0.iter().map(|(vf, _)| vf);
        vfs.find(|vf| vf.pf == pf).context("no VF of that PF")
    }

    /// Waits until each VF is as before.
    fn expect(&self) -> Result<()> {
        self.0
            .iter()
            .try_for_each(|(vf, snapshot)| vf.expect(snapshot))
    }
}

/// Fails if addresses or records of a pod are left on the node.
fn nothing_left(kubernetes: &Kubernetes) -> Result<()> {
    let left = || {
        let mut all = Vec::new();
        for folder in [
            "/var/lib/cni/networks",
            "/var/lib/cni/flannel",
            "/var/lib/cni/flannel-blue",
            "/var/lib/cni/sluicegate",
            "/var/lib/sluicegate/vfs",
        ] {
            let mut names = files_below(Path::new(folder));
            names.retain(|name| !name.starts_with("last_reserved") && !name.contains("lock"));
            all.extend(names.into_iter().map(|name| format!("{folder}: {name}")));
        }
        all
    };
    wait_for("the pod's records to go", PATIENCE, || {
        left().is_empty().then_some(())
    })
    .with_context(|| format!("{:?}", left()))?;
    let veths = kubernetes.node.veths()?;
    ensure!(veths == 0, "{veths} veths are left");
    Ok(())
}

/// Lists the IPv4 addresses in a namespace, as `eth0 10.244.1.2/24, ...`.
fn addresses(pod: &Netns) -> Result<String> {
    let text = pod.ip(&["-o", "-4", "address"])?;
    let words = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let name = words.next().filter(|name| *name != "lo")?;
        Some(format!("{name} {}", words.nth(1)?))
    });
    Ok(words.collect::<Vec<_>>().join(", "))
}

fn interfaces(status: &[Value]) -> Vec<&str> {
    let names = status.iter().filter_map(|one| one["interface"].as_str());
    names.collect()
}

/// Fails unless frames of a VLAN pass the far end in both directions.
fn counted(far: &Far, vid: u16, to: &str) -> Result<String> {
    let before = far.frames(vid)?;
    ping(far.netns(), to)?;
    let after = far.frames(vid)?;
    ensure!(
        after.0 > before.0 && after.1 > before.1,
        "VLAN {vid}: {before:?}, then {after:?}"
    );
    Ok(format!(
        "VLAN {vid} at the far end: {} frames in, {} out",
        after.0 - before.0,
        after.1 - before.1
    ))
}

fn vfs(rig: &Rig) -> Result<()> {
    let before = Before::of(rig, &["enp12s0f1", "enp2s0"])?;
    let kubernetes = Kubernetes::of(rig, &by_api_server())?;
    kubernetes.network(GROUP, "flannel-conf", "flannel", &flannel_conf())?;
    kubernetes.network(GROUP, "sriov-conf", "sriov", &sriov_conf())?;
    let name = "sriov-vlanid-l2enable-conf";
    kubernetes.network(OTHER_GROUP, name, "sriov", &l2enable_conf())?;
    let list =
        format!(r#"[{{"name": "flannel-conf"}}, {{"name": "sriov-conf"}}, {{"name": "{name}"}}]"#);
    let (sandbox, took) = kubernetes.run(&pod(POC, &json!({"networks": list})))?;
    rig.note(format!(
        "{POC}: Running {:.1} s after it was created",
        took.as_secs_f64()
    ));
    let netns = kubernetes.node.pod_netns(&sandbox)?;
    let text = addresses(&netns)?;
    ensure!(
        text == "eth0 10.244.1.2/24, net0 10.56.217.171/24",
        "the pod has {text}"
    );
    rig.note(format!(
        "{text}; routes: {}",
        netns.ip(&["route"])?.replace('\n', "; ")
    ));
    let north = before.first("enp2s0")?;
    let line = north.pf_line()?;
    ensure!(line.contains("vlan 210"), "ip link show enp2s0: {line}");
    rig.note(format!("ip link show enp2s0: {line}"));
    let status = kubernetes.status(POC)?;
    ensure!(
        interfaces(&status) == ["eth0", "net0", "north"],
        "{status:?}"
    );
    // Each interface carries frames: flannel's to the node, the VFs' to the far ends of their PFs.
    ping(&netns, "10.244.1.1")?;
    let far = Far::on("wire1", Some("10.56.217.1/24"))?;
    ping(far.netns(), "10.56.217.171")?;
    netns.ip(&["address", "add", "10.21.0.2/24", "dev", "north"])?;
    let far = Far::on("wire2", None)?;
    far.vlan(210, "10.21.0.250/24")?;
    rig.note(counted(&far, 210, "10.21.0.2")?);
    let took = kubernetes.delete(POC)?;
    rig.note(format!("deleted in {:.1} s", took.as_secs_f64()));
    before.expect()?;
    nothing_left(&kubernetes)
}

fn on_the_engine(rig: &Rig) -> Result<()> {
    let before = Before::of(rig, &["enp12s0f1", "enp2s0"])?;
    let engine = engine::start(rig)?;
    let kubernetes = Kubernetes::of(rig, &by_api_server())?;
    let more = |mac: &str| {
        json!({"mode": "engine", "mac": mac, "daemonSocket": engine::socket(rig),
            "cniDir": rig.path("cni"), "stateDir": rig.path("state")})
    };
    let macs = ["02:00:00:00:0a:00", "02:00:00:00:0a:01"];
    kubernetes.network(GROUP, "flannel-conf", "flannel", &flannel_conf())?;
    let conf = with(sriov_conf(), &more(macs[0]));
    kubernetes.network(GROUP, "engine-conf", "sriov", &conf)?;
    let conf = with(l2enable_conf(), &more(macs[1]));
    kubernetes.network(GROUP, "engine-vlanid-l2enable-conf", "sriov", &conf)?;
    let list = r#"[{"name": "flannel-conf"}, {"name": "engine-conf"}, {"name": "engine-vlanid-l2enable-conf"}]"#;
    let mut wanted = pod(POC, &json!({"networks": list}));
    // The network function in the container, which has no privilege and none of the node's devices.
    let vnf = bin("vnf");
    let folder = vnf.parent().context("no folder")?;
    let host = |name: &str, path: &Path| json!({"name": name, "hostPath": {"path": path}});
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    wanted["spec"]["volumes"] = json!([
        host("programs", folder),
        host("lib", Path::new("/lib")),
        host("lib64", Path::new("/lib64"))
    ]);
    let container = &mut wanted["spec"]["containers"][0];
    container["volumeMounts"] = json!([
        mount("programs", "/programs"),
        mount("lib", "/lib"),
        mount("lib64", "/lib64")
    ]);
    container["command"] = json!([
        "/programs/vnf",
        "--memif",
        format!(
            "socket=@sluicegate/net0,ip=10.56.217.171/24,mac={}",
            macs[0]
        ),
        "--memif",
        format!("socket=@sluicegate/north,ip=10.21.0.2/24,mac={}", macs[1])
    ]);
    let (sandbox, took) = kubernetes.run(&wanted)?;
    rig.note(format!(
        "{POC}: Running {:.1} s after it was created",
        took.as_secs_f64()
    ));
    let netns = kubernetes.node.pod_netns(&sandbox)?;
    let text = addresses(&netns)?;
    ensure!(text.starts_with("eth0 10.244.1."), "the pod has {text}");
    let status = kubernetes.status(POC)?;
    ensure!(
        interfaces(&status) == ["eth0", "net0", "north"],
        "{status:?}"
    );
    ensure!(
        status[1]["ips"] == json!(["10.56.217.171"]),
        "net0 in the status: {}",
        status[1]
    );
    ensure!(
        before.first("enp2s0")?.pf_line()?.contains("vlan 210"),
        "no VLAN 210 on north's VF"
    );
    for ifname in ["net0", "north"] {
        engine.wait_link(&sandbox, ifname)?;
    }
    ping(&netns, "10.244.1.1")?;
    let far = Far::on("wire1", Some("10.56.217.1/24"))?;
    ping(far.netns(), "10.56.217.171")?;
    let far = Far::on("wire2", None)?;
    far.vlan(210, "10.21.0.250/24")?;
    rig.note(counted(&far, 210, "10.21.0.2")?);
    let judged = engine.rule("net-210", "ingress", "ping")?;
    ensure!(judged > 0, "no ping was judged in VLAN 210");
    kubernetes.delete(POC)?;
    before.expect()?;
    ensure!(
        engine.client().attachments()?.is_empty(),
        "the engine still has an attachment"
    );
    rig.nothing_held()?;
    nothing_left(&kubernetes)
}

fn five(rig: &Rig) -> Result<()> {
    let before = Before::of(rig, &["enp12s0f1", "enp2s0"])?;
    let conf = with(
        by_api_server(),
        &json!({"name": "node-five-networks", "netIndexBase": 0,
            "delegates": [with(flannel_conf(), &json!({"type": "flannel", "masterplugin": true}))]}),
    );
    let kubernetes = Kubernetes::of(rig, &conf)?;
    let local = |subnet: &str| json!({"type": "host-local", "subnet": subnet});
    let mut plain = sriov_conf();
    plain["ipam"] = local("10.56.217.0/24");
    kubernetes.network(GROUP, "five-vf", "sriov", &plain)?;
    let tagged = json!({"if0": "enp2s0", "vlan": 210, "ipam": local("10.21.0.0/24")});
    kubernetes.network(GROUP, "five-vlan", "sriov", &tagged)?;
    // The second overlay network: another subnet file, another bridge, and a folder of its own for the plugin's
    // records, which have the container's name alone.
    let blue = json!({"subnetFile": "/run/flannel/blue.env", "dataDir": "/var/lib/cni/flannel-blue",
        "delegate": {"bridge": "blue0"}});
    kubernetes.network(GROUP, "five-blue", "flannel", &blue)?;
    let ptp = json!({"ipam": local("10.168.1.0/24")});
    kubernetes.network(GROUP, "five-ptp", "ptp", &ptp)?;
    let annotations =
        json!({"kubernetes.v1.cni.cncf.io/networks": "five-vf,five-vlan,five-blue,five-ptp"});
    let (sandbox, took) = kubernetes.run(&pod("five", &annotations))?;
    rig.note(format!(
        "five: Running {:.1} s after it was created",
        took.as_secs_f64()
    ));
    let netns = kubernetes.node.pod_netns(&sandbox)?;
    let text = addresses(&netns)?;
    let names: Vec<_> = text
        .split(", ")
        .filter_map(|one| one.split(' ').next())
        .collect();
    ensure!(
        ["eth0", "net0", "net1", "net2", "net3"]
            .iter()
            .all(|name| names.contains(name))
            && names.len() == 5,
        "the pod has {text}"
    );
    rig.note(text);
    let status = kubernetes.status("five")?;
    ensure!(
        interfaces(&status) == ["eth0", "net0", "net1", "net2", "net3"],
        "{status:?}"
    );
    for gateway in ["10.244.1.1", "10.245.1.1", "10.168.1.1"] {
        ping(&netns, gateway)?;
    }
    let far = Far::on("wire1", Some("10.56.217.250/24"))?;
    ping(far.netns(), "10.56.217.2")?;
    let far = Far::on("wire2", None)?;
    far.vlan(210, "10.21.0.250/24")?;
    counted(&far, 210, "10.21.0.2")?;
    kubernetes.delete("five")?;
    before.expect()?;
    nothing_left(&kubernetes)
}

fn minion1(rig: &Rig) -> Result<()> {
    let before = Before::of(rig, &["enp4s0f3"])?;
    let conf = json!({"name": "minion1-multus-demo-network", "type": "multus", "delegates": [
        {"type": "sriov", "if0": "enp4s0f3", "if0name": "north0", "dpdk": {
            "kernel_driver": "ixgbevf", "dpdk_driver": "igb_uio",
            "dpdk_tool": "/opt/dpdk/usertools/dpdk-devbind.py"}},
        with(flannel_conf(), &json!({"type": "flannel", "masterplugin": true}))]});
    let kubernetes = Kubernetes::of(rig, &conf)?;
    let (sandbox, _) = kubernetes.run(&pod("dpdk", &json!({})))?;
    let netns = kubernetes.node.pod_netns(&sandbox)?;
    let text = addresses(&netns)?;
    ensure!(
        text.starts_with("eth0 10.244.1.") && !text.contains(','),
        "the pod has {text}"
    );
    ping(&netns, "10.244.1.1")?;
    let vf = before.first("enp4s0f3")?;
    ensure!(
        vf.driver().as_deref() == Some("vfio-pci"),
        "the VF is bound to {:?}",
        vf.driver()
    );
    kubernetes.delete("dpdk")?;
    before.expect()?;
    nothing_left(&kubernetes)
}
