//! The NIC's own counts: 32-bit registers that never clear and wrap round, added up from when the VF was
//! opened.

use sluice_vfio::{RegOffset, Registers};

use super::regs::{GORC, GOTC, GPRC, GPTC, MPRC};
use crate::ports::seam::NicCounters;

/// Counts so far.
#[derive(Debug, Default)]
pub(super) struct Stats {
    counters: NicCounters,
    /// The registers at the last reading, in the order of [`ALL`]; none before the first.
    last: Option<[u32; ALL.len()]>,
}

const ALL: [RegOffset; 5] = [GPRC, GORC, MPRC, GPTC, GOTC];

impl Stats {
    /// Adds what has been counted since the last reading. Between two of them no register may wrap
    /// twice: at 10 Gbit/s bytes take more than 3 seconds to wrap.
    pub(super) fn read(&mut self, registers: &impl Registers) {
        let now = ALL.map(|register| registers.read32(register));
        if let Some(last) = self.last {
            let mut grown = now
                .iter()
                .zip(last)
                .map(|(now, last)| u64::from(now.wrapping_sub(last)));
            for count in [
                &mut self.counters.rx_frames,
                &mut self.counters.rx_bytes,
                &mut self.counters.rx_multicast,
                &mut self.counters.tx_frames,
                &mut self.counters.tx_bytes,
            ] {
                *count += grown.next().unwrap_or(0);
            }
        }
        self.last = Some(now);
    }

    /// The registers begin anew: a reset of the PF clears them.
    pub(super) fn forget_last(&mut self) {
        self.last = None;
    }

    /// The driver had to begin anew.
    pub(super) fn count_reset(&mut self) {
        self.counters.resets += 1;
    }

    pub(super) fn counters(&self) -> NicCounters {
        self.counters
    }
}
