// SPDX-License-Identifier: Apache-2.0
//! DPDK's testpmd as the front end of vhost-user, in both roles on the socket: frames come back intact
//! and in order, either side may be killed and started again, and a memif pod reaches a vhost-user pod
//! through the firewall of their VLAN.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;
mod testpmd_rig;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine_rig::pod::PodMemif;
use engine_rig::{Node, pod};
use serde_json::json;
use sluice_api::{LinkState, MemifRole};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_peer::{Address, FrameList};
use sluice_tests::wait_for;
use sluice_vhost::{Connection, EndpointConfig, EndpointHandle, Event, Role, endpoint};
use testpmd_rig::{PATIENCE, Testpmd, alone, can_run, frame, swapped};

/// Frames under way at most: fewer than a ring of testpmd holds.
const WINDOW: u32 = 32;

/// Back end in this process.
struct Back {
    _endpoint: EndpointHandle,
    connection: Arc<Mutex<Option<Connection>>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Back {
    fn open(role: Role, path: &Path, queues: u16) -> Back {
        sluice_mem::sigbus::install().unwrap();
        let mut config = EndpointConfig::new(role, "pod");
        config.queue_pairs = queues;
        let connection = Arc::new(Mutex::new(None));
        let said = Arc::new(Mutex::new(Vec::new()));
        let (theirs, log) = (Arc::clone(&connection), Arc::clone(&said));
        let address = Address::Path(path.to_owned());
        let endpoint = endpoint::spawn(config, address, move |event| {
            log.lock().unwrap().push(format!("{event:.60?}"));
            match event {
                Event::Started(connection) => *theirs.lock().unwrap() = Some(connection),
                Event::Stopped { reason, .. } => {
                    log.lock().unwrap().push(reason.to_string());
                    *theirs.lock().unwrap() = None;
                }
                Event::Refused { reason, .. } | Event::Left { reason } => {
                    log.lock().unwrap().push(reason.to_string());
                }
                Event::Waiting(_) | Event::Accepted { .. } => {}
            }
        })
        .unwrap();
        Back {
            _endpoint: endpoint,
            connection,
            said,
        }
    }

    /// Waits until `queues` queue pairs run; 0: until none does.
    fn wait_for(&self, queues: usize) {
        let reached = wait_for("the rings", PATIENCE, || {
            let connection = self.connection.lock().unwrap();
            let running = connection.as_ref().map_or(0, |found| found.rx.len());
            (running == queues).then_some(())
        });
        assert!(reached.is_ok(), "{:#?}", self.said.lock().unwrap());
    }

    /// Sends `count` frames of `len` bytes on queue pair `pair` and checks each that comes back.
    fn echo(&self, pair: usize, count: u32, len: usize) {
        let mut list = FrameList::default();
        let (mut sent, mut back) = (0, 0);
        let mut progress = Instant::now();
        while back < count {
            assert!(
                progress.elapsed() < PATIENCE,
                "{back} of {sent} frames of {len} bytes came back: {:#?}",
                self.said.lock().unwrap()
            );
            {
                let mut connection = self.connection.lock().unwrap();
                let connection = connection.as_mut().unwrap();
                let tx = &mut connection.tx[pair];
                tx.prepare().unwrap();
                while sent < count && sent - back < WINDOW && tx.push(&[&frame(sent, len)]).unwrap()
                {
                    sent += 1;
                }
                if tx.publish().unwrap() {
                    tx.kick();
                }
                connection.rx[pair].recv(64, &mut list).unwrap();
            }
            // testpmd may want this very core.
            std::thread::yield_now();
            while let Some(got) = list.pop() {
                assert!(
                    got == swapped(back, len),
                    "frame {back} of {len} bytes differs"
                );
                back += 1;
                progress = Instant::now();
                list.recycle(got);
            }
        }
    }
}

/// Starts testpmd with a virtio port; `server`: it listens.
fn testpmd(command: std::process::Command, path: &Path, queues: u16, server: bool) -> Testpmd {
    let vdev = format!(
        "net_virtio_user0,path={},queues={queues},queue_size=256{}",
        path.display(),
        if server { ",server=1" } else { "" }
    );
    // Without link interrupts a listening testpmd never hears that its peer is back.
    let further: &[&str] = if server { &[] } else { &["--no-lsc-interrupt"] };
    Testpmd::start_on(command, &vdev, queues, further)
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vhost.sock");
    (folder, path)
}

const SIZES: [usize; 5] = [60, 64, 590, 1514, 1518];

#[test]
fn testpmd_that_connects_echoes_and_may_be_killed_and_started_again() {
    let name = "testpmd_that_connects_echoes_and_may_be_killed_and_started_again";
    if !can_run(name) {
        return;
    }
    let _alone = alone();
    let (_folder, path) = place();
    let back = Back::open(Role::Server, &path, 1);
    wait_for("the socket", PATIENCE, || path.exists().then_some(())).unwrap();
    for _ in 0..2 {
        let peer = testpmd(Testpmd::plain(), &path, 1, false);
        back.wait_for(1);
        for len in SIZES {
            back.echo(0, 1000, len);
        }
        peer.kill();
        back.wait_for(0);
    }
    let peer = testpmd(Testpmd::plain(), &path, 1, false);
    back.wait_for(1);
    back.echo(0, 1000, 64);
    peer.quit();
    back.wait_for(0);
}

#[test]
fn testpmd_that_listens_is_found_again_after_either_side_was_restarted() {
    let name = "testpmd_that_listens_is_found_again_after_either_side_was_restarted";
    if !can_run(name) {
        return;
    }
    let _alone = alone();
    let (_folder, path) = place();
    let peer = testpmd(Testpmd::plain(), &path, 1, true);
    for _ in 0..3 {
        // A new back end: its front end goes on with the rings as they are.
        let back = Back::open(Role::Client, &path, 1);
        back.wait_for(1);
        for len in SIZES {
            back.echo(0, 500, len);
        }
    }
    let back = Back::open(Role::Client, &path, 1);
    back.wait_for(1);
    peer.kill();
    back.wait_for(0);
    // What a killed testpmd leaves behind keeps the next one from listening.
    std::fs::remove_file(&path).unwrap();
    let peer = testpmd(Testpmd::plain(), &path, 1, true);
    back.wait_for(1);
    back.echo(0, 500, 64);
    peer.quit();
}

#[test]
fn testpmd_echoes_on_four_queue_pairs() {
    if !can_run("testpmd_echoes_on_four_queue_pairs") {
        return;
    }
    let _alone = alone();
    let (_folder, path) = place();
    let back = Back::open(Role::Server, &path, 4);
    wait_for("the socket", PATIENCE, || path.exists().then_some(())).unwrap();
    let peer = testpmd(Testpmd::plain(), &path, 4, false);
    back.wait_for(4);
    for pair in 0..4 {
        back.echo(pair, 500, 64);
    }
    peer.quit();
}

/// MAC address of the vhost-user pod.
const VIRTIO: Mac = Mac([2, 0, 0x5e, 0x21, 0, 0x10]);

fn udp(dst: Mac, src: Mac, port: u16) -> Vec<u8> {
    FrameBuilder::new(dst, src)
        .ipv4(Ipv4Addr::new(10, 21, 0, 5), Ipv4Addr::new(10, 21, 0, 6))
        .udp(4000, port)
        .payload(&[7; 40])
        .build()
}

#[test]
fn a_memif_pod_reaches_a_vhost_user_pod_through_the_firewall_in_both_roles() {
    let name = "a_memif_pod_reaches_a_vhost_user_pod_through_the_firewall_in_both_roles";
    if !can_run(name) {
        return;
    }
    let _alone = alone();
    for role in [MemifRole::Server, MemifRole::Client] {
        let node = Node::new();
        let mut engine = node.start();
        let (first, second) = (pod(), pod());
        let own = node.attach(&first, "net1", json!({}));
        let own: Mac = own.mac.parse().unwrap();
        let socket = node.path("vhost.sock");
        let with = json!({
            "mac": VIRTIO.to_string(),
            "backend": {"type": "vhost-user", "role": role, "socket": socket},
        });
        let reply = node.attach(&second, "net1", with);
        assert_eq!(reply.socket.as_deref(), socket.to_str());
        let pod_serves = role == MemifRole::Client;
        assert_eq!(reply.pod_role == Some(MemifRole::Server), pod_serves);
        assert_eq!(node.attachment(&second, "net1").link, LinkState::Down);

        let mut memif = PodMemif::client(&first, "net1");
        memif.wait_up();
        let peer = testpmd(second.command("dpdk-testpmd"), &socket, 1, pod_serves);
        node.wait_for_link(&second, "net1", LinkState::Up);
        let there_and_back = |memif: &mut PodMemif| {
            // testpmd may still be on its way to forwarding: the first frame may find it deaf.
            wait_for("a frame to come back", PATIENCE, || {
                memif.send(&udp(VIRTIO, own, 1001));
                memif.send(&udp(VIRTIO, own, 2000));
                let came = memif.receive(1, Duration::from_millis(200));
                let back = udp(own, VIRTIO, 1001);
                assert!(
                    came.iter().all(|frame| *frame == back),
                    "port 2000 is denied"
                );
                (!came.is_empty()).then_some(())
            })
        };
        let reached = there_and_back(&mut memif);
        assert!(reached.is_ok(), "{}", node.log());
        let counters = node.client().counters().unwrap();
        let calls = counters.rules.iter().find(|rule| rule.rule == "calls");
        assert!(calls.unwrap().frames >= 2, "judged at both ends");
        let virtio = &counters.attachments[&format!("{}/net1", second.name())];
        assert!(virtio.ingress_drops["denied"] >= 1);
        assert!(virtio.port.rx_frames >= 1 && virtio.port.tx_frames >= 1);

        if pod_serves {
            // The engine dies and comes back; the pod that listens goes on.
            engine.kill();
            drop(engine);
            let _next = node.start();
            memif = PodMemif::client(&first, "net1");
            memif.wait_up();
            node.wait_for_link(&second, "net1", LinkState::Up);
            let reached = there_and_back(&mut memif);
            assert!(reached.is_ok(), "{}", node.log());
            peer.kill();
            node.wait_for_link(&second, "net1", LinkState::Down);
        } else {
            peer.kill();
            node.wait_for_link(&second, "net1", LinkState::Down);
            let reason = node.attachment(&second, "net1").last_down.unwrap();
            assert!(
                reason.contains("the front end closed the socket"),
                "{reason}"
            );
            node.client().detach(second.name(), "net1").unwrap();
            assert!(!socket.exists());
        }
    }
}
