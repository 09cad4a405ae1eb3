// SPDX-License-Identifier: Apache-2.0
//! The NIC's own counts: 32-bit registers that never clear and wrap round, added up from when the VF was
//! opened.

use sluice_stats::NicCounters;
use sluice_vfio::{RegOffset, Registers};

use super::regs::{GORC, GOTC, GPRC, GPTC, MPRC};

/// Counts so far.
#[derive(Debug, Default)]
pub(super) struct Stats {
    counters: NicCounters,
    /// The registers at the last reading, in the order of [`REGISTERS`]; none before the first.
    last: Option<[u32; REGISTERS.len()]>,
}

/// Field of [`NicCounters`] that a register is added to.
type Counter = fn(&mut NicCounters) -> &mut u64;

/// Counter registers with their counters.
const REGISTERS: [(RegOffset, Counter); 5] = [
    (GPRC, |nic| &mut nic.rx_frames),
    (GORC, |nic| &mut nic.rx_bytes),
    (MPRC, |nic| &mut nic.rx_multicast),
    (GPTC, |nic| &mut nic.tx_frames),
    (GOTC, |nic| &mut nic.tx_bytes),
];

impl Stats {
    /// Adds what has been counted since the last reading. Between two of them a register may go half its way
    /// round at most, for which bytes take 17 seconds at 1 Gbit/s: one that seems to have gone further was
    /// cleared by a reset that nobody told of, and counts from 0.
    pub(super) fn read(&mut self, registers: &impl Registers) {
        let now = REGISTERS.map(|(register, _)| registers.read32(register));
        if let Some(last) = self.last {
            for (((_, counter), now), last) in REGISTERS.iter().zip(now).zip(last) {
                let counted = now.wrapping_sub(last);
                let was_cleared = counted > u32::MAX / 2;
                *counter(&mut self.counters) += u64::from(if was_cleared { now } else { counted });
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
