// SPDX-License-Identifier: Apache-2.0
//! World of one life: what the engine was told, so that what it serves can be compared.

mod footprint;
mod resident;

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Signal, kill_process};
use serde_json::json;
use sluice_api::{LinkState, PolicyFile, PolicyFiles};
use sluice_tests::{Process, Wire, wait_for};

use self::footprint::Footprint;
use self::resident::Resident;
use crate::engine_rig::{Engine, Node, PATIENCE, VOICE, text};

/// Most pods at once.
const MOST_PODS: usize = 12;

/// Step of a life.
type Step = fn(&mut World);

/// Steps, and how often each is taken among all.
const STEPS: [(&str, u64, Step); 11] = [
    ("attach", 12, World::attach),
    ("attach again", 3, World::attach_again),
    ("detach", 6, World::detach),
    ("die", 3, World::die),
    ("exchange", 16, World::exchange),
    ("policies", 6, World::policies),
    ("hang up", 3, World::hang_up),
    ("ask", 4, World::ask),
    ("nonsense", 3, World::nonsense),
    ("uplink", 2, World::uplink),
    ("restart", 2, World::restart),
];

/// Numbers at random (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    /// Returns a number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// Node, its engine, and the pods that it was told of.
pub(super) struct World {
    node: Node,
    engine: Option<Engine>,
    pods: Vec<Resident>,
    dice: Dice,
    taken: BTreeMap<&'static str, u64>,
    frames: u64,
}

impl World {
    /// Creates a world with an engine and no pods.
    pub(super) fn new(seed: u64) -> World {
        let node = Node::new();
        let engine = Some(node.start());
        World {
            node,
            engine,
            pods: Vec::new(),
            // Zero would stay zero.
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            taken: BTreeMap::new(),
            frames: 0,
        }
    }

    /// Takes one step, and compares.
    pub(super) fn step(&mut self) {
        let all: u64 = STEPS.iter().map(|(_, weight, _)| weight).sum();
        let mut drawn = self.dice.below(all);
        for (name, weight, step) in STEPS {
            if drawn < weight {
                step(self);
                *self.taken.entry(name).or_default() += 1;
                self.compare(name);
                return;
            }
            drawn -= weight;
        }
    }

    /// Ends it: all pods go, and nothing may be left of them.
    pub(super) fn end(mut self) {
        while !self.pods.is_empty() {
            self.detach();
        }
        self.compare("the end");
        eprintln!("steps: {:?}; {} frames each way", self.taken, self.frames);
        let used = Footprint::when_calm(&self.node, self.pid());
        self.stop();
        assert!(!self.node.uplink_state().contains("sluicegate"));
        // An engine that has seen nothing has as much.
        self.engine = Some(self.node.start());
        let fresh = Footprint::when_calm(&self.node, self.pid());
        eprintln!("used: {used:?}\nfresh: {fresh:?}");
        used.assert_no_more_than(&fresh);
        self.stop();
    }

    fn pid(&self) -> u32 {
        self.node.client().health().unwrap().pid
    }

    /// Compares what the engine serves, and has on disk, with what it was told.
    fn compare(&self, after: &str) {
        let mut told: Vec<String> = self.pods.iter().map(Resident::key).collect();
        told.sort();
        let served = self.node.client().attachments().unwrap();
        let mut served: Vec<String> = served
            .iter()
            .map(|one| format!("{}/{}", one.request.container_id, one.request.ifname))
            .collect();
        served.sort();
        assert_eq!(served, told, "after {after}: {}", self.node.log());
        assert_eq!(
            self.node.files("state/attachments").len(),
            told.len(),
            "after {after}"
        );
        let balance = self.node.client().balance();
        assert!(balance.is_ok(), "after {after}: {balance:?}");
    }

    fn attach(&mut self) {
        if self.pods.len() < MOST_PODS {
            let backend = self.dice.below(4);
            self.pods.push(Resident::new(&self.node, backend));
        }
    }

    /// As a runtime does whose ADD was cut off.
    fn attach_again(&mut self) {
        if let Some(pod) = self.some() {
            let (key, mac) = (self.pods[pod].key(), self.pods[pod].mac());
            let reply = self
                .node
                .client()
                .attach(self.pods[pod].request())
                .unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(reply.mac.parse(), Ok(mac));
        }
    }

    fn some(&mut self) -> Option<usize> {
        (!self.pods.is_empty()).then(|| self.dice.index(self.pods.len()))
    }

    fn detach(&mut self) {
        if let Some(pod) = self.some() {
            let pod = self.pods.swap_remove(pod);
            let (container, ifname) = pod.names();
            let reply = self.node.client().detach(&container, &ifname).unwrap();
            assert!(reply.existed, "{container}/{ifname}");
            let again = self.node.client().detach(&container, &ifname).unwrap();
            assert!(!again.existed, "{container}/{ifname}");
        }
    }

    /// The pod's namespace goes before its DEL.
    fn die(&mut self) {
        if let Some(pod) = self.some() {
            let pod = self.pods.swap_remove(pod);
            let (container, ifname) = pod.names();
            drop(pod);
            assert!(
                self.node
                    .client()
                    .detach(&container, &ifname)
                    .unwrap()
                    .existed
            );
        }
    }

    fn exchange(&mut self) {
        let Some(pod) = self.some() else { return };
        let mut wire = Wire::open(&self.node.wire, "wire0").unwrap();
        self.frames += 1;
        let flowed = self.pods[pod].exchange(&mut wire, self.frames);
        assert!(
            flowed,
            "{}: no frames; {}",
            self.pods[pod].key(),
            self.node.log()
        );
    }

    fn policies(&mut self) {
        use std::fmt::Write as _;

        let mut policy = VOICE.to_owned();
        for number in 0..self.dice.below(200) {
            let port = 2000 + number;
            writeln!(
                policy,
                "  - {{name: r{number}, direction: ingress, protocol: udp, ports: [{port}], verdict: accept}}"
            )
            .unwrap();
        }
        let files = PolicyFiles {
            files: vec![PolicyFile {
                name: "voice.yaml".into(),
                yaml: policy,
            }],
            replace_all: false,
        };
        let report = self.node.client().apply_policies(&files).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
    }

    fn hang_up(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }

    fn ask(&mut self) {
        let commands: [&[&str]; 4] = [
            &["status"],
            &["counters", "--all"],
            &["attachments", "--verbose"],
            &["policies", "list"],
        ];
        let command = commands[self.dice.index(commands.len())];
        let output = self.node.ctl(command);
        assert!(output.status.success(), "{command:?}: {}", text(&output));
    }

    /// Requests that are none, and clients that leave in the middle.
    fn nonsense(&mut self) {
        use std::io::Write as _;

        let mut stream = std::os::unix::net::UnixStream::connect(self.node.socket()).unwrap();
        let whole = b"POST /v1/attachments HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]";
        let part = self.dice.index(whole.len()) + 1;
        let _ = stream.write_all(&whole[..part]);
        let refused = self.node.client().attach(
            &serde_json::from_value(json!({"container_id": "../x", "ifname": "net1",
                "netns": {"path": "/nowhere", "dev": 1, "ino": 1}, "uplink": "wire0",
                "vlan": {"mode": "access", "vid": 210}, "backend": {"type": "tap"}}))
            .unwrap(),
        );
        assert!(refused.is_err());
    }

    fn uplink(&mut self) {
        let link = |state: LinkState| {
            wait_for("the uplink", PATIENCE, || {
                (self.node.client().status().ok()?.uplinks[0].link == state).then_some(())
            })
            .unwrap();
        };
        self.node.netns.ip(&["link", "set", "up0", "down"]).unwrap();
        link(LinkState::Down);
        self.node.netns.ip(&["link", "set", "up0", "up"]).unwrap();
        link(LinkState::Up);
    }

    fn restart(&mut self) {
        if self.dice.below(2) == 0 {
            self.engine.take().unwrap().kill();
        } else {
            self.stop();
        }
        self.engine = Some(self.node.start());
    }

    fn stop(&mut self) {
        let mut engine = self.engine.take().unwrap();
        let process: &mut Process = &mut engine;
        assert_eq!(
            process.terminate(PATIENCE).unwrap(),
            Some(0),
            "{}",
            self.node.log()
        );
        assert_eq!(
            fs::read_dir(self.node.path("state/uplinks"))
                .unwrap()
                .count(),
            0
        );
    }
}
