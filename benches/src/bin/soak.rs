// SPDX-License-Identifier: Apache-2.0
//! Soak of the engine's shares: two pods ping each other over memif while a third floods, in turns of ten
//! seconds, and what the first two lose and wait for is told beside a quiet engine's figures.
//!
//! `SOAK_SECONDS` is the length, an hour by default, `SOAK_WORKERS` the number of workers, two by
//! default. Every pod is a thread that polls: with fewer cores than threads the percentiles are the
//! scheduler's. A lost frame, or a counter that does not add up, makes the program fail.
//!
//! A pod that does not read loses what its ring has no room for, and that is no fault of the engine's:
//! so pings are limited to a window, as TCP's are, and rings are deep. A pod's thread may be off its
//! core for seconds without a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sluice_benches::links::{self, PodEnd};
use sluice_benches::scene::{pod, wire};
use sluice_datapath::ports::memif::MemifPort;
use sluice_datapath::{
    AttachmentSpec, Engine, EngineConfig, IdleConfig, LeastMbufs, Limits, UplinkId, UplinkSpec,
    WorkerConfig,
};
use sluice_firewall::{Policy, PolicySet};
use sluice_mem::HugePages;
use sluice_memif::{Fault, Sink};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;

const FLOODER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SINK: Mac = Mac([2, 0, 0, 0, 0, 2]);
const ASKING: Mac = Mac([2, 0, 0, 0, 0, 3]);
const ANSWERING: Mac = Mac([2, 0, 0, 0, 0, 4]);
const GATEWAY: Mac = Mac([2, 0, 0, 0, 1, 0xff]);
/// Frames between two looks at what the flooder is to do.
const FLOOD_BURST: usize = 256;
/// Time between two pings.
const PING_EVERY: Duration = Duration::from_micros(500);
/// Pings that may be on their way at once, so that a pod whose thread has lost its core for a while
/// finds no more of them than its ring holds.
const WINDOW: usize = 64;
/// Exponent of the number of slots of a pod's rings: what is broadcast in four seconds fits as well.
const RING: u8 = 12;
/// Time that each kind of flood lasts, and for which lost pings are waited for.
const TURN: Duration = Duration::from_secs(10);
const STRAGGLERS: Duration = Duration::from_secs(30);
/// Bytes before the payload of a ping.
const HEADERS: usize = 14 + 20 + 8;

/// Flood of each turn: its name, receiver and bytes of payload; none in the first.
const FLOODS: [(&str, Option<(Mac, usize)>); 5] = [
    ("quiet", None),
    ("flood to the wire", Some((GATEWAY, 18))),
    ("flood to a pod that reads", Some((SINK, 18))),
    ("large frames to that pod", Some((SINK, 1400))),
    ("broadcast", Some((Mac([0xff; 6]), 18))),
];

/// State that the threads of the pods share.
#[derive(Default)]
struct Shared {
    /// Index into [`FLOODS`].
    flood: AtomicUsize,
    stop: AtomicBool,
}

/// Pings of one kind of turn.
#[derive(Default)]
struct Pings {
    sent: u64,
    came: u64,
    /// Round-trip times in microseconds.
    waits: Vec<u32>,
}

fn main() -> Result<()> {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    };
    let seconds = number("SOAK_SECONDS", 3600)?;
    let workers = usize::try_from(number("SOAK_WORKERS", 2)?)?;
    let (engine, uplink) = start(workers)?;
    let last = workers.saturating_sub(1);
    let mut flooder = attach(&engine, uplink, FLOODER, last)?;
    let mut sink = attach(&engine, uplink, SINK, 0)?;
    let mut asking = attach(&engine, uplink, ASKING, last)?;
    let mut answering = attach(&engine, uplink, ANSWERING, 0)?;
    let shared = Arc::new(Shared::default());
    let pings = std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| flood(&mut flooder, &shared)),
            scope.spawn(|| swallow(&mut sink, &shared)),
            scope.spawn(|| answer(&mut answering, &shared)),
        ];
        let pings = ask(&mut asking, &shared, Duration::from_secs(seconds));
        shared.stop.store(true, Ordering::Relaxed);
        for thread in threads {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a pod's thread panicked"),
            }
        }
        pings
    })?;
    let balance = engine.balance()?;
    for ((name, _), pings) in FLOODS.iter().zip(&pings) {
        tell(name, pings);
    }
    println!("counters: {balance:?}");
    ensure!(
        balance.holds(),
        "{} frames are not accounted for",
        balance.difference()
    );
    let lost: u64 = pings.iter().map(|pings| pings.sent - pings.came).sum();
    ensure!(
        lost == 0,
        "{lost} pings were lost: {:#?}",
        engine.snapshot()
    );
    Ok(())
}

fn start(workers: usize) -> Result<(Engine, UplinkId)> {
    let least = LeastMbufs::new(workers, 0);
    let engine = Engine::start(EngineConfig {
        numa_node: None,
        workers: vec![WorkerConfig::default(); workers],
        small_mbufs: least.small.max(8192),
        large_mbufs: least.large,
        flow_cache: 131_072,
        huge_pages: HugePages::Auto,
        idle: IdleConfig::default(),
        limits: Limits::default(),
    })?;
    let uplink = engine.add_uplink(UplinkSpec {
        worker: Some(0),
        ..wire()
    })?;
    let open = "name: open\nvlans: [210]\ndefault: {ingress: accept, egress: accept}\n";
    let policy = Policy::parse("open.yaml", open)
        .map_err(|problems| anyhow::anyhow!("the policy: {problems:?}"))?;
    let policies = PolicySet::build(1, &[policy])
        .map_err(|problems| anyhow::anyhow!("the policy: {problems:?}"))?;
    engine.set_policies(Arc::new(policies))?;
    Ok((engine, uplink))
}

/// Attaches a pod to a worker. Returns the pod's end of its memif.
fn attach(engine: &Engine, uplink: UplinkId, mac: Mac, worker: usize) -> Result<PodEnd> {
    let attached = engine.attach(AttachmentSpec {
        name: format!("{mac}/net1"),
        mac,
        addresses: Vec::new(),
        worker: Some(worker),
        ..pod(uplink, 0, 0)
    })?;
    let (server, end) = links::pair_of(RING).split();
    engine.connect(attached.id, Box::new(MemifPort::new(server)))?;
    Ok(end)
}

fn frame(to: Mac, from: Mac, payload: &[u8]) -> Vec<u8> {
    let host = |mac: Mac| [10, 0, 0, mac.0[5]].into();
    FrameBuilder::new(to, from)
        .ipv4(host(from), host(to))
        .udp(1000, 2000)
        .payload(payload)
        .build()
}

/// Sends frames of a pod, as many as there is room for. Returns how many.
fn send(end: &mut PodEnd, frame: &[u8], most: usize) -> Result<usize, Fault> {
    let mut sent = 0;
    for queue in &mut end.client.tx {
        let room = queue.room()?.min(most - sent);
        for _ in 0..room {
            queue.push(&[frame])?;
        }
        sent += room;
        if queue.publish()? {
            queue.kick();
        }
    }
    Ok(sent)
}

/// Receives what has come to a pod.
fn receive(end: &mut PodEnd, sink: &mut impl Sink) -> Result<usize, Fault> {
    let mut received = 0;
    for queue in &mut end.client.rx {
        received += queue.recv(64, sink)?;
    }
    Ok(received)
}

/// Floods, as the turn says.
fn flood(end: &mut PodEnd, shared: &Shared) -> Result<()> {
    let frames = FLOODS.map(|(_, what)| what.map(|(to, len)| frame(to, FLOODER, &vec![0; len])));
    let mut scratch = links::scratch();
    while !shared.stop.load(Ordering::Relaxed) {
        receive(end, &mut scratch)?;
        let turn = shared.flood.load(Ordering::Relaxed);
        let sent = match frames.get(turn) {
            Some(Some(frame)) => send(end, frame, FLOOD_BURST)?,
            _ => 0,
        };
        if sent == 0 {
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// Reads what comes.
fn swallow(end: &mut PodEnd, shared: &Shared) -> Result<()> {
    let mut scratch = links::scratch();
    while !shared.stop.load(Ordering::Relaxed) {
        if receive(end, &mut scratch)? == 0 {
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// Collects the numbers of the pings among what comes.
#[derive(Default)]
struct Numbers {
    frames: Vec<Vec<u8>>,
}

impl Sink for Numbers {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.frames.push(vec![0; len]);
        self.frames.last_mut().map(Vec::as_mut_slice)
    }
}

impl Numbers {
    fn take(&mut self, from: Mac) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.frames)
            .into_iter()
            .filter_map(move |frame| {
                let number = frame.get(HEADERS..HEADERS + 8)?.try_into().ok()?;
                (frame.get(6..12)? == from.0).then(|| u64::from_le_bytes(number))
            })
    }
}

fn ping(to: Mac, from: Mac, number: u64) -> Vec<u8> {
    let mut payload = [0; 18];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    frame(to, from, &payload)
}

/// Answers pings.
fn answer(end: &mut PodEnd, shared: &Shared) -> Result<()> {
    let mut came = Numbers::default();
    while !shared.stop.load(Ordering::Relaxed) {
        if receive(end, &mut came)? == 0 {
            std::thread::yield_now();
        }
        for number in came.take(ASKING) {
            let back = ping(ASKING, ANSWERING, number);
            while send(end, &back, 1)? == 0 && !shared.stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        }
    }
    Ok(())
}

/// Pings for `length`, while the flooder does one thing after the other.
fn ask(end: &mut PodEnd, shared: &Shared, length: Duration) -> Result<Vec<Pings>> {
    let mut all: Vec<Pings> = FLOODS.iter().map(|_| Pings::default()).collect();
    let turn = TURN.min(length / u32::try_from(FLOODS.len())?);
    let start = Instant::now();
    let mut came = Numbers::default();
    for (kind, round) in (0..FLOODS.len()).cycle().zip(1..) {
        shared.flood.store(kind, Ordering::Relaxed);
        let Some(pings) = all.get_mut(kind) else {
            break;
        };
        let begun = Instant::now();
        let mut sent_at = Vec::new();
        let mut missing = 0usize;
        while begun.elapsed() < turn || missing > 0 && begun.elapsed() < turn + STRAGGLERS {
            let due = PING_EVERY * u32::try_from(sent_at.len())?;
            if begun.elapsed() >= turn {
                // Late is not lost: what is on its way comes now.
                shared.flood.store(0, Ordering::Relaxed);
            } else if begun.elapsed() >= due && missing < WINDOW {
                let number = sent_at.len() as u64 | (round as u64) << 32;
                if send(end, &ping(ANSWERING, ASKING, number), 1)? == 1 {
                    sent_at.push(Instant::now());
                    (pings.sent, missing) = (pings.sent + 1, missing + 1);
                }
            }
            if receive(end, &mut came)? == 0 {
                std::thread::yield_now();
            }
            for number in came.take(ANSWERING) {
                let index = usize::try_from(number & 0xffff_ffff)?;
                // One of an earlier turn was counted as lost there.
                if number >> 32 == round as u64
                    && let Some(sent) = sent_at.get(index)
                {
                    (pings.came, missing) = (pings.came + 1, missing.saturating_sub(1));
                    let wait = sent.elapsed().as_micros();
                    pings.waits.push(u32::try_from(wait).unwrap_or(u32::MAX));
                }
            }
        }
        if start.elapsed() >= length && kind + 1 == FLOODS.len() {
            break;
        }
    }
    Ok(all)
}

/// Prints what became of the pings of one kind of turn.
fn tell(name: &str, pings: &Pings) {
    let mut waits = pings.waits.clone();
    waits.sort_unstable();
    let at = |percent: usize| {
        let place = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
        waits.get(place).copied().unwrap_or(0)
    };
    println!(
        "{name}: {} pings, {} lost, median {} us, p99 {} us",
        pings.sent,
        pings.sent - pings.came,
        at(50),
        at(99)
    );
}
