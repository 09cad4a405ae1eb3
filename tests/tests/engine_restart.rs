// SPDX-License-Identifier: Apache-2.0
//! Restart of an engine that serves fifty pods: all are served again, and how long that took is printed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_rig::pod::PodMemif;
use engine_rig::{Engine, Node, PATIENCE, pod};
use serde_json::json;
use sluice_api::{AttachReply, LinkState};
use sluice_tests::{Netns, root_or_skip};

/// Number of attachments, each in a pod of its own.
const PODS: usize = 50;
/// Pods whose memif is open during the restarts: the first and the last of the records, and some between.
const OPEN: [usize; 4] = [0, 7, 25, PODS - 1];

/// Node with fifty attached pods.
struct Crowd {
    node: Node,
    pods: Vec<(Arc<Netns>, AttachReply)>,
    open: Vec<PodMemif>,
}

impl Crowd {
    fn new(node: Node) -> Crowd {
        let attach = |index: usize| {
            let pod = pod();
            let address = format!("10.21.0.{}/24", index + 1);
            let reply = node.attach(&pod, "net1", json!({"addresses": [address]}));
            (pod, reply)
        };
        let pods: Vec<_> = (0..PODS).map(attach).collect();
        let mut open: Vec<_> = OPEN
            .iter()
            .map(|&index| PodMemif::client(&pods[index].0, "net1"))
            .collect();
        open.iter_mut().for_each(PodMemif::wait_up);
        Crowd { node, pods, open }
    }

    /// Starts the engine again. Returns it, and the time from `begun` until it took attachments.
    fn start(&self, begun: Instant) -> (Engine, Duration) {
        let engine = self.node.start();
        (engine, begun.elapsed())
    }

    /// All are there as they were, and the open ones have their link again without their doing.
    fn is_served(&mut self) {
        let listed = self.node.client().attachments().unwrap();
        assert_eq!(listed.len(), PODS);
        for (pod, reply) in &self.pods {
            let mut of_pod = listed
                .iter()
                .filter(|one| one.request.container_id == pod.name());
            let found = of_pod.next().unwrap();
            assert_eq!((&found.mac, found.mtu), (&reply.mac, reply.mtu));
        }
        self.open.iter_mut().for_each(PodMemif::wait_up);
        for index in OPEN {
            self.node
                .wait_for_link(&self.pods[index].0, "net1", LinkState::Up);
        }
    }
}

#[test]
fn fifty_attachments_are_served_again_after_a_restart() {
    if !root_or_skip("fifty_attachments_are_served_again_after_a_restart") {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    let mut crowd = Crowd::new(node);

    let begun = Instant::now();
    assert_eq!(engine.terminate(PATIENCE).unwrap(), Some(0));
    let stopped = begun.elapsed();
    drop(engine);
    for memif in &mut crowd.open {
        let reason = memif.wait_down();
        assert!(reason.contains("stopped"), "the pod was told: {reason}");
    }
    let (mut engine, took) = crowd.start(Instant::now());
    println!(
        "{PODS} attachments: stopped after {stopped:.2?} by SIGTERM; serves all {took:.2?} after its start"
    );
    crowd.is_served();

    engine.kill();
    let (_engine, took) = crowd.start(Instant::now());
    println!("{PODS} attachments: serves all {took:.2?} after its start that followed SIGKILL");
    crowd.is_served();
    let all =
        format!("attachments served again: {PODS}; removed, as their pods are gone: 0; failed: 0");
    crowd.node.says(&all, 2);
}
