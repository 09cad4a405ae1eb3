// SPDX-License-Identifier: Apache-2.0
//! Both ends of a memif in one process.
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use sluice_datapath::SteppedWorker;
use sluice_datapath::ports::memif::MemifPort;
use sluice_firewall::PolicySet;
use sluice_memif::{
    Address, Connection, EndpointConfig, EndpointHandle, Event, Role, RxQueue, Sink, TxQueue,
    endpoint,
};

use crate::pools;
use crate::scene::{BURST, FLOWS, PODS, pod, wire};

/// Sink that puts every frame into one buffer.
#[derive(Debug)]
pub struct Scratch(Vec<u8>);

impl Sink for Scratch {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.get_mut(..len)
    }
}

/// Creates a sink that has room for any frame.
pub fn scratch() -> Scratch {
    Scratch(vec![0; 65_536])
}

/// Both ends of one memif.
#[derive(Debug)]
pub struct Pair {
    /// End that listened.
    pub server: Connection,
    /// End that connected; the frames lie in its regions.
    pub client: Connection,
    _handles: [EndpointHandle; 2],
}

impl Pair {
    /// Splits into the engine's connection and the pod's end.
    pub fn split(self) -> (Connection, PodEnd) {
        let Pair {
            server,
            client,
            _handles,
        } = self;
        (server, PodEnd { client, _handles })
    }
}

/// Connects two ends in this process, with one queue each way.
///
/// # Panics
/// They do not find each other within ten seconds.
pub fn pair() -> Pair {
    pair_of(EndpointConfig::new(Role::Client, "").log2_ring_size)
}

/// Connects two ends as [`pair`] does, with rings of two to the power of `log2_ring_size` slots.
///
/// # Panics
/// They do not find each other within ten seconds.
pub fn pair_of(log2_ring_size: u8) -> Pair {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let address: Address = format!("@sluicegate/bench-{}-{number}", std::process::id())
        .parse()
        .unwrap();
    let start = |role| {
        let (sender, receiver) = channel();
        let handle = endpoint::spawn(
            EndpointConfig {
                log2_ring_size,
                ..EndpointConfig::new(role, "bench")
            },
            address.clone(),
            move |event| {
                if let Event::Connected(connection) = event {
                    let _ = sender.send(connection);
                }
            },
        )
        .unwrap();
        (handle, receiver)
    };
    let (server_handle, server) = start(Role::Server);
    let (client_handle, client) = start(Role::Client);
    let limit = Duration::from_secs(10);
    Pair {
        server: server.recv_timeout(limit).unwrap(),
        client: client.recv_timeout(limit).unwrap(),
        _handles: [server_handle, client_handle],
    }
}

/// Sends `frame` as often as there is room, [`BURST`] times at most.
///
/// # Panics
/// The peer broke the rules: a bug.
pub fn send(queue: &mut TxQueue, frame: &[u8]) -> usize {
    let room = queue.room().unwrap().min(BURST);
    for _ in 0..room {
        queue.push(&[frame]).unwrap();
    }
    queue.publish().unwrap();
    room
}

/// Receives up to [`BURST`] frames.
///
/// # Panics
/// The peer broke the rules: a bug.
pub fn receive(queue: &mut RxQueue, sink: &mut Scratch) -> usize {
    queue.recv(BURST, sink).unwrap()
}

/// Pod's end of its memif; dropping it disconnects.
#[derive(Debug)]
pub struct PodEnd {
    /// Connection of the pod.
    pub client: Connection,
    _handles: [EndpointHandle; 2],
}

/// Creates a worker with two pods behind memifs, and the pods' ends.
///
/// # Panics
/// The memory for it cannot be had, or the ends do not find each other.
pub fn pod_to_pod(policies: Arc<PolicySet>) -> (SteppedWorker, [PodEnd; PODS.len()]) {
    let mut worker = SteppedWorker::new(pools(), policies, FLOWS).unwrap();
    let uplink = worker.add_uplink(wire()).unwrap();
    let ends = std::array::from_fn(|number| {
        let Pair {
            server,
            client,
            _handles,
        } = pair();
        worker
            .attach(pod(uplink, number, 0), Box::new(MemifPort::new(server)))
            .unwrap();
        PodEnd { client, _handles }
    });
    (worker, ends)
}
