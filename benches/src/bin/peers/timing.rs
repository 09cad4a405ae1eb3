// SPDX-License-Identifier: Apache-2.0
//! Clock and repeated measurements of one core.
#![allow(unsafe_code, reason = "reads the time stamp counter")]

use std::time::Instant;

use crate::report;

/// Repeats of a figure of one core.
const REPEATS: usize = 21;

/// Times `body`, which handles `per` objects, and prints nanoseconds per object.
pub(crate) fn one_core(name: &str, iterations: u32, per: u32, mut body: impl FnMut()) {
    let mut values: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..iterations {
                body();
            }
            start.elapsed().as_secs_f64() * 1e9 / (f64::from(iterations) * f64::from(per))
        })
        .collect();
    report::figure(name, &mut values, "ns/obj");
}

/// Reads the time stamp counter (elsewhere the monotonic clock), which costs a few nanoseconds.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the counter, and Linux lets programs read it.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
    }
}

/// Counter and time at one moment, from which the length of a tick follows later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch(Instant, u64);

impl Epoch {
    /// Reads both at this moment.
    pub(crate) fn now() -> Epoch {
        Epoch(Instant::now(), ticks())
    }

    /// Returns the nanoseconds of a tick, from the time since this epoch.
    #[allow(clippy::cast_precision_loss, reason = "a run is short")]
    pub(crate) fn nanos_per_tick(&self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1e9 / ticks().wrapping_sub(self.1) as f64
    }
}
