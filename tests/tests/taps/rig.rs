// SPDX-License-Identifier: Apache-2.0
//! Node with one worker, a stream of frames towards a tap, and neighbours that ping each other meanwhile.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, wait_for};

use crate::engine_rig::pod::PodMemif;
use crate::engine_rig::{Engine, Node, PATIENCE, pod};

/// Everything passes: these are not about policies.
const OPEN: &str = "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n";
/// Frames a second towards the tap.
pub(crate) const RATE: u64 = 4_000;
/// Pings between the neighbours.
pub(crate) const PINGS: u32 = 300;

/// A node with one worker, so that all pods share it.
pub(crate) struct Rig {
    // Goes first: its counters are looked at over the node's socket.
    engine: Engine,
    pub(crate) node: Node,
}

impl Rig {
    pub(crate) fn start() -> Rig {
        let node = Node::new();
        node.write_policy("voice.yaml", OPEN);
        let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
        let one = config.replace("count: 2", "count: 1");
        fs::write(node.path("sluiced.yaml"), one).unwrap();
        let engine = node.start();
        Rig { engine, node }
    }

    /// A pod on a tap, with 10.22.0.9, which never asks for a neighbour.
    pub(crate) fn tap(&self) -> (Arc<Netns>, Mac) {
        let pod = pod();
        let with = json!({"backend": {"type": "tap"}, "addresses": ["10.22.0.9/24"]});
        let mac = self.node.attach(&pod, "net1", with).mac;
        (pod, mac.parse().unwrap())
    }

    pub(crate) fn memif(&self) -> (Arc<Netns>, PodMemif, Mac) {
        let pod = pod();
        let mac = self.node.attach(&pod, "net1", json!({})).mac;
        let mut memif = PodMemif::client(&pod, "net1");
        memif.wait_up();
        (pod, memif, mac.parse().unwrap())
    }

    /// Frames for a pod that ended in one way or another: sent, or dropped.
    pub(crate) fn ended(&self, pod: &Netns) -> u64 {
        let counters = self.node.attachment(pod, "net1").counters;
        counters.port.tx_frames + counters.ingress_drops.values().sum::<u64>()
    }

    /// The engine's threads of taps.
    pub(crate) fn tap_threads(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.engine.pid())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names
            .flatten()
            .filter(|name| name.starts_with("tap-"))
            .count()
    }

    /// Waits until the kernel has no thread of a tap any more, which is a moment after it ended.
    pub(crate) fn wait_for_no_tap_thread(&self) {
        wait_for("the thread's end", PATIENCE, || {
            (self.tap_threads() == 0).then_some(())
        })
        .unwrap();
    }
}

fn frame(from: Mac, to: Mac, port: u16, payload: &[u8]) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4(Ipv4Addr::new(10, 22, 0, 1), Ipv4Addr::new(10, 22, 0, 9))
        .udp(port, 7)
        .payload(payload)
        .build()
}

/// Stream of frames towards the tap, until it is ended.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<PodMemif>,
    pod: Arc<Netns>,
}

/// Stream that was ended. Its memif stays open, so that what is in the ring still reaches the engine.
pub(crate) struct EndedStream {
    /// Number of frames sent.
    pub(crate) sent: u64,
    _memif: PodMemif,
    _pod: Arc<Netns>,
}

impl Stream {
    pub(crate) fn start(rig: &Rig, to: Mac) -> Stream {
        let (pod, mut memif, own) = rig.memif();
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let thread = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let start = Instant::now();
                while !stop.load(Ordering::Acquire) {
                    let due = u64::try_from(start.elapsed().as_micros()).unwrap();
                    while sent.load(Ordering::Relaxed) < due * RATE / 1_000_000 {
                        // A connection of its own, for a kernel that tracks them.
                        let number = sent.fetch_add(1, Ordering::Relaxed);
                        let port = u16::try_from(number % 50_000).unwrap() + 1_024;
                        memif.send(&frame(own, to, port, &[7; 18]));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                memif
            }
        });
        Stream {
            stop,
            sent,
            thread,
            pod,
        }
    }

    /// Waits until `frames` more have been sent.
    pub(crate) fn wait(&self, frames: u64) {
        let enough = self.sent.load(Ordering::Relaxed) + frames;
        wait_for("the stream", PATIENCE, || {
            (self.sent.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .unwrap();
    }

    /// Ends it.
    pub(crate) fn end(self) -> EndedStream {
        self.stop.store(true, Ordering::Release);
        let memif = self.thread.join().unwrap();
        EndedStream {
            sent: self.sent.load(Ordering::Relaxed),
            _memif: memif,
            _pod: self.pod,
        }
    }
}

/// Two pods on memif that ping each other.
pub(crate) struct Neighbours {
    pods: [(Arc<Netns>, PodMemif, Mac); 2],
}

impl Neighbours {
    pub(crate) fn new(rig: &Rig) -> Neighbours {
        Neighbours {
            pods: [rig.memif(), rig.memif()],
        }
    }

    /// Sends `count` pings, one after the other's answer, and returns how many were not answered in two
    /// seconds.
    pub(crate) fn lost_of(&mut self, count: u32) -> u32 {
        let [(_, from, from_mac), (_, to, to_mac)] = &mut self.pods;
        let mut lost = 0;
        for number in 0..count {
            let mut payload = vec![0; 18];
            payload[14..].copy_from_slice(&number.to_le_bytes());
            from.send(&frame(*from_mac, *to_mac, 7, &payload));
            let asked = comes(to, &payload);
            to.send(&frame(*to_mac, *from_mac, 7, &payload));
            lost += u32::from(!asked || !comes(from, &payload));
        }
        lost
    }
}

/// Whether a frame that ends so comes within two seconds; what comes before is passed over.
fn comes(memif: &mut PodMemif, end: &[u8]) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let came = memif.receive(1, Duration::from_millis(100));
        if came.iter().any(|frame| frame.ends_with(end)) {
            return true;
        }
    }
    false
}
