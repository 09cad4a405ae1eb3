// SPDX-License-Identifier: Apache-2.0
//! The whole of it on a cluster of one node, by image and manifests alone: API server, controller-manager, scheduler,
//! containerd and kubelet are the real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sluice_tests::cluster::{WholeCluster, programs_or_skip};
use sluice_tests::{bin, program_or_skip, run, wait_for};
use tempfile::TempDir;

/// Programs of a node, as deploy/build.sh lists them.
const PROGRAMS: [&str; 6] = [
    "sluiced",
    "sluicectl",
    "sluice-agent",
    "vfirewall",
    "sluicegate",
    "sluicegate-vf",
];

fn deploy() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    path.canonicalize().unwrap()
}

/// Copies the programs under test into a folder as they are shipped: stripped.
fn shipped(folder: &Path) {
    for name in PROGRAMS {
        let mut strip = Command::new("strip");
        run(strip.arg("-o").arg(folder.join(name)).arg(bin(name))).unwrap();
    }
}

/// Pod network of the node as its owner has it: a bridge.
fn primary() -> Value {
    json!({"cniVersion": "1.0.0", "name": "pod-network", "plugins": [{"type": "bridge", "bridge": "cni0",
        "isGateway": true, "ipMasq": false, "ipam": {"type": "host-local",
            "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]})
}

#[test]
fn from_a_bare_node_to_a_pod_behind_its_firewall() {
    let case = "from_a_bare_node_to_a_pod_behind_its_firewall";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    if !program_or_skip(case, "buildah") || !program_or_skip(case, "dpdk-testpmd") {
        return;
    }
    let work = TempDir::with_prefix("sluice-on-a-cluster-").unwrap();
    shipped(work.path());
    let image = work.path().join("sluicegate.tar");
    let mut build = Command::new("sh");
    build
        .arg(deploy().join("image/build.sh"))
        .arg("--programs")
        .arg(work.path());
    run(build.arg("--out").arg(&image)).unwrap();
    let testpmd = work.path().join("testpmd.tar");
    let mut build = Command::new("sh");
    run(build
        .arg(deploy().join("samples/testpmd/image.sh"))
        .arg(&testpmd))
    .unwrap();

    let cluster = WholeCluster::start(&programs).unwrap();
    cluster.import(&image).unwrap();
    cluster.import(&testpmd).unwrap();
    let machine = &cluster.machine;
    let conf = machine.path("/etc/cni/net.d/10-primary.conflist");
    std::fs::write(conf, primary().to_string()).unwrap();
    let before = machine.inventory().unwrap();
    println!("{before:#?}");
    let site = deploy().join("samples/site").display().to_string();
    println!("{}", cluster.kubectl(&["apply", "-k", &site]).unwrap());
    ready(&cluster, "engine");
    ready(&cluster, "agent");
    println!(
        "{}",
        cluster
            .kubectl(&["get", "pods", "-A", "-o", "wide"])
            .unwrap()
    );
    install_by_hand(&cluster, work.path());
    let sample = deploy().join("samples/testpmd").display().to_string();
    let network = format!("{sample}/network.yaml");
    let pod = format!("{sample}/pod.yaml");
    cluster
        .kubectl(&["apply", "-f", &network, "-f", &pod])
        .unwrap();
    let running = |pod: &Value| pod["status"]["phase"] == "Running";
    cluster
        .wait_until("testpmd to run", &["pod", "testpmd"], running)
        .unwrap();
    machine
        .wire
        .ip(&["address", "add", "10.21.0.1/24", "dev", "wire0"])
        .unwrap();
    let ping = || {
        run(machine
            .wire
            .command("ping")
            .args(["-c", "1", "-W", "1", "10.21.0.10"]))
        .ok()
    };
    println!("{}", wait_for("a ping", machine.patience, ping).unwrap());
    let node = [
        "exec",
        "-n",
        "kube-system",
        "daemonset/sluiced",
        "--",
        "sluicectl",
    ];
    for command in ["status", "attachments", "counters"] {
        println!(
            "{}",
            cluster.kubectl(&[&node[..], &[command]].concat()).unwrap()
        );
    }
}

/// Waits until the pods of a DaemonSet are ready.
fn ready(cluster: &WholeCluster, component: &str) {
    let label = format!("app.kubernetes.io/component={component}");
    let wait = [
        "wait",
        "--for=condition=Ready",
        "pod",
        "-n",
        "kube-system",
        "-l",
        &label,
        "--timeout=90s",
    ];
    let wait = || cluster.kubectl(&wait).ok();
    wait_for(component, cluster.machine.patience, wait).unwrap();
}

/// Puts plugins, kubeconfig and configuration on the node.
fn install_by_hand(cluster: &WholeCluster, programs: &Path) {
    let machine = &cluster.machine;
    for name in ["sluicegate", "sluicegate-vf"] {
        std::fs::copy(
            programs.join(name),
            machine.path(&format!("/opt/cni/bin/{name}")),
        )
        .unwrap();
    }
    let secrets = cluster
        .get(&[
            "secrets",
            "-n",
            "kube-system",
            "--field-selector",
            "type=kubernetes.io/service-account-token",
        ])
        .unwrap();
    let secret = secrets["items"].as_array().unwrap().iter().find(|one| {
        one["metadata"]["annotations"]["kubernetes.io/service-account.name"] == "sluicegate"
    });
    let token = secret.unwrap()["data"]["token"].as_str().unwrap();
    let decode = machine.path("/run/token");
    std::fs::write(&decode, token).unwrap();
    let token = run(Command::new("base64").arg("-d").arg(decode)).unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.96.0.1",
            "certificate-authority": "/etc/kubernetes/pki/apiserver.crt"}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(
        machine.path("/etc/cni/net.d/sluicegate.kubeconfig"),
        config.to_string(),
    )
    .unwrap();
    let conf = json!({"cniVersion": "1.0.0", "name": "node", "plugins": [{"type": "sluicegate",
        "kubeconfig": "/etc/cni/net.d/sluicegate.kubeconfig", "delegates": [primary()]}]});
    std::fs::write(
        machine.path("/etc/cni/net.d/00-sluicegate.conflist"),
        conf.to_string(),
    )
    .unwrap();
}
