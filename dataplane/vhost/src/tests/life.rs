// SPDX-License-Identifier: Apache-2.0
//! Honest front ends: set up, stopped, changed, killed and started again, in both roles.

use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::features;
use crate::testing::{GUEST, GuestMemory, USER};

#[test]
fn a_front_end_that_connects_is_served() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    for _ in 0..20 {
        back.echoes(&mut front, 0, &[60, 61, 1514, 1, 2036]);
    }
    back.with(|connection| {
        assert_eq!(connection.rx[0].counters().frames, 100);
        assert_eq!(connection.tx[0].counters().frames, 100);
        assert_eq!(connection.features, features::OFFERED);
        assert!(connection.can_shrink);
        assert_eq!(connection.peer.pid, std::process::id());
    });
}

#[test]
fn a_front_end_that_listens_is_found_and_found_again() {
    let back = Back::new(Role::Client, |_| {});
    back.says("waiting: nobody listens");
    let listener = listen(&back);
    for _ in 0..3 {
        let mut front = FrontEnd::new(listener.accept().unwrap().0, Setup::default());
        front.set_up().unwrap();
        back.says("started 1");
        back.echoes(&mut front, 0, &[60, 1514]);
        drop(front);
        back.says("stopped: the front end closed the socket");
    }
    assert_eq!(back.endpoint.counts().made, 3);
}

#[test]
fn front_ends_without_version_1_or_merged_buffers_are_served() {
    use features::{INDIRECT_DESC, MRG_RXBUF, PROTOCOL_FEATURES, VERSION_1};
    for chosen in [
        0,
        MRG_RXBUF,
        VERSION_1,
        PROTOCOL_FEATURES | VERSION_1,
        PROTOCOL_FEATURES | VERSION_1 | MRG_RXBUF | INDIRECT_DESC,
    ] {
        let back = Back::new(Role::Server, |_| {});
        let mut front = back.running(Setup {
            features: chosen,
            ..Setup::default()
        });
        back.echoes(&mut front, 0, &[60, 1514, 64]);
    }
}

#[test]
fn long_frames_take_several_buffers() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup {
        buffer: 9100,
        ..Setup::default()
    });
    back.echoes(&mut front, 0, &[9018, 60]);
    let mut front_of_small = {
        drop(front);
        back.says("stopped");
        back.running(Setup {
            buffer: 512,
            ..Setup::default()
        })
    };
    back.with(|connection| {
        let tx = &mut connection.tx[0];
        tx.prepare().unwrap();
        assert!(tx.push(&[&[7; 5000]]).unwrap());
        assert!(tx.push(&[&[8; 60]]).unwrap());
        tx.publish().unwrap();
    });
    assert_eq!(front_of_small.receive(0), [vec![7; 5000], vec![8; 60]]);
}

#[test]
fn four_queue_pairs_run_and_one_can_be_switched_off() {
    let back = Back::new(Role::Server, |config| config.queue_pairs = 4);
    let setup = Setup {
        pairs: 4,
        features: features::offered(4),
        ..Setup::default()
    };
    let mut front = back.running(setup);
    for pair in 0..4 {
        back.echoes(&mut front, pair, &[60, 61 + pair]);
    }
    assert_eq!(front.ask(17, &[], &[]), Some(4));
    front.ask(18, &FrontEnd::ring_state(7, 0), &[]).unwrap();
    back.says("started 3");
    for pair in 0..3 {
        back.echoes(&mut front, pair, &[60, 61 + pair]);
    }
    front.ask(18, &FrontEnd::ring_state(7, 1), &[]).unwrap();
    back.says("started 4");
    back.echoes(&mut front, 3, &[99]);
}

#[test]
fn a_ring_that_is_stopped_tells_its_next_index_and_goes_on_there() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    back.echoes(&mut front, 0, &[60; 10]);
    assert_eq!(front.stop_ring(0), Some(10));
    back.says("stopped: the front end stopped its rings (GET_VRING_BASE)");
    assert_eq!(front.stop_ring(1), Some(10));
    assert!(back.connection.lock().unwrap().is_none());
    for ring in 0..2 {
        front.set_ring(ring).unwrap();
        front.set_kick(ring).unwrap();
    }
    back.says("started");
    back.echoes(&mut front, 0, &[60; 10]);
    assert_eq!(front.stop_ring(1), Some(20));
}

#[test]
fn the_used_index_counts_where_the_base_disagrees() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.front_end(Setup::default());
    front.rings.iter_mut().for_each(|ring| ring.begin_at(777));
    front.set_up().unwrap();
    back.says("started");
    // DPDK's front end says 0 to a back end that came back, though its rings are where they were.
    assert_eq!(front.stop_ring(1), Some(777));
    front.ask(10, &FrontEnd::ring_state(1, 0), &[]).unwrap();
    front.set_kick(1).unwrap();
    back.says("started");
    back.echoes(&mut front, 0, &[60, 1514]);
}

#[test]
fn memory_is_added_removed_and_replaced_while_rings_run() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    assert_eq!(front.ask(36, &[], &[]), Some(32));
    let more = GuestMemory::new(1 << 20);
    let mut spec = more.spec();
    (spec.guest_address, spec.user_address) = (GUEST + (1 << 40), USER + (1 << 40));
    let payload = [vec![0; 8], FrontEnd::region(&spec)].concat();
    assert_eq!(front.ask(37, &payload, &[more.as_fd()]), Some(0));
    back.says("started");
    back.echoes(&mut front, 0, &[60, 1514]);
    // A frame in the new memory.
    more.region().copy_out(0, &[0; 100]).unwrap();
    front.rings[1].describe(200, spec.guest_address, 100, 0, 0);
    front.rings[1].offer(200);
    front.rings[1].publish();
    assert_eq!(back.echo(0), 1);
    assert_eq!(front.receive(0), [vec![0; 88]]);
    assert_eq!(front.ask(38, &payload, &[more.as_fd()]), Some(0));
    back.says("started");
    front.share_memory().unwrap();
    back.says("started");
    back.echoes(&mut front, 0, &[60, 1514]);
}

#[test]
fn the_interrupt_is_changed_while_rings_run() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    let next = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let first = std::mem::replace(&mut front.calls[0], next);
    front.set_call(0).unwrap();
    back.echoes(&mut front, 0, &[60]);
    let mut count = [0; 8];
    wait("interrupt", || {
        rustix::io::read(&front.calls[0], &mut count).ok()
    });
    assert!(rustix::io::read(&first, &mut count).is_err());
    assert_eq!(front.ask(13, &0x100_u64.to_ne_bytes(), &[]), Some(0));
    back.echoes(&mut front, 0, &[60]);
    assert!(back.said.try_recv().is_err(), "the rings ran on");
}

#[test]
fn a_kick_wakes_who_sleeps() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    let mut count = [0; 8];
    front.send(0, &[&[1; 60]]);
    assert!(rustix::io::read(&front.kicks[1], &mut count).is_err());
    back.echo(0);
    back.with(|connection| {
        let rx = &mut connection.rx[0];
        rx.set_kicks(true).unwrap();
        assert_eq!(rx.pending(), Ok(0));
        assert!(rx.kick_fd().is_some());
    });
    front.send(0, &[&[1; 60]]);
    assert!(rustix::io::read(&front.kicks[1], &mut count).is_ok());
}

#[test]
fn a_reset_stops_all_and_the_device_is_set_up_anew() {
    for request in [4, 34, 39] {
        let back = Back::new(Role::Server, |_| {});
        let mut front = back.running(Setup::default());
        back.echoes(&mut front, 0, &[60]);
        let payload: &[u8] = if request == 39 { &[0; 8] } else { &[] };
        assert_eq!(front.ask(request, payload, &[]), Some(0));
        back.says("stopped");
        let socket = front.socket().try_clone().unwrap();
        let mut next = FrontEnd::new(socket, Setup::default());
        next.set_up().unwrap();
        back.says("started");
        back.echoes(&mut next, 0, &[60, 1514]);
        assert_eq!(next.ask(39, &7_u64.to_ne_bytes(), &[]), Some(0));
        assert_eq!(next.ask(40, &[], &[]), Some(7));
    }
}

#[test]
fn every_request_that_wants_an_answer_gets_one() {
    let back = Back::new(Role::Server, |_| {});
    let front = back.running(Setup::default());
    // Not offered, or not known.
    for request in [
        6, 7, 19, 20, 21, 22, 23, 25, 26, 27, 28, 29, 30, 32, 33, 35, 44, 9999,
    ] {
        assert_eq!(front.ask(request, &[], &[]), Some(1), "{request}");
    }
    assert_eq!(front.ask(14, &0x100_u64.to_ne_bytes(), &[]), Some(0));
    assert_eq!(front.ask(38, &[0; 40], &[]), Some(1), "no such region");
    assert!(front.closed());
    back.says("no such memory region");
}

#[test]
fn a_second_front_end_is_turned_away_and_the_first_goes_on() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    let second = back.front_end(Setup::default());
    assert!(second.closed());
    back.says("refused: another front end is connected");
    back.echoes(&mut front, 0, &[60, 1514]);
}

#[test]
fn an_endpoint_that_stops_lets_go_of_everything() {
    let before = open_fds();
    let back = Back::new(Role::Server, |_| {});
    let front = back.running(Setup::default());
    let path = back.path.clone();
    let Back { endpoint, said, .. } = back;
    endpoint.stop();
    assert!(said.iter().any(|said| said == "stopped: stopped"));
    assert!(!path.exists());
    assert!(front.closed());
    drop(front);
    assert!(open_fds() <= before + 30, "other tests run beside this");
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
