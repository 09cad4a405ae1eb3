// SPDX-License-Identifier: Apache-2.0
//! The loops of a side: one that answers probes until it is told to stop, one that measures.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Side;
use crate::probe::Probe;
use crate::report::{Windows, figure};
use crate::timing::{Epoch, ticks};

const WINDOW: Duration = Duration::from_millis(10);
/// Interval of the rates that are taken without a probe.
const SAMPLE: Duration = Duration::from_millis(100);
/// Length of the start that is left out of these rates.
const WARM_UP: Duration = Duration::from_millis(500);
/// Limit after which a side that answers probes ends, if the other has not ended it before.
const LONGEST: Duration = Duration::from_secs(60);
/// Length of a turn, in ticks, above which another program had the core.
const INTERRUPTED: u64 = 200_000;

impl Side {
    /// Calls `turn` until the other side has measured; without a probe, prints the rates of what `turn` counts.
    #[allow(clippy::cast_precision_loss, reason = "a run has few frames")]
    pub(super) fn until_quit(
        &self,
        probe: Option<&Probe>,
        turn: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        let start = Instant::now();
        let (mut since, mut before) = (start, 0);
        let mut rates = Vec::new();
        loop {
            let mut count = 0;
            for _ in 0..64 {
                count = turn()?;
            }
            let now = Instant::now();
            match probe {
                Some(probe) => {
                    probe.serve();
                    if probe.has_quit() || now - start > LONGEST {
                        return Ok(());
                    }
                }
                None if now - since >= SAMPLE => {
                    let rate = (count - before) as f64 / (now - since).as_secs_f64() / 1e6;
                    (since, before) = (now, count);
                    if now - start > WARM_UP {
                        rates.push(rate);
                    }
                    if (now - start).as_secs_f64() > self.seconds + WARM_UP.as_secs_f64() {
                        figure(&self.tag, &mut rates, "Mpps");
                        return Ok(());
                    }
                }
                None => {}
            }
        }
    }

    /// Calls `turn` and counts, by windows, the frames that it reports as received and sent.
    #[allow(clippy::cast_precision_loss, reason = "a run has few frames")]
    pub(super) fn measure(
        &self,
        probe: Option<&Probe>,
        turn: &mut dyn FnMut() -> Result<(usize, usize)>,
    ) -> Result<()> {
        let (start, epoch) = (Instant::now(), Epoch::now());
        let span = if probe.is_some() { WINDOW } else { SAMPLE };
        let mut windows = Windows::default();
        let mut rates = Vec::new();
        let (mut busy, mut busy_frames, mut bursts) = (0_u64, 0_usize, 0_usize);
        let mut before = probe.map(Probe::look);
        let (mut since, mut sent) = (Instant::now(), 0);
        loop {
            for _ in 0..64 {
                let began = ticks();
                let (received, now) = turn()?;
                let spent = ticks().wrapping_sub(began);
                sent += now;
                if received > 0 && spent < INTERRUPTED {
                    busy += spent;
                    busy_frames += received;
                    bursts += 1;
                }
            }
            let elapsed = since.elapsed();
            if elapsed < span {
                continue;
            }
            let rate = sent as f64 / elapsed.as_secs_f64() / 1e6;
            let warm = start.elapsed() > WARM_UP;
            match (probe, &mut before) {
                (Some(probe), Some(before)) => {
                    let after = probe.look();
                    if warm {
                        windows.add(before, &after, rate);
                    }
                    *before = after;
                }
                _ if warm => rates.push(rate),
                _ => {}
            }
            (since, sent) = (Instant::now(), 0);
            if start.elapsed().as_secs_f64() > self.seconds + WARM_UP.as_secs_f64() {
                break;
            }
        }
        if let Some(probe) = probe {
            probe.quit();
        }
        windows.report(&self.tag, "Mpps");
        figure(&self.tag, &mut rates, "Mpps");
        if busy_frames > 0 {
            let tag = &self.tag;
            let nanos = busy as f64 * epoch.nanos_per_tick() / busy_frames as f64;
            let burst = busy_frames as f64 / bursts as f64;
            println!("{tag}_busy {nanos:.4} ns/packet mean_burst={burst:.1}");
        }
        Ok(())
    }
}
