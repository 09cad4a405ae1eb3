// SPDX-License-Identifier: Apache-2.0
//! Context of the stages: tables, counters, limits, and where frames go.

use std::sync::Arc;
use std::time::Instant;

use sluice_firewall::{Direction, Hit, PolicyIndex};
use sluice_packet::FlowKey;
use sluice_packet::build::FrameBuilder;
use sluice_packet::reject::RejectBuffer;

use crate::counters::Counters;
use crate::drops::Drop;
use crate::frame::Frame;
use crate::interfaces::InterfaceId;
use crate::log::{Event, Log, Seen};
use crate::tables::Tables;
use crate::token_bucket::TokenBucket;

/// Result of handing a frame to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Frame goes with the next flush.
    Taken,
    /// Ring is full.
    Full,
    /// Link is down.
    Down,
}

/// Links that frames leave on: the memifs, or in tests a record of what was sent.
pub trait Links {
    /// Sends a frame on a leg.
    fn send(&mut self, leg: usize, frame: &[u8]) -> Sent;
}

/// Errors of ICMP and resets a second that packets of one interface may cause (RFC 4443, 2.4 (f)).
const ERROR_RATE: u32 = 100;
/// Errors and resets at once.
const ERROR_BURST: u32 = 50;

/// State that lives as long as its tables.
#[derive(Debug)]
pub struct State {
    /// Counters.
    pub counters: Counters,
    /// Log of what was denied.
    pub log: Log,
    /// Limits of ICMP errors and resets, by the interface whose packets cause them.
    pub errors: Vec<TokenBucket>,
    /// Frame in which the firewall makes one of its own.
    pub own: Frame,
    /// Frame in which fragments are made.
    pub fragment: Frame,
}

impl State {
    /// Makes the state for some tables.
    #[must_use]
    pub fn new(tables: &Tables, log: Log) -> State {
        let interfaces = tables.interfaces.len();
        let capacity = tables.frame_capacity.max(512);
        State {
            counters: Counters::new(tables.legs.len(), interfaces, tables.policies.slots()),
            log,
            errors: vec![TokenBucket::new(ERROR_RATE, ERROR_BURST); interfaces],
            own: Frame::new(capacity),
            fragment: Frame::new(capacity),
        }
    }
}

/// Surroundings of a stage, besides the burst.
#[derive(Debug)]
pub struct Context<'a, L> {
    /// Tables of this burst.
    pub tables: &'a Arc<Tables>,
    /// Counters, limits, log.
    pub state: &'a mut State,
    /// Links that frames leave on.
    pub links: &'a mut L,
    /// Time of this burst.
    pub now: Instant,
}

impl<L: Links> Context<'_, L> {
    /// Counts a frame that goes no further.
    pub fn drop(&mut self, input: InterfaceId, reason: Drop) {
        self.state.counters.drop(input, reason);
    }

    /// Sends a frame on an interface, with its tag.
    pub fn send(&mut self, output: InterfaceId, frame: &mut Frame) -> Sent {
        let interface = self.tables.interfaces.get(output);
        if let Some(tag) = interface.tag() {
            frame.add_tag(tag);
        }
        let sent = self.links.send(interface.leg, frame.bytes());
        if sent == Sent::Taken {
            let leg = self.state.counters.leg(interface.leg);
            leg.sent += 1;
            leg.sent_bytes += frame.bytes().len() as u64;
        }
        sent
    }

    /// Sends a frame that the firewall made itself.
    pub fn send_own(&mut self, output: InterfaceId, frame: &mut Frame) {
        if self.send(output, frame) == Sent::Taken {
            self.state.counters.interface(output).made += 1;
        }
    }

    /// Makes a frame, and sends it.
    pub fn make(&mut self, output: InterfaceId, content: &FrameBuilder<'_>) {
        let mut own = std::mem::take(&mut self.state.own);
        let room = own.capacity();
        let written = own.reset(room).and_then(|room| content.write(room));
        if let Some(len) = written {
            own.truncate(len);
            self.send_own(output, &mut own);
        }
        self.state.own = own;
    }

    /// Whether one more error may be made because of packets of this interface.
    pub fn may_answer(&mut self, input: InterfaceId) -> bool {
        let bucket = self.state.errors.get_mut(usize::from(input));
        bucket.is_some_and(|bucket| bucket.take(self.now))
    }

    /// Logs a frame that was dropped for a reason other than a rule.
    pub fn log_drop(&mut self, key: &FlowKey, interface: InterfaceId, reason: Drop) {
        let seen = Seen {
            key: *key,
            interface,
            reason: Some(reason),
            decision: None,
        };
        self.log(seen);
    }

    /// Logs a frame that a rule or a default decided on.
    pub fn log_decision(
        &mut self,
        key: &FlowKey,
        interface: InterfaceId,
        reason: Option<Drop>,
        decision: (PolicyIndex, Direction, Hit),
    ) {
        let seen = Seen {
            key: *key,
            interface,
            reason,
            decision: Some(decision),
        };
        self.log(seen);
    }

    fn log(&mut self, seen: Seen) {
        let leg = self.tables.interfaces.get(seen.interface).leg;
        if self.state.log.allows(leg, self.now) {
            let tables = Arc::clone(self.tables);
            self.state
                .log
                .write(leg, Event::Frame(tables, Box::new(seen)));
        }
    }
}
