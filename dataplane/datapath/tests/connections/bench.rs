// SPDX-License-Identifier: Apache-2.0
//! Worker that the tests step, with its wire, its pods and its clock in their hands.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test is no worker"
)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sluice_datapath::{
    AttachmentId, AttachmentSpec, ConnectionLimits, Limits, SteppedEngine, UplinkId, UplinkSpec,
    VlanSet,
};
use sluice_firewall::{Policy, PolicySet};
use sluice_mem::{BufSize, HugePages, Mempool, PoolConfig};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_packet::pose::{AntiSpoof, Pose};
use sluice_packet::tcp::TcpFields;

use crate::lab::{Shared, TestPort, vid};

pub(crate) const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
pub(crate) const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The pod may open anything; from outside one port is open.
pub(crate) const POLICY: &str = "
name: voice
vlans: [210]
stateful: true
default: {ingress: drop, egress: accept}
rules:
  - {name: https, direction: ingress, protocol: tcp, ports: [443], verdict: accept}
";

/// Reasons for which frames were dropped, with their numbers; empty if all passed.
pub(crate) type Dropped = Vec<(&'static str, u64)>;

/// Pod of the bench.
pub(crate) struct Pod {
    pub(crate) id: AttachmentId,
    pub(crate) mac: Mac,
    pub(crate) port: Shared,
}

/// Worker with a wire in VLAN 210.
pub(crate) struct Bench {
    pub(crate) engine: SteppedEngine,
    pub(crate) wire: Shared,
    uplink: UplinkId,
    pods: u8,
    version: u64,
    ms: u64,
    /// Mempools live as long as the process: the tests take turns.
    _pools: MutexGuard<'static, [Mempool; 2]>,
}

fn pools() -> MutexGuard<'static, [Mempool; 2]> {
    static POOLS: OnceLock<Mutex<[Mempool; 2]>> = OnceLock::new();
    let pools = POOLS.get_or_init(|| {
        let sizes = [(BufSize::Small, 4096), (BufSize::Large, 512)];
        Mutex::new(sizes.map(|(size, buffers)| {
            Mempool::new(PoolConfig {
                buffers,
                size,
                numa_node: None,
                huge_pages: HugePages::Off,
            })
            .unwrap()
        }))
    });
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(version: u64, files: &[&str]) -> Arc<PolicySet> {
    let policies: Vec<Policy> = files
        .iter()
        .map(|yaml| Policy::parse("test.yaml", yaml).unwrap())
        .collect();
    Arc::new(PolicySet::build(version, &policies).unwrap())
}

impl Bench {
    /// Makes a worker that has run for longer than its grace time.
    pub(crate) fn new(files: &[&str]) -> Bench {
        let mut bench = Bench::just_started(files);
        bench.later(31_000);
        bench
    }

    /// Makes a worker in the first moment of its grace time.
    pub(crate) fn just_started(files: &[&str]) -> Bench {
        Bench::with_limits(files, ConnectionLimits::default())
    }

    /// Makes a worker in the first moment of its grace time whose connections have these limits.
    pub(crate) fn with_limits(files: &[&str], connections: ConnectionLimits) -> Bench {
        let pools = pools();
        let limits = Limits {
            connections,
            ..Limits::default()
        };
        let policies = set(1, files);
        let mut engine = SteppedEngine::with_limits(1, *pools, policies, 1024, limits).unwrap();
        let wire = Shared::default();
        let uplink = engine
            .add_uplink(UplinkSpec {
                name: "wire0".to_owned(),
                port: Box::new(TestPort(wire.clone())),
                worker: None,
                tpids: vec![0x8100],
                native: Some(vid(210)),
                network: None,
                port_vlan: false,
            })
            .unwrap();
        let mut bench = Bench {
            engine,
            wire,
            uplink,
            pods: 0,
            version: 1,
            ms: 1_000_000,
            _pools: pools,
        };
        bench.later(0);
        bench
    }

    /// Has the worker judge by other policies.
    pub(crate) fn policies(&mut self, files: &[&str]) {
        self.version += 1;
        self.engine.set_policies(set(self.version, files));
    }

    /// Lets time go by, in steps in which housekeeping is done.
    pub(crate) fn later(&mut self, ms: u64) {
        let mut left = ms;
        loop {
            let step = left.min(500);
            self.ms += step;
            self.engine.step_clock(self.ms * 1_000_000);
            self.engine.round();
            left -= step;
            if left == 0 {
                return;
            }
        }
    }

    /// Attaches a pod.
    pub(crate) fn pod(&mut self) -> Pod {
        self.attach(|_| {})
    }

    /// Attaches a pod that may route.
    pub(crate) fn router(&mut self) -> Pod {
        self.attach(|spec| {
            spec.pose = Pose {
                anti_spoof: AntiSpoof::Mac,
                ..Pose::default()
            }
        })
    }

    /// Attaches a pod whose attachment `change` has changed.
    pub(crate) fn attach(&mut self, change: impl FnOnce(&mut AttachmentSpec)) -> Pod {
        self.pods += 1;
        let mac = Mac([2, 0, 0, 0, 0, self.pods]);
        let mut spec = AttachmentSpec {
            name: format!("pod{}/net1", self.pods),
            uplink: self.uplink,
            vlans: VlanSet::Access(vid(210)),
            qinq: false,
            mac,
            addresses: Vec::new(),
            groups: Vec::new(),
            roles: Default::default(),
            pose: Pose::default(),
            keeps_priority: false,
            policy: None,
            mtu: 1500,
            worker: None,
        };
        change(&mut spec);
        let port = Shared::default();
        let id = self.engine.attach(spec, Box::new(TestPort(port.clone())));
        Pod {
            id: id.unwrap(),
            mac,
            port,
        }
    }

    /// Sends frames from a pod, up to a burst at once. Returns what was dropped of them.
    pub(crate) fn pod_sends<'a>(
        &mut self,
        pod: &Pod,
        frames: impl IntoIterator<Item = FrameBuilder<'a>>,
    ) -> Dropped {
        self.send(&pod.port.clone(), frames)
    }

    /// Sends frames from the wire likewise.
    pub(crate) fn wire_sends<'a>(
        &mut self,
        frames: impl IntoIterator<Item = FrameBuilder<'a>>,
    ) -> Dropped {
        self.send(&self.wire.clone(), frames)
    }

    fn send<'a>(
        &mut self,
        port: &Shared,
        frames: impl IntoIterator<Item = FrameBuilder<'a>>,
    ) -> Dropped {
        let before = self.drops();
        let frames = frames.into_iter().map(|frame| (frame.build(), None));
        port.lock().unwrap().input.extend(frames);
        while !port.lock().unwrap().input.is_empty() {
            self.engine.round();
        }
        self.engine.round();
        let after = self.drops();
        let new = |(reason, count): (&'static str, u64)| {
            let more = count - before.get(reason).copied().unwrap_or(0);
            (more > 0).then_some((reason, more))
        };
        after.into_iter().filter_map(new).collect()
    }

    fn drops(&self) -> BTreeMap<&'static str, u64> {
        let snapshot = self.engine.snapshot();
        let workers = snapshot.workers.iter().map(|worker| &worker.drops);
        let uplinks = snapshot.uplinks.iter().map(|uplink| &uplink.drops);
        let pods = snapshot.attachments.iter();
        let pods = pods.flat_map(|pod| [&pod.ingress_drops, &pod.egress_drops]);
        let mut sum = BTreeMap::new();
        for drops in workers.chain(uplinks).chain(pods) {
            for (reason, count) in drops {
                *sum.entry(*reason).or_default() += count;
            }
        }
        sum
    }

    /// Returns the frames that a rule has counted.
    pub(crate) fn hits(&self, rule: &str) -> u64 {
        let rules = self.engine.snapshot().rules;
        let found = rules.iter().filter(|one| one.rule == rule);
        found.map(|one| one.frames).sum()
    }

    /// Takes the frames that went to a port.
    pub(crate) fn out(port: &Shared) -> usize {
        std::mem::take(&mut port.lock().unwrap().output).len()
    }

    /// Ends a test: every frame and every mbuf must be counted.
    pub(crate) fn end(self) {
        let balance = self.engine.balance();
        assert!(balance.holds(), "{balance:?}");
    }
}

/// Conversation of a pod with a host on the wire: both MAC addresses and both ports.
#[derive(Clone, Copy)]
pub(crate) struct Conversation {
    pub(crate) mac: Mac,
    pub(crate) pod_port: u16,
    pub(crate) peer_port: u16,
}

impl Conversation {
    /// Frame of the pod.
    pub(crate) fn out(self) -> FrameBuilder<'static> {
        FrameBuilder::new(HOST, self.mac).ipv4(POD, PEER)
    }

    /// Frame to the pod.
    pub(crate) fn back(self) -> FrameBuilder<'static> {
        FrameBuilder::new(self.mac, HOST).ipv4(PEER, POD)
    }

    /// TCP segment.
    pub(crate) fn tcp(self, from_pod: bool, flags: u8, numbers: [u32; 2]) -> FrameBuilder<'static> {
        let (builder, src_port, dst_port) = match from_pod {
            true => (self.out(), self.pod_port, self.peer_port),
            false => (self.back(), self.peer_port, self.pod_port),
        };
        let [seq, ack] = numbers;
        builder.tcp(TcpFields {
            src_port,
            dst_port,
            seq,
            ack,
            flags,
            window: 1000,
        })
    }
}

/// Returns `count` conversations of a pod, each from another port, to one of the peer's.
pub(crate) fn conversations(pod: &Pod, count: u16, peer_port: u16) -> Vec<Conversation> {
    let one = |n| Conversation {
        mac: pod.mac,
        pod_port: 40_000 + n,
        peer_port,
    };
    (0..count).map(one).collect()
}

/// Opens TCP connections, the three segments of all in a burst each; sequence numbers begin at 100 and 500.
pub(crate) fn open(bench: &mut Bench, pod: &Pod, by_pod: bool, all: &[Conversation]) {
    use sluice_packet::tcp::flag::{ACK, SYN};
    let steps = [
        (by_pod, SYN, [100, 0]),
        (!by_pod, SYN | ACK, [500, 101]),
        (by_pod, ACK, [101, 501]),
    ];
    for (from_pod, flags, numbers) in steps {
        let frames = all.iter().map(|one| one.tcp(from_pod, flags, numbers));
        let dropped = match from_pod {
            true => bench.pod_sends(pod, frames),
            false => bench.wire_sends(frames),
        };
        assert_eq!(dropped, [], "{flags:#x}");
    }
}
