// SPDX-License-Identifier: Apache-2.0
//! Frames that come, that do not, and that the kernel has no room for: each is counted once.

use std::net::UdpSocket;
use std::time::Duration;

use sluice_datapath::DropReason;
use sluice_mem::Burst;
use sluice_tests::{root_or_skip, wait_for};

use super::rig::{Driver, Rig, drain, far_end, frame, is_ours, send, silence};
use crate::ports_worker::{Received, Worker, mac};

#[test]
fn frames_of_this_host_do_not_come_back() {
    if !root_or_skip("ports_netdev::frames_of_this_host_do_not_come_back") {
        return;
    }
    for driver in Driver::ALL {
        let rig = Rig::new().unwrap();
        rig.engine
            .ip(&["addr", "add", "10.77.0.2/24", "dev", "up0"])
            .unwrap();
        let mut worker = Worker::new();
        let mut uplink = rig.uplink(driver, 2048, &mut worker).unwrap();
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
        let seen = worker.receive(&mut *uplink, 1, |_| true).unwrap();
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
        drop(uplink);
        worker.check(&[]);
    }
}

#[test]
fn what_the_kernel_drops_is_counted() {
    if !root_or_skip("ports_netdev::what_the_kernel_drops_is_counted") {
        return;
    }
    for driver in Driver::ALL {
        const SENT: u64 = 900;
        let rig = Rig::new().unwrap();
        silence(&rig);
        let mut worker = Worker::new();
        let mut tagger = rig.tagger().unwrap();
        let mut uplink = rig.uplink(driver, 64, &mut worker).unwrap();
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
        drop(uplink);
        worker.check(&[DropReason::KernelDropped]);
    }
}

#[test]
fn bursts_of_a_thousand_frames_wait_for_a_worker_that_is_kept_off() {
    let name = "ports_netdev::bursts_of_a_thousand_frames_wait_for_a_worker_that_is_kept_off";
    if !root_or_skip(name) {
        return;
    }
    for driver in Driver::ALL {
        let rig = Rig::new().unwrap();
        silence(&rig);
        let mut worker = Worker::new();
        let mut tagger = rig.tagger().unwrap();
        let mut uplink = rig.uplink(driver, 2048, &mut worker).unwrap();
        // Nobody polls while a burst comes, at any place of the ring.
        for burst in 1..=7 {
            for number in 0..1000_u16 {
                let len = 60 + usize::from(number % 1400);
                send(&mut tagger, &frame(number.to_le_bytes()[0], len)).unwrap();
            }
            assert_eq!(drain(&mut worker, &mut *uplink), 1000, "burst {burst}");
        }
        // The worker asks the kernel once it is quiet.
        (0..64).for_each(|_| assert_eq!(drain(&mut worker, &mut *uplink), 0));
        assert_eq!(worker.drops.get(DropReason::KernelDropped), 0);
        // And 3000 are more than there is room for: each is received or counted.
        for _ in 0..3000 {
            send(&mut tagger, &frame(1, 60)).unwrap();
        }
        let received = drain(&mut worker, &mut *uplink);
        assert!(received >= 2048, "{received}");
        (0..64).for_each(|_| assert_eq!(drain(&mut worker, &mut *uplink), 0));
        assert_eq!(received + worker.drops.get(DropReason::KernelDropped), 3000);
        drop(uplink);
        worker.check(&[DropReason::KernelDropped]);
    }
}
