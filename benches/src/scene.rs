// SPDX-License-Identifier: Apache-2.0
//! Engine parts for benches of a whole pipeline: one VLAN, two pods, an uplink from which no frame comes.
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::net::Ipv4Addr;
use std::sync::Arc;

use sluice_datapath::ports::generator::Generator;
use sluice_datapath::ports::null::{NullPort, NullUplink};
use sluice_datapath::{
    AttachmentId, AttachmentSpec, ConnectionLimits, FrameInfo, Limits, SteppedWorker, UplinkId,
    UplinkSpec, VlanSet,
};
use sluice_firewall::{Policy, PolicySet};
use sluice_mem::Burst;
use sluice_packet::{Mac, Vid};

use crate::{Flows, policy_of, pools, stateful_policy_of, udp_frame};

/// Number of frames in a burst.
pub const BURST: usize = 32;
/// Number of entries in the flow cache.
pub const FLOWS: usize = 131_072;

/// VLAN of the pods and of [`policy_of`].
const VLAN: u16 = 210;

/// MAC and address of the two pods.
pub const PODS: [(Mac, Ipv4Addr); 2] = [
    (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1)),
    (Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 2)),
];

/// Uplink from which no frame comes.
pub fn wire() -> UplinkSpec {
    UplinkSpec {
        name: "wire0".to_owned(),
        port: Box::new(NullUplink::new(1500)),
        worker: None,
        tpids: vec![0x8100],
        native: None,
        network: None,
        port_vlan: false,
    }
}

/// Compiles the policy [`policy_of`] of `rules` rules.
///
/// # Panics
/// It cannot be compiled: a bug.
pub fn policies(rules: u16) -> Arc<PolicySet> {
    compile(policy_of(rules))
}

/// Compiles the policy [`stateful_policy_of`] of `rules` rules.
///
/// # Panics
/// It cannot be compiled: a bug.
pub fn stateful_policies(rules: u16) -> Arc<PolicySet> {
    compile(stateful_policy_of(rules))
}

fn compile(policy: Policy) -> Arc<PolicySet> {
    match PolicySet::build(1, &[policy]) {
        Ok(set) => Arc::new(set),
        Err(problems) => panic!("{problems:?}"),
    }
}

/// Limits with room for a million connections, of which one attachment may have as many as it likes.
pub fn many_connections() -> Limits {
    let connections = ConnectionLimits {
        places: 1 << 20,
        half_open_percent: 100,
        one_way_percent: 100,
        one_source_percent: 100,
        ..ConnectionLimits::default()
    };
    Limits {
        connections,
        ..Limits::default()
    }
}

/// Attachment of a pod of [`PODS`]; `pair` tells apart several pairs of them.
///
/// # Panics
/// There is no such pod.
pub fn pod(uplink: UplinkId, number: usize, pair: u8) -> AttachmentSpec {
    let (mut mac, address) = PODS[number];
    mac.0[4] = pair;
    AttachmentSpec {
        name: format!("{mac}/net1"),
        uplink,
        vlans: VlanSet::Access(Vid::new(VLAN).unwrap_or(Vid::UNTAGGED)),
        qinq: false,
        mac,
        addresses: vec![address.into()],
        groups: Vec::new(),
        roles: Default::default(),
        pose: Default::default(),
        keeps_priority: false,
        policy: None,
        mtu: 1500,
        worker: None,
    }
}

/// Makes 1,024 frames from the first pod to the second, of `rules` flows in pseudo-random order.
pub fn frames(rules: u16) -> Vec<Vec<u8>> {
    let mut flows = Flows::new(rules);
    (0..1024)
        .map(|_| udp_frame(PODS[1].0, PODS[0].0, flows.next_port()))
        .collect()
}

/// Creates a worker with a sending pod, which repeats [`frames`], and a receiving one, which frees what it
/// gets.
///
/// # Panics
/// The memory for it cannot be had.
pub fn generator_to_null(rules: u16) -> (SteppedWorker, AttachmentId) {
    generator_by(policies(rules), rules)
}

/// Creates what [`generator_to_null`] does, judged by `policies`, which have the ports of `rules` rules.
///
/// # Panics
/// The memory for it cannot be had.
pub fn generator_by(policies: Arc<PolicySet>, rules: u16) -> (SteppedWorker, AttachmentId) {
    let mut worker = SteppedWorker::new(pools(), policies, FLOWS).unwrap();
    let uplink = worker.add_uplink(wire()).unwrap();
    let generator = Generator::new(&frames(rules)).unwrap();
    let sender = worker
        .attach(pod(uplink, 0, 0), Box::new(generator))
        .unwrap();
    worker
        .attach(pod(uplink, 1, 0), Box::new(NullPort))
        .unwrap();
    (worker, sender)
}

/// Fills a burst with the first [`BURST`] of `frames`, as a port would.
///
/// # Panics
/// There are fewer, or the worker's mempools are empty.
pub fn fill(worker: &mut SteppedWorker, frames: &[Vec<u8>]) -> Burst {
    let mut burst = Burst::new();
    for frame in &frames[..BURST] {
        let mut mbuf = worker.pools().alloc_for(frame.len()).unwrap();
        assert!(mbuf.copy_from(frame));
        FrameInfo::begin(&mut mbuf, None);
        burst.push(mbuf).unwrap();
    }
    burst
}
