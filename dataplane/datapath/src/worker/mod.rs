// SPDX-License-Identifier: Apache-2.0
//! Worker: one pinned thread, and the loop it runs.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the loop |
//! | `idle.rs` | the idle ladder and the doorbell; `sleep.rs`, the worker's last rung |
//! | `usage.rs` | busy and idle time |
//! | `visits.rs` | the time that each visit of a pod's port takes |
//! | `housekeeping.rs` | the uplinks' housekeeping, every 10 ms |
//! | `commands.rs` | messages from control and back; `handle_command.rs`, what they do |

pub(crate) mod commands;
mod handle_command;
mod housekeeping;
pub(crate) mod idle;
mod sleep;
mod usage;
mod visits;

use std::sync::Arc;

use sluice_ring::{Consumer, Producer};

use crate::ids::{MAX_ATTACHMENTS, MAX_UPLINKS, UplinkId, WorkerId};
use crate::pipeline::egress::egress;
use crate::pipeline::flush::{flush, send_answers};
use crate::pipeline::handed_off::{COPIES_A_VISIT, handed_off};
use crate::pipeline::ingress::ingress;
use crate::pipeline::state::WorkerState;
use crate::pipeline::tables::Tables;
use crate::pipeline::tx_shares::begin_round;
use commands::{Answer, Command, Numbered};
use idle::{Doorbell, Idle};
use usage::Usage;
use visits::Visits;

/// Everything that runs on a worker's thread.
pub(crate) struct Worker {
    pub(crate) tables: Arc<Tables>,
    pub(crate) state: WorkerState,
    idle: Idle,
    commands: Consumer<Numbered<Command>>,
    answers: Producer<Numbered<Answer>>,
    /// Doorbells of all workers, rung after a handoff.
    doorbells: Vec<Arc<Doorbell>>,
    /// Slots of the attachments with a port.
    polled: Vec<usize>,
    /// Place in `polled` of the port that comes first in the next round: none has the advantage of
    /// being first, or the drawback of being last.
    turn: usize,
    visits: Visits,
    usage: Usage,
    /// Uplinks that this worker polls.
    uplinks: Vec<UplinkId>,
    /// Time of the last housekeeping, by the clock of [`WorkerState::now_ms`].
    housekeeping_ms: u64,
}

impl Worker {
    /// Makes a worker without ports.
    pub(crate) fn new(
        tables: Arc<Tables>,
        state: WorkerState,
        idle: Idle,
        commands: Consumer<Numbered<Command>>,
        answers: Producer<Numbered<Answer>>,
        doorbells: Vec<Arc<Doorbell>>,
    ) -> Worker {
        Worker {
            tables,
            state,
            idle,
            commands,
            answers,
            doorbells,
            polled: Vec::with_capacity(MAX_ATTACHMENTS),
            turn: 0,
            visits: Visits::new(),
            usage: Usage::default(),
            uplinks: Vec::with_capacity(MAX_UPLINKS),
            housekeeping_ms: 0,
        }
    }

    /// Runs the loop until control stops it.
    pub(crate) fn run(mut self) {
        loop {
            let frames = self.round();
            if self.handle_command() {
                return;
            }
            // Frames that wait, a worker that waits for this one, and tables to be followed are work as
            // well.
            let WorkerState {
                holds_back,
                owes_credits,
                groups,
                ..
            } = &self.state;
            let waiting = *holds_back || *owes_credits || groups.is_behind();
            if self.idle.should_sleep(frames.max(waiting.into())) {
                self.sleep();
            }
        }
    }

    /// Runs the loop once: at most one burst of each port, so that no port waits for another.
    /// Returns the number of frames received.
    pub(crate) fn round(&mut self) -> usize {
        self.read_clock();
        self.state.groups.take_notices(&self.tables);
        self.state.holds_back = false;
        begin_round(&self.tables, &mut self.state);
        let mut frames = 0;
        for worker in 0..self.state.from_workers.len() {
            frames += handed_off(&self.tables, &mut self.state, worker, COPIES_A_VISIT);
            send_answers(&self.tables, &mut self.state);
        }
        for &uplink in &self.uplinks {
            let received = ingress(&self.tables, &mut self.state, uplink);
            self.state.counts.bursts.received(received);
            frames += received;
            send_answers(&self.tables, &mut self.state);
        }
        self.usage.found(frames);
        let received = self.visit_pods();
        self.usage.found(received);
        frames += received;
        flush(&self.tables, &mut self.state);
        self.wake_others();
        self.count_loop(frames);
        frames
    }

    /// Visits every pod's port once, each round with another one first. Returns the number of frames
    /// received.
    #[inline(always)]
    fn visit_pods(&mut self) -> usize {
        let mut frames = 0;
        self.turn = if self.turn + 1 < self.polled.len() {
            self.turn + 1
        } else {
            0
        };
        let (before, after) = self.polled.split_at(self.turn.min(self.polled.len()));
        let now = self.visits.begin();
        self.usage.end_span(now, &self.state.counts);
        for &slot in after.iter().chain(before) {
            let received = egress(&self.tables, &mut self.state, slot);
            send_answers(&self.tables, &mut self.state);
            let took = self.visits.end();
            if received > 0
                && let Some(Some(attachment)) = self.state.attachments.get(slot)
            {
                attachment.counts.visited(took, self.visits.budget());
                self.state.counts.bursts.received(received);
            }
            frames += received;
        }
        frames
    }

    /// Reads the clock, and does the housekeeping if it is due.
    #[inline(always)]
    fn read_clock(&mut self) {
        self.state.now_ms = self.state.clock.begin_round();
        self.housekeeping_if_due();
    }

    fn count_loop(&self, frames: usize) {
        self.state.counts.loops.add(1);
        if frames == 0 {
            self.state.counts.empty_loops.add(1);
        }
    }

    /// Wakes the workers that frames were handed off to.
    fn wake_others(&mut self) {
        let mut to_wake = std::mem::take(&mut self.state.to_wake);
        while to_wake != 0 {
            let worker = to_wake.trailing_zeros() as usize;
            to_wake &= to_wake - 1;
            if let Some(doorbell) = self.doorbells.get(worker) {
                doorbell.ring();
            }
        }
    }

    /// Returns the worker's number, for the thread's name.
    pub(crate) fn id(&self) -> WorkerId {
        self.state.id
    }
}
