// SPDX-License-Identifier: Apache-2.0
//! Workers allocate and free nothing when control changes their tables: memory comes with the command,
//! and what is not needed goes back with the answer. One test alone, as all threads of the process are
//! counted.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use sluice_benches::scene::{pod, policies, wire};
use sluice_benches::{allocations_elsewhere, may_allocate_here};
use sluice_datapath::ports::null::NullPort;
use sluice_datapath::{
    AttachmentId, Engine, EngineConfig, IdleConfig, Limits, UplinkId, UplinkSpec, WorkerConfig,
};
use sluice_mem::HugePages;
use sluice_packet::Mac;

const WORKERS: usize = 2;

fn start() -> Engine {
    Engine::start(EngineConfig {
        workers: vec![WorkerConfig::default(); WORKERS],
        small_mbufs: 8192,
        large_mbufs: 1024,
        flow_cache: 1024,
        huge_pages: HugePages::Off,
        numa_node: None,
        idle: IdleConfig::default(),
        limits: Limits::default(),
    })
    .unwrap()
}

/// Waits until every worker has gone round a few times.
fn few_loops(engine: &Engine) {
    let loops = || engine.snapshot().workers.into_iter().map(|one| one.loops);
    let before: Vec<_> = loops().collect();
    let start = Instant::now();
    while loops().zip(&before).any(|(now, before)| now < before + 10) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "a worker stands still"
        );
        std::thread::yield_now();
    }
}

fn attach(engine: &Engine, uplink: UplinkId, number: u8) -> AttachmentId {
    let groups: Vec<IpAddr> = vec![Ipv4Addr::new(239, 1, 1, number).into()];
    let mut spec = pod(uplink, 0, 0);
    spec.name = format!("pod{number}/net1");
    spec.mac = Mac([2, 0, 0, 0, 1, number]);
    (spec.addresses, spec.groups) = (Vec::new(), groups);
    let id = engine.attach(spec).unwrap().id;
    assert!(engine.connect(id, Box::new(NullPort)).unwrap().is_none());
    id
}

#[test]
fn workers_allocate_nothing_when_tables_change() {
    may_allocate_here();
    // What another thread allocates is seen.
    let made = std::thread::spawn(|| std::hint::black_box(vec![1_u8; 100])).join();
    assert_eq!(made.unwrap().len(), 100);
    assert!(allocations_elsewhere() > 0);
    let engine = start();
    few_loops(&engine);
    let before = allocations_elsewhere();
    for rules in [10, 100] {
        engine.set_policies(policies(rules)).unwrap();
    }
    let uplink = engine.add_uplink(wire()).unwrap();
    let pods: Vec<_> = (0..100).map(|n| attach(&engine, uplink, n)).collect();
    assert_eq!(engine.groups().unwrap().len(), 100);
    engine.set_policies(policies(20)).unwrap();
    for id in pods {
        drop(engine.disconnect(id).unwrap());
        engine.detach(id).unwrap();
    }
    let second = UplinkSpec {
        name: "wire1".to_owned(),
        ..wire()
    };
    let second = engine.add_uplink(second).unwrap();
    drop(engine.remove_uplink(second).unwrap());
    engine.balance().unwrap();
    few_loops(&engine);
    assert_eq!(allocations_elsewhere() - before, 0, "workers did");
    engine.stop().unwrap();
}
