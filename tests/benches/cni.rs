// SPDX-License-Identifier: Apache-2.0
//! Cost of the meta plugin: ADD and DEL of bridge with host-local, called directly and through `sluicegate`,
//! interleaved, each in a fresh network namespace. With `SLUICE_CLUSTER` (see
//! `make test-cluster`) also against a real kube-apiserver, with one annotated network.
//!
//! `cargo bench -p sluice-tests --bench cni`; root. Times are of whole calls, from the start of the
//! process to its end.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says so")]
#![allow(missing_docs, reason = "a program")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::cluster::{ADMIN, Cluster, IMAGE, Node, Setup};
use sluice_tests::{Netns, bin};

const ROUNDS: usize = 40;
const STARTS: usize = 300;
const BRIDGE: &str = "/usr/lib/cni/bridge";

/// Sequence of programs that gives a pod its networks.
struct Way {
    name: &'static str,
    calls: Vec<(PathBuf, String, Value)>,
    add: Vec<Duration>,
    del: Vec<Duration>,
}

impl Way {
    fn new(name: &'static str, calls: Vec<(PathBuf, String, Value)>) -> Way {
        Way {
            name,
            calls,
            add: Vec::new(),
            del: Vec::new(),
        }
    }

    /// Calls ADD and DEL once in a fresh namespace.
    fn round(&mut self, host: &Netns, number: usize) {
        let pod = Netns::new("bench").unwrap();
        let container = format!("bench{number}");
        let all = |command: &str| {
            let run = || {
                let start = Instant::now();
                for (program, ifname, conf) in &self.calls {
                    call(program, command, &container, &pod, ifname, conf);
                }
                Ok(start.elapsed())
            };
            host.enter(run).unwrap()
        };
        let (add, del) = (all("ADD"), all("DEL"));
        self.add.push(add);
        self.del.push(del);
    }
}

fn call(program: &Path, command: &str, container: &str, pod: &Netns, ifname: &str, conf: &Value) {
    let file = tempfile::tempfile().unwrap();
    serde_json::to_writer(&file, conf).unwrap();
    std::io::Seek::rewind(&mut &file).unwrap();
    let output = Command::new(program)
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", pod.path())
        .env("CNI_IFNAME", ifname)
        .env("CNI_PATH", "/usr/lib/cni")
        .env(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=bench",
        )
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn bridge(name: &str, state: &Path, subnet: &str) -> Value {
    json!({"name": name, "cniVersion": "1.0.0", "type": "bridge", "bridge": name,
        "ipam": {"type": "host-local", "dataDir": state.join("ipam"),
            "ranges": [[{"subnet": subnet}]]}})
}

fn meta(state: &Path, delegate: &Value) -> Value {
    json!({"name": "bench", "cniVersion": "1.0.0", "type": "sluicegate",
        "cniDir": state.join("cni"), "confDir": state.join("none"), "delegates": [delegate],
        "logToStderr": false})
}

fn median(times: &[Duration]) -> f64 {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Runs the ways in turn, and prints the time of each and its difference to the first.
fn compare(title: &str, host: &Netns, ways: &mut [Way]) {
    for round in 0..ROUNDS + 2 {
        for way in &mut *ways {
            way.round(host, round);
        }
        if round < 2 {
            // Bridges are made, files are cached.
            for way in &mut *ways {
                way.add.clear();
                way.del.clear();
            }
        }
    }
    println!("{title}: median of {ROUNDS}, ms");
    println!(
        "  {:<44} {:>7} {:>7} {:>9} {:>9}",
        "", "ADD", "DEL", "+ADD", "+DEL"
    );
    let (add, del) = (median(&ways[0].add), median(&ways[0].del));
    for way in ways {
        let (a, d) = (median(&way.add), median(&way.del));
        println!(
            "  {:<44} {a:>7.2} {d:>7.2} {:>9.2} {:>9.2}",
            way.name,
            a - add,
            d - del
        );
    }
}

/// Prints what a start costs: VERSION of both plugins, which does nothing else.
fn starts() {
    println!("start: VERSION of {STARTS} calls in turn, ms");
    println!("{:>16} {:>9} {:>9} {:>9}", "", "least", "quartile", "bytes");
    let names = ["sluicegate", "sluicegate-vf"];
    let mut times = names.map(|_| Vec::new());
    for _ in 0..STARTS {
        for (name, times) in names.iter().zip(&mut times) {
            let start = Instant::now();
            let mut command = Command::new(bin(name));
            command.env_clear().env("CNI_COMMAND", "VERSION");
            command.stdin(Stdio::null()).stdout(Stdio::null());
            assert!(command.status().unwrap().success());
            times.push(start.elapsed());
        }
    }
    for (name, mut times) in names.iter().zip(times) {
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let bytes = std::fs::metadata(bin(name)).unwrap().len();
        let (least, quartile) = (ms(times[0]), ms(times[times.len() / 4]));
        println!("{name:>16} {least:>9.2} {quartile:>9.2} {bytes:>9}");
    }
    println!();
}

fn main() {
    // `cargo test` runs benches too, with this argument, to see that they start.
    if std::env::args().any(|arg| arg == "--test") || !sluice_tests::root_or_skip("bench cni") {
        return;
    }
    starts();
    let memory = tempfile::TempDir::with_prefix_in("sg-bench-", "/dev/shm").unwrap();
    let disk = tempfile::TempDir::with_prefix_in("sg-bench-", "/var/tmp").unwrap();
    let sluicegate = || bin("sluicegate");
    let eth0 = || "eth0".to_owned();
    let host = Netns::new("host").unwrap();
    for (state, title) in [
        (memory.path(), "no API server, state on tmpfs"),
        (disk.path(), "no API server, state on disk"),
    ] {
        let conf = bridge("br0", state, "10.61.0.0/16");
        let mut ways = [
            Way::new("bridge", vec![(BRIDGE.into(), eth0(), conf.clone())]),
            Way::new(
                "sluicegate",
                vec![(sluicegate(), eth0(), meta(state, &conf))],
            ),
        ];
        compare(title, &host, &mut ways);
    }
    let Some(programs) = std::env::var_os("SLUICE_CLUSTER").map(PathBuf::from) else {
        println!("SLUICE_CLUSTER is not set: nothing was measured against an API server");
        return;
    };
    let node = Node::start(
        Setup::new().unwrap(),
        |_| json!({"cniVersion": "1.0.0", "name": "n", "plugins": []}),
    )
    .unwrap();
    let cluster = Cluster::start(&node, &programs).unwrap();
    let state = memory.path();
    let (first, second) = (
        bridge("br1", state, "10.62.0.0/16"),
        bridge("br2", state, "10.63.0.0/16"),
    );
    cluster.network(&node.netns, "second", &second).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default",
        "name": "bench", "annotations": {"k8s.v1.cni.cncf.io/networks": "second"}},
        "spec": {"automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": IMAGE}]}});
    cluster.create(&node.netns, &pod).unwrap();
    let mut conf = meta(state, &first);
    conf["kubeconfig"] = json!(cluster.kubeconfig("admin", ADMIN).unwrap());
    let twice = vec![
        (BRIDGE.into(), eth0(), first.clone()),
        (BRIDGE.into(), "net1".to_owned(), second),
    ];
    let mut ways = [
        Way::new("bridge twice", twice),
        Way::new(
            "sluicegate, one annotated network",
            vec![(sluicegate(), eth0(), conf)],
        ),
    ];
    compare("kube-apiserver, state on tmpfs", &node.netns, &mut ways);
}
