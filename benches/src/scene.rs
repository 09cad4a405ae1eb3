//! The engine's parts that benches of a whole pipeline share: one VLAN, two pods, an uplink that
//! nothing comes from.
#![allow(clippy::unwrap_used, reason = "a bench stops where it cannot go on")]

use std::net::Ipv4Addr;
use std::sync::Arc;

use sluice_datapath::ports::generator::Generator;
use sluice_datapath::ports::null::{NullPort, NullUplink};
use sluice_datapath::{
    AttachmentId, AttachmentSpec, FrameInfo, SteppedWorker, UplinkId, UplinkSpec, VlanSet,
};
use sluice_firewall::PolicySet;
use sluice_mem::Burst;
use sluice_packet::{Mac, Vid};

use crate::{Flows, policy_of, pools, udp_frame};

/// Frames of a burst.
pub const BURST: usize = 32;
/// Entries of the flow cache.
pub const FLOWS: usize = 131_072;

/// The VLAN of the pods, and of [`policy_of`].
const VLAN: u16 = 210;

/// The two pods: MAC and address.
pub const PODS: [(Mac, Ipv4Addr); 2] = [
    (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1)),
    (Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 2)),
];

/// An uplink that nothing comes from.
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

/// The policy [`policy_of`] of `rules` rules.
///
/// # Panics
/// It cannot be compiled: a bug.
pub fn policies(rules: u16) -> Arc<PolicySet> {
    match PolicySet::build(1, &[policy_of(rules)]) {
        Ok(set) => Arc::new(set),
        Err(problems) => panic!("{problems:?}"),
    }
}

/// What a pod of [`PODS`] asks for; several pairs of them tell by their number.
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
        policy: None,
        mtu: 1500,
        worker: None,
    }
}

/// 1,024 frames from the first pod to the second, of `rules` flows in an order without pattern.
pub fn frames(rules: u16) -> Vec<Vec<u8>> {
    let mut flows = Flows::new(rules);
    (0..1024)
        .map(|_| udp_frame(PODS[1].0, PODS[0].0, flows.next_port()))
        .collect()
}

/// A worker with a sending pod and a receiving one: [`frames`] go round in the first, the second
/// swallows what it gets.
///
/// # Panics
/// The memory for it cannot be had.
pub fn generator_to_null(rules: u16) -> (SteppedWorker, AttachmentId) {
    let mut worker = SteppedWorker::new(pools(), policies(rules), FLOWS).unwrap();
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

/// The first [`BURST`] of `frames`, as a port hands them over.
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
