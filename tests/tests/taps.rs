// SPDX-License-Identifier: Apache-2.0
//! Pods on taps whose kernels are slow, gone or going: they cost their neighbours nothing.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod engine_rig;

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine_rig::pod::PodMemif;
use engine_rig::{Engine, Node, PATIENCE, pod};
use serde_json::json;
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, program_or_skip, root_or_skip, run, wait_for};

/// Everything passes: these are not about policies.
const OPEN: &str = "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n";
/// Frames a second towards the tap.
const RATE: u64 = 4_000;
/// Pings between the neighbours.
const PINGS: u32 = 300;

/// A node with one worker, so that all pods share it.
struct Rig {
    // Goes first: its counters are looked at over the node's socket.
    engine: Engine,
    node: Node,
}

impl Rig {
    fn start() -> Rig {
        let node = Node::new();
        node.write_policy("voice.yaml", OPEN);
        let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
        let one = config.replace("count: 2", "count: 1");
        fs::write(node.path("sluiced.yaml"), one).unwrap();
        let engine = node.start();
        Rig { engine, node }
    }

    /// A pod on a tap, with 10.22.0.9, which never asks for a neighbour.
    fn tap(&self) -> (Arc<Netns>, Mac) {
        let pod = pod();
        let with = json!({"backend": {"type": "tap"}, "addresses": ["10.22.0.9/24"]});
        let mac = self.node.attach(&pod, "net1", with).mac;
        (pod, mac.parse().unwrap())
    }

    fn memif(&self) -> (Arc<Netns>, PodMemif, Mac) {
        let pod = pod();
        let mac = self.node.attach(&pod, "net1", json!({})).mac;
        let mut memif = PodMemif::client(&pod, "net1");
        memif.wait_up();
        (pod, memif, mac.parse().unwrap())
    }

    /// Frames for a pod that ended in one way or another: sent, or dropped.
    fn ended(&self, pod: &Netns) -> u64 {
        let counters = self.node.attachment(pod, "net1").counters;
        counters.port.tx_frames + counters.ingress_drops.values().sum::<u64>()
    }

    /// The engine's threads of taps.
    fn tap_threads(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.engine.pid())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names
            .flatten()
            .filter(|name| name.starts_with("tap-"))
            .count()
    }
}

impl Rig {
    /// Waits until the kernel has no thread of a tap any more, which is a moment after it ended.
    fn wait_for_no_tap_thread(&self) {
        wait_for("the thread's end", PATIENCE, || {
            (self.tap_threads() == 0).then_some(())
        })
        .unwrap();
    }
}

fn frame(from: Mac, to: Mac, payload: &[u8]) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4(Ipv4Addr::new(10, 22, 0, 1), Ipv4Addr::new(10, 22, 0, 9))
        .udp(7, 7)
        .payload(payload)
        .build()
}

/// Stream of frames towards the tap, until it is ended.
struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
    _pod: Arc<Netns>,
}

impl Stream {
    fn start(rig: &Rig, to: Mac) -> Stream {
        let (pod, mut memif, own) = rig.memif();
        let frame = frame(own, to, &[7; 18]);
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
                        memif.send(&frame);
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Stream {
            stop,
            sent,
            thread,
            _pod: pod,
        }
    }

    /// Waits until `frames` more have been sent.
    fn wait(&self, frames: u64) {
        let enough = self.sent.load(Ordering::Relaxed) + frames;
        wait_for("the stream", PATIENCE, || {
            (self.sent.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .unwrap();
    }

    /// Ends it and returns the number of frames sent.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Two pods on memif that ping each other.
struct Neighbours {
    pods: [(Arc<Netns>, PodMemif, Mac); 2],
}

impl Neighbours {
    fn new(rig: &Rig) -> Neighbours {
        Neighbours {
            pods: [rig.memif(), rig.memif()],
        }
    }

    /// Sends `count` pings, one after the other's answer, and returns how many were not answered in two
    /// seconds.
    fn lost_of(&mut self, count: u32) -> u32 {
        let [(_, from, from_mac), (_, to, to_mac)] = &mut self.pods;
        let mut lost = 0;
        for number in 0..count {
            let mut payload = vec![0; 18];
            payload[14..].copy_from_slice(&number.to_le_bytes());
            from.send(&frame(*from_mac, *to_mac, &payload));
            let asked = comes(to, &payload);
            to.send(&frame(*to_mac, *from_mac, &payload));
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

/// Puts 20,000 rules that match nothing in front of everything that the pod receives.
fn slow_down(pod: &Netns, rig: &Rig) {
    let mut rules = String::from(
        "table inet slow {\n chain first {\n  type filter hook prerouting priority -300;\n",
    );
    for number in 0..20_000u32 {
        let [.., a, b] = number.to_be_bytes();
        writeln!(rules, "  ip saddr 192.168.{a}.{b} udp dport 9 drop").unwrap();
    }
    rules.push_str(" }\n}\n");
    let file = rig.node.path("slow.nft");
    fs::write(&file, rules).unwrap();
    run(pod.command("nft").arg("-f").arg(&file)).unwrap();
}

#[test]
fn a_pod_with_20000_rules_of_its_own_costs_its_neighbours_no_ping() {
    let name = "a_pod_with_20000_rules_of_its_own_costs_its_neighbours_no_ping";
    if !root_or_skip(name) || !program_or_skip(name, "nft") {
        return;
    }
    let rig = Rig::start();
    let mut neighbours = Neighbours::new(&rig);
    let (pod, mac) = rig.tap();
    slow_down(&pod, &rig);
    let stream = Stream::start(&rig, mac);
    stream.wait(RATE / 2);
    assert_eq!(neighbours.lost_of(PINGS), 0);
    let sent = stream.end();
    // What the pod's kernel had no time for was dropped, and counted: nothing is missing.
    wait_for("the end of all frames", PATIENCE, || {
        (rig.ended(&pod) >= sent).then_some(())
    })
    .unwrap();
    let counters = rig.node.attachment(&pod, "net1").counters;
    assert!(counters.port.tx_frames > 0, "{counters:?}");
    assert_eq!(rig.ended(&pod), sent, "{counters:?}");
}

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
    let sent = stream.end();
    wait_for("the end of all frames", PATIENCE, || {
        (rig.ended(&pod) >= sent).then_some(())
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
