// SPDX-License-Identifier: Apache-2.0
//! Against the vhost crate's own front end, in this process.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test may wait; no worker runs this"
)]

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sluice_packet::Vid;
use sluice_peer::Address;
use sluice_vhost::testing::{FrontEnd, Setup};
use sluice_vhost::{EndpointConfig, EndpointHandle, Event, Role, endpoint, features};

use super::*;
use crate::ids::{SegmentId, UplinkId};
use crate::testing::fake_port_context::Lent;

/// Front end and its port.
struct Rig {
    port: VhostPort,
    front: FrontEnd,
    lent: Lent,
    _endpoint: EndpointHandle,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new(setup: Setup) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vhost.sock");
        let config = EndpointConfig {
            queue_pairs: setup.pairs,
            ..EndpointConfig::new(Role::Server, "net1")
        };
        let (say, events): (_, Receiver<Event>) = channel();
        let endpoint = endpoint::spawn(config, Address::Path(path.clone()), move |event| {
            let _ = say.send(event);
        })
        .unwrap();
        let start = Instant::now();
        let socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let mut front = FrontEnd::new(socket, setup);
        front.set_up().unwrap();
        let port = loop {
            let event = events.recv_timeout(Duration::from_secs(10)).unwrap();
            if let Event::Started(connection) = event
                && connection.rx.len() == usize::from(setup.pairs)
            {
                break VhostPort::new(connection);
            }
        };
        Rig {
            port,
            front,
            lent: Lent::new(512),
            _endpoint: endpoint,
            _folder: folder,
        }
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut out = Burst::new();
        self.port
            .rx_burst(&mut self.lent.context(), &mut out)
            .unwrap();
        let frames = out.iter().map(|mbuf| mbuf.data().to_vec()).collect();
        self.lent.pools.free_burst(&mut out);
        frames
    }

    fn mbuf(&mut self, frame: &[u8]) -> Mbuf {
        let mut mbuf = self.lent.pools.alloc_for(frame.len()).unwrap();
        assert!(mbuf.copy_from(frame));
        FrameInfo::begin(&mut mbuf, None);
        mbuf
    }
}

fn frame(number: usize, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[14..22].copy_from_slice(&number.to_le_bytes());
    frame
}

#[test]
fn frames_of_all_sizes_both_ways() {
    let mut rig = Rig::new(Setup {
        buffer: 10_300,
        ..Setup::default()
    });
    assert!(!rig.port.may_miss_wakeups());
    let frames: Vec<_> = [60, 64, 1514, 2048, 2049, 9018, 10_240]
        .into_iter()
        .enumerate()
        .map(|(number, len)| frame(number, len))
        .collect();
    let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    assert_eq!(rig.front.send(0, &slices), frames.len());
    assert_eq!(rig.receive(), frames);

    let mbufs: Vec<_> = frames.iter().map(|frame| rig.mbuf(frame)).collect();
    let sent = rig.port.deliver(&mbufs, Tagging::Untagged).unwrap();
    let bytes = frames.iter().map(Vec::len).sum();
    let expected = Sent {
        frames: frames.len(),
        bytes,
        ..Sent::default()
    };
    assert_eq!(sent, expected);
    assert!(rig.front.receive(0).is_empty(), "not before flush");
    rig.port.flush();
    assert_eq!(rig.front.receive(0), frames);
    mbufs.into_iter().for_each(|mbuf| rig.lent.pools.free(mbuf));
    rig.lent.assert_all_free();
}

#[test]
fn a_full_ring_hands_the_rest_back() {
    let mut rig = Rig::new(Setup {
        ring_size: 16,
        ..Setup::default()
    });
    let mbufs: Vec<_> = (0..40).map(|number| rig.mbuf(&frame(number, 60))).collect();
    let mut at = 0;
    let mut seen = Vec::new();
    while at < mbufs.len() {
        let sent = rig.port.deliver(&mbufs[at..], Tagging::Untagged).unwrap();
        rig.port.flush();
        assert_eq!(sent.frames, (mbufs.len() - at).min(16));
        at += sent.frames;
        seen.extend(rig.front.receive(0));
    }
    let expected: Vec<_> = (0..40).map(|number| frame(number, 60)).collect();
    assert_eq!(seen, expected);
    mbufs.into_iter().for_each(|mbuf| rig.lent.pools.free(mbuf));
    rig.lent.assert_all_free();
}

#[test]
fn a_trunk_pod_sees_the_tag() {
    let mut rig = Rig::new(Setup::default());
    let plain = frame(7, 1514);
    let mut mbuf = rig.mbuf(&plain);
    let info = FrameInfo::of_mut(&mut mbuf);
    info.set_segment(SegmentId::new(UplinkId(0), Vid::new(210).unwrap()));
    let frames = [mbuf];
    let tagging = Tagging::Tagged { native: None };
    assert_eq!(rig.port.deliver(&frames, tagging).unwrap().bytes, 1518);
    rig.port.flush();
    let mut tagged = plain;
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0xd2]);
    assert_eq!(rig.front.receive(0), [tagged]);
    let [mbuf] = frames;
    rig.lent.pools.free(mbuf);
}

#[test]
fn queues_take_turns_and_none_starves() {
    let mut rig = Rig::new(Setup {
        pairs: 4,
        features: features::offered(4),
        ..Setup::default()
    });
    for pair in 0..3 {
        let frames: Vec<_> = (0..200).map(|n| frame(pair << 16 | n, 60)).collect();
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        assert_eq!(rig.front.send(pair, &slices), 200);
    }
    rig.front.send(3, &[&frame(3 << 16, 60)]);
    // Four calls at most until the quiet queue's frame is seen, whatever the others have.
    let first: Vec<_> = (0..4).flat_map(|_| rig.receive()).collect();
    assert!(first.contains(&frame(3 << 16, 60)));
    let rest: Vec<_> = (0..20).flat_map(|_| rig.receive()).collect();
    assert_eq!(first.len() + rest.len(), 601);
    rig.lent.assert_all_free();
}

#[test]
fn what_ends_in_the_queues_is_counted() {
    let mut rig = Rig::new(Setup::default());
    rig.front.send(0, &[&[]]);
    assert!(rig.receive().is_empty());
    assert_eq!(rig.lent.drops.get(DropReason::Truncated), 1);
    let at = rig.front.buffer(1, 1);
    rig.front.send(0, &[&frame(1, 60)]);
    rig.front.memory.region().copy_out(at, &[1]).unwrap();
    assert!(rig.receive().is_empty());
    assert_eq!(rig.lent.drops.get(DropReason::BadHeader), 1);
    rig.lent.assert_all_free();
}

#[test]
fn a_front_end_kicks_only_who_sleeps() {
    let mut rig = Rig::new(Setup::default());
    let mut fds = 0;
    rig.port.wake_fds(&mut |_| fds += 1);
    assert_eq!(fds, 1);
    let kicked = |rig: &Rig| rustix::io::read(&rig.front.kicks[1], &mut [0; 8]).is_ok();
    rig.front.send(0, &[&frame(1, 60)]);
    assert!(!kicked(&rig), "nobody asked for it");
    assert!(!rig.port.arm(), "a frame is waiting");
    rig.port.disarm();
    assert_eq!(rig.receive().len(), 1);
    assert!(rig.port.arm());
    rig.front.send(0, &[&frame(1, 60)]);
    assert!(kicked(&rig));
    rig.port.disarm();
    assert_eq!(rig.receive().len(), 1);
}

#[test]
fn a_broken_ring_takes_the_port_out_and_keeps_no_mbuf() {
    let mut rig = Rig::new(Setup::default());
    rig.front.send(0, &[&frame(1, 60)]);
    rig.front.rings[1].offer(999);
    rig.front.rings[1].publish();
    let mut out = Burst::new();
    let fault = rig
        .port
        .rx_burst(&mut rig.lent.context(), &mut out)
        .unwrap_err();
    assert_eq!(
        fault.reason,
        "broken ring: descriptor 999 of a table of 256"
    );
    assert!(out.is_empty());
    assert_eq!(rig.lent.drops.get(DropReason::BadDescriptor), 1);
    rig.lent.assert_all_free();
}
