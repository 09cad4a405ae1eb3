// SPDX-License-Identifier: Apache-2.0
//! Pods on tap devices: kernel stacks in network namespaces of their own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod ports_worker;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ports_worker::{Worker, checksum_is_right, ifindex, is_ipv4, mac, tcp_transfer, tx_packets};
use rustix::event::{Timespec, epoll};
use sluice_datapath::ports::tap::TapPort;
use sluice_datapath::{
    DropReason, FrameInfo, LateCounts, PodPort, SegmentId, Sent, Tagging, UplinkId, Wake,
};
use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_mem::tap::{Tap, TapConfig};
use sluice_mem::{Burst, Mbuf};
use sluice_packet::{Mac, Vid, VlanTag};
use sluice_tests::{Netns, root_or_skip, wait_for};

/// A pod: `net1` with `address`, up, and its port.
struct Pod {
    netns: Netns,
    port: TapPort,
    /// Ends of the frames that the port took.
    late: Arc<LateCounts>,
    mac: Mac,
}

impl Pod {
    fn new(address: &str, offload: bool) -> Result<Pod> {
        let netns = Netns::new("pod")?;
        let tap = netns.enter(move || Ok(Tap::open("net1", TapConfig { offload })?))?;
        netns.ip(&["addr", "add", address, "dev", "net1"])?;
        netns.ip(&["link", "set", "net1", "up"])?;
        let mac = mac(&netns, "net1")?.parse()?;
        let mut port = TapPort::start(tap)?;
        let late = Arc::default();
        port.count_late(&late);
        Ok(Pod {
            netns,
            port,
            late,
            mac,
        })
    }

    /// Delivers frames, all of which the port takes.
    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) {
        let sent = self.port.deliver(frames, tagging).unwrap();
        self.port.flush();
        let all = Sent {
            pending: frames.len(),
            ..Sent::default()
        };
        assert_eq!(sent, all);
    }

    /// Waits until so many of the frames that the port took have ended.
    fn wait_ended(&self, frames: u64) {
        let ended = || (self.late.ended() == frames).then_some(());
        wait_for("the end of the frames", Duration::from_secs(5), ended).unwrap();
    }

    fn receive(&mut self, worker: &mut Worker, keep: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        wait_for("a frame from the pod", Duration::from_secs(5), || {
            let mut burst = Burst::new();
            self.port
                .rx_burst(&mut worker.context(), &mut burst)
                .unwrap();
            let data = |mbuf: &sluice_mem::Mbuf| mbuf.data().to_vec();
            let found = burst.iter().find(|mbuf| keep(mbuf.data())).map(data);
            worker.pools.free_burst(&mut burst);
            found
        })
    }
}

#[test]
fn udp_of_the_pods_kernel_goes_out_and_comes_back() {
    if !root_or_skip("ports_tap::udp_of_the_pods_kernel_goes_out_and_comes_back") {
        return;
    }
    for offload in [false, true] {
        let mut worker = Worker::new();
        let mut pod = Pod::new("10.79.0.2/24", offload).unwrap();
        let peer = [
            "neigh",
            "add",
            "10.79.0.1",
            "lladdr",
            "02:00:00:00:00:aa",
            "dev",
            "net1",
        ];
        pod.netns.ip(&peer).unwrap();
        let socket = pod
            .netns
            .enter(|| Ok(UdpSocket::bind("10.79.0.2:5000")?))
            .unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
            .send_to(b"hello from the pod", "10.79.0.1:7")
            .unwrap();
        let frame = pod
            .receive(&mut worker, |frame| is_ipv4(frame, 17))
            .unwrap();
        assert!(checksum_is_right(&frame));
        assert!(frame.ends_with(b"hello from the pod"));

        // Sent back with everything turned round: all checksums stay right.
        let mut answer = frame.clone();
        answer[..6].copy_from_slice(&frame[6..12]);
        answer[6..12].copy_from_slice(&frame[..6]);
        answer[26..30].copy_from_slice(&frame[30..34]);
        answer[30..34].copy_from_slice(&frame[26..30]);
        answer[34..36].copy_from_slice(&frame[36..38]);
        answer[36..38].copy_from_slice(&frame[34..36]);
        let mut burst = worker.burst(&[answer.clone()]);
        // The tag of the wire is not for an access pod.
        let tag = VlanTag {
            tpid: 0x8100,
            tci: 210,
        };
        for mbuf in burst.iter_mut() {
            FrameInfo::of_mut(mbuf).set_tag(Some(tag));
        }
        pod.deliver(burst.as_slice(), Tagging::Untagged);
        let mut received = [0; 64];
        let (len, from) = socket.recv_from(&mut received).unwrap();
        assert_eq!(
            (&received[..len], from.port()),
            (&b"hello from the pod"[..], 7)
        );
        worker.pools.free_burst(&mut burst);
        pod.wait_ended(1);
        let bytes = pod.late.traffic().tx_bytes;
        assert_eq!(usize::try_from(bytes).unwrap(), answer.len());
        worker.check(&[]);
    }
}

#[test]
fn a_trunk_pod_sees_tags_and_may_send_them() {
    if !root_or_skip("ports_tap::a_trunk_pod_sees_tags_and_may_send_them") {
        return;
    }
    let mut worker = Worker::new();
    let mut pod = Pod::new("10.79.0.2/24", false).unwrap();
    let index = ifindex(&pod.netns, "net1").unwrap();
    let inside = move || Ok(PacketSocket::open(index, PacketConfig::for_mtu(1600))?);
    let mut inside = pod.netns.enter(inside).unwrap();
    let mut frame = vec![7; 100];
    frame[..6].copy_from_slice(&pod.mac.octets());
    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);

    // To the pod: of the native segment without a tag, of another with it and its priority.
    let segment = |vid| SegmentId::new(UplinkId(0), Vid::new(vid).unwrap());
    let mut burst = worker.burst(&[frame.clone(), frame.clone()]);
    for (mbuf, vid) in burst.iter_mut().zip([100, 210]) {
        let info = FrameInfo::of_mut(mbuf);
        info.set_tag(Some(VlanTag {
            tpid: 0x88a8,
            tci: 0xa000 | vid,
        }));
        info.set_segment(segment(vid));
    }
    let tagging = Tagging::Tagged {
        native: Some(segment(100)),
    };
    pod.deliver(burst.as_slice(), tagging);
    pod.wait_ended(2);
    assert_eq!(pod.late.traffic().tx_bytes, 100 + 104);
    worker.pools.free_burst(&mut burst);
    let mut seen = Vec::new();
    wait_for("both frames in the pod", Duration::from_secs(5), || {
        inside.recv(1000, |received| {
            if received.data.get(12..14) == Some(&[0x88, 0xb5]) {
                seen.push((received.vlan, received.data.to_vec()));
            }
            Next::Take
        });
        (seen.len() == 2).then_some(())
    })
    .unwrap();
    assert_eq!(seen[0], (None, frame.clone()));
    assert_eq!(seen[1], (Some((0x8100, 0xa000 | 210)), frame.clone()));

    // From the pod: tags are left in the bytes.
    let mut tagged = frame.clone();
    tagged.splice(12..12, [0x81, 0x00, 0x60, 0xd2]);
    let queued = inside.send(|space| {
        space[..tagged.len()].copy_from_slice(&tagged);
        tagged.len()
    });
    assert!(queued);
    inside.flush().unwrap();
    let got = pod
        .receive(&mut worker, |frame| {
            frame.get(12..14) == Some(&[0x81, 0x00])
        })
        .unwrap();
    assert_eq!(got, tagged);
    worker.check(&[]);
}

#[test]
fn kernel_tcp_between_two_pods() {
    if !root_or_skip("ports_tap::kernel_tcp_between_two_pods") {
        return;
    }
    for offload in [false, true] {
        let mut worker = Worker::new();
        let mut a = Pod::new("10.79.0.1/24", offload).unwrap();
        let mut b = Pod::new("10.79.0.2/24", offload).unwrap();
        let address = "10.79.0.2:5001".parse().unwrap();
        let transfer = tcp_transfer(&a.netns, &b.netns, address, 4 << 20);
        let start = Instant::now();
        let (mut frames, mut longest) = (0, 0);
        while !transfer.is_finished() && start.elapsed() < Duration::from_secs(20) {
            let mut burst = Burst::new();
            a.port.rx_burst(&mut worker.context(), &mut burst).unwrap();
            for mbuf in burst.iter().filter(|mbuf| is_ipv4(mbuf.data(), 6)) {
                assert!(checksum_is_right(mbuf.data()));
                longest = longest.max(mbuf.len());
                frames += 1;
            }
            b.port.deliver(burst.as_slice(), Tagging::Untagged).unwrap();
            b.port.flush();
            worker.pools.free_burst(&mut burst);
            b.port.rx_burst(&mut worker.context(), &mut burst).unwrap();
            a.port.deliver(burst.as_slice(), Tagging::Untagged).unwrap();
            a.port.flush();
            worker.pools.free_burst(&mut burst);
        }
        transfer.join().unwrap().unwrap();
        assert_eq!(longest, 1514);
        let kernel_frames = tx_packets(&a.netns, "net1").unwrap();
        let super_frames = frames > 2 * kernel_frames;
        assert_eq!(
            super_frames, offload,
            "{kernel_frames} from the kernel, {frames} here"
        );
        worker.check(&[]);
    }
}

#[test]
fn a_frame_wakes_a_sleeping_worker() {
    if !root_or_skip("ports_tap::a_frame_wakes_a_sleeping_worker") {
        return;
    }
    let mut worker = Worker::new();
    let mut pod = Pod::new("10.79.0.2/24", false).unwrap();
    let peer = [
        "neigh",
        "add",
        "10.79.0.1",
        "lladdr",
        "02:00:00:00:00:aa",
        "dev",
        "net1",
    ];
    pod.netns.ip(&peer).unwrap();
    let socket = pod
        .netns
        .enter(|| Ok(UdpSocket::bind("10.79.0.2:5000")?))
        .unwrap();
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    pod.port.wake_fds(&mut |fd| {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&set, fd, epoll::EventData::new_u64(1), flags).unwrap();
    });
    for number in 0..20 {
        wait_for("silence", Duration::from_secs(5), || {
            let mut burst = Burst::new();
            pod.port
                .rx_burst(&mut worker.context(), &mut burst)
                .unwrap();
            worker.pools.free_burst(&mut burst);
            pod.port.arm().then_some(())
        })
        .unwrap();
        socket.send_to(b"wake up", "10.79.0.1:7").unwrap();
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        assert_eq!(
            epoll::wait(&set, &mut events, Some(&limit)).unwrap(),
            1,
            "wake-up {number}"
        );
        assert!(!pod.port.arm(), "a frame is waiting");
        pod.receive(&mut worker, |frame| is_ipv4(frame, 17))
            .unwrap();
    }
    worker.check(&[]);
}

#[test]
fn a_pod_may_set_its_device_down_but_deleting_it_is_a_fault() {
    if !root_or_skip("ports_tap::a_pod_may_set_its_device_down_but_deleting_it_is_a_fault") {
        return;
    }
    let mut worker = Worker::new();
    let mut pod = Pod::new("10.79.0.2/24", false).unwrap();
    let mut burst = worker.burst(&[vec![7; 60], vec![8; 60]]);
    let mut out = Burst::new();
    pod.netns.ip(&["link", "set", "net1", "down"]).unwrap();
    pod.port.rx_burst(&mut worker.context(), &mut out).unwrap();
    pod.deliver(burst.as_slice(), Tagging::Untagged);
    pod.wait_ended(2);
    assert_eq!(pod.late.drops().get(DropReason::LinkDown), 2);
    pod.netns.ip(&["link", "set", "net1", "up"]).unwrap();
    pod.deliver(burst.as_slice(), Tagging::Untagged);
    pod.wait_ended(4);
    assert_eq!(pod.late.traffic().tx_frames, 2);

    pod.netns.ip(&["link", "del", "net1"]).unwrap();
    // What the pod sent before comes first.
    let fault = wait_for("the fault", Duration::from_secs(5), || {
        let fault = pod.port.rx_burst(&mut worker.context(), &mut out).err();
        worker.pools.free_burst(&mut out);
        fault
    });
    let fault = fault.unwrap();
    assert!(fault.reason.contains("it was deleted"), "{fault}");
    assert!(!pod.port.arm(), "nobody may sleep over a fault");
    assert!(
        pod.port
            .deliver(burst.as_slice(), Tagging::Untagged)
            .is_err()
    );
    worker.pools.free_burst(&mut burst);
    worker.check(&[]);
}
