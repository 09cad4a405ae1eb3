// SPDX-License-Identifier: Apache-2.0
//! Rings: push and pop on one thread, and from core to core.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_ring::{Mpmc, spsc};

use crate::Options;
use crate::probe::Probe;
use crate::report::Windows;
use crate::timing::one_core;

const WINDOW: Duration = Duration::from_millis(10);
/// Unit of most figures of two cores.
pub(crate) const OBJECTS: &str = "Mobj/s";

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    one_at_a_time()?;
    single_spsc::<8>();
    single_spsc::<32>();
    single_spsc::<128>();
    single_mpmc::<8>()?;
    single_mpmc::<32>()?;
    single_mpmc::<128>()?;
    two_one_at_a_time(options)?;
    two_spsc::<8>(options, 1024)?;
    two_spsc::<32>(options, 1024)?;
    two_spsc::<128>(options, 1024)?;
    two_spsc::<32>(options, 8192)?;
    two_mpmc::<32>(options)
}

fn iterations(burst: usize) -> u32 {
    u32::try_from(1_000_000 / burst + 20_000).unwrap_or(u32::MAX)
}

fn per(burst: usize) -> u32 {
    u32::try_from(burst).unwrap_or(1)
}

/// For one value there is a call of its own.
fn one_at_a_time() -> Result<()> {
    let (mut producer, mut consumer) = spsc::<u64>(1024);
    one_core("ring_1t_spsc_bulk1", iterations(1), 1, || {
        let _ = producer.push(black_box(7));
        black_box(consumer.pop());
    });
    let ring = Mpmc::<u64>::new(1024)?;
    one_core("ring_1t_mpmc_bulk1", iterations(1), 1, || {
        let _ = ring.push(black_box(7));
        black_box(ring.pop());
    });
    Ok(())
}

fn single_spsc<const N: usize>() {
    let (mut producer, mut consumer) = spsc::<u64>(1024);
    let (values, mut out) = ([7; N], [0; N]);
    let name = format!("ring_1t_spsc_bulk{N}");
    one_core(&name, iterations(N), per(N), || {
        // How many is known when this is compiled, as in the reference programs.
        let values: &[u64; N] = black_box(&values);
        producer.push_slice(values);
        consumer.pop_slice(&mut out);
        black_box(&out);
    });
}

fn single_mpmc<const N: usize>() -> Result<()> {
    let ring = Mpmc::<u64>::new(1024)?;
    let (values, mut out) = ([7; N], [0; N]);
    let name = format!("ring_1t_mpmc_bulk{N}");
    one_core(&name, iterations(N), per(N), || {
        let values: &[u64; N] = black_box(&values);
        ring.push_slice(values);
        ring.pop_slice(&mut out);
        black_box(&out);
    });
    Ok(())
}

fn two_spsc<const N: usize>(options: &Options, size: usize) -> Result<()> {
    let (mut producer, mut consumer) = spsc::<u64>(size);
    let values = [7; N];
    let mut out = [0; N];
    two(
        options,
        (&format!("ring_2t_spsc_bulk{N}_size{size}"), OBJECTS),
        move || producer.push_slice(&values),
        || {
            let taken = consumer.pop_slice(&mut out);
            black_box(&out);
            taken
        },
    )
}

fn two_one_at_a_time(options: &Options) -> Result<()> {
    let (mut producer, mut consumer) = spsc::<u64>(1024);
    two(
        options,
        ("ring_2t_spsc_bulk1_size1024", OBJECTS),
        move || usize::from(producer.push(black_box(7)).is_ok()),
        || usize::from(black_box(consumer.pop()).is_some()),
    )?;
    let ring = Arc::new(Mpmc::<u64>::new(1024)?);
    let other = ring.clone();
    two(
        options,
        ("ring_2t_mpmc_bulk1_size1024", OBJECTS),
        move || usize::from(other.push(black_box(7)).is_ok()),
        || usize::from(black_box(ring.pop()).is_some()),
    )
}

fn two_mpmc<const N: usize>(options: &Options) -> Result<()> {
    let ring = Arc::new(Mpmc::<u64>::new(1024)?);
    let other = ring.clone();
    let values = [7; N];
    let mut out = [0; N];
    two(
        options,
        (&format!("ring_2t_mpmc_bulk{N}_size1024"), OBJECTS),
        move || other.push_slice(&values),
        || {
            let taken = ring.pop_slice(&mut out);
            black_box(&out);
            taken
        },
    )
}

/// Measures a producer on a thread of its own against a consumer on this one, both of which return the number
/// of objects they moved, and prints the rate under a name, in a unit of millions a second.
#[allow(clippy::cast_precision_loss, reason = "a window has few objects")]
pub(crate) fn two(
    options: &Options,
    (name, unit): (&str, &str),
    mut put: impl FnMut() -> usize + Send,
    mut take: impl FnMut() -> usize,
) -> Result<()> {
    let probe = Probe::private()?;
    let stop = AtomicBool::new(false);
    let mut windows = Windows::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            options.pin(1);
            while !stop.load(Ordering::Relaxed) {
                probe.serve();
                for _ in 0..64 {
                    if put() == 0 {
                        spin_loop();
                    }
                }
            }
        });
        options.pin(0);
        let begin = Instant::now();
        let mut before = probe.look();
        while options.goes_on(begin, &windows) {
            let start = Instant::now();
            let mut taken = 0;
            let mut spent = Duration::ZERO;
            while spent < WINDOW {
                for _ in 0..256 {
                    let now = take();
                    if now == 0 {
                        spin_loop();
                    }
                    taken += now;
                }
                spent = start.elapsed();
            }
            let after = probe.look();
            windows.add(&before, &after, taken as f64 / spent.as_secs_f64() / 1e6);
            before = after;
        }
        stop.store(true, Ordering::Relaxed);
    });
    windows.report(name, unit);
    Ok(())
}
