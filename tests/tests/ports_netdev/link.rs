// SPDX-License-Identifier: Apache-2.0
//! Link of the port: a netdev that goes down, and one that is deleted; wake-ups.

use std::time::Duration;

use rustix::event::epoll;
use sluice_datapath::{DropReason, LinkState, Uplink};
use sluice_mem::Burst;
use sluice_tests::{root_or_skip, wait_for};

use super::rig::{Driver, Rig, drain, frame, is_ours, send, silence};
use crate::ports_worker::Worker;

#[test]
fn a_port_whose_netdev_is_gone_says_so_and_drops() {
    if !root_or_skip("ports_netdev::a_port_whose_netdev_is_gone_says_so_and_drops") {
        return;
    }
    for driver in Driver::ALL {
        let rig = Rig::new().unwrap();
        silence(&rig);
        let mut worker = Worker::new();
        let mut uplink = rig.uplink(driver, 2048, &mut worker).unwrap();
        let mut tagger = rig.tagger().unwrap();
        let housekeeping = |worker: &mut Worker, uplink: &mut dyn Uplink| {
            uplink.housekeeping(&mut worker.context(), 0);
            uplink.report().link
        };
        assert_eq!(housekeeping(&mut worker, &mut *uplink), LinkState::Up);
        // Down is for control to say: the socket goes on when the netdev is up again.
        rig.engine.ip(&["link", "set", "up0", "down"]).unwrap();
        assert_eq!(housekeeping(&mut worker, &mut *uplink), LinkState::Up);
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
                (drain(&mut worker, &mut *uplink) > 0).then_some(())
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
        assert_eq!(housekeeping(&mut worker, &mut *uplink), LinkState::Gone);
        let mut burst = worker.burst(&[frame(5, 60)]);
        let sent = uplink.tx_burst(&mut worker.context(), &mut burst);
        assert_eq!((sent.frames, burst.len()), (0, 0));
        assert_eq!(worker.drops.get(DropReason::LinkDown), 3);
        assert_eq!(drain(&mut worker, &mut *uplink), 0);
        drop(uplink);
        worker.check(&[DropReason::LinkDown, DropReason::TooLong]);
    }
}

#[test]
fn a_frame_wakes_a_sleeping_worker() {
    if !root_or_skip("ports_netdev::a_frame_wakes_a_sleeping_worker") {
        return;
    }
    for driver in Driver::ALL {
        let rig = Rig::new().unwrap();
        let mut worker = Worker::new();
        let mut uplink = rig.uplink(driver, 2048, &mut worker).unwrap();
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
            worker.receive(&mut *uplink, 1, is_ours).unwrap();
        }
        drop(uplink);
        worker.check(&[]);
    }
}
