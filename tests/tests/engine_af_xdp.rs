// SPDX-License-Identifier: Apache-2.0
//! Engine whose uplink is a netdev past the kernel's stack, over AF_XDP: pods' frames pass it behind their policy,
//! the netdev comes back as it was, and where tags could be lost it is not taken.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::time::Duration;

use engine_rig::pod::PodMemif;
use engine_rig::{Engine, Node, PATIENCE, pod, text};
use serde_json::json;
use sluice_mem::offloads::{Offloads, RX_VLAN, TX_VLAN};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, Wire, root_or_skip, wait_for};

/// MAC address of the host at the far end of the wire.
const HOST: Mac = Mac::new([2, 0, 0, 0, 0, 0xee]);
const HOST_IP: [u8; 4] = [10, 21, 0, 1];
const POD_IP: [u8; 4] = [10, 21, 0, 5];
/// Frames of one run each way.
const FRAMES: usize = 200;

/// Node whose uplink has these keys besides its name and device, and whose wire keeps tags in the frames.
fn node(keys: &str) -> Node {
    let node = Node::new();
    set(&node.wire, "wire0", &TX_VLAN, false);
    let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
    let (_, rest) = config.split_once('\n').unwrap();
    let uplinks = format!("uplinks: [{{name: wire0, device: up0, {keys}}}]\n{rest}");
    fs::write(node.path("sluiced.yaml"), uplinks).unwrap();
    node
}

fn set(netns: &Netns, device: &'static str, names: &[&'static str], on: bool) {
    let names = names.to_vec();
    let so = netns.enter(move || {
        let offloads = Offloads::open(device)?;
        for name in names {
            assert!(offloads.set(name, on)?, "{device}: {name}");
        }
        Ok(())
    });
    so.unwrap();
}

/// Whether the uplink's netdev takes tags out of frames, and whether it has an XDP program.
fn state(node: &Node) -> (bool, bool) {
    let active = node.netns.enter(|| {
        let offload = Offloads::open("up0")?.get(RX_VLAN[0])?;
        Ok(offload.is_some_and(|offload| offload.active))
    });
    let shown = node.netns.ip(&["link", "show", "dev", "up0"]).unwrap();
    (active.unwrap(), shown.contains("prog/xdp"))
}

/// Driver of the uplink and the reason for it.
fn driver(node: &Node) -> (String, String) {
    let uplink = node.client().status().unwrap().uplinks.remove(0);
    (uplink.driver, uplink.driver_reason.unwrap_or_default())
}

fn udp(to: (Mac, [u8; 4]), from: (Mac, [u8; 4]), port: u16) -> Vec<u8> {
    FrameBuilder::new(to.0, from.0)
        .ipv4(from.1.into(), to.1.into())
        .udp(4000, port)
        .payload(b"0123456789")
        .build()
}

/// Sends frames both ways: every other one from the host is for a port that the policy shuts.
fn exchange(node: &Node) {
    let pod_netns = pod();
    let mac: Mac = node
        .attach(&pod_netns, "net1", json!({}))
        .mac
        .parse()
        .unwrap();
    let mut memif = PodMemif::client(&pod_netns, "net1");
    memif.wait_up();
    let mut wire = Wire::open(&node.wire, "wire0").unwrap();
    let from_host = |port| udp((mac, POD_IP), (HOST, HOST_IP), port);
    let sent: Vec<_> = (0..2 * FRAMES)
        .map(|number| from_host(if number % 2 == 0 { 1500 } else { 80 }))
        .collect();
    wire.send(210, &sent).unwrap();
    let got = memif.receive(FRAMES, PATIENCE);
    assert_eq!(got.len(), FRAMES, "log:\n{}", node.log());
    assert!(got.iter().all(|frame| *frame == from_host(1500)));
    let more = memif.receive(1, Duration::from_millis(100));
    assert!(more.is_empty(), "the policy shuts these out: {more:?}");
    for _ in 0..FRAMES {
        memif.send(&udp((HOST, HOST_IP), (mac, POD_IP), 2000));
    }
    let ours = |vid, frame: &[u8]| vid == 210 && frame[6..12] == mac.0;
    let got = wire.receive(FRAMES, PATIENCE, ours);
    assert_eq!(got.len(), FRAMES);
    node.client().detach(pod_netns.name(), "net1").unwrap();
}

fn end(node: &Node, mut engine: Engine) {
    let ended = engine.terminate(PATIENCE);
    assert!(matches!(ended, Ok(Some(0))), "{ended:?}\n{}", node.log());
}

#[test]
fn pods_pass_an_af_xdp_uplink_and_its_netdev_comes_back_as_it_was() {
    if !root_or_skip("pods_pass_an_af_xdp_uplink_and_its_netdev_comes_back_as_it_was") {
        return;
    }
    let node = node("driver: af_xdp, tags_in_frames: true, ring_frames: 512");
    set(&node.netns, "up0", &RX_VLAN[..1], true);
    assert_eq!(state(&node), (true, false));

    let engine = node.start();
    let (name, reason) = driver(&node);
    assert_eq!(name, "af_xdp");
    assert_eq!(
        reason,
        "the configuration names it; native, copy, 1 receive queue(s)"
    );
    let shown = text(&node.ctl(&["status"]));
    assert!(shown.contains(&reason), "{shown}");
    assert_eq!(state(&node), (false, true));
    exchange(&node);
    end(&node, engine);
    assert_eq!(state(&node), (true, false));

    // A killed engine leaves no program; what it switched off its successor gives back.
    let mut engine = node.start();
    engine.kill();
    let gone = wait_for("the program's end", PATIENCE, || {
        (!state(&node).1).then_some(())
    });
    assert!(gone.is_ok());
    assert!(!state(&node).0, "nobody has switched it on again yet");
    let engine = node.start();
    exchange(&node);
    end(&node, engine);
    assert_eq!(state(&node), (true, false));
}

#[test]
fn a_netdev_whose_tags_could_be_lost_is_left_to_af_packet_or_refused() {
    if !root_or_skip("a_netdev_whose_tags_could_be_lost_is_left_to_af_packet_or_refused") {
        return;
    }
    let why = "the other end of veth up0 is in another network namespace";
    let auto = node("driver: auto");
    let engine = auto.start();
    let (name, reason) = driver(&auto);
    assert_eq!(name, "af_packet");
    assert!(
        reason.starts_with("auto: the device is a netdev; AF_XDP is not possible")
            && reason.contains(why),
        "{reason}"
    );
    exchange(&auto);
    end(&auto, engine);

    let strict = node("driver: af_xdp");
    let output = strict.sluiced(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.contains(why) && said.contains("tags_in_frames: true"),
        "{said}"
    );
    assert!(!state(&strict).1);

    // Too large an MTU for an mbuf is a reason of its own.
    let long = node("driver: auto, tags_in_frames: true");
    long.wire
        .ip(&["link", "set", "wire0", "mtu", "9000"])
        .unwrap();
    long.netns
        .ip(&["link", "set", "up0", "mtu", "9000"])
        .unwrap();
    let engine = long.start();
    let (name, reason) = driver(&long);
    assert_eq!(name, "af_packet");
    assert!(reason.contains("MTU of 9000"), "{reason}");
    end(&long, engine);
}
