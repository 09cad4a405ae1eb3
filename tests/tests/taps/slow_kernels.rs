// SPDX-License-Identifier: Apache-2.0
//! Pods that make their own kernel slow for every frame: netfilter, connection tracking, tc, XDP. All of it runs in
//! the write to the tap, so it costs the tap's thread, and the pod frames; it costs the neighbours nothing.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use sluice_tests::{Netns, program_or_skip, root_or_skip, run, wait_for};

use super::rig::{Neighbours, PINGS, RATE, Rig, Stream};
use super::xdp;
use crate::engine_rig::PATIENCE;

/// Sends to a pod that `slow` has made slow, and looks at its neighbours and at the counters meanwhile.
fn costs_neighbours_nothing(name: &str, programs: &[&str], slow: impl FnOnce(&Netns, &Rig)) {
    let needed = programs
        .iter()
        .all(|program| program_or_skip(name, program));
    if !root_or_skip(name) || !needed {
        return;
    }
    let rig = Rig::start();
    let mut neighbours = Neighbours::new(&rig);
    let (pod, mac) = rig.tap();
    slow(&pod, &rig);
    let stream = Stream::start(&rig, mac);
    stream.wait(RATE / 2);
    assert_eq!(neighbours.lost_of(PINGS), 0);
    let ended = stream.end();
    // What the pod's kernel had no time for was dropped, and counted: nothing is missing.
    wait_for("the end of all frames", PATIENCE, || {
        (rig.ended(&pod) >= ended.sent).then_some(())
    })
    .unwrap();
    let counters = rig.node.attachment(&pod, "net1").counters;
    assert!(counters.port.tx_frames > 0, "{counters:?}");
    assert_eq!(rig.ended(&pod), ended.sent, "{counters:?}");
}

/// Writes a file of the node that a program of the pod reads.
fn file(rig: &Rig, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = rig.node.path(name);
    fs::write(&path, content).unwrap();
    path
}

/// Chain of 20,000 rules in front of everything that the pod receives, each with `condition` of its number.
fn rules(condition: impl Fn(u32) -> String) -> String {
    let mut rules = String::from(
        "table inet slow {\n chain first {\n  type filter hook prerouting priority -150;\n",
    );
    for number in 0..20_000 {
        writeln!(rules, "  {} drop", condition(number)).unwrap();
    }
    rules.push_str(" }\n}\n");
    rules
}

#[test]
fn a_pod_with_20000_rules_of_its_own_costs_its_neighbours_no_ping() {
    let name = "a_pod_with_20000_rules_of_its_own_costs_its_neighbours_no_ping";
    costs_neighbours_nothing(name, &["nft"], |pod, rig| {
        let rules = rules(|number| {
            let [.., a, b] = number.to_be_bytes();
            format!("ip saddr 192.168.{a}.{b} udp dport 9")
        });
        let file = file(rig, "slow.nft", rules);
        run(pod.command("nft").arg("-f").arg(file)).unwrap();
    });
}

#[test]
fn a_pod_that_tracks_a_connection_for_each_frame_costs_its_neighbours_no_ping() {
    let name = "a_pod_that_tracks_a_connection_for_each_frame_costs_its_neighbours_no_ping";
    costs_neighbours_nothing(name, &["nft"], |pod, rig| {
        // Behind the tracking, which every frame of the stream gets an entry of.
        let file = file(
            rig,
            "slow.nft",
            rules(|number| format!("ct mark {}", number + 1)),
        );
        run(pod.command("nft").arg("-f").arg(file)).unwrap();
    });
}

#[test]
fn a_pod_with_4000_classifiers_of_its_own_costs_its_neighbours_no_ping() {
    let name = "a_pod_with_4000_classifiers_of_its_own_costs_its_neighbours_no_ping";
    costs_neighbours_nothing(name, &["tc"], |pod, rig| {
        let mut batch = String::from("qdisc add dev net1 clsact\n");
        for number in 0..4_000 {
            writeln!(
                batch,
                "filter add dev net1 ingress protocol ip prio 1 u32 match ip src 192.168.0.1 \
                 match ip dport {number} 0xffff flowid 1:1"
            )
            .unwrap();
        }
        let file = file(rig, "slow.tc", batch);
        run(pod.command("tc").arg("-batch").arg(file)).unwrap();
    });
}

#[test]
fn a_pod_with_an_xdp_program_of_its_own_costs_its_neighbours_no_ping() {
    let name = "a_pod_with_an_xdp_program_of_its_own_costs_its_neighbours_no_ping";
    costs_neighbours_nothing(name, &["ip"], |pod, rig| {
        let object = file(rig, "slow.o", xdp::object(200_000));
        let mut link = pod.command("ip");
        link.args(["link", "set", "dev", "net1", "xdp", "obj"]);
        run(link.arg(object).args(["sec", "xdp"])).unwrap();
        let shown = pod.ip(&["link", "show", "net1"]).unwrap();
        assert!(shown.contains("prog/xdp"), "{shown}");
    });
}
