// SPDX-License-Identifier: Apache-2.0
//! Requests that packets from one interface caused, and those packets.
//!
//! Requests lie in a ring: the place that a new one takes is that of the oldest, so that a flood of
//! destinations that nobody has pushes out its own, and an address that answers within the turn is
//! found. All memory is taken at the start.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use super::{Due, NeighbourLimits, Parked, REQUESTS, RETRANSMIT};
use crate::burst::Packet;
use crate::interfaces::InterfaceId;
use crate::token_bucket::TokenBucket;

/// Neighbour, and the interface that it is on.
type Target = (InterfaceId, IpAddr);

#[derive(Debug)]
struct Request {
    target: Target,
    sent: u8,
    next: Instant,
    /// Packets that wait for it, oldest first.
    packets: Vec<usize>,
}

/// Requests because of packets from one interface.
#[derive(Debug)]
pub(super) struct Pending {
    by_target: HashMap<Target, usize>,
    ring: Vec<Option<Request>>,
    cursor: usize,
    /// Buffers, and those of them that are free.
    packets: Vec<Packet>,
    free: Vec<usize>,
    /// Lists of packets of requests that ended, for later ones.
    lists: Vec<Vec<usize>>,
    each: usize,
    requests: TokenBucket,
}

impl Pending {
    pub(super) fn new(capacity: usize, limits: NeighbourLimits) -> Pending {
        let ring = limits.pending.max(1);
        let (each, waiting) = (limits.waiting_each.max(1), limits.waiting.max(1));
        Pending {
            by_target: HashMap::with_capacity(ring),
            ring: (0..ring).map(|_| None).collect(),
            cursor: 0,
            packets: (0..waiting).map(|_| Packet::new(capacity)).collect(),
            free: (0..waiting).collect(),
            lists: (0..ring).map(|_| Vec::with_capacity(each)).collect(),
            each,
            requests: TokenBucket::new(limits.request_rate, limits.request_burst),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_target.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.packets.len() - self.free.len()
    }

    pub(super) fn park(
        &mut self,
        packet: &mut Packet,
        now: Instant,
        mut displaced: impl FnMut(&mut Packet),
    ) -> Parked {
        let target = (packet.output, packet.next_hop);
        if let Some(&at) = self.by_target.get(&target) {
            let fits = self.ring[at]
                .as_ref()
                .is_some_and(|request| request.packets.len() < self.each);
            return match fits && self.wait(at, packet) {
                true => Parked::Waits,
                false => Parked::Full,
            };
        }
        if !self.requests.take(now) {
            return Parked::Limited;
        }
        self.cursor = (self.cursor + 1) % self.ring.len();
        let at = self.cursor;
        self.end(at, &mut displaced);
        self.ring[at] = Some(Request {
            target,
            sent: 1,
            next: now + RETRANSMIT,
            packets: self.lists.pop().unwrap_or_default(),
        });
        self.by_target.insert(target, at);
        if !self.wait(at, packet) {
            // Older requests have all buffers: the oldest of those that has one gives it up.
            self.reclaim(at, &mut displaced);
            self.wait(at, packet);
        }
        Parked::Ask
    }

    /// Whether there was one that was asked for. `ready` is given the packets.
    pub(super) fn answered(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        ready: &mut impl FnMut(&mut Packet),
    ) -> bool {
        if self.by_target.is_empty() {
            return false;
        }
        match self.by_target.get(&(interface, address)) {
            Some(&at) => {
                self.end(at, ready);
                true
            }
            None => false,
        }
    }

    pub(super) fn tick(&mut self, now: Instant, due: &mut impl FnMut(Due<'_>)) {
        if self.by_target.is_empty() {
            return;
        }
        for at in 0..self.ring.len() {
            let Some(request) = &mut self.ring[at] else {
                continue;
            };
            if request.next > now {
                continue;
            }
            if request.sent >= REQUESTS {
                self.end(at, &mut |packet: &mut Packet| due(Due::Failed(packet)));
                continue;
            }
            request.sent += 1;
            request.next = now + RETRANSMIT;
            let (interface, address) = request.target;
            due(Due::Ask {
                interface,
                address,
                mac: None,
            });
        }
    }

    pub(super) fn abandon(&mut self, gone: &mut impl FnMut(&mut Packet)) {
        for at in 0..self.ring.len() {
            self.end(at, gone);
        }
    }

    /// Puts a packet into a buffer; `false` if none is free. The buffer's old frame comes back.
    fn wait(&mut self, at: usize, packet: &mut Packet) -> bool {
        let Some(request) = &mut self.ring[at] else {
            return false;
        };
        let Some(buffer) = self.free.pop() else {
            return false;
        };
        std::mem::swap(&mut self.packets[buffer], packet);
        request.packets.push(buffer);
        true
    }

    /// Ends the request at a place of the ring, if there is one there.
    fn end(&mut self, at: usize, each: &mut impl FnMut(&mut Packet)) {
        let Some(mut request) = self.ring[at].take() else {
            return;
        };
        self.by_target.remove(&request.target);
        for buffer in request.packets.drain(..) {
            each(&mut self.packets[buffer]);
            self.free.push(buffer);
        }
        self.lists.push(request.packets);
    }

    /// Frees a buffer of the oldest request that has one, other than the one at `except`.
    fn reclaim(&mut self, except: usize, each: &mut impl FnMut(&mut Packet)) {
        let places = self.ring.len();
        for step in 1..places {
            let at = (except + step) % places;
            let Some(request) = &mut self.ring[at] else {
                continue;
            };
            if !request.packets.is_empty() {
                let buffer = request.packets.remove(0);
                each(&mut self.packets[buffer]);
                self.free.push(buffer);
                return;
            }
        }
    }
}
