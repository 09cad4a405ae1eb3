// SPDX-License-Identifier: Apache-2.0
//! Idle workers sleep, cost next to nothing, and lose nothing when they wake.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, plainly")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test is no worker"
)]

mod lab;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lab::{Lab, vid};
use sluice_datapath::VlanSet;
use sluice_datapath::ports::memif::MemifPort;
use sluice_memif::{
    Address, Connection, EndpointConfig, EndpointHandle, Event, FrameList, Role, endpoint,
};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;

const LIMIT: Duration = Duration::from_secs(20);

fn endpoint(role: Role, address: &Address) -> (EndpointHandle, Receiver<Connection>) {
    let (sender, receiver) = channel();
    let config = EndpointConfig::new(role, "idle");
    let handle = endpoint::spawn(config, address.clone(), move |event| {
        if let Event::Connected(connection) = event {
            let _ = sender.send(connection);
        }
    })
    .unwrap();
    (handle, receiver)
}

/// A memif attachment in VLAN 210 and its pod's end.
fn attach(lab: &mut Lab, name: &str) -> (Mac, Connection, [EndpointHandle; 2]) {
    let address: Address = format!("@sluicegate/{name}-{}", std::process::id())
        .parse()
        .unwrap();
    let (server_handle, server) = endpoint(Role::Server, &address);
    let (client_handle, client) = endpoint(Role::Client, &address);
    let spec = lab.spec(VlanSet::Access(vid(210)));
    let mac = spec.mac;
    let attached = lab.engine.attach(spec).unwrap();
    let port = MemifPort::new(server.recv_timeout(LIMIT).unwrap());
    lab.engine.connect(attached.id, Box::new(port)).unwrap();
    (
        mac,
        client.recv_timeout(LIMIT).unwrap(),
        [server_handle, client_handle],
    )
}

#[test]
fn frames_that_come_while_the_worker_sleeps_all_arrive() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let (from, mut sender, _sender_ends) = attach(&mut lab, "idle-a");
    let (to, mut receiver, _receiver_ends) = attach(&mut lab, "idle-b");
    let sleeps = || lab.engine.snapshot().workers[0].sleeps;

    let before = sleeps();
    let mut got = FrameList::default();
    for number in 0..200_u64 {
        // From busy polling over the edge of sleep to deep in it.
        std::thread::sleep(Duration::from_micros(number * 37 % 5000));
        let payload = number.to_be_bytes();
        let frame = FrameBuilder::new(to, from).payload(&payload).build();
        let queue = &mut sender.tx[0];
        assert!(queue.push(&[&frame]).unwrap());
        if queue.publish().unwrap() {
            queue.kick();
        }
        let start = Instant::now();
        while got.is_empty() {
            receiver.rx[0].recv(8, &mut got).unwrap();
            assert!(start.elapsed() < LIMIT, "frame {number} was lost");
        }
        assert_eq!(got.pop().unwrap(), frame, "frame {number}");
    }
    assert!(
        sleeps() > before + 20,
        "the worker was to be asleep most of the time"
    );
    drop((sender, receiver));
    lab.end();
}

#[test]
fn an_idle_worker_goes_round_once_per_millisecond_at_most() {
    let mut lab = Lab::new(1);
    lab.allow("210");
    let (_, pod, _ends) = attach(&mut lab, "idle-c");
    std::thread::sleep(Duration::from_millis(100));
    let before = lab.engine.snapshot().workers[0].loops;
    std::thread::sleep(Duration::from_secs(2));
    let loops = lab.engine.snapshot().workers[0].loops - before;
    assert!(
        loops < 4000,
        "{loops} loops in 2 s: the worker does not sleep"
    );
    drop(pod);
    lab.end();
}
