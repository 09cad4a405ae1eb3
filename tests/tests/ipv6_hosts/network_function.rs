// SPDX-License-Identifier: Apache-2.0
//! Network function on a memif: kernels on the wire and on a tap find it by neighbour discovery, and talk to it.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sluice_tests::{Netns, Process, bin, program_or_skip, root_or_skip, wait_for};

use crate::engine_rig::PATIENCE;
use crate::{node, ping, private_pod};

/// Address of the network function.
const FUNCTION: &str = "2001:db8:210::9";

/// Starts a network function on the memif of a pod, which has [`FUNCTION`].
fn function(pod: &Netns, mac: &str) -> Process {
    let mut command = pod.command(bin("vnf"));
    let memif =
        format!("socket=@sluicegate/net1,mac={mac},ip={FUNCTION}/64,gateway=2001:db8:210::1");
    command.arg("--memif").arg(memif).stdout(Stdio::null());
    Process::start(&mut command).unwrap()
}

/// MAC address that a kernel has found for an address.
fn neighbour(netns: &Netns, device: &str, address: &str) -> Option<String> {
    let shown = netns.ip(&["-6", "neigh", "show", address, "dev", device]);
    let shown = shown.unwrap();
    let mut words = shown
        .split_whitespace()
        .skip_while(|word| *word != "lladdr");
    words.nth(1).map(str::to_owned)
}

/// Whether the echo service of the network function answers a datagram.
fn echoes(from: &Netns) -> bool {
    let socket = from.enter(|| Ok(UdpSocket::bind(("::", 0))?)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut answer = [0; 64];
    socket.send_to(b"echo", (FUNCTION, 7)).is_ok()
        && socket
            .recv(&mut answer)
            .is_ok_and(|len| answer[..len] == *b"echo")
}

#[test]
fn a_network_function_on_a_memif_is_found_by_kernels_on_the_wire_and_on_a_tap() {
    let name = "a_network_function_on_a_memif_is_found_by_kernels_on_the_wire_and_on_a_tap";
    if !root_or_skip(name) || !program_or_skip(name, "ping") {
        return;
    }
    let node = node();
    let _engine = node.start();
    let [memif, tap] = [private_pod(), private_pod()];
    let with = |backend: &str, address: &str| json!({"vlan": {"mode": "access", "vid": 0}, "backend": {"type": backend}, "addresses": [address]});
    let mac = node
        .attach(&memif, "net1", with("memif", "2001:db8:210::9/64"))
        .mac;
    node.attach(&tap, "net1", with("tap", "2001:db8:210::5/64"));
    let _function = function(&memif, &mac);
    node.wait_for_link(&memif, "net1", sluice_api::LinkState::Up);

    for (from, device) in [(&node.wire, "wire0"), (&*tap, "net1")] {
        wait_for("an answer to a ping", PATIENCE, || {
            ping(from, FUNCTION).then_some(())
        })
        .unwrap();
        assert_eq!(neighbour(from, device, FUNCTION).as_ref(), Some(&mac));
        wait_for("an echo", PATIENCE, || echoes(from).then_some(())).unwrap();
    }
    let counters = node.attachment(&memif, "net1").counters;
    for reason in ["spoofed_ip", "spoofed_mac", "spoofed_nd", "denied"] {
        assert_eq!(counters.egress_drops.get(reason), None, "{counters:?}");
    }

    // The same function behind an address that it was not given: nobody hears its advertisements.
    node.client().detach(memif.name(), "net1").unwrap();
    let other = private_pod();
    let mac = node
        .attach(&other, "net1", with("memif", "2001:db8:210::8/64"))
        .mac;
    let _function = function(&other, &mac);
    node.wait_for_link(&other, "net1", sluice_api::LinkState::Up);
    for netns in [&node.wire, &*tap] {
        let device = if netns.name() == tap.name() {
            "net1"
        } else {
            "wire0"
        };
        netns.ip(&["-6", "neigh", "flush", "dev", device]).unwrap();
        assert!(!ping(netns, FUNCTION));
    }
    let drops = node.attachment(&other, "net1").counters.egress_drops;
    let spoofed: u64 = ["spoofed_ip", "spoofed_nd"]
        .iter()
        .filter_map(|reason| drops.get(*reason))
        .sum();
    assert!(spoofed > 0, "{drops:?}");
}
