// SPDX-License-Identifier: Apache-2.0
//! Datagrams larger than a frame, as kernels cut them: the engine lets every piece through by the ports of its
//! datagram, however many are under way.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_tests::{Netns, program_or_skip, root_or_skip, run, wait_for};

use crate::engine_rig::{Node, PATIENCE, pod};

/// Lets through large datagrams to one port, and pings.
const PORTS: &str = "name: ports
vlans: [210]
default: {ingress: drop, egress: drop}
rules:
  - {name: there, direction: both, protocol: udp, ports: [9000], verdict: accept}
  - {name: back, direction: both, protocol: udp, source-ports: [9000], verdict: accept}
  - {name: ping, direction: both, protocol: icmp, icmp-type: [0, 8], verdict: accept}
  - {name: arp, direction: both, ethertype: arp, verdict: accept}
";
/// Bytes of a datagram, which make six pieces.
const LARGE: usize = 8_000;
/// Sockets that send at the same time, and datagrams of each.
const SENDERS: u8 = 24;
const DATAGRAMS: u32 = 20;

fn bound(pod: &Netns, port: u16) -> UdpSocket {
    let bind = move || Ok(UdpSocket::bind(("0.0.0.0", port))?);
    let socket = pod.enter(bind).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    socket
}

#[test]
fn large_datagrams_of_many_sockets_pass_whole_and_by_their_ports() {
    let name = "large_datagrams_of_many_sockets_pass_whole_and_by_their_ports";
    if !root_or_skip(name) || !program_or_skip(name, "ping") {
        return;
    }
    let node = Node::new();
    node.write_policy("voice.yaml", PORTS);
    let _engine = node.start();
    let (here, there) = (pod(), pod());
    for (pod, address) in [(&here, "10.22.0.1/24"), (&there, "10.22.0.2/24")] {
        let with = json!({"backend": {"type": "tap"}, "addresses": [address]});
        node.attach(pod, "net1", with);
    }
    let mut ping = here.command("ping");
    let args = [
        "-c",
        "20",
        "-i",
        "0.05",
        "-s",
        "4000",
        "-W",
        "5",
        "10.22.0.2",
    ];
    let said = run(ping.args(args)).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");

    let server = bound(&there, 9000);
    let echo = Arc::new(server.try_clone().unwrap());
    let answers = std::thread::spawn(move || {
        let mut datagram = [0; LARGE];
        // An empty one ends it.
        while let Ok((len, from)) = echo.recv_from(&mut datagram)
            && len > 0
        {
            echo.send_to(&datagram[..len], from).unwrap();
        }
    });
    let exchange = |number: u8| {
        let socket = bound(&here, 0);
        socket.connect(("10.22.0.2", 9000)).unwrap();
        for turn in 0..DATAGRAMS {
            let mut datagram = vec![number; LARGE];
            datagram[..4].copy_from_slice(&turn.to_be_bytes());
            let mut answer = [0; LARGE];
            // Again where a queue was full for a moment; what comes late is of an earlier turn.
            wait_for("an answer", PATIENCE, || {
                socket.send(&datagram).ok()?;
                while socket.recv(&mut answer).ok()? == LARGE {
                    if answer[..4] == datagram[..4] {
                        return Some(());
                    }
                }
                None
            })
            .unwrap();
            assert!(answer == *datagram, "{number}, {turn}: another datagram");
        }
    };
    std::thread::scope(|scope| {
        for number in 0..SENDERS {
            let exchange = &exchange;
            scope.spawn(move || exchange(number));
        }
    });
    let last = bound(&here, 0);
    last.send_to(&[], "10.22.0.2:9000").unwrap();
    answers.join().unwrap();
    for pod in [&here, &there] {
        let counters = node.attachment(pod, "net1").counters;
        for reason in ["fragment_without_first", "fragment_overlap"] {
            let drops = [&counters.egress_drops, &counters.ingress_drops];
            assert!(
                drops.iter().all(|drops| !drops.contains_key(reason)),
                "{counters:?}"
            );
        }
        assert!(
            counters.port.tx_frames >= u64::from(SENDERS) * u64::from(DATAGRAMS) * 6,
            "{counters:?}"
        );
    }
}
