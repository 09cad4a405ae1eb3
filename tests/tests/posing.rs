// SPDX-License-Identifier: Apache-2.0
//! Pods that send as more than themselves, through the built engine: a router of the kernel, two keepalived,
//! a bridge with a host behind it; and a testpmd that was not told its MAC address.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;
mod testpmd_rig;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use engine_rig::{Engine, Node, PATIENCE, pod, text};
use serde_json::{Value, json};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, Process, Wire, program_or_skip, root_or_skip, run, wait_for};
use testpmd_rig::Testpmd;

/// Everything passes: these are not about policies.
const OPEN: &str = "name: open\nvlans: [210, 220]\ndefault: {ingress: accept, egress: accept}\n";

/// Node whose engine allows everything on its uplink.
struct Rig {
    // Goes first: its counters are looked at over the node's socket.
    _engine: Engine,
    node: Node,
}

impl Rig {
    fn start() -> Rig {
        let node = Node::new();
        node.write_policy("voice.yaml", OPEN);
        let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
        let open = format!("{config}posing: {{loosest: off, promiscuous: true}}\n");
        fs::write(node.path("sluiced.yaml"), open).unwrap();
        let engine = node.start();
        Rig {
            _engine: engine,
            node,
        }
    }

    /// Attaches a tap to `vid`; `address` may be empty.
    fn tap(&self, pod: &Netns, ifname: &str, vid: u16, address: &str, more: Value) -> Mac {
        let addresses: Vec<&str> = Some(address)
            .filter(|text| !text.is_empty())
            .into_iter()
            .collect();
        let mut with = json!({"backend": {"type": "tap"}, "addresses": addresses,
            "vlan": {"mode": "access", "vid": vid}});
        with.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.node.attach(pod, ifname, with).mac.parse().unwrap()
    }

    /// Frames of a pod that were dropped under `reason`.
    fn dropped(&self, pod: &Netns, ifname: &str, reason: &str) -> u64 {
        let counters = self.node.attachment(pod, ifname).counters;
        counters.egress_drops.get(reason).copied().unwrap_or(0)
    }

    /// Lines of the engine's log that hold all of `parts`.
    fn lines(&self, parts: &[&str]) -> usize {
        let log = self.node.log();
        let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
        log.lines().filter(has_all).count()
    }

    fn ctl(&self, args: &[&str]) -> String {
        text(&self.node.ctl(args))
    }
}

/// Answers to `count` pings.
fn ping(from: &Netns, to: &str, count: u32) -> u32 {
    let mut command = from.command("ping");
    let count = count.to_string();
    command.args(["-n", "-q", "-i", "0.02", "-W", "5", "-c", &count, to]);
    let output = text(&command.output().unwrap());
    let received = output.split(" received").next().unwrap();
    let number = received.rsplit([' ', ',']).next().unwrap();
    number.parse().unwrap_or_else(|_| panic!("{output}"))
}

#[test]
fn a_testpmd_without_its_mac_is_told_why() {
    if !testpmd_rig::can_run("a_testpmd_without_its_mac_is_told_why") {
        return;
    }
    let _alone = testpmd_rig::alone();
    let rig = Rig::start();
    let pod = pod();
    let mac = rig.node.attach(&pod, "net1", json!({})).mac;
    let spoofed = || rig.dropped(&pod, "net1", "spoofed_mac");
    let sent = || rig.node.attachment(&pod, "net1").counters.port.rx_frames;
    // With the MAC address that the attachment has, and with the one that DPDK makes up.
    for (with_mac, is_spoofed) in [(format!(",mac={mac}"), false), (String::new(), true)] {
        let arguments = format!(",socket-abstract=yes{with_mac}");
        let command = pod.command("dpdk-testpmd");
        let mut testpmd = Testpmd::start(command, "client", "sluicegate/net1", &arguments, 1);
        for line in ["stop", "set fwd txonly", "start"] {
            testpmd.say(line);
        }
        let before = sent();
        let some = || (sent() > before + 100).then_some(());
        assert!(
            wait_for("testpmd's frames", PATIENCE, some).is_ok(),
            "{}",
            testpmd.printed()
        );
        assert_eq!(spoofed() > 0, is_spoofed, "{}", rig.node.log());
        drop(testpmd);
    }
    let told = || (rig.lines(&["sends from MAC address"]) > 0).then_some(());
    wait_for("the line in the log", PATIENCE, told).unwrap();
    let line = [
        "sends from MAC address",
        "in VLAN 210",
        &mac,
        "mac= in --vdev",
        "allowedAddressPairs",
    ];
    assert_eq!(rig.lines(&line), 1, "{}", rig.node.log());
    let shown = rig.ctl(&["attachments"]);
    assert!(
        shown.contains("in VLAN 210: dropped as spoofed_mac"),
        "{shown}"
    );
    let shown = rig.ctl(&["attachments", "--verbose"]);
    assert!(shown.contains("mac= in --vdev"), "{shown}");
    let shown: Value = serde_json::from_str(&rig.ctl(&["attachments", "--json"])).unwrap();
    assert_eq!(shown[0]["spoofed"][0]["reason"], "spoofed_mac", "{shown}");
}

#[test]
fn a_router_between_two_vlans_forwards_if_its_network_says_so() {
    if !root_or_skip("a_router_between_two_vlans_forwards_if_its_network_says_so") {
        return;
    }
    let rig = Rig::start();
    let [left, router, right] = [pod(), pod(), pod()];
    rig.tap(&left, "net1", 210, "10.21.0.5/24", json!({}));
    rig.tap(&right, "net1", 220, "10.22.0.5/24", json!({}));
    for (host, to, gateway) in [
        (&left, "10.22.0.0/24", "10.21.0.1"),
        (&right, "10.21.0.0/24", "10.22.0.1"),
    ] {
        host.ip(&["route", "add", to, "via", gateway]).unwrap();
    }
    let legs = |names: [&str; 2], more: Value| {
        rig.tap(&router, names[0], 210, "10.21.0.1/24", more.clone());
        rig.tap(&router, names[1], 220, "10.22.0.1/24", more);
        let mut forward = router.command("sh");
        forward.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        run(&mut forward).unwrap();
    };

    legs(["net1", "net2"], json!({}));
    assert_eq!(ping(&left, "10.21.0.1", 1), 1, "the router itself");
    assert_eq!(ping(&left, "10.22.0.5", 20), 0);
    assert_eq!(rig.dropped(&router, "net2", "spoofed_ip"), 20);
    let line = [
        "sends from IP address 10.21.0.5 in VLAN 220",
        "\"antiSpoof\": \"mac\"",
    ];
    let told = || (rig.lines(&line) == 1).then_some(());
    assert!(
        wait_for("the line", PATIENCE, told).is_ok(),
        "{}",
        rig.node.log()
    );
    for leg in ["net1", "net2"] {
        assert!(
            rig.node
                .client()
                .detach(router.name(), leg)
                .unwrap()
                .existed
        );
    }

    legs(["net3", "net4"], json!({"anti_spoof": "mac"}));
    let mut flush = left.command("ip");
    run(flush.args(["neigh", "flush", "all"])).unwrap();
    right.ip(&["neigh", "flush", "all"]).unwrap();
    assert_eq!(ping(&left, "10.22.0.5", 20), 20, "{}", rig.node.log());
    for leg in ["net3", "net4"] {
        let drops = rig.node.attachment(&router, leg).counters.egress_drops;
        assert!(
            !drops.keys().any(|reason| reason.starts_with("spoofed")),
            "{drops:?}"
        );
    }
    let shown = rig.ctl(&["attachments", "--verbose"]);
    assert!(shown.contains("may pose as"), "{shown}");
}

/// A keepalived, on net1 of a pod, for the virtual address 10.21.0.1.
fn keepalived(rig: &Rig, pod: &Netns, priority: u8) -> Process {
    let file = |end: &str| rig.node.path(&format!("keepalived-{priority}.{end}"));
    let conf = format!(
        "global_defs {{\n router_id r{priority}\n vrrp_version 3\n}}\n\
         vrrp_instance gateway {{\n state BACKUP\n interface net1\n virtual_router_id 51\n \
         priority {priority}\n advert_int 0.2\n virtual_ipaddress {{\n  10.21.0.1/24 dev net1\n }}\n}}\n"
    );
    fs::write(file("conf"), conf).unwrap();
    let log = fs::File::create(file("log")).unwrap();
    let mut command = pod.command("keepalived");
    // In the foreground, VRRP alone, its log on standard error.
    command
        .args(["-n", "-l", "-D", "-P", "-f"])
        .arg(file("conf"));
    command
        .arg("-p")
        .arg(file("pid"))
        .arg("-r")
        .arg(file("vrrp.pid"));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Process::start(&mut command).unwrap()
}

#[test]
fn two_keepalived_hand_a_virtual_address_over() {
    let name = "two_keepalived_hand_a_virtual_address_over";
    if !program_or_skip(name, "keepalived") || !root_or_skip(name) {
        return;
    }
    let rig = Rig::start();
    let host = pod();
    rig.tap(&host, "net1", 210, "10.21.0.9/24", json!({}));
    let routers: Vec<(Arc<Netns>, Mac, Process)> = [(100, "10.21.0.2/24"), (90, "10.21.0.3/24")]
        .into_iter()
        .map(|(priority, address)| {
            let pod = pod();
            let pairs = json!({"allowed_address_pairs": [{"ip": "10.21.0.1"}]});
            let mac = rig.tap(&pod, "net1", 210, address, pairs);
            let process = keepalived(&rig, &pod, priority);
            (pod, mac, process)
        })
        .collect();
    let logs = || {
        let log =
            |priority| fs::read_to_string(rig.node.path(&format!("keepalived-{priority}.log")));
        format!("{:?}\n{:?}\n{}", log(100), log(90), rig.node.log())
    };
    let is_at = |mac: Mac| {
        let neighbour = host.ip(&["neigh", "show", "10.21.0.1"]).unwrap();
        ping(&host, "10.21.0.1", 1) == 1 && neighbour.contains(&mac.to_string())
    };
    let first = || is_at(routers[0].1).then_some(());
    assert!(
        wait_for("the first router", PATIENCE, first).is_ok(),
        "{}",
        logs()
    );
    assert_eq!(ping(&host, "10.21.0.1", 20), 20, "{}", logs());

    // Its pod is gone, and it says nothing any more.
    let gone = rig.node.client().detach(routers[0].0.name(), "net1");
    assert!(gone.unwrap().existed);
    let second = || is_at(routers[1].1).then_some(());
    assert!(
        wait_for("the second router", PATIENCE, second).is_ok(),
        "{}",
        logs()
    );
    assert_eq!(ping(&host, "10.21.0.1", 20), 20, "{}", logs());
    let drops = rig
        .node
        .attachment(&routers[1].0, "net1")
        .counters
        .egress_drops;
    let refused = |reason: &&String| reason.starts_with("spoofed") || *reason == "address_taken";
    assert_eq!(drops.keys().find(refused), None, "{}", logs());
    for (_, _, mut process) in routers {
        process.terminate(PATIENCE).unwrap();
    }
}

/// A DHCP client's first question (RFC 2131, section 2).
fn dhcp_discover(mac: Mac) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0x80, 0];
    message.resize(28, 0);
    message.extend(mac.0);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    message.resize(300, 0);
    FrameBuilder::new(Mac([0xff; 6]), mac)
        .ipv4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
        .udp(68, 67)
        .payload(&message)
        .build()
}

#[test]
fn a_host_behind_a_bridge_pod_gets_an_address_and_answers() {
    let name = "a_host_behind_a_bridge_pod_gets_an_address_and_answers";
    if !program_or_skip(name, "dnsmasq") || !root_or_skip(name) {
        return;
    }
    let rig = Rig::start();
    let [bridge, server] = [pod(), pod()];
    rig.tap(&bridge, "net1", 210, "", json!({"anti_spoof": "off"}));
    rig.tap(
        &server,
        "net1",
        210,
        "10.21.0.5/24",
        json!({"roles": ["dhcp-server"]}),
    );
    let behind = Netns::new("behind").unwrap();
    behind.veth("eth0", &bridge, "port0").unwrap();
    bridge
        .ip(&["link", "add", "br0", "type", "bridge"])
        .unwrap();
    for port in ["net1", "port0"] {
        bridge.ip(&["link", "set", port, "master", "br0"]).unwrap();
    }
    bridge.ip(&["link", "set", "br0", "up"]).unwrap();

    let mut dnsmasq = server.command("dnsmasq");
    let lease_file = format!("--dhcp-leasefile={}", rig.node.path("leases").display());
    dnsmasq
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=net1",
        ])
        .args([
            "--dhcp-range=10.21.0.100,10.21.0.120,255.255.255.0",
            "--no-ping",
            &lease_file,
        ])
        .args(["--pid-file", "--user=root"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _dnsmasq = Process::start(&mut dnsmasq).unwrap();
    let link = behind.ip(&["-o", "link", "show", "dev", "eth0"]).unwrap();
    let mac = link.split("link/ether ").nth(1).unwrap();
    let mac: Mac = mac.split(' ').next().unwrap().parse().unwrap();
    let mut wire = Wire::open(&behind, "eth0").unwrap();
    let offer = wait_for("an offer", PATIENCE, || {
        wire.send(0, &[dhcp_discover(mac)]).unwrap();
        let is_offer = |_: u16, frame: &[u8]| frame.len() > 300 && frame[34..38] == [0, 67, 0, 68];
        wire.receive(1, Duration::from_millis(500), is_offer).pop()
    });
    let (_, offer) = offer.unwrap_or_else(|error| panic!("{error}: {}", rig.node.log()));
    let address = Ipv4Addr::from([offer[58], offer[59], offer[60], offer[61]]);
    assert_eq!(address.octets()[..3], [10, 21, 0], "{offer:?}");

    let with_prefix = format!("{address}/24");
    behind
        .ip(&["address", "add", &with_prefix, "dev", "eth0"])
        .unwrap();
    assert_eq!(
        ping(&server, &address.to_string(), 20),
        20,
        "{}",
        rig.node.log()
    );
    assert_eq!(ping(&behind, "10.21.0.5", 20), 20, "{}", rig.node.log());
    let learned = rig.node.attachment(&bridge, "net1").learned;
    assert!(learned[&210].contains(&mac), "{learned:?}");
    let shown = rig.ctl(&["attachments", "--verbose"]);
    assert!(shown.contains(&format!("{mac} in VLAN 210")), "{shown}");
    assert_eq!(rig.dropped(&bridge, "net1", "spoofed_mac"), 0);
}
