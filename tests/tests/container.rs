// SPDX-License-Identifier: Apache-2.0
//! The engine in a container that a real containerd makes as the kubelet would: five capabilities, a read-only
//! root, the seccomp profile RuntimeDefault, no new privileges.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine_rig::PATIENCE;
use engine_rig::pod::PodMemif;
use serde_json::{Value, json};
use sluice_api::client::Client;
use sluice_api::{AttachRequest, LinkState};
use sluice_tests::cluster::{HostPath, Node, NodeContainer, Pod, Setup, programs_or_skip};
use sluice_tests::{Netns, bin, wait_for};

const IMAGE: &str = "sluicegate.test/engine:1";
const CAPABILITIES: [&str; 5] = [
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "IPC_LOCK",
];
const OPEN: &str = "name: open\nvlans: [0]\ndefault: {ingress: accept, egress: accept}\n";

/// Node with an uplink, the engine's image, and pods that are attached to the engine.
struct Rig {
    node: Node,
    wire: Netns,
}

impl Rig {
    fn new() -> Rig {
        let wire = Netns::new("wire").unwrap();
        let setup = Setup::new().unwrap();
        wire.veth("wire0", &setup.netns, "up0").unwrap();
        let node = Node::start(setup, conflist).unwrap();
        for folder in ["sg-run", "sg-state", "sg-conf/policies"] {
            fs::create_dir_all(node.dir().join(folder)).unwrap();
        }
        fs::write(node.dir().join("sg-conf/policies/open.yaml"), OPEN).unwrap();
        let config = format!(
            "uplinks: [{{name: wire0, device: up0}}]\nworkers: {{pin: false}}\n\
             memory: {{small_mbufs: 4096, large_mbufs: 256, huge_pages: off}}\n\
             policies: {0}/sg-conf/policies\nstate_dir: {0}/sg-state\nrun_dir: {0}/sg-run\n",
            node.dir().display()
        );
        fs::write(node.dir().join("sg-conf/sluiced.yaml"), config).unwrap();
        let programs = [
            bin("sluiced"),
            bin("sluicectl"),
            PathBuf::from("/usr/sbin/nft"),
        ];
        node.image_of(IMAGE, &programs).unwrap();
        Rig { node, wire }
    }

    /// Container of the engine as it should be.
    fn container(&self, name: &str) -> NodeContainer {
        let at = |name: &str| self.node.dir().join(name);
        let mount = |path: PathBuf| HostPath {
            path,
            host_to_container: false,
        };
        let mut mounts: Vec<HostPath> = ["sg-run", "sg-state", "sg-conf"]
            .map(|folder| mount(at(folder)))
            .to_vec();
        mounts.push(HostPath {
            path: "/run/netns".into(),
            host_to_container: true,
        });
        let config = at("sg-conf/sluiced.yaml").display().to_string();
        NodeContainer {
            name: name.to_owned(),
            image: IMAGE.to_owned(),
            command: vec!["/usr/bin/sluiced".into(), "--config".into(), config],
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            mounts,
            host_pid: true,
        }
    }

    fn client(&self) -> Client {
        let socket = self.node.dir().join("sg-run/control/sluiced.sock");
        Client::new(socket).timeout(PATIENCE)
    }

    /// Log of a container.
    fn log(&self, name: &str) -> String {
        self.node.log(&format!("logs/{name}.log"))
    }

    /// Starts a container whose engine takes attachments.
    fn start(&self, container: &NodeContainer) -> Pod {
        let pod = self.node.cri.node_container(container).unwrap();
        let ready = wait_for("the engine in its container", PATIENCE, || {
            self.client().health().ok().filter(|health| health.ready)
        });
        assert!(ready.is_ok(), "{}", self.log(&container.name));
        pod
    }

    fn end(&self, pod: &Pod) {
        self.node.cri.stop(&pod.sandbox).unwrap();
        self.node.cri.remove(&pod.sandbox).unwrap();
    }

    /// Starts a container and waits until its log says `what`.
    fn fails(&self, container: &NodeContainer, what: &str) {
        let pod = self.node.cri.node_container(container).unwrap();
        let name = &container.name;
        let said = wait_for(what, PATIENCE, || {
            self.log(name).contains(what).then_some(())
        });
        assert!(
            said.is_ok(),
            "{name} does not say {what:?}: {}",
            self.log(name)
        );
        self.end(&pod);
    }

    /// Exchanges frames between the pod and the wire: the wire asks for the pod's address, and learns it.
    fn exchange(&self, pod: &mut PodMemif, address: &str, mac: &str) {
        self.wire.ip(&["neigh", "flush", "all"]).unwrap();
        let mut ping = self.wire.command("ping");
        let mut ping = ping.args(["-c", "5", "-W", "1", address]).spawn().unwrap();
        let asked = |frame: &Vec<u8>| frame.get(12..14) == Some(&[8, 6]) && frame.len() >= 42;
        let request = wait_for("the wire's ARP request", PATIENCE, || {
            let frames = pod.receive(1, Duration::from_millis(200));
            frames.into_iter().find(asked)
        });
        pod.send(&answer(&request.unwrap(), mac));
        let learned = wait_for("the pod's ARP reply", PATIENCE, || {
            let known = self.wire.ip(&["neigh", "show", "dev", "wire0"]).ok()?;
            known.contains(mac).then_some(())
        });
        assert!(learned.is_ok(), "{:?}", self.wire.ip(&["neigh"]));
        ping.kill().unwrap();
        ping.wait().unwrap();
    }
}

/// ARP reply of the pod to a request.
fn answer(request: &[u8], mac: &str) -> Vec<u8> {
    let mac: Vec<u8> = mac
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    let mut reply = [&request[6..12], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &mac].concat();
    reply.extend_from_slice(&request[38..42]);
    reply.extend_from_slice(&request[22..32]);
    reply.resize(60, 0);
    reply
}

fn conflist(dir: &Path) -> Value {
    let ipam = |subnet: &str| json!({"type": "host-local", "dataDir": dir.join("ipam"), "ranges": [[{"subnet": subnet}]]});
    let delegates = json!([
        {"type": "bridge", "masterplugin": true, "bridge": "cni0", "isGateway": true,
            "ipam": ipam("10.244.0.0/24")},
        {"type": "sluicegate-vf", "mode": "engine", "uplink": "wire0", "vlan": 0,
            "daemonSocket": dir.join("sg-run/control/sluiced.sock"),
            "stateDir": dir.join("sg-state"), "cniDir": dir.join("cni"), "LogFile": dir.join("cni.log"),
            "ipam": ipam("10.21.0.0/24")}
    ]);
    json!({"cniVersion": "1.0.0", "name": "node-network", "plugins": [
        {"type": "sluicegate", "cniDir": dir.join("cni"), "confDir": dir.join("nets"),
            "LogFile": dir.join("cni.log"), "binDir": dir.join("bin"), "delegates": delegates}]})
}

#[test]
fn an_unprivileged_container_serves_pods_on_a_netdev_uplink() {
    let case = "an_unprivileged_container_serves_pods_on_a_netdev_uplink";
    if programs_or_skip(case).is_none() {
        return;
    }
    let rig = Rig::new();
    rig.wire
        .ip(&["addr", "add", "10.21.0.254/24", "dev", "wire0"])
        .unwrap();
    let engine = rig.start(&rig.container("engine"));
    let status = rig.client().status().unwrap();
    assert_eq!(status.uplinks[0].link, LinkState::Up, "{status:?}");

    // A pod that is made after the engine.
    let pod = rig.node.cri.pod("later", &[]);
    let pod = pod.unwrap_or_else(|error| panic!("{error:#}\n{}", rig.log("engine")));
    let netns = Arc::new(rig.node.pod_netns(&pod.sandbox).unwrap());
    let found = rig.client().attachments().unwrap().remove(0);
    let AttachRequest {
        container_id,
        ifname,
        addresses,
        ..
    } = found.request;
    assert_eq!(container_id, pod.sandbox);
    let address = addresses[0].addr().to_string();
    let mut peer = PodMemif::client(&netns, &ifname);
    peer.wait_up();
    rig.exchange(&mut peer, &address, &found.mac);

    // The container is made anew: the attachment is served again, by its path.
    rig.end(&engine);
    let engine = rig.start(&rig.container("engine-again"));
    assert!(
        rig.log("engine-again")
            .contains("attachments served again: 1")
    );
    drop(peer);
    let mut peer = PodMemif::client(&netns, &ifname);
    peer.wait_up();
    rig.exchange(&mut peer, &address, &found.mac);
    rig.node.cri.stop(&pod.sandbox).unwrap();
    rig.node.cri.remove(&pod.sandbox).unwrap();
    assert!(rig.client().attachments().unwrap().is_empty());
    rig.end(&engine);
    assert_eq!(rig.node.leftovers(), [""; 0]);

    // Without the mount of namespaces an attach works, and says what a restart will not find.
    let mut blind = rig.container("engine-blind");
    blind.mounts.pop();
    let engine = rig.start(&blind);
    let pod = rig.node.cri.pod("unseen", &[]).unwrap();
    assert!(
        rig.node.log("cni.log").contains("HostToContainer"),
        "{}",
        rig.node.log("cni.log")
    );
    rig.end(&engine);
    let engine = rig.start(&blind_again(&blind));
    let problems = rig.client().health().unwrap().problems.join("\n");
    assert!(
        problems.contains("attached by a file descriptor"),
        "{problems}"
    );
    rig.node.cri.stop(&pod.sandbox).unwrap();
    rig.node.cri.remove(&pod.sandbox).unwrap();
    rig.end(&engine);
    assert_eq!(rig.node.leftovers(), [""; 0]);
}

fn blind_again(blind: &NodeContainer) -> NodeContainer {
    NodeContainer {
        name: "engine-blind-again".to_owned(),
        ..blind.clone()
    }
}

#[test]
fn a_container_without_a_capability_says_which() {
    let case = "a_container_without_a_capability_says_which";
    if programs_or_skip(case).is_none() {
        return;
    }
    let rig = Rig::new();
    let without = |missing: &str| {
        let name = format!("without-{}", missing.to_lowercase().replace('_', "-"));
        let mut container = rig.container(&name);
        container.capabilities.retain(|one| one != missing);
        container
    };
    // What the log says at the end of the start, beside the warning that names what is missing.
    for (missing, last) in [
        ("NET_ADMIN", "CAP_NET_ADMIN"),
        ("NET_RAW", "CAP_NET_RAW"),
        ("SYS_ADMIN", "CAP_SYS_ADMIN"),
    ] {
        let container = without(missing);
        rig.fails(&container, last);
        let log = rig.log(&container.name);
        assert!(
            log.contains(&format!("capabilities missing: {missing}")),
            "{log}"
        );
    }
    // These it starts without. Nobody may ask it, or it has no huge pages.
    let mut other_pids = rig.container("other-pids");
    other_pids.host_pid = false;
    for container in [without("SYS_PTRACE"), other_pids] {
        let pod = rig.node.cri.node_container(&container).unwrap();
        let answer = wait_for("an answer", PATIENCE, || match rig.client().health() {
            Err(error) if error.to_string().contains("cannot be seen") => Some(error.to_string()),
            _ => None,
        });
        let answer = answer.unwrap_or_else(|error| panic!("{error}: {}", rig.log(&container.name)));
        assert!(
            answer.contains("hostPID") && answer.contains("CAP_SYS_PTRACE"),
            "{answer}"
        );
        rig.end(&pod);
    }
    let engine = rig.start(&without("IPC_LOCK"));
    rig.end(&engine);
}
