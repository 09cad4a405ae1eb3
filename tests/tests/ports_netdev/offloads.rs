// SPDX-License-Identifier: Apache-2.0
//! Work that a kernel leaves to the card: checksums, and cutting of super-frames (AF_PACKET alone).

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_datapath::ports::tap::TapPort;
use sluice_datapath::{DropReason, PodPort, Tagging, Uplink};
use sluice_mem::Burst;
use sluice_mem::tap::{Tap, TapConfig};
use sluice_tests::{Netns, root_or_skip};

use super::rig::{Driver, Rig};
use crate::ports_worker::{Worker, checksum_is_right, is_ipv4, tcp_transfer, tx_packets};

#[test]
fn open_checksums_are_filled_in() {
    if !root_or_skip("ports_netdev::open_checksums_are_filled_in") {
        return;
    }
    for driver in Driver::ALL {
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
        let mut uplink = rig.uplink(driver, 2048, &mut worker).unwrap();
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
        let seen = worker.receive(&mut *uplink, 6, is_udp).unwrap();
        for frame in seen {
            assert!(
                checksum_is_right(&frame.data),
                "{:02x?}",
                &frame.data[..60.min(frame.data.len())]
            );
        }
        drop(uplink);
        worker.check(&[]);
    }
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
    fn forward(&mut self, worker: &mut Worker, uplink: &mut dyn Uplink) {
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
        uplink: &mut dyn Uplink,
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
    if !root_or_skip("ports_netdev::super_frames_of_kernel_tcp_are_cut") {
        return;
    }
    let rig = Rig::new().unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.af_packet(|_| {}).unwrap();
    let mut pod = TapPod::new(&rig).unwrap();
    let address = "10.77.0.2:5001".parse().unwrap();
    let transfer = tcp_transfer(&rig.wire, &pod.netns, address, 8 << 20);
    pod.forward_until(&mut worker, &mut *uplink, |_| transfer.is_finished());
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
    pod.forward_until(&mut worker, &mut *uplink, |_| transfer.is_finished());
    transfer.join().unwrap().unwrap();
    // Kernel queues may have been full for a moment; nothing else is lost.
    drop(uplink);
    worker.check(&[DropReason::KernelDropped]);
}

#[test]
fn super_frames_without_room_are_oversize() {
    if !root_or_skip("ports_netdev::super_frames_without_room_are_oversize") {
        return;
    }
    let rig = Rig::new().unwrap();
    let mut worker = Worker::new();
    let mut uplink = rig.af_packet(|config| config.super_frames = false).unwrap();
    let mut pod = TapPod::new(&rig).unwrap();
    let address = "10.77.0.2:5001".parse().unwrap();
    // It cannot get anywhere soon; its end is that of the namespaces.
    let _transfer = tcp_transfer(&rig.wire, &pod.netns, address, 1 << 20);
    pod.forward_until(&mut worker, &mut *uplink, |worker| {
        worker.drops.get(DropReason::Oversize) > 0
    });
    assert!(worker.drops.get(DropReason::Oversize) > 0);
    assert!(pod.frames_in > 0, "the handshake comes through");
    drop(uplink);
    worker.check(&[DropReason::Oversize]);
}
