//! How far the two cores are from each other, asked before and after every window.
//!
//! A virtual machine's cores move: at one moment they share a cache, at another they are on two
//! sockets, and whatever crosses between them goes two to five times slower. So a window of 10 ms
//! counts only if the round trip of a cache line is of one kind before and after it, and if neither
//! thread was off its core for more than 2 % of it.
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
/// No answer for so long: there is nobody.
const PATIENCE: Duration = Duration::from_millis(200);

/// The page.
pub(crate) struct Probe {
    page: MmapRaw,
}

/// One look: when it began and ended, and what both threads had used of their cores by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Nanoseconds that a line takes there and back; `None`: nobody answered.
    round_trip: Option<f64>,
    begin: Instant,
    end: Instant,
    own_begin: f64,
    own_end: f64,
    other_begin: f64,
    other_end: f64,
}

/// How far apart the cores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// They share a cache.
    Near,
    /// They do not.
    Far,
    /// They are on two sockets, it seems.
    Remote,
}

impl Probe {
    /// The page in `file`, made if it is not there.
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

    /// A page for two threads of this process.
    pub(crate) fn private() -> Result<Probe> {
        Ok(Probe {
            page: MmapRaw::from(memmap2::MmapMut::map_anon(PAGE)?),
        })
    }

    fn field(&self, number: usize) -> &AtomicU32 {
        // SAFETY: the page is mapped as long as `self` lives, the field lies inside it and is
        // aligned, and every access to it, in every process, is atomic.
        unsafe { AtomicU32::from_ptr(self.page.as_mut_ptr().add(number * APART).cast()) }
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
        unsafe { AtomicU64::from_ptr(self.page.as_mut_ptr().add(4 * APART).cast()) }
    }

    /// The asking side is through.
    pub(crate) fn quit(&self) {
        self.field(3).store(1, Ordering::SeqCst);
    }

    /// Whether the asking side is through.
    pub(crate) fn has_quit(&self) -> bool {
        self.field(3).load(Ordering::Relaxed) != 0
    }

    /// How far two cores of this process are apart at this moment: nanoseconds that a line takes
    /// there and back.
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

    /// The answering side calls this between bursts.
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

    /// The measuring side's look: the best of six batches of forty round trips.
    pub(crate) fn look(&self) -> Mark {
        let other = || f64::from_bits(self.cpu().load(Ordering::SeqCst));
        let (begin, own_begin) = (Instant::now(), cpu_seconds());
        let mut mark = Mark {
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

impl Mark {
    /// How far apart the cores were from this look to `later`; `None` if the window between them
    /// does not count.
    pub(crate) fn window(&self, later: &Mark) -> Option<Distance> {
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

/// What this thread has used of its core, in seconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "seconds since the thread began are few"
)]
fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
