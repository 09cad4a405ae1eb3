// SPDX-License-Identifier: Apache-2.0
//! The whole of it on a cluster of one node, by image and manifests alone: API server, controller-manager, scheduler,
//! containerd and kubelet are the real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_tests::cluster::{Machine, WholeCluster, programs_or_skip};
use sluice_tests::{Process, bin, program_or_skip, run, wait_for};
use tempfile::TempDir;

/// Label of the engine's pods.
const ENGINE: &str = "app.kubernetes.io/component=engine";
/// Label of the agent's pods.
const AGENT: &str = "app.kubernetes.io/component=agent";
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

    let mut cluster = WholeCluster::start(&programs).unwrap();
    cluster.import(&image).unwrap();
    cluster.import(&testpmd).unwrap();
    let machine = &cluster.machine;
    let conf = machine.path("/etc/cni/net.d/10-primary.conflist");
    std::fs::write(conf, primary().to_string()).unwrap();
    let before = machine.inventory().unwrap();
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
    wait_for("an answer from the pod", machine.patience, ping).unwrap();
    denied_traffic_is_counted_against_its_rule(&cluster);

    every_manifest_is_accepted(&cluster);
    let pings = Pings::start(machine);
    upgrade_agent(&cluster);
    let (sent, lost, _) = pings.end();
    println!("upgrade of the agent: {lost} of {sent} frames lost");
    assert_eq!(lost, 0, "of {sent} frames while the agent was upgraded");

    let pings = Pings::start(machine);
    cluster.stop_kubelet().unwrap();
    cluster.start_kubelet().unwrap();
    ready(&cluster, "engine");
    let (sent, lost, _) = pings.end();
    println!("restart of the kubelet: {lost} of {sent} frames lost");
    assert_eq!(lost, 0, "of {sent} frames while the kubelet was restarted");

    let pings = Pings::start(&cluster.machine);
    restart_engine(&cluster);
    let machine = &cluster.machine;
    let ping = || {
        run(machine
            .wire
            .command("ping")
            .args(["-c", "1", "-W", "1", "10.21.0.10"]))
        .ok()
    };
    wait_for(
        "an answer after the engine's restart",
        machine.patience,
        ping,
    )
    .unwrap();
    let (sent, lost, gap) = pings.end();
    println!(
        "restart of the engine: {lost} of {sent} frames lost, one every 20 ms; longest gap {gap} frames"
    );

    uninstall(&cluster, &site);
    let mut left = machine.inventory().unwrap();
    left.retain(|one| !before.contains(one) && !is_of_the_node(one));
    assert!(left.is_empty(), "left after the uninstall: {left:#?}");
}

/// Whether the primary network, the runtime or the kubelet left it, all of which stay on the node.
fn is_of_the_node(found: &str) -> bool {
    const THEIRS: [&str; 4] = [
        "link cni0",
        "var-lib/cni/networks",
        "var-lib/cni/results",
        "var-lib/kubelet/device-plugins/",
    ];
    THEIRS.iter().any(|theirs| found.starts_with(theirs))
}

/// A program that pings the pod every 20 ms from the wire.
struct Pings {
    process: Process,
    output: tempfile::NamedTempFile,
}

impl Pings {
    fn start(machine: &Machine) -> Pings {
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut command = machine.wire.command("ping");
        command
            .args(["-n", "-i", "0.02", "10.21.0.10"])
            .stdout(output.reopen().unwrap());
        let process = Process::start(&mut command).unwrap();
        Pings { process, output }
    }

    /// Ends it and returns how many frames were sent up to the last that was answered, how many of these were
    /// lost, and how many at most one after the other.
    fn end(self) -> (u64, u64, u64) {
        std::thread::sleep(Duration::from_secs(1));
        let mut process = self.process;
        process.signal(Signal::INT).unwrap();
        wait_for("ping to end", Duration::from_secs(10), || {
            (!process.alive()).then_some(())
        })
        .unwrap();
        let text = std::fs::read_to_string(self.output.path()).unwrap();
        let answered: BTreeSet<u64> = text
            .lines()
            .filter_map(|line| {
                line.split("icmp_seq=")
                    .nth(1)?
                    .split(' ')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect();
        let last = *answered.last().expect("no frame was answered");
        let gaps = answered.iter().scan(0, |before, &now| {
            let gap = now - *before - 1;
            *before = now;
            Some(gap)
        });
        (last, last - answered.len() as u64, gaps.max().unwrap_or(0))
    }
}

/// The policy of the VLAN takes ping and no UDP but SIP.
fn denied_traffic_is_counted_against_its_rule(cluster: &WholeCluster) {
    let mut send = cluster.machine.wire.command("bash");
    run(send.args(["-c", "echo x > /dev/udp/10.21.0.10/7"])).unwrap();
    let denied = || {
        let counters = sluicectl(cluster, &["--json", "counters"])?;
        counters.contains("denied").then_some(())
    };
    wait_for("the denied datagram", cluster.machine.patience, denied).unwrap();
}

/// Runs sluicectl in the engine's container.
fn sluicectl(cluster: &WholeCluster, arguments: &[&str]) -> Option<String> {
    let exec = [
        "exec",
        "-n",
        "kube-system",
        "daemonset/sluiced",
        "--",
        "sluicectl",
    ];
    cluster.kubectl(&[&exec[..], arguments].concat()).ok()
}

/// The API server takes every overlay and sample, whose enums and names no schema checks. OpenShift's has a kind that
/// only OpenShift has.
fn every_manifest_is_accepted(cluster: &WholeCluster) {
    let overlays = std::fs::read_dir(deploy().join("overlays")).unwrap();
    let mut folders: Vec<PathBuf> = overlays.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| !folder.ends_with("openshift"));
    folders.push(deploy());
    for folder in folders {
        let folder = folder.display().to_string();
        let dry = ["apply", "--dry-run=server", "-k", &folder];
        cluster.kubectl(&dry).unwrap();
    }
    for folder in ["samples/testpmd", "vfirewall"] {
        for entry in std::fs::read_dir(deploy().join(folder)).unwrap() {
            let file = entry.unwrap().path();
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if text.lines().any(|line| line.starts_with("kind: ")) {
                let file = file.display().to_string();
                let dry = ["apply", "--dry-run=server", "-f", &file];
                cluster.kubectl(&dry).unwrap();
            }
        }
    }
}

/// Another image for the agent, as a rollout brings it.
fn upgrade_agent(cluster: &WholeCluster) {
    let next = "localhost/sluicegate:next";
    let socket = cluster.machine.path("/run/containerd/containerd.sock");
    let mut tag = Command::new("ctr");
    tag.arg("-a").arg(socket).args([
        "-n",
        "k8s.io",
        "images",
        "tag",
        "localhost/sluicegate:0.1.0",
        next,
    ]);
    run(&mut tag).unwrap();
    let image = format!("sluice-agent={next}");
    let of = ["-n", "kube-system", "daemonset/sluice-agent"];
    cluster
        .kubectl(&[&["set", "image"], &of[..], &[&image]].concat())
        .unwrap();
    cluster
        .kubectl(&[&["rollout", "status", "--timeout=90s"], &of[..]].concat())
        .unwrap();
    let pods = cluster
        .get(&["pods", "-n", "kube-system", "-l", AGENT])
        .unwrap();
    let pods = pods["items"].as_array().unwrap();
    assert!(
        pods.iter()
            .all(|pod| pod["spec"]["containers"][0]["image"] == next),
        "{pods:#?}"
    );
}

/// Deletes the engine's pod, as its owner does for an upgrade, and waits for the next.
fn restart_engine(cluster: &WholeCluster) {
    cluster
        .kubectl(&["delete", "pod", "-n", "kube-system", "-l", ENGINE])
        .unwrap();
    ready(cluster, "engine");
}

/// Takes everything off the cluster and the node again.
fn uninstall(cluster: &WholeCluster, site: &str) {
    let pod = ["delete", "pod", "testpmd", "--timeout=60s"];
    cluster.kubectl(&pod).unwrap();
    cluster
        .kubectl(&["delete", "net-attach-def", "testpmd"])
        .unwrap();
    uninstall_by_hand(cluster);
    cluster
        .kubectl(&["delete", "-k", site, "--timeout=90s"])
        .unwrap();
    let gone = || {
        let pods = cluster.get(&["pods", "-n", "kube-system"]).ok()?;
        pods["items"].as_array()?.is_empty().then_some(())
    };
    wait_for("the pods to be gone", cluster.machine.patience, gone).unwrap();
    // The record of what was done stays on a node until its owner removes it.
    for folder in [
        "/run/sluicegate",
        "/var/lib/sluicegate",
        "/var/lib/cni/sluicegate",
    ] {
        cluster.machine.run(&["rm", "-r", folder]).unwrap();
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

/// Takes it off again.
fn uninstall_by_hand(cluster: &WholeCluster) {
    let folder = cluster.machine.path("/etc/cni/net.d");
    std::fs::remove_file(folder.join("00-sluicegate.conflist")).unwrap();
    std::fs::remove_file(folder.join("sluicegate.kubeconfig")).unwrap();
    for name in ["sluicegate", "sluicegate-vf"] {
        std::fs::remove_file(cluster.machine.path(&format!("/opt/cni/bin/{name}"))).unwrap();
    }
}
