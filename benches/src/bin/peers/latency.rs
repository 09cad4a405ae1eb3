// SPDX-License-Identifier: Apache-2.0
//! Latency of a frame from one pod to another, at 10 and 80 % of the load that the engine can take, with
//! workers that sleep when idle and with workers that always poll.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use sluice_datapath::IdleConfig;
use sluice_datapath::ports::memif::MemifPort;
use sluice_memif::{
    Address, Connection, EndpointConfig, EndpointHandle, Event, FrameList, Role, endpoint,
};

use crate::engine::{attach, restless, start};
use crate::frames::{BURST, Source};
use crate::timing::{Epoch, ticks};
use crate::{Options, pin};

const RULES: u16 = 100;
const SIZE: usize = 64;
/// Offset of the time stamp of sending in a frame.
const STAMP_AT: usize = 50;
const STAMP_LEN: usize = 8;
/// Length of one measuring window. A window does not count if this thread was off its core in it, or if the
/// worker was runnable and did not run.
const WINDOW: Duration = Duration::from_millis(10);
/// Number of frames that are sent together.
const TOGETHER: u64 = 8;

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut bench = Bench::new(restless())?;
    let most = bench.rate(options)?;
    bench.end()?;
    println!("latency_full_load {:.4} Mpps", most / 1e6);
    for (ladder, idle) in [("off", restless()), ("on", IdleConfig::default())] {
        for load in [10, 80] {
            let mut bench = Bench::new(idle)?;
            let rate = most * f64::from(load) / 100.0;
            let mut took = bench.at(options, rate)?;
            bench.end()?;
            took.sort_unstable();
            for (name, part) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
                let at = (took.len() * part / 1000).min(took.len().saturating_sub(1));
                let micros = took.get(at).map_or(0.0, |&nanos| f64::from(nanos) / 1e3);
                println!(
                    "latency_load{load}_idle_{ladder}_{name} {micros:.3} us n={}",
                    took.len()
                );
            }
        }
    }
    Ok(())
}

/// An engine between two pods, both of them on this thread.
struct Bench {
    engine: sluice_datapath::Engine,
    sender: Connection,
    receiver: Connection,
    _handles: Vec<EndpointHandle>,
    source: Source,
    frames: FrameList,
    epoch: Epoch,
}

impl Bench {
    fn new(idle: IdleConfig) -> Result<Bench> {
        let (engine, uplink) = start(&[0], RULES, idle)?;
        pin(1);
        let mut pods = Vec::new();
        let mut handles = Vec::new();
        for pod in [0, 1] {
            let address: Address =
                format!("@sluicegate/latency-{}-{pod}", std::process::id()).parse()?;
            let mut ends = Vec::new();
            for role in [Role::Server, Role::Client] {
                let (sender, receiver) = channel();
                let config = EndpointConfig::new(role, "bench");
                handles.push(endpoint::spawn(config, address.clone(), move |event| {
                    if let Event::Connected(connection) = event {
                        let _ = sender.send(connection);
                    }
                })?);
                ends.push(receiver);
            }
            let wait = Duration::from_secs(10);
            let client = ends.pop().context("two ends")?.recv_timeout(wait)?;
            let server = ends.pop().context("two ends")?.recv_timeout(wait)?;
            attach(&engine, uplink, pod, 0, 0, Box::new(MemifPort::new(server)))?;
            pods.push(client);
        }
        let receiver = pods.pop().context("two pods")?;
        let sender = pods.pop().context("two pods")?;
        Ok(Bench {
            engine,
            sender,
            receiver,
            _handles: handles,
            source: Source::new(0, SIZE, 1024, RULES)?,
            frames: FrameList::default(),
            epoch: Epoch::now(),
        })
    }

    /// Stops the engine, whose worker would go on polling its core.
    fn end(self) -> Result<()> {
        self.engine.stop()?;
        Ok(())
    }

    /// Measures the frames a second under full load.
    #[allow(clippy::cast_precision_loss, reason = "a run has few frames")]
    fn rate(&mut self, options: &Options) -> Result<f64> {
        let start = Instant::now();
        let mut count = 0_u64;
        while start.elapsed().as_secs_f64() < options.seconds {
            for _ in 0..64 {
                self.send(u64::MAX)?;
                count += self.receive(&mut |_| {})?;
            }
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }

    /// Measures the latency of each frame, in nanoseconds, at `rate` frames a second.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "windows are short"
    )]
    fn at(&mut self, options: &Options, rate: f64) -> Result<Vec<u32>> {
        let nanos_per_tick = self.epoch.nanos_per_tick();
        let gap = (TOGETHER as f64 / rate * 1e9 / nanos_per_tick) as u64;
        let mut took = Vec::new();
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < 2.0 * options.seconds {
            let (began, used, waited) = (Instant::now(), used(), waited());
            let mut window = Vec::new();
            let mut due = ticks();
            while began.elapsed() < WINDOW {
                for _ in 0..16 {
                    if ticks() >= due {
                        due = due.wrapping_add(gap);
                        self.send(TOGETHER)?;
                    }
                    let now = ticks();
                    self.receive(&mut |stamp| {
                        let nanos = now.wrapping_sub(stamp) as f64 * nanos_per_tick;
                        window.push(nanos as u32);
                    })?;
                }
            }
            let ran = crate::latency::used() - used;
            let waits = crate::latency::waited() - waited;
            // Frames that are still under way belong to no window.
            std::thread::sleep(Duration::from_millis(1));
            while self.receive(&mut |_| {})? > 0 {}
            if ran > 0.98 * WINDOW.as_secs_f64() && waits < 0.01 * WINDOW.as_secs_f64() {
                took.append(&mut window);
            }
        }
        Ok(took)
    }

    fn send(&mut self, most: u64) -> Result<()> {
        let Some(queue) = self.sender.tx.first_mut() else {
            return Ok(());
        };
        let room = queue.room()?.min(BURST).min(usize::try_from(most)?.max(1));
        for _ in 0..room {
            let stamp = ticks().to_le_bytes();
            let frame = self.source.next_frame();
            let parts = [&frame[..STAMP_AT], &stamp, &frame[STAMP_AT + STAMP_LEN..]];
            queue.push(&parts)?;
        }
        if queue.publish()? {
            queue.kick();
        }
        Ok(())
    }

    fn receive(&mut self, arrived: &mut dyn FnMut(u64)) -> Result<u64> {
        let Some(queue) = self.receiver.rx.first_mut() else {
            return Ok(0);
        };
        let count = queue.recv(BURST, &mut self.frames)?;
        while let Some(frame) = self.frames.pop() {
            if let Some(stamp) = frame.get(STAMP_AT..STAMP_AT + STAMP_LEN) {
                arrived(u64::from_le_bytes(stamp.try_into()?));
            }
            self.frames.recycle(frame);
        }
        Ok(count as u64)
    }
}

/// Returns the CPU time of this thread, in seconds.
#[allow(clippy::cast_precision_loss, reason = "a run is short")]
fn used() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// Returns the seconds that the threads of this process were runnable and waited for a core, as the kernel's
/// scheduler counts them; steal time is not included.
#[allow(clippy::cast_precision_loss, reason = "a run is short")]
fn waited() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanos: u64 = tasks
        .flatten()
        .filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').nth(1)?.parse::<u64>().ok()
        })
        .sum();
    nanos as f64 * 1e-9
}
