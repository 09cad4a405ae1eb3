// SPDX-License-Identifier: Apache-2.0
//! Neighbours: MAC addresses of next hops, and the packets that wait for one.
//!
//! `known` holds what is known of each interface's hosts, `pending` what is being asked. What is
//! asked, and what waits for the answer, is charged to the interface that the packet came in on: a
//! host that scans a network fills its own share and no one else's.

mod known;
mod pending;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sluice_packet::Mac;

use crate::burst::Packet;
use crate::interfaces::InterfaceId;
use known::Known;
use pending::Pending;

/// Time between two requests for one address (RFC 4861, 10: RETRANS_TIMER).
pub(crate) const RETRANSMIT: Duration = Duration::from_secs(1);
/// Requests for one address before it counts as unreachable (RFC 4861, 10).
pub(crate) const REQUESTS: u8 = 3;

/// Sizes of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourLimits {
    /// Known neighbours of an interface.
    pub known: usize,
    /// Addresses that packets from one interface have asked for and that have not answered.
    pub pending: usize,
    /// Packets from one interface that wait.
    pub waiting: usize,
    /// Packets that wait for one address.
    pub waiting_each: usize,
    /// Requests a second because of packets from one interface.
    pub request_rate: u32,
    /// Requests at once because of packets from one interface.
    pub request_burst: u32,
}

impl Default for NeighbourLimits {
    fn default() -> NeighbourLimits {
        NeighbourLimits {
            known: 32_768,
            pending: 256,
            waiting: 64,
            waiting_each: 4,
            request_rate: 1000,
            request_burst: 256,
        }
    }
}

/// Fate of a packet whose next hop is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// Packet waits, and a request is to be sent.
    Ask,
    /// Packet waits for a request that was sent.
    Waits,
    /// Packet does not wait: too many do.
    Full,
    /// Packet does not wait: too many requests were sent.
    Limited,
}

/// Work that falls due.
#[derive(Debug)]
pub enum Due<'a> {
    /// Request to be sent; to `mac` alone where it is known.
    Ask {
        /// Interface that the neighbour is on.
        interface: InterfaceId,
        /// Address of the neighbour.
        address: IpAddr,
        /// MAC address that it had.
        mac: Option<Mac>,
    },
    /// Packet whose next hop did not answer.
    Failed(&'a mut Packet),
}

/// Numbers of neighbours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NeighbourCounts {
    /// Neighbours whose MAC is known.
    pub known: usize,
    /// Addresses that are being asked for.
    pub pending: usize,
    /// Packets that wait.
    pub waiting: usize,
}

/// Neighbours of all interfaces.
#[derive(Debug)]
pub struct Neighbours {
    known: Vec<Known>,
    pending: Vec<Pending>,
    looked: Option<Instant>,
}

impl Neighbours {
    /// Makes empty tables for a number of interfaces, with buffers for frames of `capacity` bytes.
    #[must_use]
    pub fn new(interfaces: usize, capacity: usize, limits: NeighbourLimits) -> Neighbours {
        Neighbours {
            known: (0..interfaces).map(|_| Known::new(limits.known)).collect(),
            pending: (0..interfaces)
                .map(|_| Pending::new(capacity, limits))
                .collect(),
            looked: None,
        }
    }

    /// MAC address of a neighbour, if it is known.
    #[inline]
    pub fn lookup(&mut self, interface: InterfaceId, address: IpAddr) -> Option<Mac> {
        self.known.get_mut(usize::from(interface))?.lookup(address)
    }

    /// Lets a packet wait for its next hop; what is in `packet` afterwards is a spare if it does.
    /// `displaced` is given the packets of a request that made room.
    pub fn park(
        &mut self,
        packet: &mut Packet,
        now: Instant,
        displaced: impl FnMut(&mut Packet),
    ) -> Parked {
        match self.pending.get_mut(usize::from(packet.input)) {
            Some(pending) => pending.park(packet, now, displaced),
            None => Parked::Full,
        }
    }

    /// Learns a neighbour's MAC address; one that is neither known nor asked for is only taken if
    /// `insert`. `ready` is given the packets that waited for it.
    pub fn learn(
        &mut self,
        (interface, address): (InterfaceId, IpAddr),
        mac: Mac,
        insert: bool,
        now: Instant,
        mut ready: impl FnMut(&mut Packet),
    ) {
        let mut asked = false;
        for pending in &mut self.pending {
            asked |= pending.answered(interface, address, &mut ready);
        }
        if let Some(known) = self.known.get_mut(usize::from(interface)) {
            known.learn(address, mac, insert || asked, now);
        }
    }

    /// Does what falls due; to be called often, it looks once in a tenth of the retransmission time.
    pub fn tick(&mut self, now: Instant, mut due: impl FnMut(Due<'_>)) {
        if let Some(looked) = self.looked
            && now.saturating_duration_since(looked) < RETRANSMIT / 10
        {
            return;
        }
        self.looked = Some(now);
        for pending in &mut self.pending {
            pending.tick(now, &mut due);
        }
        for (interface, known) in (0..).zip(&mut self.known) {
            known.tick(now, |address, mac| {
                due(Due::Ask {
                    interface,
                    address,
                    mac: Some(mac),
                });
            });
        }
    }

    /// Gives up on every packet that waits: the tables are about to change.
    pub fn abandon(&mut self, mut gone: impl FnMut(&mut Packet)) {
        for pending in &mut self.pending {
            pending.abandon(&mut gone);
        }
    }

    /// Numbers of neighbours, over all interfaces.
    #[must_use]
    pub fn counts(&self) -> NeighbourCounts {
        NeighbourCounts {
            known: self.known.iter().map(Known::len).sum(),
            pending: self.pending.iter().map(Pending::len).sum(),
            waiting: self.pending.iter().map(Pending::waiting).sum(),
        }
    }
}

#[cfg(test)]
mod tests;
