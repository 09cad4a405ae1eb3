// SPDX-License-Identifier: Apache-2.0
//! Flood limits: nobody's storm takes what is another's.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]
#![allow(clippy::disallowed_methods, reason = "a test is no worker")]

mod lab;

use std::sync::Arc;
use std::time::Duration;

use lab::{Lab, Pod, Shared, TestPort, tagged, vid};
use sluice_datapath::{
    AttachmentId, AttachmentSpec, FloodLimits, Limits, Rate, SteppedWorker, UplinkSpec, VlanSet,
};
use sluice_firewall::{Policy, PolicySet};
use sluice_mem::{BufSize, HugePages, Mempool, PoolConfig, Pools};
use sluice_packet::build::{ArpFields, FrameBuilder};
use sluice_packet::{Mac, VlanTag};

const ALL: Mac = Mac([0xff; 6]);
const GROUP: Mac = Mac([1, 0, 0x5e, 1, 2, 3]);
const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);

fn in_vlan(frame: &[u8]) -> Vec<u8> {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 210,
    };
    tagged(frame, Some(tag))
}

fn udp(to: Mac, from: Mac) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4([10, 0, 0, 1].into(), [239, 1, 2, 3].into())
        .udp(1000, 2000)
        .payload(b"sixteen bytes...")
        .build()
}

fn arp(from: Mac, number: u8) -> Vec<u8> {
    FrameBuilder::new(ALL, from)
        .arp(ArpFields {
            operation: 1,
            sender_mac: from,
            sender_ip: [10, 0, 0, number].into(),
            target_mac: Mac([0; 6]),
            target_ip: [10, 0, 0, 254].into(),
        })
        .build()
}

fn solicitation(from: Mac) -> Vec<u8> {
    let target: std::net::Ipv6Addr = "fe80::99".parse().unwrap();
    let mut body = target.octets().to_vec();
    body.extend([1, 1]);
    body.extend(from.0);
    FrameBuilder::new(Mac([0x33, 0x33, 0xff, 0, 0, 0x99]), from)
        .ipv6(
            "fe80::1".parse().unwrap(),
            "ff02::1:ff00:99".parse().unwrap(),
        )
        .ttl(255)
        .icmp(135, 0, [0; 4])
        .payload(&body)
        .build()
}

/// Limits that only their bursts let through, within a test.
fn bursts(broadcast: u32, multicast: u32, arp_nd: u32) -> FloodLimits {
    FloodLimits {
        broadcast: Rate::new(1, broadcast),
        multicast: Rate::new(1, multicast),
        arp_nd: Rate::new(1, arp_nd),
    }
}

fn arrived(lab: &Lab, pod: &Pod, frame: &[u8]) -> usize {
    let out = lab.out(&pod.port);
    out.iter().filter(|got| *got == frame).count()
}

#[test]
fn a_storm_on_the_wire_takes_no_pods_arp() {
    let limits = Limits {
        wire: bursts(100, 100, 50),
        attachment: bursts(10, 10, 20),
        ..Limits::default()
    };
    for workers in [1, 2] {
        let mut lab = Lab::with_limits(workers, limits);
        lab.allow("210");
        let pods = [lab.access(210), lab.access(210)];
        let storm = [udp(ALL, HOST), udp(GROUP, HOST), arp(HOST, 9)];
        let storm = storm.iter().map(|frame| in_vlan(frame));
        lab.send(&lab.wire.clone(), storm.cycle().take(3 * 2_000));
        let got = lab.out(&pods[0].port).len();
        assert!((250..=256).contains(&got), "the wire's bursts: {got}");
        let requests: Vec<_> = (0..20).map(|n| arp(pods[0].mac, n)).collect();
        lab.out(&pods[1].port);
        lab.send(&pods[0].port, requests.clone());
        assert_eq!(lab.out(&pods[1].port), requests, "{workers} workers");
        let to_wire: Vec<_> = requests.iter().map(|frame| in_vlan(frame)).collect();
        assert_eq!(lab.out(&lab.wire), to_wire);
        lab.end();
    }
}

#[test]
fn a_pods_storm_takes_no_other_pods_arp() {
    let limits = Limits {
        wire: bursts(10, 10, 10),
        attachment: bursts(100, 100, 40),
        ..Limits::default()
    };
    for workers in [1, 2] {
        let mut lab = Lab::with_limits(workers, limits);
        lab.allow("210");
        let pods = [lab.access(210), lab.access(210), lab.access(210)];
        let storm = [
            udp(ALL, pods[0].mac),
            udp(GROUP, pods[0].mac),
            arp(pods[0].mac, 1),
        ];
        lab.send(&pods[0].port, storm.iter().cloned().cycle().take(3 * 2_000));
        lab.out(&pods[2].port);
        let request = arp(pods[1].mac, 2);
        lab.send(&pods[1].port, vec![request.clone(); 40]);
        assert_eq!(arrived(&lab, &pods[2], &request), 40, "{workers} workers");
        assert_eq!(arrived(&lab, &pods[0], &request), 40, "{workers} workers");
        lab.end();
    }
}

#[test]
fn a_sources_own_storm_leaves_its_arp_and_nd() {
    let limits = Limits {
        wire: bursts(5, 7, 11),
        attachment: bursts(5, 7, 11),
        ..Limits::default()
    };
    let mut lab = Lab::with_limits(1, limits);
    lab.allow("210");
    let pods = [lab.access(210), lab.access(210)];
    for (port, from) in [
        (lab.wire.clone(), HOST),
        (pods[0].port.clone(), pods[0].mac),
    ] {
        let send = |frame: Vec<u8>, count| {
            let frame = if from == HOST { in_vlan(&frame) } else { frame };
            lab.send(&port, vec![frame; count]);
        };
        send(udp(ALL, from), 1_000);
        send(udp(GROUP, from), 1_000);
        send(arp(from, 1), 5);
        send(solicitation(from), 6);
        let out = lab.out(&pods[1].port);
        let count = |frame: &[u8]| out.iter().filter(|got| *got == frame).count();
        assert_eq!(count(&udp(ALL, from)), 5);
        assert_eq!(count(&udp(GROUP, from)), 7);
        assert_eq!(count(&arp(from, 1)), 5);
        assert_eq!(count(&solicitation(from)), 6);
        send(arp(from, 1), 1);
        assert!(lab.out(&pods[1].port).is_empty(), "the reserve is used up");
    }
    let expected = [
        ("arp_nd_limited", 2),
        ("broadcast_limited", 2 * 995),
        ("multicast_limited", 2 * 993),
    ];
    assert_eq!(lab.all_drops(), expected.into());
    lab.end();
}

#[test]
fn a_pods_multicast_over_its_limit_still_goes_to_the_wire() {
    let limits = Limits {
        attachment: bursts(3, 5, 5),
        ..Limits::default()
    };
    let mut lab = Lab::with_limits(1, limits);
    lab.allow("210");
    let pods = [lab.access(210), lab.access(210)];
    lab.send(&pods[0].port, vec![udp(GROUP, pods[0].mac); 10_000]);
    assert_eq!(lab.out(&lab.wire).len(), 10_000);
    assert_eq!(lab.out(&pods[1].port).len(), 5);
    lab.send(&pods[0].port, vec![udp(ALL, pods[0].mac); 10]);
    assert_eq!(lab.out(&lab.wire).len(), 3, "a broadcast storm does not");
    lab.end();
}

/// Worker with a wire and two pods, whose clock the test steps.
struct Stepped {
    worker: SteppedWorker,
    wire: Shared,
    ports: Vec<Shared>,
    ids: Vec<AttachmentId>,
}

fn stepped() -> Stepped {
    let pool = |size| {
        Mempool::new(PoolConfig {
            buffers: 1024,
            size,
            numa_node: None,
            huge_pages: HugePages::Off,
        })
        .unwrap()
    };
    let pools = Pools::new(pool(BufSize::Small), pool(BufSize::Large), 128);
    let open = "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n";
    let policy = Policy::parse("open.yaml", open).unwrap();
    let policies = Arc::new(PolicySet::build(1, &[policy]).unwrap());
    let mut worker = SteppedWorker::new(pools, policies, 0).unwrap();
    let wire = Shared::default();
    let uplink = worker
        .add_uplink(UplinkSpec {
            name: "wire0".to_owned(),
            port: Box::new(TestPort(wire.clone())),
            worker: None,
            tpids: vec![0x8100],
            native: None,
            network: None,
            port_vlan: false,
        })
        .unwrap();
    let (mut ports, mut ids) = (Vec::new(), Vec::new());
    for number in 1..=2 {
        let port = Shared::default();
        let spec = AttachmentSpec {
            name: format!("pod{number}/net1"),
            uplink,
            vlans: VlanSet::Access(vid(210)),
            qinq: false,
            mac: Mac([2, 0, 0, 0, 0, number]),
            addresses: Vec::new(),
            groups: Vec::new(),
            roles: Default::default(),
            pose: Default::default(),
            keeps_priority: false,
            policy: None,
            mtu: 1500,
            worker: None,
        };
        ids.push(
            worker
                .attach(spec, Box::new(TestPort(port.clone())))
                .unwrap(),
        );
        ports.push(port);
    }
    Stepped {
        worker,
        wire,
        ports,
        ids,
    }
}

#[test]
fn the_loss_of_a_storm_is_its_excess_however_long_the_rounds_are() {
    // Twice the default rate of a pod's broadcasts, for two seconds after its burst.
    let limit = FloodLimits::ATTACHMENT.broadcast;
    let rate = u64::from(limit.per_second);
    for round_us in [100, 250, 1_000, 3_700, 4_000] {
        let mut stepped = stepped();
        let frame = udp(ALL, Mac([2, 0, 0, 0, 0, 1]));
        let mut send = |at_us: u64, frames: u64| {
            stepped.worker.set_clock(Duration::from_micros(at_us));
            let frames = (0..frames).map(|_| (frame.clone(), None));
            stepped.ports[0].lock().unwrap().input.extend(frames);
            // A pod that floods is passed over in some rounds: it pays for the copies.
            while stepped.worker.round() > 0 || !stepped.ports[0].lock().unwrap().input.is_empty() {
            }
            stepped.worker.delivered(stepped.ids[1])
        };
        let burst = send(0, 1_000);
        assert_eq!(burst, u64::from(limit.burst));
        let (mut now_us, mut sent, mut delivered) = (0, 0, 0);
        while now_us < 2_000_000 {
            now_us = (now_us + round_us).min(2_000_000);
            let due = now_us * 2 * rate / 1_000_000;
            delivered = send(now_us, due - sent);
            sent = due;
        }
        assert_eq!(sent, 4 * rate);
        assert_eq!(delivered - burst, 2 * rate, "rounds of {round_us} us");
        stepped.wire.lock().unwrap().output.clear();
    }
}
