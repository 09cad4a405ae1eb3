// SPDX-License-Identifier: Apache-2.0
//! Two well-behaved pods: one sends numbered frames to the other, evenly and at under half of its fair share,
//! and the other records which of them came.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_memif::{EndpointConfig, FrameList, Memif, Role};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::Netns;

use crate::engine_rig::Node;
use crate::engine_rig::pod::{Inside, Place};

/// Rate of the stream, in frames a second.
const RATE: u64 = 10_000;
/// VLAN of the two, which is not the attacker's.
pub(crate) const VID: u16 = 220;
pub(crate) const POLICY: &str = "\
name: neighbours
vlans: [220]
default: {ingress: accept, egress: accept}
";
/// Limit for a frame to arrive.
const LATE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    /// Lowest sequence number that has not come.
    came: AtomicU64,
    wrong: AtomicU64,
    /// Number of times that the sender's own ring had no room.
    refused: AtomicU64,
}

/// Stream of numbered frames, until it is ended.
pub(crate) struct Neighbour {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    pods: [Arc<Netns>; 2],
}

/// Result of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// Number of times that the sender's own ring was full: the engine had not polled it for 400 ms.
    pub(crate) refused: u64,
}

fn memif(pod: &Arc<Netns>) -> Memif {
    let mut config = EndpointConfig::new(Role::Client, "neighbour");
    // A quarter of a second's frames: on two busy cores a pod may have to wait for its turn.
    config.log2_ring_size = 12;
    let place = Place::Abstract("sluicegate/net1".into());
    let mut memif = Memif::open(config, Inside::new(pod, place)).unwrap();
    sluice_tests::wait_for("the neighbour's memif", Duration::from_secs(30), || {
        while memif.change().is_some() {}
        memif.is_up().then_some(())
    })
    .unwrap();
    memif
}

impl Neighbour {
    pub(crate) fn start(node: &Node) -> Neighbour {
        let pods = [crate::engine_rig::pod(), crate::engine_rig::pod()];
        let large = serde_json::json!({"vlan": {"mode": "access", "vid": VID},
            "backend": {"type": "memif", "ring_size": 4096}});
        let [from, to]: [Mac; 2] = [&pods[0], &pods[1]]
            .map(|pod| node.attach(pod, "net1", large.clone()).mac.parse().unwrap());
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = (memif(&pods[0]), memif(&pods[1]));
        let threads = vec![
            std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || send(sender, from, to, &shared)
            }),
            std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || receive(receiver, &shared)
            }),
        ];
        Neighbour {
            shared,
            threads,
            pods,
        }
    }

    /// Returns the number of frames sent so far and lost of them.
    pub(crate) fn so_far(&self) -> Stream {
        let sent = self.shared.sent.load(Ordering::Acquire);
        let start = Instant::now();
        while self.shared.came.load(Ordering::Acquire) < sent && start.elapsed() < LATE {
            std::thread::sleep(Duration::from_millis(1));
        }
        let missing = sent.saturating_sub(self.shared.came.load(Ordering::Acquire));
        Stream {
            sent,
            lost: missing.max(self.shared.wrong.load(Ordering::Acquire)),
            refused: self.shared.refused.load(Ordering::Acquire),
        }
    }

    /// Ends the stream and both attachments.
    pub(crate) fn end(self, node: &Node) -> Stream {
        let stream = self.so_far();
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap();
        }
        for pod in &self.pods {
            node.client().detach(pod.name(), "net1").unwrap();
        }
        stream
    }
}

fn send(mut memif: Memif, from: Mac, to: Mac, shared: &Shared) {
    let start = Instant::now();
    let mut sent = 0;
    let mut frame = FrameBuilder::new(to, from)
        .ipv4(Ipv4Addr::new(10, 22, 0, 1), Ipv4Addr::new(10, 22, 0, 2))
        .udp(7, 7)
        .payload(&[0; 18])
        .build();
    let number = frame.len() - 8;
    while !shared.stop.load(Ordering::Acquire) {
        let due = u64::try_from(start.elapsed().as_micros()).unwrap() * RATE / 1_000_000;
        let mut some = false;
        // Never more at once than a tenth of a ring: after a pause it catches up gently.
        for _ in 0..due.saturating_sub(sent).min(400) {
            frame[number..].copy_from_slice(&sent.to_le_bytes());
            if !memif.send(0, &[&frame]) {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                break;
            }
            sent += 1;
            some = true;
        }
        if some {
            memif.flush();
            shared.sent.store(sent, Ordering::Release);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn receive(mut memif: Memif, shared: &Shared) {
    let mut frames = FrameList::default();
    let mut next = 0;
    while !shared.stop.load(Ordering::Acquire) {
        if memif.recv(0, 64, &mut frames) == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
        while let Some(frame) = frames.pop() {
            let (_, number) = frame.split_at(frame.len().saturating_sub(8));
            let number = number.try_into().map_or(u64::MAX, u64::from_le_bytes);
            if number != next {
                shared
                    .wrong
                    .fetch_add(number.abs_diff(next), Ordering::Release);
            }
            next = number.wrapping_add(1);
            shared.came.store(next, Ordering::Release);
            frames.recycle(frame);
        }
    }
}
