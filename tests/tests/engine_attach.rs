// SPDX-License-Identifier: Apache-2.0
//! Attach and detach with real pods' namespaces, over memif and tap, and what is left when something
//! goes wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use engine_rig::fake_client::FakeClient;
use engine_rig::pod::{Place, PodMemif};
use engine_rig::{Node, PATIENCE, pod};
use serde_json::json;
use sluice_api::client::ClientError;
use sluice_api::{AttachRequest, ErrorCode, LinkState, MemifRole};
use sluice_memif::{Address, Role};
use sluice_packet::Mac;
use sluice_packet::build::{ArpFields, FrameBuilder};
use sluice_tests::{Process, Wire, root_or_skip, wait_for};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
/// Time in which a frame that must not come would have come.
const QUIET: Duration = Duration::from_millis(300);

fn refused(node: &Node, request: &AttachRequest, code: ErrorCode, why: &str) {
    match node.client().attach(request) {
        Err(ClientError::Refused(error)) => {
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(why), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// Asserts that nothing is attached and nothing recorded.
fn assert_empty(node: &Node) {
    assert!(node.client().attachments().unwrap().is_empty());
    assert_eq!(node.files("state/attachments"), [""; 0]);
    assert_eq!(node.client().status().unwrap().attachments, 0);
}

fn udp(dst: Mac, src: Mac, port: u16) -> Vec<u8> {
    let (host, pod) = (Ipv4Addr::new(10, 21, 0, 1), Ipv4Addr::new(10, 21, 0, 5));
    let (from, to) = if src == HOST {
        (host, pod)
    } else {
        (pod, host)
    };
    FrameBuilder::new(dst, src)
        .ipv4(from, to)
        .udp(4000, port)
        .payload(&[7; 40])
        .build()
}

/// Posts a body as it is and returns the whole answer.
fn raw_attach(node: &Node, body: &str) -> String {
    let client = node.client();
    let mut stream = UnixStream::connect(client.socket()).unwrap();
    let len = body.len();
    let request = format!(
        "POST /v1/attachments HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\
         Content-Length: {len}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_memif_from_attach_to_detach() {
    if !root_or_skip("a_memif_from_attach_to_detach") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let mut wire = Wire::open(&node.wire, "wire0").unwrap();
    let pod = pod();
    let request = node.request(&pod, "net1", json!({"addresses": ["10.21.0.5/24"]}));
    let reply = node.client().attach(&request).unwrap();
    assert_eq!(reply.socket.as_deref(), Some("@sluicegate/net1"));
    assert_eq!((reply.pod_role, reply.mtu), (Some(MemifRole::Client), 1500));
    assert!(reply.warnings.is_empty(), "{:?}", reply.warnings);
    let mac: Mac = reply.mac.parse().unwrap();
    assert!(mac.is_locally_administered() && mac.is_unicast());
    assert_eq!(node.attachment(&pod, "net1").link, LinkState::Down);

    let mut memif = PodMemif::client(&pod, "net1");
    memif.wait_up();
    node.wait_for_link(&pod, "net1", LinkState::Up);
    let peer = node.attachment(&pod, "net1").peer.unwrap();
    assert!(peer.contains("pod"), "{peer}");
    memif.send(&udp(HOST, mac, 9));
    let out = wire.receive(1, PATIENCE, |vid, frame| vid == 210 && frame[..6] == HOST.0);
    assert_eq!(out.len(), 1, "{}", node.log());
    wire.send(210, &[udp(mac, HOST, 1001), udp(mac, HOST, 2000)])
        .unwrap();
    let came = memif.receive(2, Duration::from_secs(2));
    assert_eq!(came, [udp(mac, HOST, 1001)], "port 2000 is denied");
    let counters = node.client().counters().unwrap();
    let calls = counters
        .rules
        .iter()
        .find(|rule| rule.rule == "calls")
        .unwrap();
    assert_eq!(calls.frames, 1);
    let attachment = &counters.attachments[&format!("{}/net1", pod.name())];
    assert_eq!(attachment.ingress_drops["denied"], 1);

    // Asked again, the same; asked otherwise, refused.
    assert_eq!(node.client().attach(&request).unwrap(), reply);
    let other = AttachRequest {
        mtu: Some(1400),
        ..request.clone()
    };
    refused(&node, &other, ErrorCode::Conflict, "attached already");
    node.wait_for_link(&pod, "net1", LinkState::Up);

    assert!(node.client().detach(pod.name(), "net1").unwrap().existed);
    assert!(memif.wait_down().contains("stopped"));
    assert!(!node.client().detach(pod.name(), "net1").unwrap().existed);
    let gone = node.client().attachment(pod.name(), "net1").unwrap_err();
    assert!(matches!(gone, ClientError::Refused(e) if e.code == ErrorCode::NotFound));
    assert_empty(&node);
    let memory = node.client().status().unwrap().memory;
    assert_eq!((memory.small.in_flight, memory.large.in_flight), (0, 0));
}

#[test]
fn an_engine_that_is_client_finds_the_pods_socket() {
    if !root_or_skip("an_engine_that_is_client_finds_the_pods_socket") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let pod = pod();
    let memif = json!({"backend": {"type": "memif", "role": "client"}});
    assert_eq!(
        node.attach(&pod, "net1", memif).pod_role,
        Some(MemifRole::Server)
    );
    wait_for("the engine to say what it waits for", PATIENCE, || {
        node.attachment(&pod, "net1")
            .last_down
            .filter(|reason| reason.contains("nobody listens"))
    })
    .unwrap();
    for _ in 0..2 {
        let place = Place::Abstract("sluicegate/net1".into());
        let mut server = PodMemif::open(&pod, Role::Server, place);
        server.wait_up();
        node.wait_for_link(&pod, "net1", LinkState::Up);
        drop(server);
        node.wait_for_link(&pod, "net1", LinkState::Down);
    }
}

/// Environment variable with the memif's path for [`a_pods_process`].
const POD_PROCESS: &str = "SLUICE_TESTS_POD_MEMIF";

/// Child process of [`sockets_by_path`] in the pod's namespace, as only such a process may use a memif's path;
/// no test by itself.
#[test]
fn a_pods_process() {
    let Some(path) = std::env::var_os(POD_PROCESS) else {
        return;
    };
    let address = Address::Path(path.into());
    let config = sluice_memif::EndpointConfig::new(Role::Client, "process");
    let mut memif = sluice_memif::Memif::open(config, address).unwrap();
    // Until it is killed.
    loop {
        while memif.change().is_some() {}
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sockets_by_path() {
    if !root_or_skip("sockets_by_path") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let pod = pod();
    let folder = node.path("sockets");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("memif.sock");
    let at = |role: &str, path: &std::path::Path| json!({"backend": {"type": "memif", "role": role, "socket": {"path": path}}});
    let reply = node.attach(&pod, "net1", at("server", &path));
    assert_eq!(reply.socket.as_deref(), path.to_str());
    let mut command = pod.command(std::env::current_exe().unwrap());
    command
        .args(["--exact", "a_pods_process"])
        .env(POD_PROCESS, &path);
    let inside = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null())).unwrap();
    node.wait_for_link(&pod, "net1", LinkState::Up);
    drop(inside);
    node.wait_for_link(&pod, "net1", LinkState::Down);

    // This process is none of the pod's, though it can reach the path.
    let outside = PodMemif::open(&pod, Role::Client, Place::Path(path.clone()));
    wait_for("the stranger to be refused", PATIENCE, || {
        node.attachment(&pod, "net1")
            .last_down
            .filter(|reason| reason.contains("was refused"))
    })
    .unwrap();
    assert_eq!(node.attachment(&pod, "net1").link, LinkState::Down);
    drop(outside);
    node.client().detach(pod.name(), "net1").unwrap();
    assert!(!path.exists(), "the engine removes its socket");

    // Where a pod could plant a link, none is followed.
    let link = node.path("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let request = node.request(&pod, "net1", at("client", &link.join("memif.sock")));
    refused(&node, &request, ErrorCode::Invalid, "not a link");
    assert_empty(&node);
}

#[test]
fn a_tap_is_a_netdev_in_the_pod() {
    if !root_or_skip("a_tap_is_a_netdev_in_the_pod") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let mut wire = Wire::open(&node.wire, "wire0").unwrap();
    let pod = pod();
    let tap = json!({"backend": {"type": "tap"}, "addresses": ["10.21.0.5/24"], "mtu": 1400});
    let request = node.request(&pod, "tap0", tap);
    let reply = node.client().attach(&request).unwrap();
    assert_eq!(
        (reply.socket, reply.pod_role, reply.mtu),
        (None, None, 1400)
    );
    let shown = pod.ip(&["addr", "show", "dev", "tap0"]).unwrap();
    for part in [reply.mac.as_str(), "mtu 1400", "10.21.0.5/24", "UP"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let asks = FrameBuilder::new(Mac::BROADCAST, HOST)
        .arp(ArpFields {
            operation: 1,
            sender_mac: HOST,
            sender_ip: [10, 21, 0, 1].into(),
            target_mac: Mac::ZERO,
            target_ip: [10, 21, 0, 5].into(),
        })
        .build();
    wire.send(210, &[asks]).unwrap();
    let answers = wire.receive(1, PATIENCE, |vid, frame| {
        vid == 210 && frame[..6] == HOST.0 && frame[12..14] == [8, 6]
    });
    assert_eq!(answers.len(), 1, "{}", node.log());
    assert_eq!(node.attachment(&pod, "tap0").link, LinkState::Up);

    // A name that the pod has already is not taken from it.
    let taken = AttachRequest {
        ifname: "lo".into(),
        addresses: Vec::new(),
        ..request
    };
    refused(&node, &taken, ErrorCode::Conflict, "interface lo already");
    node.client().detach(pod.name(), "tap0").unwrap();
    assert!(pod.ip(&["link", "show", "dev", "tap0"]).is_err());
    assert_empty(&node);
}

#[test]
fn an_address_of_another_pod_is_refused_with_its_name_however_it_is_reached() {
    let name = "an_address_of_another_pod_is_refused_with_its_name_however_it_is_reached";
    if !root_or_skip(name) {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let (first, second) = (pod(), pod());
    let both = json!(["10.21.0.5/24", "fd21::5/64"]);
    node.attach(&first, "net1", json!({"addresses": both}));
    let holder = format!("belongs to {}/net1 in VLAN 210", first.name());
    let trunk = json!({"mode": "trunk", "vids": [210], "native": null});
    for with in [
        json!({"addresses": ["10.21.0.5/16"]}),
        json!({"addresses": ["fd21::5/64"]}),
        json!({"addresses": ["::ffff:10.21.0.5/120"]}),
        json!({"addresses": ["10.21.0.5/24"], "backend": {"type": "tap"}}),
        json!({"addresses": ["10.21.0.5/24"], "vlan": trunk}),
    ] {
        let request = node.request(&second, "net1", with.clone());
        refused(&node, &request, ErrorCode::Conflict, &holder);
    }
    // Nothing is left of them, and another VLAN is another network.
    let elsewhere = json!({"addresses": both, "vlan": {"mode": "access", "vid": 211}});
    node.attach(&second, "net1", elsewhere);
    for pod in [&first, &second] {
        node.client().detach(pod.name(), "net1").unwrap();
    }
    assert_empty(&node);
}

#[test]
fn a_refused_attach_leaves_nothing() {
    if !root_or_skip("a_refused_attach_leaves_nothing") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let pod = pod();
    let request = |with| node.request(&pod, "net1", with);
    for (with, code, why) in [
        (
            json!({"uplink": "wire9"}),
            ErrorCode::Invalid,
            "the uplinks are wire0",
        ),
        (
            json!({"firewall": "none"}),
            ErrorCode::Invalid,
            "the policies are voice",
        ),
        (
            json!({"mac": "01:00:00:00:00:01"}),
            ErrorCode::Invalid,
            "unicast",
        ),
        (json!({"mtu": 9000}), ErrorCode::Invalid, "68 to 1500"),
        (
            json!({"container_id": "../x"}),
            ErrorCode::Invalid,
            "container id",
        ),
        (
            json!({"ifname": "a/b"}),
            ErrorCode::Invalid,
            "interface name",
        ),
        (
            json!({"netns": {"path": "/no/such", "dev": 1, "ino": 1}}),
            ErrorCode::Invalid,
            "its pod is gone",
        ),
        (
            json!({"netns": {"path": "/etc/hostname", "dev": 1, "ino": 1}}),
            ErrorCode::Invalid,
            "not a network namespace",
        ),
        (
            json!({"netns": {"path": pod.path(), "dev": 1, "ino": 1}}),
            ErrorCode::Conflict,
            "was replaced",
        ),
    ] {
        refused(&node, &request(with), code, why);
    }
    // The client's types cannot hold such a VLAN.
    let mut body = serde_json::to_value(request(json!({}))).unwrap();
    body["vlan"]["vid"] = json!(4095);
    let answer = raw_attach(&node, &body.to_string());
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    assert!(
        answer.contains("\"invalid\"") && answer.contains("VLAN 4095"),
        "{answer}"
    );
    assert_empty(&node);
    // The last step fails: somebody listens on the socket already.
    let address = Address::Abstract("sluicegate/net1".into());
    let squatter = pod
        .enter(move || Ok(sluice_memif::Listener::bind(&address)?))
        .unwrap();
    refused(&node, &request(json!({})), ErrorCode::Conflict, "in use");
    assert_empty(&node);
    drop(squatter);
    node.attach(&pod, "net1", json!({}));

    // Nobody gets an address twice in a segment; elsewhere it may be had.
    let mac = node.attachment(&pod, "net1").mac;
    let twice = node.request(&pod, "net2", json!({"mac": mac}));
    refused(&node, &twice, ErrorCode::Conflict, "belongs to");
    let elsewhere = json!({"mac": mac, "vlan": {"mode": "access", "vid": 99}});
    let reply = node.attach(&pod, "net2", elsewhere);
    assert!(
        reply.warnings[0].contains("VLAN 99 of wire0 has no policy"),
        "{reply:?}"
    );
    let problems = node.client().health().unwrap().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("VLAN 99")),
        "{problems:?}"
    );
}

#[test]
fn detach_works_when_the_pod_is_gone() {
    if !root_or_skip("detach_works_when_the_pod_is_gone") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let pod = pod();
    let container = pod.name().to_owned();
    node.attach(&pod, "net1", json!({}));
    node.attach(&pod, "tap0", json!({"backend": {"type": "tap"}}));
    drop(pod);
    for ifname in ["net1", "tap0"] {
        assert!(node.client().detach(&container, ifname).unwrap().existed);
    }
    assert_empty(&node);
}

#[test]
fn a_pod_that_lies_loses_its_link_and_is_told() {
    if !root_or_skip("a_pod_that_lies_loses_its_link_and_is_told") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let pod = pod();
    node.attach(&pod, "net1", json!({}));
    node.attach(&pod, "net2", json!({}));
    let mut honest = PodMemif::client(&pod, "net2");
    honest.wait_up();
    let client = FakeClient::connect(&pod, "net1");
    node.wait_for_link(&pod, "net1", LinkState::Up);
    client.corrupt_ring();
    let told = client.disconnect_reason();
    node.wait_for_link(&pod, "net1", LinkState::Down);
    // The worker lets go of the port at once; its reason comes with the next look at events.
    let reason = wait_for("the reason", PATIENCE, || {
        node.attachment(&pod, "net1").last_down
    })
    .unwrap();
    assert!(
        !reason.is_empty() && reason.contains(&told),
        "{reason:?}, {told:?}"
    );
    // It may come back, and nobody else noticed.
    let _again = FakeClient::connect(&pod, "net1");
    node.wait_for_link(&pod, "net1", LinkState::Up);
    assert_eq!(node.attachment(&pod, "net2").link, LinkState::Up);
    assert_eq!(node.attachment(&pod, "net2").last_down, None);
}

#[test]
fn logged_decisions_reach_the_log() {
    if !root_or_skip("logged_decisions_reach_the_log") {
        return;
    }
    let node = Node::new();
    node.write_policy(
        "data.yaml",
        "name: data\nvlans: [220]\nrules:\n\
         - {name: no-web, direction: egress, protocol: udp, ports: [80], verdict: drop, log: true}\n",
    );
    let _engine = node.start();
    let pod = pod();
    let reply = node.attach(
        &pod,
        "net1",
        json!({"vlan": {"mode": "access", "vid": 220}}),
    );
    let mut memif = PodMemif::client(&pod, "net1");
    memif.wait_up();
    for _ in 0..1000 {
        memif.send(&udp(HOST, reply.mac.parse().unwrap(), 80));
    }
    let records = || {
        node.log()
            .lines()
            .filter(|line| line.contains("no-web"))
            .count()
    };
    let one = wait_for("a record", PATIENCE, || {
        let log = node.log();
        log.lines()
            .find(|line| line.contains("no-web"))
            .map(str::to_owned)
    })
    .unwrap();
    for part in [pod.name(), "data", "egress", "drop"] {
        assert!(one.contains(part), "{part}: {one}");
    }
    wait_for("all frames to be judged", PATIENCE, || {
        let rules = node.client().counters().unwrap().rules;
        rules
            .iter()
            .any(|rule| rule.rule == "no-web" && rule.frames == 1000)
            .then_some(())
    })
    .unwrap();
    std::thread::sleep(QUIET);
    assert!(
        records() < 500,
        "a flood of frames is not one of lines: {}",
        records()
    );
}

#[test]
fn many_pods_come_and_go_at_once() {
    if !root_or_skip("many_pods_come_and_go_at_once") {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let held = |what: &str| {
        let folder = format!("/proc/{}/{what}", engine.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = (held("fd"), held("task"));
    let pods: Vec<_> = (0..4).map(|_| pod()).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for pod in &pods {
            for number in 0..4 {
                let node = &node;
                scope.spawn(move || {
                    let ifname = format!("net{number}");
                    for _ in 0..3 {
                        node.attach(pod, &ifname, json!({}));
                        let status = node.attachment(pod, &ifname);
                        assert_eq!(status.request.container_id, pod.name());
                        assert!(node.client().detach(pod.name(), &ifname).unwrap().existed);
                    }
                });
            }
        }
    });
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert_empty(&node);
    std::thread::sleep(QUIET);
    let memory = node.client().status().unwrap().memory;
    assert_eq!((memory.small.in_flight, memory.large.in_flight), (0, 0));
    // Threads that serve requests may linger a while; nothing of an attachment may.
    let level = wait_for("fds and threads to be as before", PATIENCE, || {
        (held("fd") <= before.0 && held("task") <= before.1).then_some(())
    });
    assert!(
        level.is_ok(),
        "{before:?} before, {:?} now",
        (held("fd"), held("task"))
    );
    // Threads that serve requests may linger a while; nothing of an attachment may.
    let level = wait_for("fds and threads to be as before", PATIENCE, || {
        (held("fd") <= before.0 && held("task") <= before.1).then_some(())
    });
    assert!(
        level.is_ok(),
        "{before:?} before, {:?} now",
        (held("fd"), held("task"))
    );
}
