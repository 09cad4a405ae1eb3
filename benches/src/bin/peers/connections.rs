// SPDX-License-Identifier: Apache-2.0
//! Connection tracker as a hash table, with what one does beside: state noted, windows checked, paths counted. Frames
//! are of both directions; keys are random, and looked up in random order. Rates are per second of this thread's own time,
//! so that a busy machine counts less.

use std::hint::black_box;

use anyhow::{Result, ensure};
use sluice_benches::{none_allocated, splitmix64};
use sluice_firewall::connections::{
    Answer, Config, Event, Inserted, Key, Opening, Path, Paths, Probe, Quotas, Scope, Segment,
    Tick, Timeouts, TrackedFrame, Tracker, Tracking, V4Key, V6Key,
};

use crate::Options;
use crate::report::figure;

const REPEATS: usize = 9;
/// Number of lookups in one repeat.
const LOOKUPS: usize = 1 << 20;
/// Attachments that the connections are of.
const PODS: u16 = 16;
/// Connections of the largest table.
const MOST: usize = 1 << 20;

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.pin(1);
    memory()?;
    allocations()?;
    for (size, flows) in [("64k", 1 << 16), ("1M", MOST)] {
        for (kind, tracking) in [("flags", Tracking::Flags), ("windows", Tracking::Window)] {
            let tag = format!("{size}_{kind}");
            hits::<V4Key>(&tag, flows, tracking, Tracker::lookup_v4)?;
        }
        let tag = format!("{size}_v6_flags");
        hits::<V6Key>(&tag, flows, Tracking::Flags, Tracker::lookup_v6)?;
        changes(size, flows)?;
    }
    flood()
}

/// Prints the bytes that a connection takes, both directions and windows included.
#[allow(clippy::cast_precision_loss, reason = "a table is small enough")]
fn memory() -> Result<()> {
    let [v4, v6, _] = tracker(MOST, MOST)?.memory_bytes();
    for (version, bytes) in [("v4", v4), ("v6", v6)] {
        let each = bytes as f64 / MOST as f64;
        println!("connections_{version}_memory {each:.1} B/connection");
    }
    Ok(())
}

/// Checks that connections that begin, answer, make room and expire allocate nothing.
fn allocations() -> Result<()> {
    let (mut random, opens) = (Random(3), opening(Tracking::Window));
    let mut tracker = tracker(1 << 12, 0)?;
    let quotas = Quotas {
        all: 200,
        ..Quotas::default()
    };
    (0..PODS).for_each(|pod| tracker.set_quotas(pod.into(), quotas));
    let mut now = Tick(0);
    none_allocated("connections", || {
        now = now.plus(1);
        let syns: [TrackedFrame; 64] = std::array::from_fn(|_| random.syn(false));
        for syn in &syns {
            establish(&mut tracker, now, syn, &opens);
            tracker.lookup(now, &back(syn, Event::Rst));
        }
        tracker.expire(now, 64);
        tracker.sweep_pairs(64, |_, _| {});
    });
    Ok(())
}

/// Tracker without limits but its own room.
fn tracker(v4: usize, v6: usize) -> Result<Tracker> {
    let config = Config {
        v4,
        v6,
        pairs: 1024,
        attachments: PODS.into(),
        timeouts: Timeouts::default(),
    };
    let mut tracker = Tracker::new(&config, Tick(0))?;
    let endless = Quotas {
        all: u32::MAX,
        embryonic: u32::MAX,
        one_way: u32::MAX,
        per_source: u16::MAX,
    };
    (0..PODS).for_each(|pod| tracker.set_quotas(pod.into(), endless));
    Ok(tracker)
}

/// Connection that only the pod may open.
fn opening(tracking: Tracking) -> Opening {
    let path = |destination| Path {
        destination,
        rules: [1, 2, u32::MAX, u32::MAX],
    };
    Opening {
        paths: Paths {
            opener: path(1),
            responder: path(2),
        },
        tracking,
        from_pod: true,
        rederivable: false,
    }
}

/// Random numbers from a fixed seed: every run has the same flows.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix64(&mut self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 32) % end as u64).unwrap_or(0)
    }

    /// SYN between two hosts of 10.0.0.0/8, or of fd00::/16.
    fn syn(&mut self, is_v6: bool) -> TrackedFrame {
        let [a, b, c, d, e, f, ..] = self.next().to_le_bytes();
        let [g, h, i, j, k, ..] = self.next().to_le_bytes();
        let host = |bytes: [u8; 3]| {
            let mut address = if is_v6 {
                [0; 16]
            } else {
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0]
            };
            address[13..].copy_from_slice(&bytes);
            if is_v6 {
                address[0] = 0xfd;
            }
            address
        };
        TrackedFrame {
            scope: Scope::new(u16::from(k) % PODS, 210),
            src: host([a, b, c]),
            dst: host([d, e, f]),
            src_port: u16::from_le_bytes([g, h]),
            dst_port: u16::from_le_bytes([i, j]),
            proto: 6,
            is_v6,
            event: Event::Syn,
            bytes: 64,
            segment: numbers(Event::Syn, 100, 0),
        }
    }
}

/// Segment without data.
fn numbers(event: Event, seq: u32, ack: u32) -> Segment {
    let syn = u32::from(matches!(event, Event::Syn | Event::SynAck));
    Segment {
        seq,
        end: seq + syn,
        ack,
        sack: ack,
        window: 1000,
        has_ack: event != Event::Syn,
        ..Segment::default()
    }
}

/// Frame of the opener behind its SYN.
fn there(syn: &TrackedFrame, event: Event) -> TrackedFrame {
    TrackedFrame {
        event,
        segment: numbers(event, 101, 501),
        ..*syn
    }
}

/// Frame of the responder.
fn back(syn: &TrackedFrame, event: Event) -> TrackedFrame {
    let seq = if event == Event::SynAck { 500 } else { 501 };
    TrackedFrame {
        src: syn.dst,
        dst: syn.src,
        src_port: syn.dst_port,
        dst_port: syn.src_port,
        event,
        segment: numbers(event, seq, 101),
        ..*syn
    }
}

/// Opens a connection with three frames; one that is there already stays.
fn establish(tracker: &mut Tracker, now: Tick, syn: &TrackedFrame, opens: &Opening) {
    if tracker.lookup(now, syn) == Answer::New {
        black_box(tracker.insert(now, syn, opens));
        tracker.lookup(now, &back(syn, Event::SynAck));
        tracker.lookup(now, &there(syn, Event::Ack));
    }
}

type Lookup<K> = fn(&mut Tracker, Tick, &[Probe<K>], &[Segment], &mut [Answer]);

/// Frames to look up, in arrays as a pipeline has them.
struct Frames<K> {
    probes: Vec<Probe<K>>,
    segments: Vec<Segment>,
}

impl<K: Key> Frames<K> {
    fn new(frame: impl FnMut(usize) -> TrackedFrame) -> Frames<K> {
        let frames: Vec<_> = (0..LOOKUPS).map(frame).collect();
        Frames {
            probes: frames.iter().filter_map(Probe::of).collect(),
            segments: frames.iter().map(|frame| frame.segment).collect(),
        }
    }

    /// Measures lookups in bursts; `tick` of each repeat.
    fn measure(
        &self,
        tracker: &mut Tracker,
        name: &str,
        burst: usize,
        lookup: Lookup<K>,
        tick: impl Fn(u32) -> Tick,
    ) {
        let mut known = 0;
        let mut rates: Vec<f64> = (0u32..)
            .take(REPEATS)
            .map(|repeat| {
                let mut answers = [Answer::New; 64];
                let start = CpuTime::now();
                known = 0;
                let bursts = self.probes.chunks(burst).zip(self.segments.chunks(burst));
                for (probes, segments) in bursts {
                    let answers = &mut answers[..probes.len()];
                    lookup(tracker, tick(repeat), black_box(probes), segments, answers);
                    let hits = answers
                        .iter()
                        .filter(|one| matches!(one, Answer::Known { .. }));
                    known += hits.count();
                }
                millions(LOOKUPS, start)
            })
            .collect();
        figure(&format!("connections_{name}"), &mut rates, "Mlookups/s");
        println!("# connections_{name}: {known} of {LOOKUPS} known");
    }
}

fn hits<K: Key>(tag: &str, flows: usize, tracking: Tracking, lookup: Lookup<K>) -> Result<()> {
    let is_v6 = size_of::<K>() > size_of::<V4Key>();
    let (mut random, opens) = (Random(7), opening(tracking));
    let syns: Vec<_> = (0..flows).map(|_| random.syn(is_v6)).collect();
    let room = |of_version: bool| if of_version { flows } else { 0 };
    let mut tracker = tracker(room(!is_v6), room(is_v6))?;
    for syn in &syns {
        establish(&mut tracker, Tick(0), syn, &opens);
    }
    println!(
        "connections_{tag}_kept {} of {flows} connections",
        tracker.len()
    );
    let mut order = Random(99);
    let either = |syn: &TrackedFrame, n: usize| {
        if n.is_multiple_of(2) {
            there(syn, Event::Ack)
        } else {
            back(syn, Event::Ack)
        }
    };
    let any = Frames::<K>::new(|n| either(&syns[order.below(flows)], n));
    let same = |_| Tick(0);
    for burst in [32, 64, 1] {
        any.measure(
            &mut tracker,
            &format!("{tag}_hit_burst{burst}"),
            burst,
            lookup,
            same,
        );
    }
    let ticks = |repeat| Tick(1 + repeat);
    any.measure(
        &mut tracker,
        &format!("{tag}_hit_burst32_ticks"),
        32,
        lookup,
        ticks,
    );
    let mut random = Random(1234);
    let none = Frames::<K>::new(|_| {
        let mut syn = random.syn(is_v6);
        syn.src[12] ^= 0x80;
        syn
    });
    none.measure(
        &mut tracker,
        &format!("{tag}_miss_burst32"),
        32,
        lookup,
        |_| Tick(20),
    );
    let hot = Frames::<K>::new(|n| either(&syns[order.below(1024)], n));
    hot.measure(
        &mut tracker,
        &format!("{tag}_hot1024_burst32"),
        32,
        lookup,
        |_| Tick(20),
    );
    Ok(())
}

/// Connections that begin and end, and rules that change, in an IPv4 table for `flows`.
fn changes(size: &str, flows: usize) -> Result<()> {
    let (mut random, opens) = (Random(7), opening(Tracking::Window));
    let mut tracker = tracker(flows, 0)?;
    let now = Tick(0);
    let syns: Vec<_> = (0..flows).map(|_| random.syn(false)).collect();
    let empty = |tracker: &mut Tracker| {
        for pod in 0..PODS.into() {
            tracker.remove_attachment(pod, usize::MAX);
        }
    };
    let mut repeated =
        |name: &str, unit: &str, count: usize, body: &mut dyn FnMut(&mut Tracker)| {
            let mut rates: Vec<f64> = (0..5)
                .map(|_| {
                    if name.starts_with("insert") || name.starts_with("opened") {
                        empty(&mut tracker);
                    }
                    let start = CpuTime::now();
                    body(&mut tracker);
                    millions(count, start)
                })
                .collect();
            figure(&format!("connections_{size}_{name}"), &mut rates, unit);
        };
    repeated(
        "opened_by_three_frames",
        "Mconnections/s",
        flows,
        &mut |tracker| {
            for syn in &syns {
                establish(tracker, now, syn, &opens);
            }
        },
    );
    repeated("insert", "Minserts/s", flows, &mut |tracker| {
        for syn in &syns {
            black_box(tracker.insert(now, syn, &opens));
        }
    });
    // A refused SYN ends one, another begins.
    let mut live = syns.clone();
    let churned = 100_000;
    repeated("churn_end_begin", "Mpairs/s", churned, &mut |tracker| {
        for _ in 0..churned {
            let at = random.below(flows);
            tracker.lookup(now, &back(&live[at], Event::Rst));
            live[at] = random.syn(false);
            black_box(tracker.insert(now, &live[at], &opens));
        }
    });
    let mut generation = 0;
    repeated(
        "first_frame_after_a_change",
        "Mframes/s",
        flows,
        &mut |tracker| {
            generation += 1;
            tracker.set_generation(generation);
            for syn in &live {
                if let Answer::Stale { .. } = tracker.lookup(now, syn) {
                    black_box(tracker.revalidate(now, syn, &opens.paths));
                }
            }
            tracker.sweep_pairs(1024, |_, _| {});
        },
    );
    println!("# connections_{size}: {} kept at the end", tracker.len());
    Ok(())
}

/// SYNs of one pod into a table that is half full of established connections.
fn flood() -> Result<()> {
    const SYNS: usize = 10 << 20;
    let (mut random, opens) = (Random(7), opening(Tracking::Window));
    let mut tracker = tracker(MOST, 0)?;
    let now = Tick(0);
    let syns: Vec<_> = (0..MOST / 2).map(|_| random.syn(false)).collect();
    for syn in &syns {
        establish(&mut tracker, now, syn, &opens);
    }
    let before = tracker.len();
    let quotas = Quotas {
        all: 1 << 20,
        embryonic: 1 << 16,
        ..Quotas::default()
    };
    tracker.set_quotas(0, quotas);
    let (mut opened, mut spent) = (0, 0.0);
    let mut probes = Vec::with_capacity(64);
    for _ in 0..SYNS / 64 {
        let frames: [TrackedFrame; 64] = std::array::from_fn(|_| {
            let mut syn = random.syn(false);
            syn.scope = Scope::new(0, 211);
            syn
        });
        let start = CpuTime::now();
        let segments = frames.map(|frame| frame.segment);
        let mut answers = [Answer::Revoked; 64];
        probes.clear();
        probes.extend(frames.iter().filter_map(Probe::<V4Key>::of));
        tracker.lookup_v4(now, &probes, &segments, &mut answers);
        for (frame, answer) in frames.iter().zip(answers) {
            if answer == Answer::New {
                let inserted = tracker.insert(now, frame, &opens);
                opened += usize::from(matches!(inserted, Inserted::Opened { .. }));
            }
        }
        spent += start.seconds();
    }
    #[allow(clippy::cast_precision_loss, reason = "a run has few frames")]
    let rate = SYNS as f64 / spent / 1e6;
    println!("connections_flood {rate:.2} MSYN/s");
    let mut known = 0;
    for syn in &syns {
        let answer = tracker.lookup(now, &there(syn, Event::Ack));
        known += usize::from(matches!(answer, Answer::Known { .. }));
    }
    let lost = syns.len() - known;
    let own = tracker.len() - before;
    println!("connections_flood_lost {lost} of {before} established");
    println!("# connections_flood: {opened} opened, {own} of the pod's own kept");
    ensure!(lost == 0, "a flood has cost established connections");
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a run has few lookups")]
fn millions(count: usize, since: CpuTime) -> f64 {
    count as f64 / since.seconds() / 1e6
}

/// Moment in this thread's own CPU time.
#[derive(Debug, Clone, Copy)]
struct CpuTime(f64);

impl CpuTime {
    /// Reads the clock of this thread.
    #[allow(clippy::cast_precision_loss, reason = "a run is short")]
    fn now() -> CpuTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        CpuTime(now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9)
    }

    /// Seconds that this thread has run since.
    fn seconds(self) -> f64 {
        CpuTime::now().0 - self.0
    }
}
