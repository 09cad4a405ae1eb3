// SPDX-License-Identifier: Apache-2.0
//! The stages that are counted.
#![allow(clippy::unwrap_used, reason = "a count stops where it cannot go on")]

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sluice_benches::links::{pair, pod_to_pod, receive, scratch, send};
use sluice_benches::scene::{
    BURST, fill, frames, generator_by, generator_to_null, policies, stateful_policies,
};
use sluice_datapath::{AttachmentId, SteppedWorker};
use sluice_firewall::PolicySet;
use sluice_mem::{BufSize, Burst, HugePages, Mempool, PoolConfig};
use sluice_packet::{InnerTag, parse};
use sluice_ring::{Mpmc, spsc};

/// Stage whose instructions are counted.
pub(crate) struct Stage {
    /// Name of its figure.
    pub(crate) name: &'static str,
    /// Unit that a round handles: `frame`, `value`, ...
    pub(crate) of: &'static str,
    /// Number of units that one round handles.
    pub(crate) per_round: u32,
    run: fn(u32) -> Result<()>,
}

impl Stage {
    /// Runs `rounds` rounds of the stage.
    pub(crate) fn run(&self, rounds: u32) -> Result<()> {
        (self.run)(rounds)
    }
}

/// Looks up a stage by name.
pub(crate) fn find(name: &str) -> Result<&'static Stage> {
    ALL.iter()
        .find(|stage| stage.name == name)
        .with_context(|| format!("there is no stage {name:?}"))
}

const fn stage(
    name: &'static str,
    of: &'static str,
    per_round: u32,
    run: fn(u32) -> Result<()>,
) -> Stage {
    Stage {
        name,
        of,
        per_round,
        run,
    }
}

/// Every stage, from single rings up to the whole path.
pub(crate) const ALL: &[Stage] = &[
    stage("ring_spsc_1", "value", 1, ring_spsc::<1>),
    stage("ring_spsc_8", "value", 8, ring_spsc::<8>),
    stage("ring_spsc_32", "value", 32, ring_spsc::<32>),
    stage("ring_mpmc_1", "value", 1, ring_mpmc::<1>),
    stage("ring_mpmc_8", "value", 8, ring_mpmc::<8>),
    stage("ring_mpmc_32", "value", 32, ring_mpmc::<32>),
    stage("mempool_1", "buffer", 1, |n| mempool(n, 1)),
    stage("mempool_32", "buffer", 32, |n| mempool(n, 32)),
    stage("memif_one_way_64", "frame", 32, |n| one_way(n, 60)),
    stage("memif_one_way_1500", "frame", 32, |n| one_way(n, 1496)),
    stage("parse", "frame", 32, parse_each),
    stage("read", "frame", 32, |n| {
        with_burst(n, |worker, sender, burst| worker.parse(sender, burst))
    }),
    stage("lookup", "frame", 32, lookup),
    stage("classify_and_anti_spoof", "frame", 32, |n| {
        with_burst(n, |worker, sender, burst| worker.classify(sender, burst))
    }),
    stage("classify_and_judge_100_rules", "frame", 32, |n| {
        with_burst(n, |worker, sender, burst| {
            worker.classify(sender, burst);
            worker.judge(sender, burst);
        })
    }),
    stage("lookup_stateful_1000", "frame", 32, stateful_lookup),
    stage("generator_pipeline_null_100", "frame", 64, |n| {
        whole(n, generator_to_null(100))
    }),
    stage("generator_pipeline_null_1000_stateful", "frame", 64, |n| {
        whole(n, generator_by(stateful_policies(1_000), 1_000))
    }),
    stage("memif_pipeline_memif_100", "frame", 32, |n| {
        forward(n, policies(100), 100)
    }),
    stage("memif_pipeline_memif_1000_stateful", "frame", 32, |n| {
        forward(n, stateful_policies(1_000), 1_000)
    }),
];

/// Of as many values as are known when this is compiled.
fn ring_spsc<const BURST: usize>(rounds: u32) -> Result<()> {
    let (mut producer, mut consumer) = spsc::<u64>(1024);
    let (values, mut out) = ([7; BURST], [0; BURST]);
    for _ in 0..rounds {
        let values: &[u64; BURST] = black_box(&values);
        producer.push_slice(values);
        consumer.pop_slice(&mut out);
        black_box(&out);
    }
    Ok(())
}

fn ring_mpmc<const BURST: usize>(rounds: u32) -> Result<()> {
    let ring = Mpmc::<u64>::new(1024)?;
    let (values, mut out) = ([7; BURST], [0; BURST]);
    for _ in 0..rounds {
        let values: &[u64; BURST] = black_box(&values);
        ring.push_slice(values);
        ring.pop_slice(&mut out);
        black_box(&out);
    }
    Ok(())
}

fn mempool(rounds: u32, per: usize) -> Result<()> {
    let mut cache = Mempool::new(PoolConfig {
        buffers: 8192,
        size: BufSize::Small,
        numa_node: None,
        huge_pages: HugePages::Off,
    })?
    .cache(512);
    let mut burst = Burst::new();
    for _ in 0..rounds {
        if per == 1 {
            let mbuf = cache.alloc().context("the mempool is empty")?;
            cache.free(black_box(mbuf));
        } else {
            cache.alloc_burst(&mut burst, per);
            cache.free_burst(black_box(&mut burst));
        }
    }
    Ok(())
}

fn one_way(rounds: u32, bytes: usize) -> Result<()> {
    let frame = vec![0x5a; bytes];
    let mut pair = pair();
    let mut sink = scratch();
    for _ in 0..rounds {
        send(&mut pair.client.tx[0], &frame);
        black_box(receive(&mut pair.server.rx[0], &mut sink));
    }
    Ok(())
}

fn parse_each(rounds: u32) -> Result<()> {
    let frames = frames(100);
    for _ in 0..rounds {
        for frame in &frames[..BURST] {
            let _ = black_box(parse(frame, InnerTag::Allow));
        }
    }
    Ok(())
}

/// Runs one burst of cached flows through one step, over and over: a stage leaves an untagged frame of an
/// access pod unchanged.
fn with_burst(
    rounds: u32,
    step: impl Fn(&mut SteppedWorker, AttachmentId, &mut Burst),
) -> Result<()> {
    let (mut worker, sender) = generator_to_null(100);
    let mut burst = fill(&mut worker, &frames(100));
    for _ in 0..rounds {
        step(&mut worker, sender, &mut burst);
    }
    worker.pools().free_burst(&mut burst);
    Ok(())
}

fn lookup(rounds: u32) -> Result<()> {
    let (mut worker, sender) = generator_to_null(100);
    learn(&mut worker);
    let mut burst = fill(&mut worker, &frames(100));
    worker.parse(sender, &mut burst);
    for _ in 0..rounds {
        assert!(worker.lookup(&mut burst));
    }
    worker.pools().free_burst(&mut burst);
    Ok(())
}

/// Lookup of frames of connections, at the pod that sends them and at the one that gets them.
fn stateful_lookup(rounds: u32) -> Result<()> {
    let (mut worker, sender) = generator_by(stateful_policies(1_000), 1_000);
    learn(&mut worker);
    let mut burst = fill(&mut worker, &frames(1_000));
    worker.parse(sender, &mut burst);
    for _ in 0..rounds {
        assert!(worker.lookup(&mut burst));
    }
    worker.pools().free_burst(&mut burst);
    Ok(())
}

fn whole(rounds: u32, (mut worker, _): (SteppedWorker, AttachmentId)) -> Result<()> {
    learn(&mut worker);
    for _ in 0..rounds {
        black_box(worker.round());
    }
    Ok(())
}

/// With what the pods do: to send, and to receive.
fn forward(rounds: u32, policies: Arc<PolicySet>, rules: u16) -> Result<()> {
    let (mut worker, [mut sender, mut receiver]) = pod_to_pod(policies);
    let frames = frames(rules);
    let mut bursts = frames.chunks_exact(BURST).cycle();
    let mut sink = scratch();
    let mut round = || -> Result<()> {
        let queue = &mut sender.client.tx[0];
        for frame in bursts.next().into_iter().flatten() {
            queue.push(&[frame])?;
        }
        queue.publish()?;
        worker.round();
        let came = receive(&mut receiver.client.rx[0], &mut sink);
        ensure!(came == BURST, "{came} frames came of {BURST}");
        Ok(())
    };
    for _ in 0..LEARN {
        round()?;
    }
    for _ in 0..rounds {
        round()?;
    }
    Ok(())
}

/// Rounds after which every flow is known.
const LEARN: u32 = 1000;

fn learn(worker: &mut SteppedWorker) {
    for _ in 0..LEARN {
        worker.round();
    }
}
