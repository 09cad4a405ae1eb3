// SPDX-License-Identifier: Apache-2.0
//! Legs: the memifs that frames come in and leave on.

use anyhow::{Context as _, Result};
use sluice_memif::{BURST, LinkChange, Memif};

use crate::burst::Burst;
use crate::config::LegConfig;
use crate::context::{Links, Sent};

/// Leg with its open memif.
#[derive(Debug)]
pub struct Leg {
    config: LegConfig,
    memif: Memif,
}

impl Leg {
    /// Starts the memif of a leg.
    ///
    /// # Errors
    /// Its settings are out of range, or no thread or file descriptor is left.
    pub fn open(config: &LegConfig) -> Result<Leg> {
        let memif = Memif::open(config.memif.clone(), config.address.clone());
        Ok(Leg {
            memif: memif.with_context(|| format!("leg {}", config.name))?,
            config: config.clone(),
        })
    }

    /// Whether this is the memif that a configuration asks for.
    #[must_use]
    pub fn is(&self, config: &LegConfig) -> bool {
        self.config.is_same_link(config)
    }
}

/// All legs, in the order of the tables.
#[derive(Debug)]
pub struct Legs {
    legs: Vec<Leg>,
    /// Queue that frames are sent on: the number of the one that they came on, so that flows keep
    /// their order.
    queue: usize,
}

impl Legs {
    /// Legs in the order of the tables.
    #[must_use]
    pub fn new(legs: Vec<Leg>) -> Legs {
        Legs { legs, queue: 0 }
    }

    /// Number of legs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.legs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// Exchanges the legs for those of another configuration: those that stay keep their links.
    pub fn replace(&mut self, wanted: Vec<LegSource>) {
        let mut old: Vec<Option<Leg>> = self.legs.drain(..).map(Some).collect();
        for source in wanted {
            match source {
                LegSource::Opened(leg) => self.legs.push(leg),
                LegSource::Kept { at, config } => {
                    if let Some(mut leg) = old.get_mut(at).and_then(Option::take) {
                        leg.config = config;
                        self.legs.push(leg);
                    }
                }
            }
        }
        self.queue = 0;
    }

    /// Number of receive queues of a leg; 0 while its link is down.
    #[must_use]
    pub fn queues(&self, leg: usize) -> usize {
        self.legs.get(leg).map_or(0, |leg| leg.memif.queues().0)
    }

    /// Receives a burst from a queue of a leg; answers go out on the same.
    pub fn receive(&mut self, leg: usize, queue: usize, burst: &mut Burst) {
        burst.clear();
        self.queue = queue;
        if let Some(leg) = self.legs.get_mut(leg) {
            leg.memif.recv(queue, BURST, burst);
        }
    }

    /// Next change of a leg's link.
    pub fn change(&mut self, leg: usize) -> Option<LinkChange> {
        self.legs.get_mut(leg)?.memif.change()
    }

    /// Whether the link of a leg is up.
    #[must_use]
    pub fn is_up(&self, leg: usize) -> bool {
        self.legs.get(leg).is_some_and(|leg| leg.memif.is_up())
    }

    /// Publishes what was sent on all legs.
    pub fn flush(&mut self) {
        for leg in &mut self.legs {
            leg.memif.flush();
        }
    }

    /// Memifs of all legs, to wait for.
    pub fn memifs(&mut self) -> impl Iterator<Item = &mut Memif> {
        self.legs.iter_mut().map(|leg| &mut leg.memif)
    }
}

/// Place that a leg of a new configuration comes from.
#[derive(Debug)]
pub enum LegSource {
    /// Leg that was opened for it.
    Opened(Leg),
    /// Leg that was number `at`, whose link stays.
    Kept {
        /// Number of the leg.
        at: usize,
        /// Configuration of the leg from now on.
        config: LegConfig,
    },
}

impl Links for Legs {
    fn send(&mut self, leg: usize, frame: &[u8]) -> Sent {
        let queue = self.queue;
        let Some(leg) = self.legs.get_mut(leg) else {
            return Sent::Down;
        };
        if !leg.memif.is_up() {
            return Sent::Down;
        }
        match leg.memif.send(queue, &[frame]) {
            true => Sent::Taken,
            false => Sent::Full,
        }
    }
}
