// SPDX-License-Identifier: Apache-2.0
//! Bench for the tests of shares: stepped workers, one wire that may be slow, and pods, all of whose
//! rings the test holds in its hands. There are as few mbufs as the engine says that it needs.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test is no worker"
)]
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sluice_datapath::{
    AttachmentId, AttachmentSpec, DropReason, Drops, FrameInfo, LeastMbufs, PodPort, PortContext,
    PortFault, Sent, SteppedEngine, Tagging, Uplink, UplinkId, UplinkSpec, VlanSet, Wake,
};
use sluice_firewall::{Policy, PolicySet};
use sluice_mem::{BufSize, Burst, HugePages, Mbuf, Mempool, PoolConfig};
use sluice_packet::build::FrameBuilder;
use sluice_packet::pose::{AntiSpoof, Pose};
use sluice_packet::{Mac, Vid};

/// A host on the wire.
pub(crate) const GATEWAY: Mac = Mac([2, 0, 0, 0, 1, 0xff]);
/// The group of [`multicast`].
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
/// Bytes before the payload of the frames here.
const HEADERS: usize = 14 + 20 + 8;
/// Flows that each worker's flow cache remembers.
const FLOWS: usize = 1024;

/// A policy that lets everything through.
pub(crate) fn allow() -> String {
    "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n".to_owned()
}

pub(crate) fn broadcast() -> Mac {
    Mac([0xff; 6])
}

pub(crate) fn multicast() -> Mac {
    Mac([1, 0, 0x5e, 1, 1, 1])
}

fn udp(to: Mac, from: Mac, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let host = |mac: Mac| match mac {
        _ if mac == multicast() => GROUP,
        Mac([.., last]) => [10, 0, 0, last].into(),
    };
    FrameBuilder::new(to, from)
        .ipv4(host(from), host(to))
        .udp(ports.0, ports.1)
        .payload(payload)
        .build()
}

/// A frame of `len` bytes that bears a number.
pub(crate) fn unicast(to: Mac, from: Mac, number: usize, len: usize) -> Vec<u8> {
    let mut payload = vec![0; len - HEADERS];
    payload[..8].copy_from_slice(&(number as u64).to_le_bytes());
    udp(to, from, (1000, 2000), &payload)
}

/// A frame to a port.
pub(crate) fn to_port(port: u16, to: Mac, from: Mac) -> Vec<u8> {
    udp(to, from, (1000, port), &[0; 18])
}

/// A frame of flow `n`.
pub(crate) fn of_flow(n: u32, to: Mac, from: Mac) -> Vec<u8> {
    let [low, high] = [n & 0xffff, n >> 16].map(|half| u16::try_from(half).unwrap());
    udp(to, from, (low, 2000 + high), &[0; 18])
}

#[derive(Default)]
struct Queues {
    input: VecDeque<Vec<u8>>,
    output: Vec<Vec<u8>>,
    /// Frames that the pod still takes.
    room: Option<usize>,
    /// Frames that the device has and has not sent.
    ring: VecDeque<Vec<u8>>,
    /// Frames that its ring holds, and how many it sends in a round.
    slow: Option<(usize, usize)>,
}

type Shared = Arc<Mutex<Queues>>;

struct Port(Shared);

impl Wake for Port {
    fn wake_fds(&self, _: &mut dyn FnMut(BorrowedFd<'_>)) {}
    fn arm(&mut self) -> bool {
        true
    }
    fn disarm(&mut self) {}
}

impl Port {
    fn receive(&self, context: &mut PortContext<'_>, out: &mut Burst) {
        let mut queues = self.0.lock().unwrap();
        while out.room() > 0 {
            let Some(bytes) = queues.input.pop_front() else {
                return;
            };
            let Some(mut mbuf) = context.pools.alloc_for(bytes.len()) else {
                context.drops.add(DropReason::NoMbuf, 1);
                continue;
            };
            assert!(mbuf.copy_from(&bytes));
            FrameInfo::begin(&mut mbuf, None);
            out.push(mbuf).unwrap();
        }
    }
}

impl Uplink for Port {
    fn driver(&self) -> &'static str {
        "test"
    }
    fn device(&self) -> &str {
        "test0"
    }
    fn mtu(&self) -> u32 {
        9000
    }
    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        self.receive(context, out);
    }
    fn tx_room(&mut self, _: &mut PortContext<'_>) -> usize {
        let queues = self.0.lock().unwrap();
        queues
            .slow
            .map_or(usize::MAX, |(most, _)| most - queues.ring.len())
    }
    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        let mut queues = self.0.lock().unwrap();
        let room = queues
            .slow
            .map_or(usize::MAX, |(most, _)| most - queues.ring.len());
        let mut sent = Sent::default();
        let taken = burst.len().min(room);
        for mbuf in burst.drain_front(taken) {
            sent.frames += 1;
            sent.bytes += mbuf.len();
            let bytes = mbuf.data().to_vec();
            match queues.slow {
                Some(_) => queues.ring.push_back(bytes),
                None => queues.output.push(bytes),
            }
            context.pools.free(mbuf);
        }
        sent
    }
}

impl PodPort for Port {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        self.receive(context, out);
        Ok(())
    }
    fn deliver(&mut self, frames: &[Mbuf], _: Tagging) -> Result<Sent, PortFault> {
        let mut queues = self.0.lock().unwrap();
        let mut sent = Sent::default();
        for mbuf in frames.iter().take(queues.room.unwrap_or(usize::MAX)) {
            queues.output.push(mbuf.data().to_vec());
            sent.frames += 1;
            sent.bytes += mbuf.len();
        }
        Ok(sent)
    }
    fn flush(&mut self) {}
}

/// A pod, with the ends of its rings.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) mac: Mac,
    /// Length of the frames that it usually sends.
    pub(crate) len: usize,
    port: Shared,
}

impl Pod {
    /// Puts a frame into the pod's ring.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        self.port.lock().unwrap().input.push_back(frame);
    }

    /// Takes the frames that have arrived.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.port.lock().unwrap().output)
    }

    /// Lets the pod take so many frames of each burst only.
    pub(crate) fn takes(&self, frames: usize) {
        self.port.lock().unwrap().room = Some(frames);
    }
}

/// The engine, its wire and its pods.
pub(crate) struct Bench {
    engine: SteppedEngine,
    workers: usize,
    uplink: UplinkId,
    wire: Shared,
    pods: Vec<Pod>,
    ids: Vec<AttachmentId>,
    /// Mempools live as long as the process: tests with as many workers take turns.
    _pools: MutexGuard<'static, [Mempool; 2]>,
}

/// The mempools for so many workers, with nothing in flight.
fn pools(workers: usize) -> MutexGuard<'static, [Mempool; 2]> {
    static POOLS: [OnceLock<Mutex<[Mempool; 2]>>; 3] = [const { OnceLock::new() }; 3];
    let pools = POOLS[workers.ilog2() as usize].get_or_init(|| {
        let least = LeastMbufs::new(workers, 0);
        let sizes = [(BufSize::Small, least.small), (BufSize::Large, least.large)];
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
    let pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
    for pool in *pools {
        let counts = pool.conservation();
        assert!(counts.holds() && counts.in_flight == 0, "{counts:?}");
    }
    pools
}

impl Bench {
    /// Makes workers and a wire, at worker 0, with a transmit ring of so many frames of which so many
    /// are sent in a round.
    pub(crate) fn new(workers: usize, slow: Option<(usize, usize)>, policy: &str) -> Bench {
        let pools = pools(workers);
        let policy = Policy::parse("test.yaml", policy).unwrap();
        let policies = Arc::new(PolicySet::build(1, &[policy]).unwrap());
        let mut engine = SteppedEngine::new(workers, *pools, policies, FLOWS).unwrap();
        let wire = Shared::default();
        wire.lock().unwrap().slow = slow;
        let uplink = engine
            .add_uplink(UplinkSpec {
                name: "wire0".to_owned(),
                port: Box::new(Port(wire.clone())),
                worker: Some(0),
                tpids: vec![0x8100],
                native: Vid::new(210),
                network: None,
                port_vlan: false,
            })
            .unwrap();
        Bench {
            engine,
            workers,
            uplink,
            wire,
            pods: Vec::new(),
            ids: Vec::new(),
            _pools: pools,
        }
    }

    /// Makes a pod at a worker.
    pub(crate) fn pod(&mut self, worker: usize, mtu: u32) -> Pod {
        self.pod_in(worker, mtu, Vec::new(), Pose::default())
    }

    /// Makes a pod at a worker that may send from any MAC address that nobody has.
    pub(crate) fn bridge(&mut self, worker: usize) -> Pod {
        let pose = Pose {
            anti_spoof: AntiSpoof::Off,
            ..Pose::default()
        };
        self.pod_in(worker, 1500, Vec::new(), pose)
    }

    /// Makes a pod at a worker that is in the group of [`multicast`].
    pub(crate) fn member(&mut self, worker: usize) -> Pod {
        self.pod_in(worker, 1500, vec![GROUP.into()], Pose::default())
    }

    fn pod_in(&mut self, worker: usize, mtu: u32, groups: Vec<IpAddr>, pose: Pose) -> Pod {
        let number = u8::try_from(self.pods.len() + 1).unwrap();
        let pod = Pod {
            mac: Mac([2, 0, 0, 0, 0, number]),
            len: if mtu > 1500 { 9000 } else { 60 },
            port: Shared::default(),
        };
        let spec = AttachmentSpec {
            name: format!("pod{number}/net1"),
            uplink: self.uplink,
            vlans: VlanSet::Access(Vid::new(210).unwrap()),
            qinq: false,
            mac: pod.mac,
            addresses: Vec::new(),
            roles: Default::default(),
            pose,
            keeps_priority: false,
            policy: None,
            mtu,
            worker: Some(worker),
            groups,
        };
        let port = Box::new(Port(pod.port.clone()));
        self.ids.push(self.engine.attach(spec, port).unwrap());
        self.pods.push(pod.clone());
        pod
    }

    /// Takes a pod's port.
    pub(crate) fn disconnect(&mut self, pod: usize) {
        self.engine.disconnect(self.ids[pod]);
    }

    /// Takes a pod out.
    pub(crate) fn detach(&mut self, pod: usize) {
        self.engine.detach(self.ids[pod]).unwrap();
    }

    /// Returns the visits at which a pod was left alone while it wanted to send.
    pub(crate) fn held_back(&self, pod: usize) -> u64 {
        self.engine.snapshot().attachments[pod].held_back
    }

    /// Returns the frames that wait in the wire's transmit ring.
    pub(crate) fn wire_waits(&self) -> usize {
        self.wire.lock().unwrap().ring.len()
    }

    pub(crate) fn mac(&self, pod: usize) -> Mac {
        self.pods[pod].mac
    }

    /// Keeps the ring of a pod full of frames.
    pub(crate) fn fill(&mut self, pod: usize, mut frame: impl FnMut(Mac) -> Vec<u8>) {
        let pod = &self.pods[pod];
        let mut queues = pod.port.lock().unwrap();
        while queues.input.len() < 128 {
            queues.input.push_back(frame(pod.mac));
        }
    }

    /// Puts a frame into the ring of a pod.
    pub(crate) fn send(&mut self, pod: usize, frame: impl Fn(Mac) -> Vec<u8>) {
        let pod = &self.pods[pod];
        pod.send(frame(pod.mac));
    }

    /// Throws away what has come to the pods from `first` on.
    pub(crate) fn empty_receivers(&mut self, first: usize) {
        self.pods.iter().skip(first).for_each(|pod| {
            pod.take();
        });
    }

    pub(crate) fn wire_sends(&mut self, frame: Vec<u8>) {
        self.wire.lock().unwrap().input.push_back(frame);
    }

    pub(crate) fn take_from_wire(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.lock().unwrap().output)
    }

    /// Has the wire send, then takes every worker round once.
    pub(crate) fn round(&mut self) {
        self.round_at_pace(0, 1);
    }

    /// Does as [`Bench::round`], but worker 0, if it is not alone, takes part in every `pace`th round only.
    pub(crate) fn round_at_pace(&mut self, round: usize, pace: usize) {
        let mut wire = self.wire.lock().unwrap();
        if let Some((_, rate)) = wire.slow {
            let sent = rate.min(wire.ring.len());
            let sent: Vec<_> = wire.ring.drain(..sent).collect();
            wire.output.extend(sent);
        }
        drop(wire);
        for worker in 0..self.workers {
            if worker > 0 || self.workers == 1 || round.is_multiple_of(pace) {
                self.engine.round_of(worker);
            }
        }
    }

    /// Takes one worker round once.
    pub(crate) fn round_of(&mut self, worker: usize) {
        self.engine.round_of(worker);
    }

    /// Stops all clocks at a second.
    pub(crate) fn step_clock(&mut self, second: u64) {
        self.engine.step_clock(second * 1_000_000_000);
    }

    /// Returns the MAC addresses besides its own that a pod has, and how often any moved.
    pub(crate) fn learned(&self, pod: usize) -> (usize, u64) {
        let pod = &self.engine.snapshot().attachments[pod];
        (pod.learned, pod.moves)
    }

    pub(crate) fn flow_hits(&self) -> u64 {
        let workers = self.engine.snapshot().workers;
        workers.iter().map(|worker| worker.flow_hits).sum()
    }

    /// Takes the events that wait for control. Returns their number.
    pub(crate) fn take_events(&mut self) -> usize {
        self.engine.take_events()
    }

    /// Returns the log records of a pod that were left out.
    pub(crate) fn lost_records(&self, pod: usize) -> u64 {
        self.engine.snapshot().attachments[pod].lost_log_records
    }

    /// Every drop of the engine, by reason.
    pub(crate) fn drops(&self) -> BTreeMap<&'static str, u64> {
        let snapshot = self.engine.snapshot();
        let workers = snapshot.workers.iter().map(|worker| &worker.drops);
        let uplinks = snapshot.uplinks.iter().map(|uplink| &uplink.drops);
        let pods = snapshot
            .attachments
            .iter()
            .flat_map(|pod| [&pod.ingress_drops, &pod.egress_drops]);
        let mut sum = BTreeMap::new();
        for (reason, count) in workers.chain(uplinks).chain(pods).flatten() {
            *sum.entry(*reason).or_default() += count;
        }
        sum
    }

    /// Drops on the way to a pod.
    pub(crate) fn ingress_drops(&self, pod: usize) -> Drops {
        self.engine.snapshot().attachments[pod]
            .ingress_drops
            .clone()
    }

    /// Every frame is accounted for.
    pub(crate) fn assert_conserved(&self) {
        let balance = self.engine.balance();
        assert!(balance.holds(), "{} {balance:?}", balance.difference());
    }
}

impl fmt::Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.engine.snapshot();
        f.debug_struct("Bench")
            .field("workers", &snapshot.workers)
            .field("uplinks", &snapshot.uplinks)
            .field("attachments", &snapshot.attachments)
            .finish()
    }
}

/// Rounds that numbered frames wait for.
pub(crate) struct Waits {
    sent: BTreeSet<usize>,
    waits: Vec<usize>,
}

/// Outcome of a scenario for the neighbour.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) lost: usize,
    /// Rounds that a frame waits, at the 99th percentile.
    pub(crate) p99: usize,
}

impl Waits {
    pub(crate) fn new() -> Waits {
        Waits {
            sent: BTreeSet::new(),
            waits: Vec::new(),
        }
    }

    pub(crate) fn sent(&mut self, round: usize) {
        self.sent.insert(round);
    }

    /// Notes a frame that arrived; its number is the round in which it was sent.
    pub(crate) fn arrived(&mut self, frame: &[u8], round: usize) {
        let number = frame[HEADERS..HEADERS + 8].try_into().unwrap();
        let number = usize::try_from(u64::from_le_bytes(number)).unwrap();
        assert!(self.sent.remove(&number), "{number} came twice");
        self.waits.push(round - number + 1);
    }

    pub(crate) fn outcome(mut self) -> Outcome {
        self.waits.sort_unstable();
        let at = self.waits.len() * 99 / 100;
        Outcome {
            lost: self.sent.len(),
            p99: self.waits.get(at).copied().unwrap_or(0),
        }
    }
}
