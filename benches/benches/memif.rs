//! memif, our own client against our own server: one way on one core and from core to core, and
//! forwarded from one pod to another through the whole pipeline.
#![allow(
    missing_docs,
    reason = "criterion's macros make functions without docs"
)]
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_benches::scene::{PODS, pod, policies, wire};
use sluice_benches::{Flows, none_allocated, pools, udp_frame};
use sluice_datapath::SteppedWorker;
use sluice_datapath::ports::memif::MemifPort;
use sluice_memif::{
    Address, Connection, EndpointConfig, EndpointHandle, Event, Role, RxQueue, Sink, TxQueue,
    endpoint,
};

const BURST: usize = 32;
/// Entries of the flow cache.
const FLOWS: usize = 131_072;

/// Receives into one buffer, over and over.
struct Scratch(Vec<u8>);

impl Sink for Scratch {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.get_mut(..len)
    }
}

fn scratch() -> Scratch {
    Scratch(vec![0; 65_536])
}

/// Both ends of one memif: the server's first.
struct Pair {
    server: Connection,
    client: Connection,
    _handles: [EndpointHandle; 2],
}

fn pair() -> Pair {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let address: Address = format!("@sluicegate/bench-{}-{number}", std::process::id())
        .parse()
        .unwrap();
    let start = |role| {
        let (sender, receiver) = channel();
        let handle = endpoint::spawn(
            EndpointConfig::new(role, "bench"),
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

fn send(queue: &mut TxQueue, frame: &[u8]) -> usize {
    let room = queue.room().unwrap().min(BURST);
    for _ in 0..room {
        queue.push(&[frame]).unwrap();
    }
    queue.publish().unwrap();
    room
}

fn receive(queue: &mut RxQueue, sink: &mut Scratch) -> usize {
    queue.recv(BURST, sink).unwrap()
}

fn one_way(c: &mut Criterion) {
    let mut group = c.benchmark_group("memif_one_way");
    group.sample_size(20);
    for bytes in [60, 1496] {
        let frame = vec![0x5a; bytes];
        let mut pair = pair();
        let (tx, rx) = (&mut pair.client.tx[0], &mut pair.server.rx[0]);
        let mut sink = scratch();
        group.throughput(Throughput::Elements(BURST as u64));
        let mut round = || {
            send(tx, &frame);
            black_box(receive(rx, &mut sink));
        };
        none_allocated("memif", &mut round);
        group.bench_function(format!("one_core_{bytes}"), |b| b.iter(&mut round));
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("core_to_core_{bytes}"), |b| {
            b.iter_custom(|iterations| {
                let stop = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            send(tx, &frame);
                        }
                    });
                    let start = Instant::now();
                    let mut left = iterations;
                    while left > 0 {
                        left = left.saturating_sub(receive(rx, &mut sink) as u64);
                    }
                    stop.store(true, Ordering::Relaxed);
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// From pod to pod through classify, anti-spoof, both pods' judges and deliver. The worker runs on
/// this thread, the pods on another.
fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("memif_forward_64");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1));
    for rules in [1, 100, 1000] {
        let mut worker = SteppedWorker::new(pools(), policies(rules), FLOWS).unwrap();
        let uplink = worker.add_uplink(wire()).unwrap();
        let mut pods = Vec::new();
        let mut handles = Vec::new();
        for number in 0..PODS.len() {
            let Pair {
                server,
                client,
                _handles,
            } = pair();
            worker
                .attach(pod(uplink, number, 0), Box::new(MemifPort::new(server)))
                .unwrap();
            pods.push(client);
            handles.push(_handles);
        }
        let mut flows = Flows::new(rules);
        let frames: Vec<_> = (0..1024)
            .map(|_| udp_frame(PODS[1].0, PODS[0].0, flows.next_port()))
            .collect();
        group.bench_function(format!("{rules}_rules"), |b| {
            b.iter_custom(|iterations| {
                let stop = AtomicBool::new(false);
                let [sender, receiver] = &mut pods[..] else {
                    panic!("two pods")
                };
                let received = AtomicU32::new(0);
                let counter = &received;
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut next = frames.chunks_exact(BURST).cycle();
                        let mut sink = scratch();
                        while !stop.load(Ordering::Relaxed) {
                            let queue = &mut sender.tx[0];
                            if queue.room().unwrap() >= BURST {
                                for frame in next.next().into_iter().flatten() {
                                    queue.push(&[frame]).unwrap();
                                }
                                queue.publish().unwrap();
                            }
                            let got = receive(&mut receiver.rx[0], &mut sink);
                            counter.fetch_add(u32::try_from(got).unwrap(), Ordering::Relaxed);
                        }
                    });
                    let start = Instant::now();
                    let mut last = received.load(Ordering::Relaxed);
                    let mut left = iterations;
                    while left > 0 {
                        worker.round();
                        let now = received.load(Ordering::Relaxed);
                        left = left.saturating_sub(u64::from(now.wrapping_sub(last)));
                        last = now;
                    }
                    stop.store(true, Ordering::Relaxed);
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_way, forward);
criterion_main!(benches);
