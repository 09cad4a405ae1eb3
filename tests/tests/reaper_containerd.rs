// SPDX-License-Identifier: Apache-2.0
//! Reaper of the agent beside a real containerd: pods that ended without a DEL, and attachments whose records are lost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sluice_tests::cluster::{ADMIN, Cluster, Node, Pod, Setup, programs_or_skip};
use sluice_tests::{Netns, Process, run, wait_for};

const PATIENCE: Duration = Duration::from_secs(120);
/// Runs of the reaper, one a second, in which it has seen a thing for longer than the grace time of two seconds.
const RUNS: u64 = 5;

/// Node with engine and agent, whose pods have the primary network and an attachment.
struct Rig {
    node: Node,
    _wire: Netns,
    _engine: Process,
    _agent: Process,
}

impl Rig {
    /// Starts it; `more` is added to the agent's configuration, given the node's folder.
    fn start(setup: Setup, prepare: impl FnOnce(&Node) -> String) -> Rig {
        let wire = Netns::new("wire").unwrap();
        setup.netns.veth("wire0", &wire, "wire0").unwrap();
        let node = Node::start(setup, conflist).unwrap();
        let more = prepare(&node);
        let engine = node.engine().unwrap();
        let sections = format!(
            "{more}metrics: {{}}\nreaper: {{every: 1s, grace: 2s, cni_dir: {}/cni, host_mounts: false}}\n",
            node.dir().display()
        );
        let agent = node.agent(&sections).unwrap();
        Rig {
            node,
            _wire: wire,
            _engine: engine,
            _agent: agent,
        }
    }

    /// Sandboxes of the engine's attachments.
    fn attached(&self) -> Vec<String> {
        let attachments = self.node.engine_client().attachments().unwrap();
        let ids = attachments.into_iter().map(|one| one.request.container_id);
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }

    /// Records of the plugins and addresses in use that are a container's.
    fn holds(&self, container: &str) -> Vec<String> {
        let mut found = Vec::new();
        for folder in [
            "cni/sluicegate",
            "cni/sluicegate/vf",
            "ipam/pod-net",
            "ipam/att-net",
        ] {
            for file in files(&self.node.dir().join(folder)) {
                let text = fs::read_to_string(&file).unwrap_or_default();
                let name = file
                    .strip_prefix(self.node.dir())
                    .unwrap()
                    .display()
                    .to_string();
                if name.contains(container) || text.contains(container) {
                    found.push(name);
                }
            }
        }
        found
    }

    /// Sandbox's network namespace, as the engine knows it.
    fn netns(&self, sandbox: &str) -> PathBuf {
        let attachments = self.node.engine_client().attachments().unwrap();
        let mut of_pod = attachments
            .into_iter()
            .filter(|one| one.request.container_id == sandbox);
        of_pod.next().unwrap().request.netns.path
    }

    /// Kills the processes of a pod, as the kernel does when memory is short.
    fn kill(&self, pod: &Pod) {
        let tasks = self
            .node
            .dir()
            .join("state/io.containerd.runtime.v2.task/k8s.io");
        for id in [&pod.container, &pod.sandbox] {
            let pid = fs::read_to_string(tasks.join(id).join("init.pid")).unwrap();
            let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        }
        wait_for("containerd to see it", PATIENCE, || {
            let name = self.node.cri.sandboxes().ok()?;
            let (_, name) = name.into_iter().find(|(id, _)| *id == pod.sandbox)?;
            let ready = self.node.cri.ready_sandboxes().ok()?;
            (!ready.contains(&name)).then_some(())
        })
        .unwrap();
    }

    /// Takes the network namespace away, as a reboot or `ip netns delete` does.
    fn unmount(&self, netns: &Path) {
        run(self
            .node
            .command("umount")
            .unwrap()
            .arg("--lazy")
            .arg(netns))
        .unwrap();
        run(self.node.command("rm").unwrap().arg(netns)).unwrap();
    }

    /// Figure of the reaper.
    fn figure(&self, name: &str) -> Option<u64> {
        let text = self.node.netns.enter(|| {
            let mut stream = TcpStream::connect("127.0.0.1:10471")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(
                b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:10471\r\nConnection: close\r\n\r\n",
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let text = text.ok()?;
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until the reaper has looked often enough to have released whatever it would.
    fn let_it_look(&self) {
        let runs = || self.figure("sluicegate_reaper_runs_total");
        let before = wait_for("the agent", PATIENCE, runs).unwrap();
        wait_for("runs of the reaper", PATIENCE, || {
            (runs()? >= before + RUNS).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {}", self.node.log("agent.log")));
    }

    fn wait_detached(&self, sandbox: &str) {
        wait_for("the attachment to be released", PATIENCE, || {
            (!self.attached().iter().any(|one| one == sandbox)).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {}", self.node.log("agent.log")));
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_file()).collect()
}

fn conflist(dir: &Path) -> Value {
    let ipam = |subnet: &str| json!({"type": "host-local", "dataDir": dir.join("ipam"), "ranges": [[{"subnet": subnet}]]});
    let delegates = json!([
        {"name": "pod-net", "type": "bridge", "masterplugin": true, "bridge": "cni0", "isGateway": true,
            "ipam": ipam("10.244.0.0/24")},
        {"name": "att-net", "type": "sluicegate-vf", "mode": "engine", "uplink": "wire0", "vlan": 210,
            "daemonSocket": dir.join("run/control/sluiced.sock"), "stateDir": dir.join("state"),
            "cniDir": dir.join("cni"), "LogFile": dir.join("cni.log"), "ipam": ipam("10.21.0.0/24")}
    ]);
    json!({"cniVersion": "1.0.0", "name": "node-network", "plugins": [
        {"type": "sluicegate", "cniDir": dir.join("cni"), "confDir": dir.join("nets"),
            "LogFile": dir.join("cni.log"), "binDir": dir.join("bin"), "delegates": delegates}]})
}

#[test]
fn a_pod_of_containerd_that_ended_without_del_is_released() {
    let case = "a_pod_of_containerd_that_ended_without_del_is_released";
    if programs_or_skip(case).is_none() {
        return;
    }
    let rig = Rig::start(Setup::new().unwrap(), |_| String::new());
    let lives = rig.node.cri.pod("lives", &[]).unwrap().sandbox;
    let pod = rig.node.cri.pod("dies", &[]).unwrap();
    let dies = pod.sandbox.clone();
    let before = (rig.holds(&lives), rig.holds(&dies));
    assert_eq!((before.0.len(), before.1.len()), (4, 4), "{before:?}");
    let mut both = vec![lives.clone(), dies.clone()];
    both.sort();
    assert_eq!(rig.attached(), both);
    let netns = rig.netns(&dies);

    // Killed: nobody calls DEL, but the namespace is there, and the runtime may still call it.
    rig.kill(&pod);
    rig.let_it_look();
    assert_eq!((rig.holds(&dies), rig.attached()), (before.1, both));

    // The namespace goes too.
    rig.unmount(&netns);
    rig.wait_detached(&dies);
    wait_for("its records and addresses to be released", PATIENCE, || {
        rig.holds(&dies).is_empty().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", rig.holds(&dies)));
    assert!(
        !files(&rig.node.dir().join("state"))
            .iter()
            .any(|file| file.to_string_lossy().contains(&dies))
    );
    // Counted at the end of a run.
    wait_for("the reaper to count it", PATIENCE, || {
        (rig.figure("sluicegate_reaper_released_total")? >= 1).then_some(())
    })
    .unwrap();
    assert_eq!(rig.figure("sluicegate_reaper_failed_total"), Some(0));
    assert_eq!(rig.holds(&lives), before.0);
    assert_eq!(rig.attached(), std::slice::from_ref(&lives));
    assert_eq!(
        rig.node.veths().unwrap(),
        2,
        "of the wire, and of the pod that lives"
    );

    // The runtime's own DEL comes late, when another pod may have the address.
    let next = rig.node.cri.pod("next", &[]).unwrap().sandbox;
    let of_next = rig.holds(&next);
    rig.node.cri.stop(&dies).unwrap();
    rig.node.cri.remove(&dies).unwrap();
    assert_eq!((rig.holds(&lives), rig.holds(&next)), (before.0, of_next));
    assert_eq!(rig.attached().len(), 2);
    for sandbox in [&lives, &next] {
        rig.node.cri.stop(sandbox).unwrap();
        rig.node.cri.remove(sandbox).unwrap();
    }
    assert_eq!(
        (rig.attached().len(), rig.node.leftovers()),
        (0, Vec::new())
    );
}

/// Pod of the node in the API server; nobody but this test runs it. Returns its UID.
fn declare(cluster: &Cluster, node: &Node, name: &str) -> String {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns", "name": name},
        "spec": {"nodeName": "node", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i"}]}});
    cluster.create(&node.netns, &pod).unwrap();
    let made = cluster.pod(&node.netns, "ns", name).unwrap();
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[test]
fn an_attachment_without_a_record_is_detached_when_the_api_server_knows_no_such_pod() {
    let case = "an_attachment_without_a_record_is_detached_when_the_api_server_knows_no_such_pod";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    let mut cluster = None;
    let rig = Rig::start(Setup::new().unwrap(), |node| {
        let started = Cluster::start(node, &programs).unwrap();
        let kubeconfig = started.kubeconfig("admin", ADMIN).unwrap();
        cluster = Some(started);
        format!("node: node\nkubeconfig: {}\n", kubeconfig.display())
    });
    let mut cluster = cluster.unwrap();
    let netns = &rig.node.netns;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}});
    cluster.create(netns, &namespace).unwrap();
    let uid = declare(&cluster, &rig.node, "known");
    let pods = [
        rig.node.cri.pod_of("known", &uid).unwrap(),
        rig.node.cri.pod("forgotten", &[]).unwrap(),
    ];
    let [known, forgotten] = pods.each_ref().map(|pod| pod.sandbox.clone());
    let lives = rig.node.cri.pod("lives", &[]).unwrap().sandbox;

    // The records are lost, of the pod that lives too.
    for sandbox in [&known, &forgotten, &lives] {
        for folder in ["cni/sluicegate", "cni/sluicegate/vf"] {
            for file in files(&rig.node.dir().join(folder)) {
                if file
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(sandbox.as_str())
                {
                    fs::remove_file(file).unwrap();
                }
            }
        }
    }
    // Without an API server nothing can be told.
    cluster.kill();
    for pod in &pods {
        let path = rig.netns(&pod.sandbox);
        rig.kill(pod);
        rig.unmount(&path);
    }
    rig.let_it_look();
    assert_eq!(rig.attached().len(), 3);

    cluster.serve(netns).unwrap();
    rig.wait_detached(&forgotten);
    rig.let_it_look();
    let mut left = vec![known.clone(), lives.clone()];
    left.sort();
    assert_eq!(rig.attached(), left);
    // No kubelet confirms its end.
    let path = "/api/v1/namespaces/ns/pods/known?gracePeriodSeconds=0";
    cluster.must(netns, "DELETE", path, &Value::Null).unwrap();
    rig.wait_detached(&known);
    rig.let_it_look();
    assert_eq!(rig.attached(), [lives]);
}
