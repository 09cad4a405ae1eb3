// SPDX-License-Identifier: Apache-2.0
//! Sluicegate as a whole on a cluster of one node, by image and manifests alone, as docs/cluster.md says: API server,
//! controller-manager, scheduler, containerd and kubelet are the real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod tagged_host;

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_tests::cluster::{ADMIN_CONFIG, Machine, WholeCluster, programs_or_skip};
use sluice_tests::{Process, bin, program_or_skip, run, wait_for};
use tempfile::TempDir;

use self::tagged_host::TaggedHost;

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

/// Folder in which a reader of docs/cluster.md is: a checkout in which the images have been made.
struct Checkout(TempDir);

impl Checkout {
    fn new() -> Checkout {
        let work = TempDir::with_prefix("sluice-on-a-cluster-").unwrap();
        symlink(deploy(), work.path().join("deploy")).unwrap();
        let dist = work.path().join("target/dist");
        fs::create_dir_all(&dist).unwrap();
        // As they are shipped: stripped.
        for name in PROGRAMS {
            let mut strip = Command::new("strip");
            run(strip.arg("-o").arg(dist.join(name)).arg(bin(name))).unwrap();
        }
        let target = work.path().join("target");
        for script in ["image/build.sh", "samples/testpmd/image.sh"] {
            let mut build = Command::new("sh");
            run(build
                .arg(deploy().join(script))
                .env("CARGO_TARGET_DIR", &target))
            .unwrap();
        }
        Checkout(work)
    }

    /// Blocks marked `sh` of one section of the page.
    fn blocks(section: &str) -> Vec<String> {
        let page = fs::read_to_string(deploy().join("../docs/cluster.md")).unwrap();
        let start = page.find(&format!("\n## {section}\n")).expect(section);
        let text = &page[start + 1..];
        let text = &text[..text.find("\n## ").unwrap_or(text.len())];
        let blocks = text.split("\n```sh\n").skip(1);
        blocks
            .map(|block| block.split("\n```").next().unwrap().to_owned())
            .collect()
    }

    /// Runs a block on the node and returns what it printed.
    fn run(&self, cluster: &WholeCluster, block: &str) -> String {
        let path = format!(
            "{}:{}",
            cluster.programs().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let script = format!("cd {} && set -ex\n{block}\n", self.0.path().display());
        let mut shell = cluster.machine.command("sh");
        shell.args(["-c", &script]).env("KUBECONFIG", ADMIN_CONFIG);
        let said = run(shell.env("PATH", path).env("HOME", "/run")).unwrap();
        println!("{block}\n{said}");
        said
    }

    /// Runs all blocks of a section.
    fn follow(&self, cluster: &WholeCluster, section: &str) -> String {
        let blocks = Checkout::blocks(section);
        assert!(!blocks.is_empty(), "{section} has no block");
        let said = blocks.iter().map(|block| self.run(cluster, block));
        said.collect()
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
    let checkout = Checkout::new();
    let mut cluster = WholeCluster::start(&programs).unwrap();
    let conf = cluster.machine.path("/etc/cni/net.d/10-primary.conflist");
    fs::write(conf, primary().to_string()).unwrap();
    let before = cluster.machine.inventory().unwrap();

    let start = Instant::now();
    checkout.follow(&cluster, "Image");
    checkout.follow(&cluster, "Install");
    let said = checkout.follow(&cluster, "Verify");
    assert!(said.contains("wire0"), "{said}");
    checkout.follow(&cluster, "First pod");
    let wire = &cluster.machine.wire;
    wire.ip(&["address", "add", "10.21.0.5/24", "dev", "wire0"])
        .unwrap();
    answers(&cluster.machine, TESTPMD);
    denied_traffic_is_counted_against_its_rule(&cluster);
    checkout.follow(&cluster, "A virtual firewall");
    it_forwards(&cluster.machine);
    println!("forwarding after {:.0?}", start.elapsed());
    every_manifest_is_accepted(&cluster);

    let socket = cluster.machine.path("/run/containerd/containerd.sock");
    let mut tag = Command::new("ctr");
    tag.arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images", "tag"]);
    run(tag.args(["localhost/sluicegate:0.1.0", "localhost/sluicegate:0.1.1"])).unwrap();
    let [agent, engine] = <[String; 2]>::try_from(Checkout::blocks("Upgrade")).unwrap();
    let pings = Pings::start(&cluster.machine);
    checkout.run(&cluster, &agent);
    let (sent, lost, _) = pings.end();
    println!("upgrade of the agent: {lost} of {sent} frames lost");
    assert_eq!(lost, 0, "of {sent} frames while the agent was upgraded");

    let pings = Pings::start(&cluster.machine);
    checkout.run(&cluster, &engine);
    answers(&cluster.machine, FIREWALL);
    let (sent, lost, gap) = pings.end();
    println!(
        "upgrade of the engine: {lost} of {sent} frames lost, one every 20 ms; longest gap {gap} frames"
    );

    checkout.follow(&cluster, "Rollback");
    answers(&cluster.machine, FIREWALL);

    // Last: this kubelet takes a minute over the first pod that is deleted after its restart.
    let pings = Pings::start(&cluster.machine);
    cluster.stop_kubelet().unwrap();
    cluster.start_kubelet().unwrap();
    std::thread::sleep(Duration::from_secs(10));
    let (sent, lost, _) = pings.end();
    println!("restart of the kubelet: {lost} of {sent} frames lost");
    assert_eq!(lost, 0, "of {sent} frames while the kubelet was restarted");

    checkout.follow(&cluster, "Uninstall");
    let gone = || {
        let pods = cluster.get(&["pods", "-n", "kube-system"]).ok()?;
        pods["items"].as_array()?.is_empty().then_some(())
    };
    wait_for("the pods to be gone", cluster.machine.patience, gone).unwrap();
    let mut left = cluster.machine.inventory().unwrap();
    left.retain(|one| !before.contains(one) && !is_of_the_node(one));
    assert!(left.is_empty(), "left after the uninstall: {left:#?}");
}

/// Address that testpmd answers for, as any other.
const TESTPMD: &str = "10.21.0.10";

/// Address of the virtual firewall in VLAN 210.
const FIREWALL: &str = "10.21.0.1";

/// Waits until an address answers a ping from the wire.
fn answers(machine: &Machine, address: &str) {
    let ping = || {
        let mut ping = machine.wire.command("ping");
        run(ping.args(["-c", "1", "-W", "1", address])).ok()
    };
    wait_for("an answer from the pod", machine.patience, ping).unwrap();
}

/// The virtual firewall forwards between VLANs 210, which is untagged on the wire, and 220.
fn it_forwards(machine: &Machine) {
    let wire = &machine.wire;
    let _server = TaggedHost::start(wire, "wire0", 220, Ipv4Addr::new(10, 22, 0, 5));
    wire.ip(&["route", "add", "10.22.0.0/24", "via", FIREWALL])
        .unwrap();
    // testpmd's answers for its address are remembered.
    wire.ip(&["neigh", "flush", "dev", "wire0"]).unwrap();
    answers(machine, "10.22.0.5");
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

/// A program that pings the virtual firewall every 20 ms from the wire.
struct Pings {
    process: Process,
    output: tempfile::NamedTempFile,
}

impl Pings {
    fn start(machine: &Machine) -> Pings {
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut command = machine.wire.command("ping");
        command
            .args(["-n", "-i", "0.02", FIREWALL])
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
        let text = fs::read_to_string(self.output.path()).unwrap();
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
    let overlays = fs::read_dir(deploy().join("overlays")).unwrap();
    let mut folders: Vec<PathBuf> = overlays.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| !folder.ends_with("openshift"));
    folders.push(deploy());
    for folder in folders {
        let folder = folder.display().to_string();
        let dry = ["apply", "--dry-run=server", "-k", &folder];
        cluster.kubectl(&dry).unwrap();
    }
    for folder in [
        "samples/testpmd",
        "samples/vpp",
        "samples/kernel-vf",
        "devices",
        "vfirewall",
    ] {
        for entry in fs::read_dir(deploy().join(folder)).unwrap() {
            let file = entry.unwrap().path();
            let text = fs::read_to_string(&file).unwrap_or_default();
            if text.lines().any(|line| line.starts_with("kind: ")) {
                let file = file.display().to_string();
                let dry = ["apply", "--dry-run=server", "-f", &file];
                cluster.kubectl(&dry).unwrap();
            }
        }
    }
}
