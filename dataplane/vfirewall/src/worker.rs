// SPDX-License-Identifier: Apache-2.0
//! Forwarding thread: polls the legs, and takes commands between bursts.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Instant;

use sluice_firewall::carry_over;
use sluice_memif::LinkChange;
use sluice_pod::{Wait, describe};

use crate::ask;
use crate::burst::Burst;
use crate::context::{Context, State};
use crate::counters::Counters;
use crate::drops::Drop;
use crate::forward::forward;
use crate::legs::{LegSource, Legs};
use crate::log::Log;
use crate::neighbours::{NeighbourCounts, NeighbourLimits, Neighbours};
use crate::stages::resolve;
use crate::tables::Tables;

/// New configuration, ready to be taken.
#[derive(Debug)]
pub struct Plan {
    /// Tables.
    pub tables: Tables,
    /// Legs in the order of the tables.
    pub legs: Vec<LegSource>,
    /// Limits of the neighbour tables.
    pub neighbours: NeighbourLimits,
    /// Log lines a second about each leg.
    pub log_rate: u32,
}

/// Command to the forwarding thread.
#[derive(Debug)]
pub enum Command {
    /// Takes another configuration, between two bursts.
    Reload(Box<Plan>),
    /// Sends what was counted.
    Report(SyncSender<Snapshot>),
    /// Sends what was counted and ends.
    Stop(SyncSender<Snapshot>),
}

/// Counters at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Tables that they belong to.
    pub tables: Arc<Tables>,
    /// Counters.
    pub counters: Counters,
    /// Neighbours.
    pub neighbours: NeighbourCounts,
    /// Whether each leg's link is up.
    pub up: Vec<bool>,
}

/// Forwarding thread.
#[derive(Debug)]
pub struct Worker {
    tables: Arc<Tables>,
    state: State,
    neighbours: Neighbours,
    limits: NeighbourLimits,
    legs: Legs,
    burst: Burst,
    commands: Receiver<Command>,
    wake: OwnedFd,
    wait: Wait,
}

impl Worker {
    /// Makes the thread's state from the first configuration. `wake` is an eventfd that is written
    /// to with each command.
    #[must_use]
    pub fn new(
        plan: Plan,
        mut log: Log,
        commands: Receiver<Command>,
        wake: OwnedFd,
        wait: Wait,
    ) -> Worker {
        let tables = Arc::new(plan.tables);
        log.set_legs(tables.legs.len(), plan.log_rate);
        let mut legs = Legs::new(Vec::new());
        legs.replace(plan.legs);
        let capacity = tables.frame_capacity;
        Worker {
            state: State::new(&tables, log),
            neighbours: Neighbours::new(tables.interfaces.len(), capacity, plan.neighbours),
            limits: plan.neighbours,
            legs,
            burst: Burst::new(capacity),
            tables,
            commands,
            wake,
            wait,
        }
    }

    /// Forwards until it is told to stop, or nobody is left to tell it.
    pub fn run(mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Reload(plan)) => self.reload(*plan),
                Ok(Command::Report(to)) => drop(to.try_send(self.snapshot())),
                Ok(Command::Stop(to)) => {
                    drop(to.try_send(self.snapshot()));
                    return;
                }
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            if !self.turn(Instant::now()) {
                self.sleep();
            }
        }
    }

    /// Takes one turn over all legs. Returns whether there was anything to do.
    fn turn(&mut self, now: Instant) -> bool {
        let mut busy = false;
        for leg in 0..self.legs.len() {
            busy |= self.link_changes(leg, now);
            for queue in 0..self.legs.queues(leg) {
                self.legs.receive(leg, queue, &mut self.burst);
                if self.burst.is_empty() && self.burst.oversize() == 0 {
                    continue;
                }
                busy = true;
                let mut context = Context {
                    tables: &self.tables,
                    state: &mut self.state,
                    links: &mut self.legs,
                    now,
                };
                forward(&mut context, &mut self.neighbours, &mut self.burst, leg);
            }
        }
        let mut context = Context {
            tables: &self.tables,
            state: &mut self.state,
            links: &mut self.legs,
            now,
        };
        resolve::tick(&mut context, &mut self.neighbours);
        self.state.log.tell_losses(&self.tables, now);
        self.legs.flush();
        busy
    }

    /// Takes the changes of a link; when it comes up, the leg's addresses are announced.
    fn link_changes(&mut self, leg: usize, now: Instant) -> bool {
        let mut any = false;
        while let Some(change) = self.legs.change(leg) {
            any = true;
            let event = match &change {
                LinkChange::Up { .. } => "link_up",
                LinkChange::Down { .. } => "link_down",
                LinkChange::Notice { .. } => "link_notice",
            };
            let name = self.tables.leg_name(leg);
            self.state.log.note(event, name, describe(&change));
            if matches!(change, LinkChange::Up { .. }) {
                self.announce(leg, now);
            }
        }
        any
    }

    fn announce(&mut self, leg: usize, now: Instant) {
        let tables = Arc::clone(&self.tables);
        let mut context = Context {
            tables: &self.tables,
            state: &mut self.state,
            links: &mut self.legs,
            now,
        };
        for (id, interface) in tables.interfaces.iter() {
            if interface.leg == leg {
                ask::announce(&mut context, id);
            }
        }
    }

    fn sleep(&mut self) {
        if self.wait == Wait::Poll {
            return;
        }
        self.wait.wait(self.legs.memifs(), &self.wake, None);
        // Private to this process: it cannot be made to block.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    /// Takes another configuration. Counters go on under the names that stay.
    fn reload(&mut self, plan: Plan) {
        let old = Arc::clone(&self.tables);
        let same_interfaces = old.interfaces.iter().map(link_of).eq(plan
            .tables
            .interfaces
            .iter()
            .map(link_of));
        let keeps = same_interfaces
            && plan.neighbours == self.limits
            && plan.tables.frame_capacity == old.frame_capacity;
        if !keeps {
            let counters = &mut self.state.counters;
            self.neighbours
                .abandon(|packet| counters.drop(packet.input, Drop::QueueFull));
            let capacity = plan.tables.frame_capacity;
            self.neighbours =
                Neighbours::new(plan.tables.interfaces.len(), capacity, plan.neighbours);
            self.burst = Burst::new(capacity);
            self.limits = plan.neighbours;
        }
        self.tables = Arc::new(plan.tables);
        self.legs.replace(plan.legs);
        let log = std::mem::replace(&mut self.state.log, Log::new(0).0);
        let mut state = State::new(&self.tables, log);
        state.log.set_legs(self.tables.legs.len(), plan.log_rate);
        carry(
            &old,
            &self.state.counters,
            &self.tables,
            &mut state.counters,
        );
        self.state = state;
        if !same_interfaces {
            let now = Instant::now();
            for leg in 0..self.legs.len() {
                if self.legs.is_up(leg) {
                    self.announce(leg, now);
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut counters = self.state.counters.clone();
        counters.log_lost = self.state.log.lost();
        Snapshot {
            tables: Arc::clone(&self.tables),
            counters,
            neighbours: self.neighbours.counts(),
            up: (0..self.legs.len())
                .map(|leg| self.legs.is_up(leg))
                .collect(),
        }
    }
}

/// Parts of an interface that its neighbours depend on.
fn link_of(
    (id, one): (u16, &crate::interfaces::Interface),
) -> (u16, usize, bool, u16, sluice_packet::Mac, Vec<ipnet::IpNet>) {
    let addresses = one.addresses.clone();
    (id, one.leg, one.tagged, one.vlan.get(), one.mac, addresses)
}

/// Carries counters over to the tables of another configuration.
fn carry(old: &Tables, from: &Counters, new: &Tables, to: &mut Counters) {
    for (name, counters) in new.legs.iter().zip(&mut to.legs) {
        let was = old.legs.iter().position(|leg| leg == name);
        if let Some(was) = was.and_then(|was| from.legs.get(was)) {
            *counters = *was;
        }
    }
    for ((_, one), counters) in new.interfaces.iter().zip(&mut to.interfaces) {
        let was = old.interfaces.iter().find(|(_, was)| was.name == one.name);
        if let Some(was) = was.and_then(|(id, _)| from.interfaces.get(usize::from(id))) {
            *counters = *was;
        }
    }
    for (was, is) in carry_over(&old.policies, &new.policies).iter() {
        if let (Some(was), Some(is)) = (from.rules.get(was), to.rules.get_mut(is)) {
            *is = *was;
        }
    }
}
