// SPDX-License-Identifier: Apache-2.0
//! Worker loop on one core with no peer: a generator that copies its frames in, the whole pipeline, a null
//! port that frees them.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_benches::pools;
use sluice_benches::scene::{pod, policies, wire};
use sluice_datapath::SteppedWorker;
use sluice_datapath::ports::generator::Generator;
use sluice_datapath::ports::null::NullPort;

use crate::Options;
use crate::frames::Source;
use crate::report::figure;

const RULES: u16 = 100;
const FLOWS: u32 = 1024;
const SAMPLE: Duration = Duration::from_millis(100);

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.pin(1);
    for size in [64, 1500] {
        let mut worker = worker(size)?;
        let begin = Instant::now();
        let mut rates = Vec::new();
        while begin.elapsed().as_secs_f64() < options.seconds {
            rates.push(sample(&mut worker));
        }
        // The first taught the flow cache.
        rates.remove(0);
        figure(&format!("null_copy_io_{size}_tx"), &mut rates, "Mpps");
    }
    Ok(())
}

/// Measures millions of frames a second.
#[allow(clippy::cast_precision_loss, reason = "a sample has few frames")]
fn sample(worker: &mut SteppedWorker) -> f64 {
    let start = Instant::now();
    let mut frames = 0;
    while start.elapsed() < SAMPLE {
        for _ in 0..256 {
            frames += worker.round();
        }
    }
    frames as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn worker(size: usize) -> Result<SteppedWorker> {
    let mut worker = SteppedWorker::new(pools(), policies(RULES), 131_072)?;
    let uplink = worker.add_uplink(wire())?;
    let mut source = Source::new(0, size, FLOWS, RULES)?;
    let frames: Vec<_> = (0..FLOWS).map(|_| source.next_frame().to_vec()).collect();
    worker.attach(pod(uplink, 0, 0), Box::new(Generator::new(&frames)?))?;
    worker.attach(pod(uplink, 1, 0), Box::new(NullPort))?;
    Ok(worker)
}
