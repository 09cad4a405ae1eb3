// SPDX-License-Identifier: Apache-2.0
//! AF_PACKET uplink on a kernel netdev, with frames of a real kernel: veth pairs in network namespaces.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod ports_worker;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;
use ports_worker::{
    Received, Worker, af_packet_config, checksum_is_right, ifindex, is_ipv4, mac, tcp_transfer,
    tx_packets,
};
use rustix::event::epoll;
use sluice_datapath::ports::af_packet::{AfPacket, AfPacketConfig};
use sluice_datapath::ports::tap::TapPort;
use sluice_datapath::{DropReason, FrameInfo, LinkState, PodPort, Sent, Tagging, Uplink, Wake};
use sluice_mem::Burst;
use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_mem::tap::{Tap, TapConfig};
use sluice_packet::VlanTag;
use sluice_tests::{Netns, root_or_skip, wait_for};

/// Wire with `wire0` in one namespace and the uplink, `up0`, in the other.
struct Rig {
    wire: Netns,
    engine: Netns,
}

impl Rig {
    fn new() -> Result<Rig> {
        let (wire, engine) = (Netns::new("wire")?, Netns::new("engine")?);
        wire.veth("wire0", &engine, "up0")?;
        Ok(Rig { wire, engine })
    }

    fn uplink(&self, change: fn(&mut AfPacketConfig)) -> Result<AfPacket> {
        let mut config = af_packet_config(&self.engine, "up0")?;
        change(&mut config);
        self.engine.enter(move || Ok(AfPacket::open(config)?))
    }

    /// Opens a packet socket at the far end, for frames with tags of the test's own.
    fn tagger(&self) -> Result<PacketSocket> {
        let index = ifindex(&self.wire, "wire0")?;
        let config = PacketConfig::for_mtu(1600);
        self.wire
            .enter(move || Ok(PacketSocket::open(index, config)?))
    }
}

/// Makes a frame of an experimental EtherType, which no kernel sends of its own accord.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn is_ours(frame: &[u8]) -> bool {
    let ethertype = frame.get(12..14);
    ethertype == Some(&[0x88, 0xb5]) || ethertype == Some(&[0x81, 0x00])
}

fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let tags = tags
        .iter()
        .flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()]);
    bytes.splice(12..12, tags.flatten());
    bytes
}

fn send(tagger: &mut PacketSocket, frame: &[u8]) -> Result<()> {
    let sent = tagger.send(|space| {
        space[..frame.len()].copy_from_slice(frame);
        frame.len()
    });
    assert!(sent, "the tagger's ring is full");
    tagger.flush()?;
    Ok(())
}

/// Receives `wanted` frames at the far end.
fn far_end(tagger: &mut PacketSocket, wanted: usize) -> Result<Vec<Received>> {
    let mut seen = Vec::new();
    wait_for(
        &format!("{wanted} frames at the far end"),
        Duration::from_secs(5),
        || {
            tagger.recv(1000, |frame| {
                if is_ours(frame.data) {
                    seen.push(Received {
                        data: frame.data.to_vec(),
                        tag: frame.vlan,
                    });
                }
                Next::Take
            });
            (seen.len() >= wanted).then_some(())
        },
    )?;
    Ok(seen)
}

#[test]
fn tags_come_through_both_ways() {
    if !root_or_skip("ports_af_packet::tags_come_through_both_ways") {
        return;
    }
    let rig = Rig::new().unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    assert_eq!(
        (uplink.driver(), uplink.device(), uplink.mtu()),
        ("af_packet", "up0", 1500)
    );
    let mut tagger = rig.tagger().unwrap();

    // Towards the engine: untagged, C-VLAN with priority, S-VLAN, priority only, and QinQ, whose
    // inner tag stays in the bytes.
    let plain = frame(1, 1514);
    let (c_tag, s_tag) = ((0x8100, 0xa0d2), (0x88a8, 0x00dc));
    let cases = [
        &[][..],
        &[c_tag],
        &[s_tag],
        &[(0x8100, 0x6000)],
        &[s_tag, c_tag],
    ];
    for tags in cases {
        let bytes = if tags.len() == 2 {
            &plain[..1510]
        } else {
            &plain[..]
        };
        send(&mut tagger, &tagged(bytes, tags)).unwrap();
    }
    let seen = worker.receive(&mut uplink, cases.len(), is_ours).unwrap();
    for (seen, tags) in seen.iter().zip(cases) {
        assert_eq!(seen.tag, tags.first().copied());
        let inner = tags.get(1..).unwrap_or_default();
        let bytes = if tags.len() == 2 {
            &plain[..1510]
        } else {
            &plain[..]
        };
        assert_eq!(seen.data, tagged(bytes, inner));
    }

    // Towards the wire: the same, from the frames' facts.
    let bytes = [
        plain.clone(),
        plain.clone(),
        plain.clone(),
        tagged(&plain[..1510], &[c_tag]),
    ];
    let tags = [None, Some(c_tag), Some(s_tag), Some(s_tag)];
    let mut burst = worker.burst(&bytes);
    for (mbuf, tag) in burst.iter_mut().zip(tags) {
        FrameInfo::of_mut(mbuf).set_tag(tag.map(|(tpid, tci)| VlanTag { tpid, tci }));
    }
    let sent = uplink.tx_burst(&mut worker.context(), &mut burst);
    assert_eq!(
        sent,
        Sent {
            frames: 4,
            bytes: 1514 + 3 * 1518,
            ..Sent::default()
        }
    );
    assert!(burst.is_empty());
    for ((seen, tag), bytes) in far_end(&mut tagger, 4).unwrap().iter().zip(tags).zip(bytes) {
        assert_eq!((seen.tag, &seen.data), (tag, &bytes));
    }
    worker.check(&[]);
}

#[test]
fn what_does_not_fit_the_netdev_is_counted() {
    if !root_or_skip("ports_af_packet::what_does_not_fit_the_netdev_is_counted") {
        return;
    }
    let rig = Rig::new().unwrap();
    rig.engine
        .ip(&["link", "set", "up0", "mtu", "1400"])
        .unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    assert_eq!(uplink.mtu(), 1400);
    let mut tagger = rig.tagger().unwrap();
    let frames = [frame(1, 1414), frame(2, 1419), frame(3, 60), frame(4, 1415)];
    let mut burst = worker.burst(&frames);
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 210,
    };
    for mbuf in burst.iter_mut() {
        FrameInfo::of_mut(mbuf).set_tag(Some(tag));
    }
    let sent = uplink.tx_burst(&mut worker.context(), &mut burst);
    assert_eq!(
        sent,
        Sent {
            frames: 2,
            bytes: 1418 + 64,
            ..Sent::default()
        }
    );
    assert!(burst.is_empty());
    assert_eq!(worker.drops.get(DropReason::TooLong), 2);
    let seen = far_end(&mut tagger, 2).unwrap();
    assert_eq!((seen[0].data.len(), seen[1].data.len()), (1414, 60));
    worker.check(&[DropReason::TooLong]);
}

#[test]
fn open_checksums_are_filled_in() {
    if !root_or_skip("ports_af_packet::open_checksums_are_filled_in") {
        return;
    }
    let rig = Rig::new().unwrap();
    for (address, other) in [("10.77.0.1/24", "10.77.0.2"), ("fd77::1/64", "fd77::2")] {
        let flags: &[&str] = if address.contains(':') {
            &["nodad"]
        } else {
            &[]
        };
        rig.wire
            .ip(&[&["addr", "add", address, "dev", "wire0"], flags].concat())
            .unwrap();
        let neighbour = [
            "neigh",
            "add",
            other,
            "lladdr",
            "02:00:00:00:00:aa",
            "dev",
            "wire0",
        ];
        rig.wire.ip(&neighbour).unwrap();
    }
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    rig.wire
        .enter(|| {
            for (from, to) in [
                ("10.77.0.1:0", "10.77.0.2:7"),
                ("[fd77::1]:0", "[fd77::2]:7"),
            ] {
                let socket = UdpSocket::bind(from)?;
                for len in [1, 33, 1400] {
                    socket.send_to(&vec![7; len], to)?;
                }
            }
            Ok(())
        })
        .unwrap();
    let is_udp = |frame: &[u8]| is_ipv4(frame, 17) || frame.get(20) == Some(&17);
    let seen = worker.receive(&mut uplink, 6, is_udp).unwrap();
    for frame in seen {
        assert!(
            checksum_is_right(&frame.data),
            "{:02x?}",
            &frame.data[..60.min(frame.data.len())]
        );
    }
    worker.check(&[]);
}

/// Pod with a kernel stack behind the uplink, and the forwarding between the two.
struct TapPod {
    netns: Netns,
    port: TapPort,
    longest_in: usize,
    frames_in: u64,
    bad_checksums: u64,
}

impl TapPod {
    fn new(rig: &Rig) -> Result<TapPod> {
        let netns = Netns::new("pod")?;
        let tap = netns.enter(|| Ok(Tap::open("net1", TapConfig { offload: true })?))?;
        netns.ip(&["addr", "add", "10.77.0.2/24", "dev", "net1"])?;
        netns.ip(&["link", "set", "net1", "up"])?;
        rig.wire
            .ip(&["addr", "add", "10.77.0.1/24", "dev", "wire0"])?;
        let port = TapPort::start(tap)?;
        Ok(TapPod {
            netns,
            port,
            longest_in: 0,
            frames_in: 0,
            bad_checksums: 0,
        })
    }

    /// Forwards one burst each way.
    fn forward(&mut self, worker: &mut Worker, uplink: &mut AfPacket) {
        let mut burst = Burst::new();
        uplink.rx_burst(&mut worker.context(), &mut burst);
        for mbuf in burst.iter().filter(|mbuf| is_ipv4(mbuf.data(), 6)) {
            self.frames_in += 1;
            self.longest_in = self.longest_in.max(mbuf.len());
            self.bad_checksums += u64::from(!checksum_is_right(mbuf.data()));
        }
        self.port
            .deliver(burst.as_slice(), Tagging::Untagged)
            .unwrap();
        self.port.flush();
        worker.pools.free_burst(&mut burst);
        self.port
            .rx_burst(&mut worker.context(), &mut burst)
            .unwrap();
        uplink.tx_burst(&mut worker.context(), &mut burst);
        worker.pools.free_burst(&mut burst);
    }

    fn forward_until(
        &mut self,
        worker: &mut Worker,
        uplink: &mut AfPacket,
        done: impl Fn(&Worker) -> bool,
    ) {
        let start = Instant::now();
        while !done(worker) && start.elapsed() < Duration::from_secs(20) {
            self.forward(worker, uplink);
        }
    }
}

#[test]
fn super_frames_of_kernel_tcp_are_cut() {
    if !root_or_skip("ports_af_packet::super_frames_of_kernel_tcp_are_cut") {
        return;
    }
    let rig = Rig::new().unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    let mut pod = TapPod::new(&rig).unwrap();
    let address = "10.77.0.2:5001".parse().unwrap();
    let transfer = tcp_transfer(&rig.wire, &pod.netns, address, 8 << 20);
    pod.forward_until(&mut worker, &mut uplink, |_| transfer.is_finished());
    transfer.join().unwrap().unwrap();
    let sent = tx_packets(&rig.wire, "wire0").unwrap();
    assert!(
        pod.frames_in > 2 * sent,
        "no super-frames: {sent} sent, {} seen",
        pod.frames_in
    );
    assert_eq!((pod.longest_in, pod.bad_checksums), (1514, 0));

    // And the other way: the pod's kernel hands super-frames to the tap, which are cut there.
    let address = "10.77.0.1:5002".parse().unwrap();
    let transfer = tcp_transfer(&pod.netns, &rig.wire, address, 8 << 20);
    pod.forward_until(&mut worker, &mut uplink, |_| transfer.is_finished());
    transfer.join().unwrap().unwrap();
    // Kernel queues may have been full for a moment; nothing else is lost.
    worker.check(&[DropReason::KernelDropped]);
}

#[test]
fn super_frames_without_room_are_oversize() {
    if !root_or_skip("ports_af_packet::super_frames_without_room_are_oversize") {
        return;
    }
    let rig = Rig::new().unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|config| config.super_frames = false).unwrap();
    let mut pod = TapPod::new(&rig).unwrap();
    let address = "10.77.0.2:5001".parse().unwrap();
    // It cannot get anywhere soon; its end is that of the namespaces.
    let _transfer = tcp_transfer(&rig.wire, &pod.netns, address, 1 << 20);
    pod.forward_until(&mut worker, &mut uplink, |worker| {
        worker.drops.get(DropReason::Oversize) > 0
    });
    assert!(worker.drops.get(DropReason::Oversize) > 0);
    assert!(pod.frames_in > 0, "the handshake comes through");
    worker.check(&[DropReason::Oversize]);
}

#[test]
fn frames_of_this_host_do_not_come_back() {
    if !root_or_skip("ports_af_packet::frames_of_this_host_do_not_come_back") {
        return;
    }
    let rig = Rig::new().unwrap();
    rig.engine
        .ip(&["addr", "add", "10.77.0.2/24", "dev", "up0"])
        .unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    let mut tagger = rig.tagger().unwrap();
    // The engine's own frames, and some of the stack beside it (ARP requests).
    let mut burst = worker.burst(&[frame(1, 60), frame(2, 60)]);
    uplink.tx_burst(&mut worker.context(), &mut burst);
    rig.engine
        .enter(|| {
            let socket = UdpSocket::bind("10.77.0.2:0")?;
            socket.send_to(b"anybody?", "10.77.0.1:7")?;
            Ok(())
        })
        .unwrap();
    assert_eq!(far_end(&mut tagger, 2).unwrap().len(), 2);
    send(&mut tagger, &frame(3, 60)).unwrap();
    let own = mac(&rig.engine, "up0").unwrap();
    let seen = worker.receive(&mut uplink, 1, |_| true).unwrap();
    let source = |frame: &Received| {
        let bytes = frame.data[6..12].iter().map(|byte| format!("{byte:02x}"));
        bytes.collect::<Vec<_>>().join(":")
    };
    assert!(seen.iter().all(|frame| source(frame) != own), "{seen:02x?}");
    let ours: Vec<_> = seen.iter().filter(|frame| is_ours(&frame.data)).collect();
    assert!(
        ours.iter().all(|seen| seen.data == frame(3, 60)),
        "{ours:02x?}"
    );
    worker.check(&[]);
}

#[test]
fn what_the_kernel_drops_is_counted() {
    if !root_or_skip("ports_af_packet::what_the_kernel_drops_is_counted") {
        return;
    }
    const SENT: u64 = 900;
    let rig = Rig::new().unwrap();
    silence(&rig);
    let mut worker = Worker::new();
    let mut tagger = rig.tagger().unwrap();
    let mut uplink = rig.uplink(|config| config.rx_frames = 16).unwrap();
    for _ in 0..SENT {
        send(&mut tagger, &frame(1, 60)).unwrap();
    }
    let mut received = 0;
    wait_for(
        "all frames to be accounted for",
        Duration::from_secs(5),
        || {
            let mut burst = Burst::new();
            uplink.rx_burst(&mut worker.context(), &mut burst);
            received += burst.len() as u64;
            worker.pools.free_burst(&mut burst);
            let dropped = worker.drops.get(DropReason::KernelDropped);
            (received > 0 && dropped > 0 && received + dropped >= SENT).then_some(())
        },
    )
    .unwrap();
    assert_eq!(received + worker.drops.get(DropReason::KernelDropped), SENT);
    worker.check(&[DropReason::KernelDropped]);
}

/// Has no frames but the test's own on the wire, so that counts are exact.
fn silence(rig: &Rig) {
    for (netns, device) in [(&rig.wire, "wire0"), (&rig.engine, "up0")] {
        for words in [&["addrgenmode", "none"][..], &["down"][..], &["up"][..]] {
            let args = [&["link", "set", device], words].concat();
            netns.ip(&args).unwrap();
        }
    }
}

/// Receives what waits in the ring and returns the number of frames.
fn drain(worker: &mut Worker, uplink: &mut AfPacket) -> u64 {
    let mut received = 0;
    loop {
        let mut burst = Burst::new();
        uplink.rx_burst(&mut worker.context(), &mut burst);
        let frames = burst.len() as u64;
        received += frames;
        worker.pools.free_burst(&mut burst);
        if frames == 0 {
            return received;
        }
    }
}

#[test]
fn bursts_of_a_thousand_frames_wait_for_a_worker_that_is_kept_off() {
    let name = "ports_af_packet::bursts_of_a_thousand_frames_wait_for_a_worker_that_is_kept_off";
    if !root_or_skip(name) {
        return;
    }
    let rig = Rig::new().unwrap();
    silence(&rig);
    let mut worker = Worker::new();
    let mut tagger = rig.tagger().unwrap();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    // Nobody polls while a burst comes, at any place of the ring.
    for burst in 1..=7 {
        for number in 0..1000_u16 {
            let len = 60 + usize::from(number % 1400);
            send(&mut tagger, &frame(number.to_le_bytes()[0], len)).unwrap();
        }
        assert_eq!(drain(&mut worker, &mut uplink), 1000, "burst {burst}");
    }
    // The worker asks the kernel once it is quiet.
    (0..64).for_each(|_| assert_eq!(drain(&mut worker, &mut uplink), 0));
    assert_eq!(worker.drops.get(DropReason::KernelDropped), 0);
    // And 3000 are more than there is room for: each is received or counted.
    for _ in 0..3000 {
        send(&mut tagger, &frame(1, 60)).unwrap();
    }
    let received = drain(&mut worker, &mut uplink);
    assert!(received >= 2048, "{received}");
    (0..64).for_each(|_| assert_eq!(drain(&mut worker, &mut uplink), 0));
    assert_eq!(received + worker.drops.get(DropReason::KernelDropped), 3000);
    worker.check(&[DropReason::KernelDropped]);
}

#[test]
fn a_port_whose_netdev_is_gone_says_so_and_drops() {
    if !root_or_skip("ports_af_packet::a_port_whose_netdev_is_gone_says_so_and_drops") {
        return;
    }
    let rig = Rig::new().unwrap();
    silence(&rig);
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    let mut tagger = rig.tagger().unwrap();
    let housekeeping = |worker: &mut Worker, uplink: &mut AfPacket| {
        uplink.housekeeping(&mut worker.context(), 0);
        uplink.report().link
    };
    assert_eq!(housekeeping(&mut worker, &mut uplink), LinkState::Up);
    // Down is for control to say: the socket goes on when the netdev is up again.
    rig.engine.ip(&["link", "set", "up0", "down"]).unwrap();
    assert_eq!(housekeeping(&mut worker, &mut uplink), LinkState::Up);
    let link = uplink.link();
    link.set_state(LinkState::Down);
    let mut burst = worker.burst(&[frame(1, 60), frame(2, 60)]);
    let sent = uplink.tx_burst(&mut worker.context(), &mut burst);
    assert_eq!((sent.frames, burst.len()), (0, 0));
    assert_eq!(worker.drops.get(DropReason::LinkDown), 2);
    rig.engine.ip(&["link", "set", "up0", "up"]).unwrap();
    link.set_state(LinkState::Up);
    wait_for(
        "a frame after the link is back",
        Duration::from_secs(5),
        || {
            send(&mut tagger, &frame(3, 60)).ok()?;
            (drain(&mut worker, &mut uplink) > 0).then_some(())
        },
    )
    .unwrap();
    let mut burst = worker.burst(&[frame(4, 60)]);
    assert_eq!(uplink.tx_burst(&mut worker.context(), &mut burst).frames, 1);
    // A lower MTU holds at once.
    link.set_mtu(500);
    let mut burst = worker.burst(&[frame(4, 519)]);
    uplink.tx_burst(&mut worker.context(), &mut burst);
    assert_eq!(worker.drops.get(DropReason::TooLong), 1);

    rig.engine.ip(&["link", "del", "up0"]).unwrap();
    assert_eq!(housekeeping(&mut worker, &mut uplink), LinkState::Gone);
    let mut burst = worker.burst(&[frame(5, 60)]);
    let sent = uplink.tx_burst(&mut worker.context(), &mut burst);
    assert_eq!((sent.frames, burst.len()), (0, 0));
    assert_eq!(worker.drops.get(DropReason::LinkDown), 3);
    assert_eq!(drain(&mut worker, &mut uplink), 0);
    worker.check(&[DropReason::LinkDown, DropReason::TooLong]);
}

#[test]
fn a_frame_wakes_a_sleeping_worker() {
    if !root_or_skip("ports_af_packet::a_frame_wakes_a_sleeping_worker") {
        return;
    }
    let rig = Rig::new().unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.uplink(|_| {}).unwrap();
    let mut tagger = rig.tagger().unwrap();
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    uplink.wake_fds(&mut |fd| {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&set, fd, epoll::EventData::new_u64(1), flags).unwrap();
    });
    assert!(!uplink.may_miss_wakeups());
    for number in 0..20 {
        // To sleep: arm until nothing is waiting any more.
        wait_for("silence", Duration::from_secs(5), || {
            let mut burst = Burst::new();
            uplink.rx_burst(&mut worker.context(), &mut burst);
            worker.pools.free_burst(&mut burst);
            uplink.arm().then_some(())
        })
        .unwrap();
        send(&mut tagger, &frame(number, 60)).unwrap();
        let limit = rustix::event::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        let woken = epoll::wait(&set, &mut events, Some(&limit)).unwrap();
        assert_eq!(woken, 1, "wake-up {number}");
        assert!(!uplink.arm(), "a frame is waiting");
        uplink.disarm();
        worker.receive(&mut uplink, 1, is_ours).unwrap();
    }
    worker.check(&[]);
}
