// SPDX-License-Identifier: Apache-2.0
//! Link and statistics of ports, read on EAL's thread: a driver may ask its device for them by a mailbox and wait,
//! which no worker does.
#![allow(unsafe_code, reason = "calls DPDK")]

use std::mem::MaybeUninit;
use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_stats::{LinkState, NicCounters};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(100);

/// Facts about a port as they were last read.
#[derive(Debug)]
pub(crate) struct Watched {
    port: u16,
    link: AtomicU8,
    counters: [AtomicU64; NicCounters::COUNT],
    /// Frames that the device lost for want of buffers.
    missed: AtomicU64,
}

/// Ports that are open. A look holds the lock, so that a port is not closed under it.
static PORTS: Mutex<Vec<Arc<Watched>>> = Mutex::new(Vec::new());

fn ports() -> MutexGuard<'static, Vec<Arc<Watched>>> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at all ports again and again, for the life of the process.
#[allow(
    clippy::disallowed_methods,
    reason = "EAL's thread, which has nothing else to do"
)]
pub(crate) fn run() {
    loop {
        std::thread::sleep(EVERY);
        for port in ports().iter() {
            port.look();
        }
    }
}

impl Watched {
    /// Begins to look at a started port.
    pub(crate) fn begin(port: u16) -> Arc<Watched> {
        let watched = Arc::new(Watched {
            port,
            link: AtomicU8::new(LinkState::Down.code()),
            counters: [const { AtomicU64::new(0) }; NicCounters::COUNT],
            missed: AtomicU64::new(0),
        });
        watched.look();
        ports().push(Arc::clone(&watched));
        watched
    }

    /// Ends it: after this nobody looks at the port.
    pub(crate) fn end(self: &Arc<Self>) {
        ports().retain(|other| !Arc::ptr_eq(self, other));
    }

    /// State of the link.
    pub(crate) fn link(&self) -> LinkState {
        LinkState::from_code(self.link.load(Acquire))
    }

    /// Counters of the device.
    pub(crate) fn counters(&self) -> NicCounters {
        NicCounters::from_values(std::array::from_fn(|at| self.counters[at].load(Relaxed)))
    }

    /// Frames that the device lost because no buffer was free.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    fn look(&self) {
        // SAFETY: takes a number.
        let removed = unsafe { dpdk_sys::rte_eth_dev_is_removed(self.port) } == 1;
        // SAFETY: takes a number; the port is open, as whoever closes it takes it off the list first.
        let up = unsafe { dpdk_sys::sg_link_up(self.port) };
        let link = match up {
            _ if removed => LinkState::Gone,
            0 => LinkState::Down,
            // A driver without a link to tell of has one that is up.
            _ => LinkState::Up,
        };
        let mut stats = MaybeUninit::<dpdk_sys::rte_eth_stats>::zeroed();
        // SAFETY: DPDK fills the structure, which is zero otherwise.
        let result = unsafe { dpdk_sys::rte_eth_stats_get(self.port, stats.as_mut_ptr()) };
        if result == 0 {
            // SAFETY: numbers, zero or filled in.
            let stats = unsafe { stats.assume_init() };
            let counters = NicCounters {
                rx_frames: stats.ipackets,
                rx_bytes: stats.ibytes,
                tx_frames: stats.opackets,
                tx_bytes: stats.obytes,
                ..NicCounters::default()
            };
            for (slot, value) in self.counters.iter().zip(counters.values()) {
                slot.store(value, Relaxed);
            }
            self.missed.store(stats.imissed + stats.rx_nombuf, Relaxed);
        }
        self.link.store(link.code(), Release);
    }
}
