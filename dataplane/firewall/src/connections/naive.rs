// SPDX-License-Identifier: Apache-2.0
//! Naive connection tracker: a map and plain words, no table, no timer wheel, no packed numbers. Tests compare
//! the fast one with it; nothing that forwards frames uses it.
//!
//! A TCP connection is a set of facts here (who has sent a SYN, who a FIN, who was reset), from which its phase
//! follows; the fast one steps from phase to phase.

use std::collections::HashMap;

use sluice_packet::IpProto;

use super::event::Event;
use super::frame::{Scope, TrackedFrame};
use super::outcome::Cause;
use super::tcp::Tracking;
use super::timeouts::{Tick, Timeouts};

mod tcp;

use tcp::NaiveTcp;

/// Answer to one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NaiveAnswer {
    /// Frame of a connection.
    Known {
        /// Whether the frame is from the end that did not open it.
        is_reply: bool,
        /// Whether the policy's word for it is `new`.
        is_new: bool,
    },
    /// Frame that may open a connection, if the policy lets it.
    New,
    /// Invalid frame.
    Invalid(Cause),
}

/// Endpoint: address and port.
type Endpoint = ([u8; 16], u16);

/// Connection as opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    scope: Scope,
    proto: u8,
    opener: Endpoint,
    responder: Endpoint,
}

#[derive(Debug, Clone)]
struct Connection {
    state: State,
    seen: Tick,
}

#[derive(Debug, Clone)]
enum State {
    Tcp(NaiveTcp),
    /// Whether the responder has sent, whether the opener went on then, and whether an end has aborted.
    Other {
        answered: bool,
        went_on: bool,
        aborted: bool,
    },
}

/// Tracker without limits.
#[derive(Debug, Default)]
pub struct NaiveTracker {
    connections: HashMap<Name, Connection>,
    timeouts: Timeouts,
}

/// Effect of a frame on its connection.
enum Effect {
    Goes { renew: bool },
    Ends,
    Reopens,
    Invalid(Cause),
}

impl NaiveTracker {
    /// Tracker with these timeouts.
    #[must_use]
    pub fn new(timeouts: Timeouts) -> NaiveTracker {
        NaiveTracker {
            connections: HashMap::new(),
            timeouts,
        }
    }

    /// Number of connections that live at `now`.
    #[must_use]
    pub fn len(&mut self, now: Tick) -> usize {
        let timeouts = self.timeouts;
        self.connections
            .retain(|name, connection| !connection.is_over(name, &timeouts, now));
        self.connections.len()
    }

    /// Takes one frame.
    pub fn look(&mut self, now: Tick, frame: &TrackedFrame) -> NaiveAnswer {
        let there = name(frame);
        let back = Name {
            opener: there.responder,
            responder: there.opener,
            ..there
        };
        for (name, end) in [(there, 0), (back, 1)] {
            let Some(connection) = self.connections.get_mut(&name) else {
                continue;
            };
            if connection.is_over(&name, &self.timeouts, now) {
                self.connections.remove(&name);
                continue;
            }
            let before = connection.state.clone();
            match connection.state.step(end, frame) {
                Effect::Goes { renew } => {
                    if renew {
                        connection.seen = now;
                    }
                    return NaiveAnswer::Known {
                        is_reply: end == 1,
                        is_new: end == 0 && before.is_new(),
                    };
                }
                Effect::Ends => {
                    self.connections.remove(&name);
                    return NaiveAnswer::Known {
                        is_reply: end == 1,
                        is_new: false,
                    };
                }
                Effect::Reopens => {
                    self.connections.remove(&name);
                    return NaiveAnswer::New;
                }
                Effect::Invalid(cause) => return NaiveAnswer::Invalid(cause),
            }
        }
        let opens = if frame.proto == IpProto::TCP {
            frame.event == Event::Syn
        } else {
            frame.event == Event::Data
        };
        if opens {
            NaiveAnswer::New
        } else {
            NaiveAnswer::Invalid(Cause::NoConnection)
        }
    }

    /// Opens the connection of a frame to which the answer was [`NaiveAnswer::New`].
    pub fn open(&mut self, now: Tick, frame: &TrackedFrame, tracking: Tracking) {
        let state = if frame.proto == IpProto::TCP {
            State::Tcp(NaiveTcp::opened(frame, tracking))
        } else {
            State::Other {
                answered: false,
                went_on: false,
                aborted: false,
            }
        };
        let connection = Connection { state, seen: now };
        self.connections.insert(name(frame), connection);
    }

    /// Makes the connection of a TCP frame whose beginning was not seen. `by_opener`: its sender is taken for
    /// the opener.
    pub fn pick_up(
        &mut self,
        now: Tick,
        frame: &TrackedFrame,
        by_opener: bool,
        tracking: Tracking,
    ) {
        let mut name = name(frame);
        if !by_opener {
            (name.opener, name.responder) = (name.responder, name.opener);
        }
        let state = State::Tcp(NaiveTcp::picked_up(frame, by_opener, tracking));
        let connection = Connection { state, seen: now };
        self.connections.insert(name, connection);
    }
}

fn name(frame: &TrackedFrame) -> Name {
    Name {
        scope: frame.scope,
        proto: frame.proto,
        opener: (frame.src, frame.src_port),
        responder: (frame.dst, frame.dst_port),
    }
}

impl Connection {
    fn is_over(&self, name: &Name, timeouts: &Timeouts, now: Tick) -> bool {
        let limit = self.state.seconds(name, timeouts);
        now.since(self.seen) >= 2 * limit
    }
}

impl State {
    fn is_new(&self) -> bool {
        match self {
            State::Tcp(tcp) => tcp.is_new(),
            State::Other {
                answered, aborted, ..
            } => !answered && !aborted,
        }
    }

    fn seconds(&self, name: &Name, timeouts: &Timeouts) -> u32 {
        let State::Other {
            answered,
            went_on,
            aborted,
        } = *self
        else {
            return match self {
                State::Tcp(tcp) => tcp.seconds(timeouts),
                State::Other { .. } => 0,
            };
        };
        match name.proto {
            IpProto::UDP if name.responder.1 == 53 => timeouts.dns,
            IpProto::UDP | IpProto::UDP_LITE if went_on => timeouts.udp_stream,
            IpProto::UDP | IpProto::UDP_LITE if answered => timeouts.udp_answered,
            IpProto::UDP | IpProto::UDP_LITE => timeouts.udp_one_way,
            IpProto::ICMP | IpProto::ICMPV6 => timeouts.icmp,
            IpProto::SCTP if answered && !aborted => timeouts.sctp_up,
            IpProto::SCTP => timeouts.sctp_opening,
            _ => timeouts.other,
        }
    }

    fn step(&mut self, from: usize, frame: &TrackedFrame) -> Effect {
        let (answered, went_on, aborted) = match self {
            State::Tcp(tcp) => return tcp.step(from, frame),
            State::Other {
                answered,
                went_on,
                aborted,
            } => (answered, went_on, aborted),
        };
        let is_icmp = matches!(frame.proto, IpProto::ICMP | IpProto::ICMPV6);
        let is_sctp = frame.proto == IpProto::SCTP;
        match frame.event {
            Event::Piece => return Effect::Goes { renew: false },
            // Queries one way, answers the other.
            Event::Data if is_icmp && from == 1 => return Effect::Invalid(Cause::OutOfPlace),
            Event::Answer if is_icmp && from == 0 => return Effect::Invalid(Cause::OutOfPlace),
            Event::Fin if is_sctp => {
                let renew = !*aborted;
                *aborted = true;
                return Effect::Goes { renew };
            }
            Event::Data => {}
            Event::Answer if is_icmp || is_sctp => {}
            _ => return Effect::Invalid(Cause::OutOfPlace),
        }
        if is_sctp && (*aborted || frame.event == Event::Answer) {
            (*aborted, *answered) = (false, true);
        }
        *went_on |= from == 0 && *answered;
        *answered |= from == 1;
        Effect::Goes { renew: true }
    }
}
