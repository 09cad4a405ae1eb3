// SPDX-License-Identifier: Apache-2.0
//! Engine built with DPDK, whose uplink is one of DPDK's software devices: pods' frames pass it both ways behind
//! their policy, and every buffer comes home.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use engine_rig::pod::{Place, PodMemif};
use engine_rig::{Engine, Node, PATIENCE, pod, text};
use serde_json::json;
use sluice_api::LinkState;
use sluice_memif::Role;
use sluice_packet::build::FrameBuilder;
use sluice_packet::{Mac, VlanTag};
use sluice_tests::{Netns, Wire, root_or_skip, skip, wait_for};

/// MAC address of the host at the far end of the wire.
const HOST: Mac = Mac::new([2, 0, 0, 0, 0, 0xee]);
const HOST_IP: [u8; 4] = [10, 21, 0, 1];
const POD_IP: [u8; 4] = [10, 21, 0, 5];
/// UDP port that the policy lets in, and one that it does not.
const OPEN: u16 = 1500;
const SHUT: u16 = 80;
/// Frames of one run each way.
const FRAMES: usize = 200;

/// Returns the engine that was built with DPDK; without one notes the skip.
fn sluiced_or_skip(test: &str) -> Option<PathBuf> {
    if !root_or_skip(test) {
        return None;
    }
    let built = std::env::var_os("SLUICE_DPDK_SLUICED").map(PathBuf::from);
    let built = built.filter(|program| program.is_file());
    if built.is_none() {
        skip(test, "no engine was built with DPDK (make test-dpdk)");
    }
    built
}

/// Node whose engine has `uplink`, written as YAML, as its one uplink.
fn node(uplink: &str) -> Node {
    let node = Node::new();
    let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
    let (_, rest) = config.split_once('\n').unwrap();
    fs::write(
        node.path("sluiced.yaml"),
        format!("uplinks: [{uplink}]\n{rest}"),
    )
    .unwrap();
    node
}

fn udp(to: (Mac, [u8; 4]), from: (Mac, [u8; 4]), port: u16, number: usize) -> Vec<u8> {
    FrameBuilder::new(to.0, from.0)
        .ipv4(from.1.into(), to.1.into())
        .udp(4000, port)
        .payload(&number.to_le_bytes())
        .build()
}

/// Pod with a memif on VLAN 210.
struct Pod {
    _netns: Arc<Netns>,
    mac: Mac,
    memif: PodMemif,
}

impl Pod {
    fn new(node: &Node) -> Pod {
        let netns = pod();
        let mac = node.attach(&netns, "net1", json!({})).mac.parse().unwrap();
        let mut memif = PodMemif::client(&netns, "net1");
        memif.wait_up();
        Pod {
            _netns: netns,
            mac,
            memif,
        }
    }

    /// Frames from the host for the pod: every other one to a port that is shut.
    fn frames_of_host(&self) -> Vec<Vec<u8>> {
        let to = (self.mac, POD_IP);
        let frame = |number: usize| {
            let port = if number.is_multiple_of(2) { OPEN } else { SHUT };
            udp(to, (HOST, HOST_IP), port, number)
        };
        (0..2 * FRAMES).map(frame).collect()
    }

    /// Frames from the pod for the host.
    fn frames_of_pod(&self) -> Vec<Vec<u8>> {
        let frame = |number| udp((HOST, HOST_IP), (self.mac, POD_IP), 2000, number);
        (0..FRAMES).map(frame).collect()
    }

    /// Checks that the pod gets exactly those of [`Pod::frames_of_host`] that its policy lets in.
    fn gets_what_its_policy_lets_in(&mut self) {
        let sent = self.frames_of_host();
        let got = self.memif.receive(FRAMES, PATIENCE);
        let expected: Vec<_> = sent.iter().step_by(2).cloned().collect();
        assert_eq!(got.len(), expected.len());
        assert!(got == expected, "frames came changed or out of order");
        let more = self.memif.receive(1, Duration::from_millis(100));
        assert!(more.is_empty(), "the policy shuts these out: {more:?}");
    }
}

/// Checks the status of the uplink, and ends the engine in order: with a buffer missing it would not end well.
fn check_and_end(node: &Node, mut engine: Engine, device: &str, reason: &str) {
    let status = node.client().status().unwrap();
    let uplink = status.uplinks.first().unwrap();
    assert_eq!(
        (uplink.driver.as_str(), uplink.device.as_str()),
        ("dpdk", device)
    );
    assert_eq!(uplink.driver_reason.as_deref(), Some(reason));
    assert_eq!(uplink.link, LinkState::Up);
    assert!(uplink.counters.rx_frames >= 2 * FRAMES as u64, "{uplink:?}");
    assert!(uplink.counters.tx_frames >= FRAMES as u64, "{uplink:?}");
    let shown = text(&node.ctl(&["status"]));
    assert!(shown.contains("dpdk") && shown.contains(reason), "{shown}");
    sluice_tests::assert_conserved(&node.client());
    end(node, &mut engine);
}

/// Ends an engine by SIGTERM, which exits with 0 only if every buffer is home.
fn end(node: &Node, engine: &mut Engine) {
    let ended = engine.terminate(PATIENCE);
    let log = node.log();
    assert!(
        matches!(ended, Ok(Some(0))),
        "{ended:?}; log of the engine:\n{log}"
    );
    assert!(!log.contains("its driver kept"), "{log}");
}

#[test]
fn pods_behind_a_tap_of_dpdks_get_what_their_policy_lets_in() {
    let test = "pods_behind_a_tap_of_dpdks_get_what_their_policy_lets_in";
    let Some(sluiced) = sluiced_or_skip(test) else {
        return;
    };
    let node = node("{name: wire0, vdev: \"net_tap0,iface=dtap0\"}");
    let engine = node.start_as(Command::new(sluiced));
    let mut wire = Wire::open(&node.netns, "dtap0").unwrap();
    let mut pod = Pod::new(&node);
    wire.send(210, &pod.frames_of_host()).unwrap();
    pod.gets_what_its_policy_lets_in();
    let sent = pod.frames_of_pod();
    for frame in &sent {
        pod.memif.send(frame);
    }
    let got = wire
        .receive(FRAMES, PATIENCE, |vid, frame| {
            vid == 210 && frame[6..12] == pod.mac.0
        })
        .len();
    assert_eq!(got, FRAMES);
    check_and_end(
        &node,
        engine,
        "net_tap0,iface=dtap0",
        "auto: the device is DPDK's own",
    );
}

#[test]
fn net_memif_speaks_with_our_own_memif() {
    let test = "net_memif_speaks_with_our_own_memif";
    let Some(sluiced) = sluiced_or_skip(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("wire.sock");
    let device = format!(
        "net_memif0,role=client,socket-abstract=no,socket={}",
        socket.display()
    );
    let node = node(&format!(
        "{{name: wire0, driver: dpdk, vdev: \"{device}\"}}"
    ));
    let far = pod();
    let mut wire = PodMemif::open(&far, Role::Server, Place::Path(socket));
    let engine = node.start_as(Command::new(sluiced));
    wire.wait_up();
    let up = wait_for("the uplink", PATIENCE, || {
        let status = node.client().status().unwrap();
        (status.uplinks.first()?.link == LinkState::Up).then_some(())
    });
    assert!(up.is_ok(), "{}", node.log());
    let mut pod = Pod::new(&node);
    for frame in pod.frames_of_host() {
        wire.send(&tagged(&frame));
    }
    pod.gets_what_its_policy_lets_in();
    let sent = pod.frames_of_pod();
    for frame in &sent {
        pod.memif.send(frame);
    }
    let got = wire.receive(FRAMES, PATIENCE);
    let expected: Vec<_> = sent.iter().map(|frame| tagged(frame)).collect();
    assert!(
        got == expected,
        "{} of {} frames came",
        got.len(),
        expected.len()
    );
    check_and_end(&node, engine, &device, "the configuration names it");
}

/// Frame with a tag of VLAN 210, and as long as Ethernet has them.
fn tagged(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 210,
    };
    bytes.splice(12..12, tag.to_bytes());
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

#[test]
fn a_device_that_cannot_be_opened_says_why_in_dpdks_words() {
    let test = "a_device_that_cannot_be_opened_says_why_in_dpdks_words";
    let Some(sluiced) = sluiced_or_skip(test) else {
        return;
    };
    let node = node("{name: wire0, vdev: \"net_pcap0,rx_pcap=/no/such.pcap\"}");
    let mut command = Command::new(sluiced);
    command.arg("--config").arg(node.path("sluiced.yaml"));
    let output = node.netns.enter(move || Ok(command.output()?)).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    let expected = "uplink wire0 cannot be opened: net_pcap0: rte_dev_probe failed";
    assert!(said.contains(expected), "{said}");
    assert!(
        said.contains("/no/such.pcap: No such file or directory"),
        "{said}"
    );
}
