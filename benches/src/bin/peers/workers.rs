// SPDX-License-Identifier: Apache-2.0
//! Scaling from one worker to two, each with pods of its own: generator, pipeline, null port.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_benches::scene::PODS;
use sluice_benches::{Flows, udp_frame};
use sluice_datapath::Engine;
use sluice_datapath::ports::generator::Generator;
use sluice_datapath::ports::null::NullPort;

use crate::Options;
use crate::engine::{attach, restless, start};
use crate::probe::Probe;
use crate::report::figure;

const RULES: u16 = 100;
const SAMPLE: Duration = Duration::from_millis(100);
/// Number of runs of one and of two workers, in turn, as machines are noisy.
const TURNS: usize = 3;

/// Measures and prints every figure of this section; this machine has `cores` cores.
pub(crate) fn run(options: &Options, cores: usize) -> Result<()> {
    let (mut one, mut two, mut apart) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        one.extend(rates(options, &[0])?);
        if cores > 1 {
            apart.extend(Probe::between([0, 1])?);
            two.extend(rates(options, &[0, 1])?);
        }
    }
    figure("workers_1_generator_pipeline_null_64", &mut one, "Mpps");
    if two.is_empty() {
        println!("# workers: not measured with two, as there is one core");
        return Ok(());
    }
    figure("workers_2_generator_pipeline_null_64", &mut two, "Mpps");
    let ratio = two[two.len() / 2] / one[one.len() / 2];
    println!("workers_2_over_1 {ratio:.4} ratio");
    // Cores of 50 ns may be two threads of one.
    println!("# workers: a line went there and back in {apart:.0?} ns before each turn");
    println!("# memif between two workers needs four cores: see the memif section for one");
    Ok(())
}

/// Measures millions of frames a second through all workers, several times.
#[allow(clippy::cast_precision_loss, reason = "a sample has few frames")]
fn rates(options: &Options, cores: &[usize]) -> Result<Vec<f64>> {
    let (engine, uplink) = start(cores, RULES, restless())?;
    for worker in 0..cores.len() {
        let pair = u8::try_from(worker)?;
        let [mut from, mut to] = [PODS[0].0, PODS[1].0];
        (from.0[4], to.0[4]) = (pair, pair);
        let mut flows = Flows::new(RULES);
        let frames: Vec<_> = (0..1024)
            .map(|_| udp_frame(to, from, flows.next_port()))
            .collect();
        attach(&engine, uplink, 1, pair, worker, Box::new(NullPort))?;
        let generator = Box::new(Generator::new(&frames)?);
        attach(&engine, uplink, 0, pair, worker, generator)?;
    }
    let begin = Instant::now();
    let mut rates = Vec::new();
    let (mut since, mut before) = (begin, delivered(&engine));
    while begin.elapsed().as_secs_f64() < options.seconds {
        std::thread::sleep(SAMPLE);
        let (now, count) = (Instant::now(), delivered(&engine));
        rates.push((count - before) as f64 / (now - since).as_secs_f64() / 1e6);
        (since, before) = (now, count);
    }
    engine.stop()?;
    // The first taught the flow caches.
    rates.remove(0);
    Ok(rates)
}

fn delivered(engine: &Engine) -> u64 {
    let attachments = engine.snapshot().attachments;
    attachments.iter().map(|one| one.traffic.tx_frames).sum()
}
