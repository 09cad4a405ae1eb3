// SPDX-License-Identifier: Apache-2.0
//! An engine with ports that a test fills and empties by hand.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test is no worker"
)]
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_datapath::{
    AttachmentId, AttachmentSpec, DropReason, Engine, EngineConfig, FrameInfo, IdleConfig, Limits,
    PodPort, PortContext, PortFault, Sent, Snapshot, Tagging, Uplink, UplinkId, UplinkSpec,
    VlanSet, Wake, WorkerConfig,
};
use sluice_firewall::{Policy, PolicySet};
use sluice_mem::{Burst, HugePages, Mbuf};
use sluice_packet::{Mac, Vid, VlanTag};

/// Queues of a test port: frames that will come from it, frames that went to it.
#[derive(Default)]
pub struct Queues {
    pub input: VecDeque<(Vec<u8>, Option<VlanTag>)>,
    pub output: Vec<Vec<u8>>,
    /// Frames it takes before it says that it is full.
    pub room: Option<usize>,
    /// Makes the next receive fail.
    pub fault: Option<String>,
    /// Makes the next port of these queues that is dropped say so, and wait for leave to end.
    pub slow_end: Option<(Sender<()>, Receiver<()>)>,
}

pub type Shared = Arc<Mutex<Queues>>;

pub struct TestPort(pub Shared);

impl Wake for TestPort {
    fn wake_fds(&self, _: &mut dyn FnMut(BorrowedFd<'_>)) {}
    fn arm(&mut self) -> bool {
        let queues = self.0.lock().unwrap();
        queues.input.is_empty() && queues.fault.is_none()
    }
    fn disarm(&mut self) {}
    fn may_miss_wakeups(&self) -> bool {
        true
    }
}

impl TestPort {
    fn receive(&self, context: &mut PortContext<'_>, out: &mut Burst) {
        let mut queues = self.0.lock().unwrap();
        while out.room() > 0 {
            let Some((bytes, tag)) = queues.input.pop_front() else {
                return;
            };
            let Some(mut mbuf) = context.pools.alloc_for(bytes.len()) else {
                context.drops.add(DropReason::NoMbuf, 1);
                continue;
            };
            assert!(mbuf.copy_from(&bytes));
            FrameInfo::begin(&mut mbuf, tag);
            out.push(mbuf).unwrap();
        }
    }

    fn take(&self, mbuf: &Mbuf, tag: Option<VlanTag>) -> bool {
        let mut queues = self.0.lock().unwrap();
        if let Some(room) = &mut queues.room {
            if *room == 0 {
                return false;
            }
            *room -= 1;
        }
        queues.output.push(tagged(mbuf.data(), tag));
        true
    }
}

/// A frame with a tag put in behind its addresses.
pub fn tagged(frame: &[u8], tag: Option<VlanTag>) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    if let Some(tag) = tag {
        bytes.splice(12..12, tag.to_bytes());
    }
    bytes
}

impl Drop for TestPort {
    fn drop(&mut self) {
        let slow_end = self.0.lock().ok().and_then(|mut all| all.slow_end.take());
        if let Some((ending, leave)) = slow_end {
            let _ = ending.send(());
            let _ = leave.recv_timeout(Duration::from_secs(10));
        }
    }
}

impl Uplink for TestPort {
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
    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        let mut sent = Sent::default();
        while let Some(first) = burst.iter().next() {
            if !self.take(first, FrameInfo::of(first).tag()) {
                break;
            }
            sent.frames += 1;
            for mbuf in burst.drain_front(1) {
                sent.bytes += mbuf.len();
                context.pools.free(mbuf);
            }
        }
        sent
    }
}

impl PodPort for TestPort {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        if let Some(reason) = self.0.lock().unwrap().fault.take() {
            return Err(PortFault { reason });
        }
        self.receive(context, out);
        Ok(())
    }
    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault> {
        let mut sent = Sent::default();
        for mbuf in frames {
            if !self.take(mbuf, tagging.tag_for(FrameInfo::of(mbuf))) {
                break;
            }
            sent.frames += 1;
            sent.bytes += mbuf.len();
        }
        Ok(sent)
    }
    fn flush(&mut self) {}
}

/// Small, so that scenarios with many flows push flows out of it.
const FLOW_CACHE: usize = 64;

/// Pod of the lab.
pub struct Pod {
    pub id: AttachmentId,
    pub mac: Mac,
    pub port: Shared,
    pub name: String,
}

/// An engine with one uplink, `wire0`.
pub struct Lab {
    pub engine: Engine,
    pub wire: Shared,
    pub uplink: UplinkId,
    pods: usize,
    version: u64,
}

/// A VID that is known to be one.
pub fn vid(number: u16) -> Vid {
    Vid::new(number).unwrap()
}

impl Lab {
    pub fn new(workers: usize) -> Lab {
        Lab::with(workers, vec![0x8100], None)
    }

    pub fn with(workers: usize, tpids: Vec<u16>, native: Option<u16>) -> Lab {
        Lab::of_network(workers, tpids, native, None, FLOW_CACHE, Limits::default())
    }

    /// Makes a lab of one worker whose flow cache has `entries` entries.
    pub fn with_flow_cache(entries: usize) -> Lab {
        Lab::of_network(1, vec![0x8100], None, None, entries, Limits::default())
    }

    /// Makes a lab whose sources have these limits.
    pub fn with_limits(workers: usize, limits: Limits) -> Lab {
        Lab::of_network(workers, vec![0x8100], None, None, FLOW_CACHE, limits)
    }

    /// The uplink is a VF of network `net0`, whose PF keeps it in a port VLAN.
    pub fn in_port_vlan(number: u16) -> Lab {
        Lab::of_network(
            1,
            vec![0x8100],
            Some(number),
            Some("net0"),
            FLOW_CACHE,
            Limits::default(),
        )
    }

    fn of_network(
        workers: usize,
        tpids: Vec<u16>,
        native: Option<u16>,
        network: Option<&str>,
        flow_cache: usize,
        limits: Limits,
    ) -> Lab {
        let engine = Engine::start(EngineConfig {
            workers: vec![WorkerConfig::default(); workers],
            small_mbufs: 8192,
            large_mbufs: 1024,
            flow_cache,
            huge_pages: HugePages::Off,
            numa_node: None,
            idle: IdleConfig {
                pause_after: 0,
                sleep_after: Some(16),
                ..Default::default()
            },
            limits,
        })
        .unwrap();
        let wire = Shared::default();
        let uplink = engine
            .add_uplink(UplinkSpec {
                name: "wire0".to_owned(),
                port: Box::new(TestPort(wire.clone())),
                worker: None,
                tpids,
                native: native.map(vid),
                network: network.map(str::to_owned),
                port_vlan: network.is_some(),
            })
            .unwrap();
        Lab {
            engine,
            wire,
            uplink,
            pods: 0,
            version: 0,
        }
    }

    /// Loads policies and has the engine judge by them.
    pub fn policies(&mut self, files: &[&str]) {
        let policies: Vec<Policy> = files
            .iter()
            .map(|yaml| Policy::parse("test.yaml", yaml).unwrap())
            .collect();
        self.version += 1;
        let set = PolicySet::build(self.version, &policies).unwrap();
        self.engine.set_policies(Arc::new(set)).unwrap();
    }

    /// Everything is allowed in these VLANs.
    pub fn allow(&mut self, vlans: &str) {
        self.policies(&[&format!(
            "name: open\nvlans: [{vlans}]\ndefault: {{ingress: accept, egress: accept}}\n"
        )]);
    }

    pub fn spec(&mut self, vlans: VlanSet) -> AttachmentSpec {
        self.pods += 1;
        let number = u8::try_from(self.pods).unwrap();
        AttachmentSpec {
            name: format!("pod{number}/net1"),
            uplink: self.uplink,
            vlans,
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
        }
    }

    pub fn attach(&mut self, spec: AttachmentSpec) -> Pod {
        let (mac, name) = (spec.mac, spec.name.clone());
        let attached = self.engine.attach(spec).unwrap();
        let port = Shared::default();
        self.engine
            .connect(attached.id, Box::new(TestPort(port.clone())))
            .unwrap();
        Pod {
            id: attached.id,
            mac,
            port,
            name,
        }
    }

    pub fn access(&mut self, number: u16) -> Pod {
        let spec = self.spec(VlanSet::Access(vid(number)));
        self.attach(spec)
    }

    /// Puts frames into a port and waits until the engine has dealt with them.
    pub fn send(&self, port: &Shared, frames: impl IntoIterator<Item = Vec<u8>>) {
        port.lock()
            .unwrap()
            .input
            .extend(frames.into_iter().map(|frame| (frame, None)));
        self.settle(port);
    }

    /// Waits until the port's input is empty and every worker has gone round a few times since.
    pub fn settle(&self, port: &Shared) {
        let start = Instant::now();
        while !port.lock().unwrap().input.is_empty() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "the engine takes no frames"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
        self.few_loops();
    }

    /// Waits until every worker has gone round a few times.
    pub fn few_loops(&self) {
        let start = Instant::now();
        let before: Vec<u64> = self
            .engine
            .snapshot()
            .workers
            .iter()
            .map(|w| w.loops)
            .collect();
        loop {
            let now = self.engine.snapshot().workers;
            if now
                .iter()
                .zip(&before)
                .all(|(worker, before)| worker.loops > before + 6)
            {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "a worker stands still"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Takes what went to a port.
    pub fn out(&self, port: &Shared) -> Vec<Vec<u8>> {
        std::mem::take(&mut port.lock().unwrap().output)
    }

    /// Sends one frame from the wire and says what became of it: the drop reason's name, or
    /// `None` if it was not dropped.
    pub fn wire_sends(&self, frame: Vec<u8>) -> Option<&'static str> {
        let before = self.all_drops();
        self.send(&self.wire.clone(), [frame]);
        newly(&before, &self.all_drops())
    }

    /// Sends a frame from a pod, and returns the reason if it is dropped.
    pub fn pod_sends(&self, pod: &Pod, frame: Vec<u8>) -> Option<&'static str> {
        let before = self.all_drops();
        self.send(&pod.port, [frame]);
        newly(&before, &self.all_drops())
    }

    /// Every drop of the engine, by reason.
    pub fn all_drops(&self) -> BTreeMap<&'static str, u64> {
        let snapshot: Snapshot = self.engine.snapshot();
        let mut sum = BTreeMap::new();
        let workers = snapshot.workers.iter().map(|w| &w.drops);
        let uplinks = snapshot.uplinks.iter().map(|u| &u.drops);
        let pods = snapshot
            .attachments
            .iter()
            .flat_map(|a| [&a.ingress_drops, &a.egress_drops]);
        for drops in workers.chain(uplinks).chain(pods) {
            for (reason, count) in drops {
                *sum.entry(*reason).or_default() += count;
            }
        }
        sum
    }

    /// Frames that a rule decided.
    pub fn hits(&self, policy: &str, rule: &str) -> u64 {
        let rules = self.engine.snapshot().rules;
        rules
            .iter()
            .filter(|r| r.policy == policy && r.rule == rule)
            .map(|r| r.frames)
            .sum()
    }

    /// Every frame that came in went out, was dropped under a reason or is on its way.
    pub fn assert_conserved(&self) {
        let balance = self.engine.balance().unwrap();
        assert!(
            balance.holds(),
            "frames are not conserved: {} too many came in: {balance:?}",
            balance.difference()
        );
    }

    /// Stops the engine: every frame must be counted and every mbuf must be home.
    pub fn end(self) {
        self.assert_conserved();
        let memory = self.engine.stop().unwrap();
        for pool in [memory.small, memory.large] {
            assert!(pool.holds(), "mbufs are not conserved: {pool:?}");
            assert_eq!(pool.in_flight, 0, "mbufs were lost: {pool:?}");
        }
    }
}

fn newly(
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
) -> Option<&'static str> {
    after
        .iter()
        .find(|(reason, count)| before.get(*reason) != Some(count))
        .map(|(reason, _)| *reason)
}
