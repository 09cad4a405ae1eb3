// SPDX-License-Identifier: Apache-2.0
//! Distance between two cores, measured before and after every window.
//!
//! A virtual machine's cores move: at one moment they share a cache, at another they are on two sockets, and
//! traffic between them gets two to five times slower. So a window of 10 ms counts only if the round trip of
//! a cache line is in the same class before and after it, and if neither thread was off its core for more
//! than 2 % of it.
//!
//! The page is shared by name with any program that knows its five fields, 128 bytes apart: `ask`,
//! `answer`, `ball`, `quit` (32 bits each) and the answering thread's CPU time in seconds (a double).
#![allow(
    unsafe_code,
    reason = "a page shared with another process, as atomics: nobody forms a plain reference to it"
)]

use std::fs::OpenOptions;
use std::hint::spin_loop;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use memmap2::MmapRaw;
use rustix::time::{ClockId, clock_gettime};

use crate::pin;

const PAGE: usize = 4096;
/// Fields lie so far apart that no two share a line, nor a pair of lines.
const APART: usize = 128;
/// Time after which the other side counts as absent.
const PATIENCE: Duration = Duration::from_millis(200);

/// Page of shared memory through which two threads measure their distance.
pub(crate) struct Probe {
    page: MmapRaw,
}

/// Measurement of the distance: when it began and ended, and the CPU time of both threads at these moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measurement {
    /// Round trip of a cache line in nanoseconds; `None` if nobody answered.
    round_trip: Option<f64>,
    begin: Instant,
    end: Instant,
    own_begin: f64,
    own_end: f64,
    other_begin: f64,
    other_end: f64,
}

/// Distance between two cores, by the round trip of a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// Cores that share a cache: below 80 ns.
    Near,
    /// Cores that share none: 95 to 300 ns.
    Far,
    /// Cores on two sockets, probably: 300 ns to 1 µs.
    Remote,
}

impl Probe {
    /// Maps the page in `file`, which is created if it is missing.
    pub(crate) fn open(file: &Path) -> Result<Probe> {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(file)
            .with_context(|| format!("the probe's page {}", file.display()))?;
        open.set_len(PAGE as u64)?;
        Ok(Probe {
            page: MmapRaw::map_raw(&open)?,
        })
    }

    /// Creates a page for two threads of this process.
    pub(crate) fn private() -> Result<Probe> {
        Ok(Probe {
            page: MmapRaw::from(memmap2::MmapMut::map_anon(PAGE)?),
        })
    }

    /// Returns the address of field `number`.
    fn address(&self, number: usize) -> *mut u8 {
        let offset = number * APART;
        assert!(offset + 8 <= PAGE, "the page has no field {number}");
        // SAFETY: the page is mapped with `PAGE` bytes, and the offset lies inside it.
        unsafe { self.page.as_mut_ptr().add(offset) }
    }

    fn field(&self, number: usize) -> &AtomicU32 {
        // SAFETY: the page is mapped as long as `self` lives, the field lies inside it and is
        // aligned, and every access to it, in every process, is atomic.
        unsafe { AtomicU32::from_ptr(self.address(number).cast()) }
    }

    fn ask(&self) -> &AtomicU32 {
        self.field(0)
    }

    fn answer(&self) -> &AtomicU32 {
        self.field(1)
    }

    fn ball(&self) -> &AtomicU32 {
        self.field(2)
    }

    fn cpu(&self) -> &AtomicU64 {
        // SAFETY: as in `field`; 512 is a multiple of 8.
        unsafe { AtomicU64::from_ptr(self.address(4).cast()) }
    }

    /// Tells the answering side that the measurement is over.
    pub(crate) fn quit(&self) {
        self.field(3).store(1, Ordering::SeqCst);
    }

    /// Whether the asking side has quit.
    pub(crate) fn has_quit(&self) -> bool {
        self.field(3).load(Ordering::Relaxed) != 0
    }

    /// Measures the round trip of a cache line between two cores at this moment, in nanoseconds.
    pub(crate) fn between(cores: [usize; 2]) -> Result<Option<f64>> {
        let probe = Probe::private()?;
        let mark = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                pin(cores[0]);
                let mark = probe.look();
                probe.quit();
                mark
            });
            scope.spawn(|| {
                pin(cores[1]);
                while !probe.has_quit() {
                    probe.serve();
                }
            });
            asking.join()
        });
        Ok(mark.ok().and_then(|mark| mark.round_trip))
    }

    /// Answers a measurement, if one was begun. The answering side calls this between bursts.
    pub(crate) fn serve(&self) {
        if self.ask().load(Ordering::Relaxed) == 0 {
            return;
        }
        let note = || self.cpu().store(cpu_seconds().to_bits(), Ordering::SeqCst);
        note();
        self.answer().store(1, Ordering::SeqCst);
        while self.ask().load(Ordering::Relaxed) != 0 {
            let seen = self.ball().load(Ordering::Acquire);
            if seen & 1 == 1 {
                self.ball().store(seen.wrapping_add(1), Ordering::Release);
            } else {
                spin_loop();
            }
        }
        note();
        self.answer().store(0, Ordering::SeqCst);
    }

    /// Measures from the asking side: the best of six batches of forty round trips.
    pub(crate) fn look(&self) -> Measurement {
        let other = || f64::from_bits(self.cpu().load(Ordering::SeqCst));
        let (begin, own_begin) = (Instant::now(), cpu_seconds());
        let mut mark = Measurement {
            round_trip: None,
            begin,
            end: begin,
            own_begin,
            own_end: own_begin,
            other_begin: 0.0,
            other_end: 0.0,
        };
        self.ask().store(1, Ordering::SeqCst);
        while self.answer().load(Ordering::SeqCst) == 0 {
            if begin.elapsed() > PATIENCE {
                self.ask().store(0, Ordering::SeqCst);
                mark.end = Instant::now();
                mark.own_end = cpu_seconds();
                return mark;
            }
        }
        mark.other_begin = other();
        let mut best = f64::INFINITY;
        for _ in 0..6 {
            let start = Instant::now();
            for _ in 0..40 {
                let seen = self.ball().load(Ordering::Relaxed);
                self.ball().store(seen.wrapping_add(1), Ordering::Release);
                while self.ball().load(Ordering::Acquire) != seen.wrapping_add(2) {
                    spin_loop();
                }
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e9 / 40.0);
        }
        mark.round_trip = Some(best);
        self.ask().store(0, Ordering::SeqCst);
        while self.answer().load(Ordering::SeqCst) != 0 {
            spin_loop();
        }
        mark.other_end = other();
        mark.own_end = cpu_seconds();
        mark.end = Instant::now();
        mark
    }
}

impl Measurement {
    /// Returns the distance of the cores from this measurement to `later`, or `None` if the window between the
    /// two does not count.
    pub(crate) fn window(&self, later: &Measurement) -> Option<Distance> {
        let wall = later.begin.duration_since(self.end).as_secs_f64();
        let own = later.own_begin - self.own_end;
        let other = later.other_begin - self.other_end;
        if own < 0.98 * wall || other < 0.98 * wall {
            return None;
        }
        let (before, after) = (self.round_trip?, later.round_trip?);
        let both = |low: f64, high: f64| {
            let within = |ns: f64| ns > low && ns < high;
            within(before) && within(after)
        };
        if both(0.0, 80.0) {
            Some(Distance::Near)
        } else if both(95.0, 300.0) {
            Some(Distance::Far)
        } else if both(300.0, 1000.0) {
            Some(Distance::Remote)
        } else {
            None
        }
    }
}

/// Returns the CPU time of this thread, in seconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "seconds since the thread began are few"
)]
fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
