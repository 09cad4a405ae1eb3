// SPDX-License-Identifier: Apache-2.0
//! Against the memif crate's own other side, both roles, in this process.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test may wait; no worker runs this"
)]

use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use sluice_memif::{
    Address, EndpointConfig, EndpointHandle, Event, FrameList, LinkChange, Memif, Role, endpoint,
};
use sluice_packet::build::FrameBuilder;
use sluice_packet::{InnerTag, Mac, Vid, parse};

use super::*;
use crate::ids::{SegmentId, UplinkId};
use crate::testing::fake_port_context::Lent;

/// A pod and its port.
struct Rig {
    port: MemifPort,
    pod: Memif,
    lent: Lent,
    _endpoint: EndpointHandle,
    _folder: tempfile::TempDir,
}

fn wait<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Rig {
    fn new(role: Role, queue_pairs: u16, log2_ring_size: u8) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Path(folder.path().join("memif.sock"));
        let config = |role| EndpointConfig {
            queue_pairs,
            log2_ring_size,
            ..EndpointConfig::new(role, "net1")
        };
        let (events, connections): (_, Receiver<Event>) = channel();
        let endpoint = endpoint::spawn(config(role), address.clone(), move |event| {
            let _ = events.send(event);
        })
        .unwrap();
        let other = if role == Role::Server {
            Role::Client
        } else {
            Role::Server
        };
        let mut pod = Memif::open(config(other), address).unwrap();
        wait(|| match pod.change() {
            Some(LinkChange::Up { .. }) => Some(()),
            _ => None,
        });
        let port = wait(|| match connections.try_recv() {
            Ok(Event::Connected(connection)) => Some(MemifPort::new(connection)),
            _ => None,
        });
        Rig {
            port,
            pod,
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

    fn pod_receives(&mut self, queue: usize) -> Vec<Vec<u8>> {
        let mut list = FrameList::default();
        while self.pod.recv(queue, 64, &mut list) > 0 {}
        std::iter::from_fn(|| list.pop()).collect()
    }
}

fn frame(number: usize, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    frame[14..22].copy_from_slice(&number.to_le_bytes());
    frame
}

#[test]
fn frames_of_all_sizes_both_ways() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Rig::new(role, 1, 7);
        assert!(rig.port.may_miss_wakeups());
        let frames: Vec<_> = [60, 64, 1514, 2048, 2049, 9018, 10_240]
            .into_iter()
            .enumerate()
            .map(|(number, len)| frame(number, len))
            .collect();
        for frame in &frames {
            assert!(rig.pod.send(0, &[frame]));
        }
        rig.pod.flush();
        assert_eq!(rig.receive(), frames);

        let mbufs: Vec<_> = frames.iter().map(|frame| rig.mbuf(frame)).collect();
        let sent = rig.port.deliver(&mbufs, Tagging::Untagged).unwrap();
        let bytes = frames.iter().map(Vec::len).sum();
        assert_eq!(
            sent,
            Sent {
                frames: frames.len(),
                bytes,
                ..Sent::default()
            }
        );
        assert_eq!(
            rig.pod_receives(0),
            Vec::<Vec<u8>>::new(),
            "not before flush"
        );
        rig.port.flush();
        assert_eq!(rig.pod_receives(0), frames);
        mbufs.into_iter().for_each(|mbuf| rig.lent.pools.free(mbuf));
        rig.lent.assert_all_free();
    }
}

#[test]
fn frames_for_which_there_is_no_mbuf_are_counted() {
    let mut rig = Rig::new(Role::Server, 1, 7);
    let frames = [frame(0, 60), frame(1, 10_241), frame(2, 60)];
    for frame in &frames {
        assert!(rig.pod.send(0, &[frame]));
    }
    rig.pod.flush();
    assert_eq!(rig.receive(), [frames[0].clone(), frames[2].clone()]);
    assert_eq!(rig.lent.drops.get(DropReason::TooLong), 1);

    let mut held = Vec::new();
    while let Some(mbuf) = rig.lent.pools.small.alloc() {
        held.push(mbuf);
    }
    assert!(rig.pod.send(0, &[&frames[0]]));
    rig.pod.flush();
    assert!(rig.receive().is_empty());
    assert_eq!(rig.lent.drops.get(DropReason::NoMbuf), 1);
    held.into_iter().for_each(|mbuf| rig.lent.pools.free(mbuf));
    rig.lent.assert_all_free();
}

#[test]
fn a_trunk_pod_sees_the_tag() {
    let mut rig = Rig::new(Role::Server, 1, 7);
    let plain = frame(7, 1514);
    let mut mbuf = rig.mbuf(&plain);
    let info = FrameInfo::of_mut(&mut mbuf);
    info.set_segment(SegmentId::new(UplinkId(0), Vid::new(210).unwrap()));
    let frames = [mbuf];
    let sent = rig
        .port
        .deliver(&frames, Tagging::Tagged { native: None })
        .unwrap();
    rig.port.flush();
    assert_eq!(
        sent,
        Sent {
            frames: 1,
            bytes: 1518,
            ..Sent::default()
        }
    );
    let mut tagged = plain;
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0xd2]);
    assert_eq!(rig.pod_receives(0), [tagged]);
    let [mbuf] = frames;
    rig.lent.pools.free(mbuf);
}

#[test]
fn a_full_ring_hands_the_rest_back() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Rig::new(role, 1, 4);
        let mbufs: Vec<_> = (0..40).map(|number| rig.mbuf(&frame(number, 60))).collect();
        let mut at = 0;
        let mut seen = Vec::new();
        while at < mbufs.len() {
            let sent = rig.port.deliver(&mbufs[at..], Tagging::Untagged).unwrap();
            rig.port.flush();
            assert_eq!(sent.frames, (mbufs.len() - at).min(16));
            at += sent.frames;
            seen.extend(rig.pod_receives(0));
        }
        let expected: Vec<_> = (0..40).map(|number| frame(number, 60)).collect();
        assert_eq!(seen, expected);
        mbufs.into_iter().for_each(|mbuf| rig.lent.pools.free(mbuf));
        rig.lent.assert_all_free();
    }
}

#[test]
fn queues_take_turns_and_none_starves() {
    let mut rig = Rig::new(Role::Server, 4, 10);
    let send = |rig: &mut Rig, queue: usize, count: usize| {
        for number in 0..count {
            assert!(rig.pod.send(queue, &[&frame(queue << 16 | number, 60)]));
        }
        rig.pod.flush();
    };
    for queue in 0..3 {
        send(&mut rig, queue, 300);
    }
    send(&mut rig, 3, 1);
    // Four calls at most until the quiet queue's frame is seen, whatever the others have.
    let first: Vec<_> = (0..4).flat_map(|_| rig.receive()).collect();
    assert_eq!(first.len(), 4 * 64);
    assert!(first.contains(&frame(3 << 16, 60)));
    let rest: Vec<_> = (0..30).flat_map(|_| rig.receive()).collect();
    assert_eq!(first.len() + rest.len(), 901);
    for queue in 0..3 {
        let numbers: Vec<usize> = first
            .iter()
            .chain(&rest)
            .map(|frame| usize::from_le_bytes(*frame[14..22].first_chunk().unwrap()))
            .filter(|number| number >> 16 == queue)
            .collect();
        assert!(numbers.is_sorted(), "queue {queue} is out of order");
    }
    rig.lent.assert_all_free();
}

#[test]
fn a_flow_stays_on_its_queue_and_flows_spread() {
    let mut rig = Rig::new(Role::Server, 4, 10);
    let (src, dst) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let udp = |port: u16, number: u8| {
        FrameBuilder::new(dst, src)
            .ipv4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))
            .udp(port, 5000)
            .payload(&[number; 30])
            .build()
    };
    let mut mbufs = Vec::new();
    for number in 0..4 {
        for port in 1000..1064 {
            let mut mbuf = rig.mbuf(&udp(port, number));
            let key = parse(mbuf.data(), InnerTag::Refuse).unwrap().key;
            FrameInfo::of_mut(&mut mbuf).key = key;
            mbufs.push(mbuf);
        }
    }
    assert_eq!(
        rig.port.deliver(&mbufs, Tagging::Untagged).unwrap().frames,
        256
    );
    rig.port.flush();
    let per_queue: Vec<_> = (0..4).map(|queue| rig.pod_receives(queue)).collect();
    assert!(
        per_queue.iter().all(|frames| frames.len() >= 4 * 6),
        "flows do not spread"
    );
    for frames in per_queue {
        let mut last = std::collections::HashMap::new();
        for frame in frames {
            let (port, number) = (frame[34..36].to_vec(), frame[42]);
            let before = last.insert(port, number);
            assert_eq!(
                before.map_or(0, |before| before + 1),
                number,
                "a flow was torn apart"
            );
        }
    }
    mbufs.into_iter().for_each(|mbuf| rig.lent.pools.free(mbuf));
    rig.lent.assert_all_free();
}

#[test]
fn the_pod_interrupts_only_when_asked_to() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Rig::new(role, 2, 7);
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        rig.port.wake_fds(&mut |fd| {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&set, fd, epoll::EventData::new_u64(1), flags).unwrap();
        });
        let woken = |milliseconds: i64| {
            let limit = Timespec {
                tv_sec: 0,
                tv_nsec: milliseconds * 1_000_000,
            };
            let mut events = [epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0),
            }];
            epoll::wait(&set, &mut events, Some(&limit)).unwrap() > 0
        };
        let send = |rig: &mut Rig| {
            assert!(rig.pod.send(1, &[&frame(1, 60)]));
            rig.pod.flush();
        };
        for _ in 0..3 {
            send(&mut rig);
            assert!(!woken(20), "nobody asked for an interrupt");
            assert!(!rig.port.arm(), "a frame is waiting");
            rig.port.disarm();
            assert_eq!(rig.receive().len(), 1);
            assert!(rig.port.arm());
            send(&mut rig);
            assert!(woken(900));
            rig.port.disarm();
            assert_eq!(rig.receive().len(), 1);
        }
    }
}

#[test]
fn a_fault_that_nobody_could_be_told_comes_with_the_next_call() {
    let mut rig = Rig::new(Role::Server, 1, 7);
    rig.port.fault = Some(Fault::OpenChain);
    assert!(!rig.port.arm(), "nobody may sleep over a fault");
    let mut out = Burst::new();
    let fault = rig
        .port
        .rx_burst(&mut rig.lent.context(), &mut out)
        .unwrap_err();
    assert_eq!(fault.reason, Fault::OpenChain.to_string());
}
