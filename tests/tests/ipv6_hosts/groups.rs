// SPDX-License-Identifier: Apache-2.0
//! MLD of real kernels on taps: a pod is in a group from its report on, and what is sent to the group goes to its
//! members alone. Both are measured by what the engine counted, since a sender's kernel may drop before it.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_tests::{Netns, root_or_skip, wait_for};

use crate::engine_rig::{Node, PATIENCE, pod};
use crate::index;

/// Counts the datagrams of the test apart from what kernels say on their own.
const STREAM: &str = "name: open
vlans: [untagged]
default: {ingress: accept, egress: accept}
rules:
  - {name: stream, direction: both, protocol: udp, ports: [5000], verdict: accept}
";
/// A group of the site, which is snooped.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x7777);
const PORT: u16 = 5000;
/// Datagrams of one stream.
const DATAGRAMS: usize = 500;

/// Frames of the stream that the engine has judged in a direction.
fn judged(node: &Node, direction: &str) -> u64 {
    let counters = node.client().counters().unwrap();
    let rules = counters.rules.iter();
    let of_stream = rules.filter(|rule| rule.rule == "stream" && rule.direction == direction);
    of_stream.map(|rule| rule.frames).sum()
}

/// Opens a socket of a pod that receives what is sent to the group's port, once it has joined.
fn socket(pod: &Netns) -> UdpSocket {
    let bind = || Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?);
    let socket = pod.enter(bind).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    socket
}

/// Sends a stream to the group and returns how many of its datagrams a member got.
fn stream(from: &Netns, to: &UdpSocket) -> usize {
    let sender = from
        .enter(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?))
        .unwrap();
    let group = SocketAddrV6::new(GROUP, PORT, 0, index(from));
    std::thread::scope(|scope| {
        let member = scope.spawn(|| {
            let mut got = 0;
            // Until nothing has come for as long as the socket waits.
            while to.recv(&mut [0; 64]).is_ok() {
                got += 1;
            }
            got
        });
        for number in 0..DATAGRAMS {
            // A kernel that has no room for it, or an engine that makes it wait.
            let _ = sender.send_to(&number.to_be_bytes(), group);
            std::thread::sleep(Duration::from_micros(200));
        }
        member.join().unwrap()
    })
}

#[test]
fn a_group_goes_to_the_pods_whose_kernels_joined_it() {
    if !root_or_skip("a_group_goes_to_the_pods_whose_kernels_joined_it") {
        return;
    }
    let node = Node::new();
    node.write_policy("voice.yaml", STREAM);
    let _engine = node.start();
    let pods: Vec<Arc<Netns>> = (0..3).map(|_| pod()).collect();
    for (pod, last) in pods.iter().zip(5..) {
        let addresses = [format!("2001:db8:210::{last}/64")];
        let with = json!({"vlan": {"mode": "access", "vid": 0}, "backend": {"type": "tap"}, "addresses": addresses});
        node.attach(pod, "net1", with);
    }
    let [member, stranger, sender] = &pods[..] else {
        unreachable!()
    };
    let [joined, not_joined] = [member, stranger].map(|pod| socket(pod));
    joined.join_multicast_v6(&GROUP, index(member)).unwrap();
    let is_member = || {
        let groups = node.attachment(member, "net1").groups;
        groups.iter().any(|group| group.address == GROUP)
    };
    wait_for("the kernel's report", PATIENCE, || {
        is_member().then_some(())
    })
    .unwrap();

    let got = stream(sender, &joined);
    let (sent, delivered) = (judged(&node, "egress"), judged(&node, "ingress"));
    assert!(sent > 0, "{}", node.log());
    // One copy of each that the engine received: nothing for who did not join.
    assert_eq!(delivered, sent);
    let drops = node.attachment(member, "net1").counters.ingress_drops;
    let dropped: u64 = drops.values().sum();
    assert!(
        got as u64 <= delivered && got as u64 + dropped >= delivered,
        "{got} of {delivered}, {drops:?}"
    );
    assert!(not_joined.recv(&mut [0; 64]).is_err());

    // A second member gets its copy of each.
    not_joined
        .join_multicast_v6(&GROUP, index(stranger))
        .unwrap();
    wait_for("the second report", PATIENCE, || {
        let groups = node.attachment(stranger, "net1").groups;
        groups
            .iter()
            .any(|group| group.address == GROUP)
            .then_some(())
    })
    .unwrap();
    stream(sender, &joined);
    let both = (
        judged(&node, "egress") - sent,
        judged(&node, "ingress") - delivered,
    );
    assert_eq!(both.1, 2 * both.0);

    // Its kernel reports that the last socket has left.
    joined.leave_multicast_v6(&GROUP, index(member)).unwrap();
    wait_for("the kernel's report of the end", PATIENCE, || {
        (!is_member()).then_some(())
    })
    .unwrap();
    let before = (judged(&node, "egress"), judged(&node, "ingress"));
    assert_eq!(stream(sender, &joined), 0);
    let after = (judged(&node, "egress"), judged(&node, "ingress"));
    assert!(after.0 > before.0);
    assert_eq!(
        after.1 - before.1,
        after.0 - before.0,
        "the other member is left"
    );
}
