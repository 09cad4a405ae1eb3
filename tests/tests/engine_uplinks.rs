// SPDX-License-Identifier: Apache-2.0
//! Uplinks whose netdev loses its link, goes, and comes back under traffic: the engine says so where people and
//! programs look, refuses what cannot work, and goes on by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use engine_rig::pod::PodMemif;
use engine_rig::{Engine, Node, PATIENCE, pod, text};
use serde_json::json;
use sluice_api::{ErrorCode, LinkState, UplinkStatus};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, Wire, root_or_skip, wait_for};

/// MAC address of the host at the far end of the wire.
const HOST: Mac = Mac::new([2, 0, 0, 0, 0, 0xee]);

/// Engine with one pod on its uplink, and a host on the wire.
struct Rig {
    node: Node,
    engine: Engine,
    pod: Arc<Netns>,
    mac: Mac,
    memif: PodMemif,
    number: u64,
}

impl Rig {
    fn new(test: &str) -> Option<Rig> {
        if !root_or_skip(test) {
            return None;
        }
        let node = Node::new();
        let engine = node.start();
        let pod = pod();
        let mac = node.attach(&pod, "net1", json!({})).mac.parse().unwrap();
        let mut memif = PodMemif::client(&pod, "net1");
        memif.wait_up();
        let mut rig = Rig {
            node,
            engine,
            pod,
            mac,
            memif,
            number: 0,
        };
        rig.wait_for_frames();
        Some(rig)
    }

    fn uplink(&self) -> UplinkStatus {
        self.node.client().status().unwrap().uplinks.remove(0)
    }

    /// Waits until status, health and log say that the uplink is in state `link`, for a reason that contains
    /// `why`.
    fn wait_for(&self, link: LinkState, why: &str) {
        let reached = wait_for("the state of the uplink", PATIENCE, || {
            let uplink = self.uplink();
            let reason = uplink.link_reason.unwrap_or_default();
            (uplink.link == link && reason.contains(why)).then_some(())
        });
        let log = self.node.log();
        assert!(reached.is_ok(), "{:?}; log:\n{log}", self.uplink());
        self.is_told(&format!("uplink wire0 is {link}"));
        let uplink = self.uplink();
        assert!(uplink.link_seconds.is_some_and(|seconds| seconds < 60));
        let health = self.node.client().health().unwrap();
        assert!(health.ready);
        let problem = format!("uplink wire0 is {link}: ");
        let told = health
            .problems
            .iter()
            .any(|told| told.starts_with(&problem) && told.contains(why));
        assert_eq!(told, link != LinkState::Up, "{:?}", health.problems);
        assert_eq!(health.degraded, link != LinkState::Up, "{health:?}");
    }

    /// Waits until the log contains `what`.
    fn is_told(&self, what: &str) {
        let told = wait_for(what, PATIENCE, || {
            self.node.log().contains(what).then_some(())
        });
        assert!(told.is_ok(), "{what}: {}", self.node.log());
    }

    /// Checks that an ADD is refused for now, and that the one that made the pod's attachment can be repeated.
    fn refuses_attachments(&self, why: &str) {
        let late = pod();
        let request = self.node.request(&late, "net1", json!({}));
        let error = self.node.client().attach(&request).unwrap_err();
        let error = match error {
            sluice_api::client::ClientError::Refused(error) => error,
            other => panic!("{other}"),
        };
        assert_eq!(error.code, ErrorCode::Unavailable, "{error}");
        assert!(error.message.contains("uplink wire0 is"), "{error}");
        assert!(error.message.contains(why), "{error}");
        assert_eq!(self.node.files("state/attachments").len(), 1);
        let again = self.node.attach(&self.pod, "net1", json!({}));
        assert_eq!(again.mac.parse(), Ok(self.mac));
    }

    /// Checks that an ADD works.
    fn takes_attachments(&self) {
        let late = pod();
        self.node.attach(&late, "net1", json!({}));
        self.node.client().detach(late.name(), "net1").unwrap();
    }

    /// Sends a few frames each way and returns whether some came both ways.
    fn exchange(&mut self) -> bool {
        let Ok(mut wire) = Wire::open(&self.node.wire, "wire0") else {
            return false;
        };
        self.number += 1;
        let payload = self.number.to_le_bytes();
        let frame = |dst, src, from: [u8; 4], to: [u8; 4]| {
            FrameBuilder::new(dst, src)
                .ipv4(from.into(), to.into())
                .udp(4000, 1500)
                .payload(&payload)
                .build()
        };
        let (host, pod) = ([10, 21, 0, 1], [10, 21, 0, 5]);
        if wire.send(210, &[frame(self.mac, HOST, host, pod)]).is_err() {
            return false;
        }
        self.memif.try_send(&frame(HOST, self.mac, pod, host));
        let ends_so = |frame: &[u8]| frame.ends_with(&payload);
        let got = self.memif.receive(1, Duration::from_millis(200));
        let sent = wire.receive(1, Duration::from_millis(200), |vid, frame| {
            vid == 210 && ends_so(frame)
        });
        got.iter().any(|frame| ends_so(frame)) && !sent.is_empty()
    }

    /// Waits until frames flow both ways, over the memif that the pod has had all the time.
    fn wait_for_frames(&mut self) {
        let flowed = wait_for("frames both ways", PATIENCE, || {
            self.exchange().then_some(())
        });
        assert!(flowed.is_ok(), "{}", self.node.log());
        assert_eq!(self.node.attachment(&self.pod, "net1").link, LinkState::Up);
    }

    /// Runs `ip` on the engine's side.
    fn ip(&self, words: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.node.netns.ip(&words).unwrap();
    }

    /// Ends the engine, which must give everything back.
    fn end(mut self) {
        assert_eq!(
            self.engine.terminate(PATIENCE).unwrap(),
            Some(0),
            "{}",
            self.node.log()
        );
        assert!(!self.node.uplink_state().contains("sluicegate"));
        let uplinks = fs::read_dir(self.node.path("state/uplinks")).unwrap();
        assert_eq!(uplinks.count(), 0, "its record is gone");
    }
}

#[test]
fn an_uplink_without_a_carrier_says_so_and_mends() {
    let Some(mut rig) = Rig::new("an_uplink_without_a_carrier_says_so_and_mends") else {
        return;
    };
    for round in 1..=2 {
        rig.node.wire.ip(&["link", "set", "wire0", "down"]).unwrap();
        rig.wait_for(LinkState::Down, "no carrier");
        rig.refuses_attachments("netdev up0 has no carrier");
        // What the pod sends meanwhile is counted, and does not pile up.
        let before = rig.uplink().drops.get("link_down").copied().unwrap_or(0);
        let frame = FrameBuilder::new(HOST, rig.mac)
            .ipv4([10, 21, 0, 5].into(), [10, 21, 0, 1].into())
            .udp(4000, 1500)
            .payload(&[7; 100])
            .build();
        (0..300).for_each(|_| rig.memif.send(&frame));
        wait_for("the frames to be counted", PATIENCE, || {
            let drops = rig.uplink().drops;
            (drops.get("link_down") == Some(&(before + 300))).then_some(())
        })
        .unwrap();
        rig.node.wire.ip(&["link", "set", "wire0", "up"]).unwrap();
        rig.wait_for(LinkState::Up, "");
        rig.wait_for_frames();
        rig.takes_attachments();
        rig.node.says("uplink wire0 is down", round);
        rig.node.says("uplink wire0 is up", round);
    }
    rig.end();
}

#[test]
fn an_uplink_that_is_set_down_says_so_and_mends() {
    let Some(mut rig) = Rig::new("an_uplink_that_is_set_down_says_so_and_mends") else {
        return;
    };
    rig.ip("link set up0 down");
    rig.wait_for(LinkState::Down, "set down");
    rig.refuses_attachments("`ip link set up0 up`");
    rig.ip("link set up0 up");
    rig.wait_for(LinkState::Up, "");
    rig.wait_for_frames();
    rig.takes_attachments();
    rig.node.says("uplink wire0 is down", 1);
    rig.end();
}

#[test]
fn a_netdev_that_is_deleted_and_made_again_is_taken_up() {
    let Some(mut rig) = Rig::new("a_netdev_that_is_deleted_and_made_again_is_taken_up") else {
        return;
    };
    rig.ip("link del up0");
    rig.wait_for(LinkState::Gone, "deleted or moved");
    rig.refuses_attachments("netdev up0 was deleted");
    // Later, with another index.
    rig.node.wire.veth("wire0", &rig.node.netns, "up0").unwrap();
    rig.wait_for(LinkState::Up, "");
    rig.wait_for_frames();
    rig.takes_attachments();
    rig.node.says("uplink wire0 is gone", 1);
    let guarded = rig.node.uplink_state();
    assert!(guarded.contains("sluicegate_up0"), "{guarded}");

    // At once, as a driver that is reloaded, several times.
    for _ in 0..3 {
        rig.ip("link del up0");
        rig.node.wire.veth("wire0", &rig.node.netns, "up0").unwrap();
        rig.wait_for_frames();
        rig.wait_for(LinkState::Up, "");
    }
    rig.takes_attachments();
    rig.end();
}

#[test]
fn a_netdev_that_is_renamed_is_given_back_and_taken_up_under_its_old_name() {
    let name = "a_netdev_that_is_renamed_is_given_back_and_taken_up_under_its_old_name";
    let Some(mut rig) = Rig::new(name) else {
        return;
    };
    rig.ip("link set up0 down");
    rig.ip("link set up0 name up9");
    rig.wait_for(LinkState::Gone, "netdev up0 is called up9 now");
    rig.refuses_attachments("up9");
    let mut nft = rig.node.netns.command("nft");
    let rules = sluice_tests::run(nft.args(["list", "ruleset"])).unwrap();
    assert_eq!(rules, "", "the host has it back");
    let ipv6 = || {
        Ok(fs::read_to_string(
            "/proc/sys/net/ipv6/conf/up9/disable_ipv6",
        )?)
    };
    assert_eq!(rig.node.netns.enter(ipv6).unwrap().trim(), "0");
    rig.ip("link set up9 name up0");
    rig.wait_for(LinkState::Up, "");
    rig.wait_for_frames();
    rig.takes_attachments();
    rig.end();
}

#[test]
fn a_netdev_that_moves_to_another_namespace_and_back_is_taken_up() {
    let name = "a_netdev_that_moves_to_another_namespace_and_back_is_taken_up";
    let Some(mut rig) = Rig::new(name) else {
        return;
    };
    let other = Netns::new("other").unwrap();
    rig.ip(&format!("link set up0 netns {}", other.name()));
    rig.wait_for(LinkState::Gone, "moved to another network namespace");
    rig.refuses_attachments("up0");
    other
        .ip(&["link", "set", "up0", "netns", rig.node.netns.name()])
        .unwrap();
    rig.wait_for(LinkState::Up, "");
    rig.wait_for_frames();
    // Away and back before anybody looks: its index may be the same one.
    rig.ip(&format!("link set up0 netns {}", other.name()));
    other
        .ip(&["link", "set", "up0", "netns", rig.node.netns.name()])
        .unwrap();
    rig.wait_for_frames();
    rig.wait_for(LinkState::Up, "");
    rig.takes_attachments();
    rig.end();
}

#[test]
fn an_mtu_that_changes_is_said_and_holds() {
    let Some(mut rig) = Rig::new("an_mtu_that_changes_is_said_and_holds") else {
        return;
    };
    let udp = |rig: &Rig, bytes: usize| {
        FrameBuilder::new(HOST, rig.mac)
            .ipv4([10, 21, 0, 5].into(), [10, 21, 0, 1].into())
            .udp(4000, 1500)
            .payload(&vec![7; bytes])
            .build()
    };
    rig.ip("link set up0 mtu 1000");
    wait_for("the new MTU", PATIENCE, || {
        (rig.uplink().mtu == 1000).then_some(())
    })
    .unwrap();
    let health = rig.node.client().health().unwrap();
    let problem =
        "uplink wire0 has an MTU of 1000, and 1 of its attachments have more (up to 1500)";
    assert!(
        health.problems.iter().any(|told| told.starts_with(problem)),
        "{health:?}"
    );
    rig.node.says("the MTU of up0 is 1000 now, was 1500", 1);
    let (long, short) = (udp(&rig, 1200), udp(&rig, 900));
    (0..10).for_each(|_| rig.memif.send(&long));
    wait_for("long frames to be counted", PATIENCE, || {
        (rig.uplink().drops.get("too_long") == Some(&10)).then_some(())
    })
    .unwrap();
    let mut wire = Wire::open(&rig.node.wire, "wire0").unwrap();
    rig.memif.send(&short);
    let is_short = |_: u16, frame: &[u8]| frame.len() == short.len();
    assert_eq!(wire.receive(1, PATIENCE, is_short).len(), 1);
    let late = pod();
    assert_eq!(rig.node.attach(&late, "net1", json!({})).mtu, 1000);
    let request = rig.node.request(&pod(), "net1", json!({"mtu": 1500}));
    let refused = rig.node.client().attach(&request).unwrap_err().to_string();
    assert!(refused.contains("68 to 1000"), "{refused}");

    // Above what its rings were made for: it is opened anew.
    for (netns, device) in [(&rig.node.wire, "wire0"), (&rig.node.netns, "up0")] {
        netns.ip(&["link", "set", device, "mtu", "4000"]).unwrap();
    }
    wait_for("the new MTU", PATIENCE, || {
        (rig.uplink().mtu == 4000).then_some(())
    })
    .unwrap();
    rig.wait_for_frames();
    assert!(!rig.node.client().health().unwrap().degraded);
    let large = pod();
    let reply = rig.node.attach(&large, "net1", json!({}));
    assert_eq!(reply.mtu, 4000);
    // The other pods keep what they were told, and an engine that starts serves them all.
    assert_eq!(rig.node.attachment(&rig.pod, "net1").mtu, 1500);
    rig.ip("link set up0 mtu 1200");
    rig.engine.kill();
    rig.engine = rig.node.start();
    assert_eq!(rig.node.attachment(&large, "net1").mtu, 4000);
    rig.memif.wait_up();
    rig.wait_for_frames();
    rig.end();
}

#[test]
fn a_mac_address_that_changes_is_said_and_matters_to_nobody() {
    let name = "a_mac_address_that_changes_is_said_and_matters_to_nobody";
    let Some(mut rig) = Rig::new(name) else {
        return;
    };
    rig.ip("link set up0 address 02:00:00:00:77:01");
    rig.node
        .says("the MAC address of up0 is 02:00:00:00:77:01 now", 1);
    rig.wait_for_frames();
    assert!(!rig.node.client().health().unwrap().degraded);
    rig.end();
}

#[test]
fn an_engine_starts_without_its_netdev_and_takes_it_up_later() {
    if !root_or_skip("an_engine_starts_without_its_netdev_and_takes_it_up_later") {
        return;
    }
    let node = Node::new();
    node.wire.veth("wire7", &node.netns, "eth7").unwrap();
    node.netns.ip(&["link", "del", "up0"]).unwrap();
    let output = node.sluiced(&["--check"]);
    assert_eq!(output.status.code(), Some(2), "a typo is told");
    assert!(
        text(&output).contains("no netdev \"up0\""),
        "{}",
        text(&output)
    );
    let _engine = node.start();
    let uplink = || node.client().status().unwrap().uplinks.remove(0);
    assert_eq!(
        (uplink().link, uplink().device.as_str()),
        (LinkState::Gone, "up0")
    );
    let said = "there is no netdev up0 in the engine's network namespace (there are eth7)";
    assert!(uplink().link_reason.unwrap().contains(said));
    assert!(node.log().contains(said), "{}", node.log());
    let health = node.client().health().unwrap();
    assert!(health.ready && health.degraded, "{health:?}");
    let late = pod();
    let request = node.request(&late, "net1", json!({}));
    let refused = node.client().attach(&request).unwrap_err().to_string();
    assert!(refused.contains("uplink wire0 is gone"), "{refused}");

    node.wire.veth("wire0", &node.netns, "up0").unwrap();
    wait_for("the uplink", PATIENCE, || {
        (uplink().link == LinkState::Up).then_some(())
    })
    .unwrap();
    assert_eq!(node.client().attach(&request).unwrap().mtu, 1500);
    assert!(!node.client().health().unwrap().degraded);
}

#[test]
fn the_host_is_kept_off_again_when_somebody_lets_it_on() {
    let Some(rig) = Rig::new("the_host_is_kept_off_again_when_somebody_lets_it_on") else {
        return;
    };
    let guarded = rig.node.uplink_state();
    let mut nft = rig.node.netns.command("nft");
    sluice_tests::run(nft.args(["flush", "ruleset"])).unwrap();
    let enable = || Ok(fs::write("/proc/sys/net/ipv6/conf/up0/disable_ipv6", "0")?);
    rig.node.netns.enter(enable).unwrap();
    assert_ne!(rig.node.uplink_state(), guarded);
    wait_for("the host to be kept off", PATIENCE, || {
        (rig.node.uplink_state() == guarded).then_some(())
    })
    .unwrap();
    rig.node.says("somebody removed the nftables table", 1);
    rig.node.says("IPv6 was enabled on netdev up0", 1);
    rig.end();
}
