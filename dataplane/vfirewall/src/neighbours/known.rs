// SPDX-License-Identifier: Apache-2.0
//! Known neighbours of one interface, bounded, replaced by CLOCK (second chance).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sluice_packet::Mac;

use super::{REQUESTS, RETRANSMIT};

/// Time for which an answer is good (RFC 4861, 10: REACHABLE_TIME).
const REACHABLE: Duration = Duration::from_secs(30);
/// Time after which a neighbour that is not used is forgotten.
const FORGET: Duration = Duration::from_secs(300);
/// Neighbours that the hand passes at most before it takes one anyway.
const SWEEP: usize = 64;

#[derive(Debug)]
struct Neighbour {
    address: IpAddr,
    mac: Mac,
    /// Last time that it spoke for itself.
    confirmed: Instant,
    /// Whether it was looked up since then.
    used: bool,
    /// Whether it was looked up since the hand passed.
    referenced: bool,
    /// Requests sent since the answer was too old, and when the next is due.
    probes: u8,
    next_probe: Instant,
}

/// Known neighbours of one interface.
#[derive(Debug)]
pub(super) struct Known {
    by_address: HashMap<IpAddr, usize>,
    neighbours: Vec<Neighbour>,
    hand: usize,
    limit: usize,
}

impl Known {
    pub(super) fn new(limit: usize) -> Known {
        Known {
            by_address: HashMap::new(),
            neighbours: Vec::new(),
            hand: 0,
            limit: limit.max(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.neighbours.len()
    }

    #[inline]
    pub(super) fn lookup(&mut self, address: IpAddr) -> Option<Mac> {
        let at = *self.by_address.get(&address)?;
        let neighbour = self.neighbours.get_mut(at)?;
        neighbour.used = true;
        neighbour.referenced = true;
        Some(neighbour.mac)
    }

    /// Confirms a neighbour, or changes its MAC; enters a new one if `insert`.
    pub(super) fn learn(&mut self, address: IpAddr, mac: Mac, insert: bool, now: Instant) {
        let fresh = Neighbour {
            address,
            mac,
            confirmed: now,
            used: false,
            referenced: true,
            probes: 0,
            next_probe: now,
        };
        if let Some(&at) = self.by_address.get(&address) {
            self.neighbours[at] = fresh;
        } else if insert {
            let at = if self.neighbours.len() < self.limit {
                self.neighbours.push(fresh);
                self.neighbours.len() - 1
            } else {
                let at = self.victim();
                let old = std::mem::replace(&mut self.neighbours[at], fresh);
                self.by_address.remove(&old.address);
                at
            };
            self.by_address.insert(address, at);
        }
    }

    /// Next neighbour that was not looked up for a turn of the hand.
    fn victim(&mut self) -> usize {
        for _ in 0..SWEEP {
            self.hand = (self.hand + 1) % self.neighbours.len();
            if !std::mem::take(&mut self.neighbours[self.hand].referenced) {
                break;
            }
        }
        self.hand
    }

    /// Asks those whose answer is old and who are in use; forgets those who do not answer, and those
    /// who are not used.
    pub(super) fn tick(&mut self, now: Instant, mut ask: impl FnMut(IpAddr, Mac)) {
        let mut at = 0;
        while let Some(neighbour) = self.neighbours.get_mut(at) {
            let age = now.saturating_duration_since(neighbour.confirmed);
            if age < REACHABLE {
                at += 1;
                continue;
            }
            let is_due = neighbour.used && neighbour.next_probe <= now;
            let forget = if neighbour.used {
                is_due && neighbour.probes >= REQUESTS
            } else {
                age >= FORGET
            };
            if forget {
                self.remove(at);
                continue;
            }
            if is_due {
                neighbour.probes += 1;
                neighbour.next_probe = now + RETRANSMIT;
                ask(neighbour.address, neighbour.mac);
            }
            at += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        let gone = self.neighbours.swap_remove(at);
        self.by_address.remove(&gone.address);
        if let Some(moved) = self.neighbours.get(at) {
            self.by_address.insert(moved.address, at);
        }
        if self.hand >= self.neighbours.len() {
            self.hand = 0;
        }
    }
}
