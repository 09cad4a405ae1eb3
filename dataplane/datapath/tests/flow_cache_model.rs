// SPDX-License-Identifier: Apache-2.0
//! With the flow cache and without it the same happens to every frame: whatever the policies, the
//! pods and the frames.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]

mod lab;

use std::collections::BTreeMap;
use std::fmt::Write;

use lab::{Lab, Pod, tagged, vid};
use proptest::prelude::*;
use sluice_datapath::VlanSet;
use sluice_packet::build::FrameBuilder;
use sluice_packet::pose::AntiSpoof;
use sluice_packet::{Mac, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);

/// Rule: direction, protocol, port, verdict, log.
type Rule = (usize, usize, u16, usize, bool);

fn policy(head: &str, default: [usize; 2], rules: &[Rule]) -> String {
    const VERDICTS: [&str; 4] = ["accept", "accept", "drop", "reject"];
    let mut yaml = format!(
        "{head}\ndefault: {{ingress: {}, egress: {}}}\n",
        VERDICTS[default[0]], VERDICTS[default[1]]
    );
    if !rules.is_empty() {
        yaml.push_str("rules:\n");
    }
    for &(direction, protocol, port, verdict, log) in rules {
        writeln!(
            yaml,
            "  - {{direction: {}, protocol: {}, ports: [{port}], verdict: {}{}}}",
            ["ingress", "egress", "both"][direction],
            ["udp", "tcp"][protocol],
            VERDICTS[verdict],
            if log { ", log: true" } else { "" }
        )
        .unwrap();
    }
    yaml
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (
        0..3_usize,
        0..2_usize,
        1..4_u16,
        0..4_usize,
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(rule, 0..5)
}

/// MAC address of a host behind two of the pods, and on the wire.
const MOVING: Mac = Mac([2, 9, 9, 9, 9, 9]);

/// Frame: to whom, from which port, to which port, TCP, long, from [`MOVING`], tagged.
type Wanted = (usize, u16, u16, bool, bool, bool, bool);

fn wanted() -> impl Strategy<Value = Wanted> {
    (
        0..9_usize,
        1..3_u16,
        1..4_u16,
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    )
}

/// Step: a burst of one of the pods, or of the wire ([`WIRE`]); then, sometimes, other policies.
type Step = (usize, Vec<Wanted>, Option<Vec<Rule>>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let burst = prop::collection::vec(wanted(), 1..10);
    prop::collection::vec(
        (0..7_usize, burst, prop::option::weighted(0.15, rules())),
        1..9,
    )
}

/// Number of the wire among those that send: behind the pods.
const WIRE: usize = 6;

struct Scene {
    lab: Lab,
    pods: Vec<Pod>,
}

impl Scene {
    fn new(flow_cache: usize, vlan: &[Rule], own: &[Rule], listens: bool) -> Scene {
        let mut lab = Lab::with_flow_cache(flow_cache);
        let files = Policies { vlan, own }.files();
        lab.policies(&files.each_ref().map(String::as_str));
        let mut pods = vec![lab.access(210), lab.access(210)];
        let mut own = lab.spec(VlanSet::Access(vid(210)));
        own.policy = Some("own".to_owned());
        own.mtu = 600;
        own.addresses = vec![[10, 0, 0, 3].into()];
        pods.push(lab.attach(own));
        let trunk = lab.spec(VlanSet::Trunk {
            vids: vec![vid(210), vid(220)],
            native: None,
        });
        pods.push(lab.attach(trunk));
        for promiscuous in [false, true] {
            let mut bridge = lab.spec(VlanSet::Access(vid(210)));
            bridge.pose.anti_spoof = AntiSpoof::Off;
            bridge.pose.promiscuous = promiscuous && listens;
            pods.push(lab.attach(bridge));
        }
        Scene { lab, pods }
    }

    fn mac(&self, number: usize) -> Mac {
        match number {
            WIRE => HOST,
            7 => Mac([0xff; 6]),
            8 => MOVING,
            pod => self.pods[pod].mac,
        }
    }

    fn frame(&self, from: usize, wanted: Wanted) -> Vec<u8> {
        let (to, source, port, tcp, long, spoofed, tag) = wanted;
        let sender = if spoofed { MOVING } else { self.mac(from) };
        let last = u8::try_from(from + 1).unwrap();
        let ip = FrameBuilder::new(self.mac(to), sender)
            .ipv4([10, 0, 0, last].into(), [10, 0, 0, 9].into());
        let payload = vec![7; if long { 700 } else { 20 }];
        let frame = if tcp {
            ip.tcp(sluice_packet::tcp::TcpFields {
                src_port: source,
                dst_port: port,
                ..Default::default()
            })
            .payload(&payload)
            .build()
        } else {
            ip.udp(source, port).payload(&payload).build()
        };
        // The wire and the trunk are tagged; an access pod should not be.
        let number = match (from, tag) {
            (3 | WIRE, false) => 210,
            (3 | WIRE, true) => 220,
            (_, true) => 210,
            (_, false) => return frame,
        };
        let tag = VlanTag {
            tpid: 0x8100,
            tci: number,
        };
        tagged(&frame, Some(tag))
    }

    fn send(&self, from: usize, burst: &[Wanted]) {
        let port = match from {
            WIRE => &self.lab.wire,
            pod => &self.pods[pod].port,
        };
        // A burst is looked up before anything is learned of it: what moves the address is alone.
        for frames in burst.chunk_by(|a, b| !a.5 && !b.5) {
            self.lab
                .send(port, frames.iter().map(|&one| self.frame(from, one)));
        }
    }

    /// Takes everything that anybody can see.
    fn seen(&self) -> Seen {
        let ports = self.pods.iter().map(|pod| &pod.port);
        let out = ports
            .chain([&self.lab.wire])
            .map(|port| self.lab.out(port))
            .collect();
        let rules = self.lab.engine.snapshot().rules;
        let hits = rules
            .iter()
            .map(|rule| {
                (
                    format!("{} {}", rule.policy, rule.rule),
                    rule.frames,
                    rule.bytes,
                )
            })
            .collect();
        (out, self.lab.all_drops(), hits)
    }
}

/// Frames that every port got, drops by reason, and frames and bytes by rule.
type Seen = (
    Vec<Vec<Vec<u8>>>,
    BTreeMap<&'static str, u64>,
    Vec<(String, u64, u64)>,
);

struct Policies<'a> {
    vlan: &'a [Rule],
    own: &'a [Rule],
}

impl Policies<'_> {
    fn files(&self) -> [String; 3] {
        [
            policy("name: lan\nvlans: [210]", [0, 0], self.vlan),
            policy("name: other\nvlans: [220]", [2, 0], self.vlan),
            policy("name: own", [0, 2], self.own),
        ]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn frames_go_the_same_way_with_a_flow_cache_and_without(
        vlan in rules(),
        own in rules(),
        steps in steps(),
        listens in any::<bool>(),
    ) {
        // So small that flows push each other out; and none.
        let mut scenes = [8, 0].map(|entries| Scene::new(entries, &vlan, &own, listens));
        for (from, burst, policies) in &steps {
            // Twice, so that flows are known the second time.
            for _ in 0..2 {
                let [with, without] = &scenes;
                with.send(*from, burst);
                without.send(*from, burst);
                prop_assert_eq!(with.seen(), without.seen());
            }
            if let Some(rules) = policies {
                for scene in &mut scenes {
                    let files = Policies { vlan: rules, own: &own }.files();
                    scene.lab.policies(&files.each_ref().map(String::as_str));
                }
            }
        }
        for scene in scenes {
            scene.lab.end();
        }
    }
}
