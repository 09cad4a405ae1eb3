// SPDX-License-Identifier: Apache-2.0
//! Housekeeping of a worker: its uplinks' and its stopwatch's.

use sluice_stats::LinkState;

use super::Worker;
use crate::pipeline::learn;
use crate::pipeline::state::WorkerState;
use crate::ports::seam::PortContext;

/// Milliseconds between two rounds of housekeeping.
const HOUSEKEEPING_MS: u64 = 10;

impl Worker {
    /// Does the housekeeping if the last one is long enough ago.
    #[inline]
    pub(super) fn housekeeping_if_due(&mut self) {
        if self.state.now_ms.wrapping_sub(self.housekeeping_ms) >= HOUSEKEEPING_MS {
            self.housekeeping();
        }
    }

    /// Calls every uplink's housekeeping, and notes the report that follows from it.
    fn housekeeping(&mut self) {
        let WorkerState {
            uplinks,
            pools,
            now_ms,
            counts,
            groups,
            to_wake,
            connections,
            ..
        } = &mut self.state;
        self.housekeeping_ms = *now_ms;
        connections.housekeeping(*now_ms, &counts.connections);
        groups.housekeeping(&self.tables, *now_ms);
        *to_wake |= groups.peers.take_to_wake();
        self.visits.calibrate(*now_ms, counts);
        for uplink in uplinks.iter_mut().flatten() {
            let mut context = PortContext {
                pools,
                drops: &uplink.counts.rx_lost,
            };
            uplink.port.housekeeping(&mut context, *now_ms);
            let report = uplink.port.report();
            uplink.is_down = matches!(report.link, LinkState::Down | LinkState::Gone);
            uplink.counts.report.write(report);
        }
        learn::age(&self.tables, &mut self.state);
    }
}
