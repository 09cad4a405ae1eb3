// SPDX-License-Identifier: Apache-2.0
//! Sleep of a worker: arming every port's wake-up, and going to sleep unless one has frames.

use sluice_mem::cycles;

use super::Worker;
use super::idle::Slept;
use crate::ports::seam::Wake;

impl Worker {
    /// Asks every port for a wake-up and sleeps, unless one of them has frames already. When a sleep
    /// ends by its time alone, only the ports are looked at: once round the loop would cost more
    /// than the look, a thousand times a second.
    pub(super) fn sleep(&mut self) {
        loop {
            let mut quiet = true;
            let mut capped = false;
            self.each_port(|port| {
                quiet &= port.arm();
                capped |= port.may_miss_wakeups();
            });
            if !quiet {
                // The frames may have come without a wake-up: the next sleeps are short.
                self.idle.reset_backoff();
                break;
            }
            let (commands, state) = (&mut self.commands, &mut self.state);
            let slept = self.idle.sleep(capped, || {
                commands.is_empty()
                    && !state.groups.peers.is_waiting()
                    && state
                        .from_workers
                        .iter_mut()
                        .flatten()
                        .all(|ring| ring.is_empty())
            });
            self.usage.end_span(cycles(), &self.state.counts);
            if slept != Slept::NotAtAll {
                self.state.counts.sleeps.add(1);
            }
            if slept != Slept::TimedOut {
                break;
            }
            self.count_loop(0);
            self.read_clock();
        }
        self.each_port(|port| port.disarm());
    }

    /// Visits every port that this worker polls.
    fn each_port(&mut self, mut visit: impl FnMut(&mut dyn Wake)) {
        for uplink in self.state.uplinks.iter_mut().flatten() {
            visit(&mut *uplink.port);
        }
        for &slot in &self.polled {
            if let Some(Some(attachment)) = self.state.attachments.get_mut(slot)
                && let Some(port) = &mut attachment.port
            {
                visit(&mut **port);
            }
        }
    }
}
