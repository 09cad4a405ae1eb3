// SPDX-License-Identifier: Apache-2.0
//! Pods on taps whose kernels are slow, gone or going: they cost their neighbours nothing.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod engine_rig;
mod taps {
    mod large_datagrams;
    pub(crate) mod rig;
    mod slow_kernels;
    mod xdp;
}

use engine_rig::PATIENCE;
use sluice_tests::{root_or_skip, wait_for};
use taps::rig::{Neighbours, RATE, Rig, Stream};

#[test]
fn a_pod_that_sets_its_device_down_and_up_loses_only_its_own_frames() {
    let name = "a_pod_that_sets_its_device_down_and_up_loses_only_its_own_frames";
    if !root_or_skip(name) {
        return;
    }
    let rig = Rig::start();
    let mut neighbours = Neighbours::new(&rig);
    let (pod, mac) = rig.tap();
    let stream = Stream::start(&rig, mac);
    for _ in 0..20 {
        for state in ["down", "up"] {
            pod.ip(&["link", "set", "net1", state]).unwrap();
            assert_eq!(neighbours.lost_of(3), 0);
        }
    }
    pod.ip(&["link", "set", "net1", "down"]).unwrap();
    stream.wait(RATE / 4);
    let ended = stream.end();
    wait_for("the end of all frames", PATIENCE, || {
        (rig.ended(&pod) >= ended.sent).then_some(())
    })
    .unwrap();
    let counters = rig.node.attachment(&pod, "net1").counters;
    assert!(counters.ingress_drops["link_down"] > 0, "{counters:?}");
    assert_eq!(
        rig.node.attachment(&pod, "net1").link,
        sluice_api::LinkState::Up
    );
}

#[test]
fn taps_that_go_under_load_leave_no_thread_and_no_device() {
    let name = "taps_that_go_under_load_leave_no_thread_and_no_device";
    if !root_or_skip(name) {
        return;
    }
    let rig = Rig::start();
    let mut neighbours = Neighbours::new(&rig);
    // Detached under load.
    let (first, mac) = rig.tap();
    let stream = Stream::start(&rig, mac);
    stream.wait(RATE / 4);
    assert_eq!(rig.tap_threads(), 1);
    assert!(
        rig.node
            .client()
            .detach(first.name(), "net1")
            .unwrap()
            .existed
    );
    rig.wait_for_no_tap_thread();
    assert!(first.ip(&["link", "show", "net1"]).is_err());
    assert_eq!(neighbours.lost_of(10), 0);
    stream.end();
    // Deleted by its pod.
    let (second, mac) = rig.tap();
    let stream = Stream::start(&rig, mac);
    stream.wait(RATE / 4);
    second.ip(&["link", "del", "net1"]).unwrap();
    rig.node
        .wait_for_link(&second, "net1", sluice_api::LinkState::Down);
    let down = rig.node.attachment(&second, "net1").last_down.unwrap();
    assert!(down.contains("it was deleted"), "{down}");
    rig.wait_for_no_tap_thread();
    assert_eq!(neighbours.lost_of(10), 0);
    stream.end();
    rig.node.client().detach(second.name(), "net1").unwrap();
    // Gone with its namespace: the engine lets go of it at the detach, and DEL works.
    let (third, _) = rig.tap();
    let container = third.name().to_owned();
    drop(third);
    assert!(
        rig.node
            .client()
            .detach(&container, "net1")
            .unwrap()
            .existed
    );
    rig.wait_for_no_tap_thread();
}
