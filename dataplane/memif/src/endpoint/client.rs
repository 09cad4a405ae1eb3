// SPDX-License-Identifier: Apache-2.0
//! Thread of an endpoint that connects.

use std::os::fd::AsFd;
use std::time::Instant;

use super::client_handshake::ClientHandshake;
use super::link::Link;
use super::{Endpoint, Event};
use crate::refusal::Refusal;
use sluice_peer::Kicker;
use sluice_peer::wait;

enum ClientLink {
    /// No connection; the next try comes at that moment.
    Waiting(Instant),
    Handshake(Box<ClientHandshake>),
    /// Connection established at that moment.
    Linked(Link, Instant),
}

struct Client<'endpoint> {
    endpoint: &'endpoint mut Endpoint,
    state: ClientLink,
    /// Kicker whose thread is still held by the last peer.
    stuck: Option<Kicker>,
}

/// Runs until the owner stops the endpoint.
pub(super) fn run(endpoint: &mut Endpoint) {
    let mut client = Client {
        endpoint,
        state: ClientLink::Waiting(Instant::now()),
        stuck: None,
    };
    while client.turn() {}
    client.end(Refusal::Stopped);
}

impl Client<'_> {
    /// Waits for the next event and handles it. `false`: the owner stopped the endpoint.
    fn turn(&mut self) -> bool {
        let mut fds = vec![self.endpoint.control.wakeup()];
        let until = match &self.state {
            ClientLink::Waiting(until) => Some(*until),
            ClientLink::Handshake(handshake) => {
                fds.push(handshake.channel.as_fd());
                Some(handshake.deadline)
            }
            ClientLink::Linked(link, _) => {
                fds.push(link.channel.as_fd());
                None
            }
        };
        let ready = wait(&fds, until);
        if ready.first() == Some(&true) {
            let commands = self.endpoint.control.take();
            if commands.stop {
                return false;
            }
            if let Some((id, reason)) = commands.disconnect
                && matches!(&self.state, ClientLink::Linked(link, _) if link.id == id)
            {
                self.end(reason);
            }
        }
        match &mut self.state {
            ClientLink::Waiting(until) if *until <= Instant::now() => self.connect(),
            ClientLink::Waiting(_) => {}
            ClientLink::Handshake(handshake) => match handshake.step() {
                Ok(Some(peer_name)) => self.connected(peer_name),
                Err(reason) => self.end(reason),
                Ok(None) if handshake.deadline <= Instant::now() => {
                    self.end(Refusal::Deadline(
                        self.endpoint.config.handshake_limit.as_millis(),
                    ));
                }
                Ok(None) => {}
            },
            ClientLink::Linked(link, _) => {
                if let Err(reason) = link.read() {
                    self.end(reason);
                }
            }
        }
        true
    }

    fn connect(&mut self) {
        // The last peer still holds the kick thread: no next one, or it would hold one more.
        if self.stuck.as_ref().is_some_and(|stuck| !stuck.gone()) {
            return self.wait(true);
        }
        self.stuck = None;
        let channel = match self.endpoint.opener.connect() {
            Ok(channel) => channel,
            Err(error) => {
                self.endpoint.emit_waiting(error);
                return self.wait(false);
            }
        };
        self.endpoint.opened();
        let refused = match channel.peer() {
            Err(error) => (None, Refusal::Socket(error)),
            Ok(peer) => match self.endpoint.opener.admit(peer) {
                Err(refusal) => (Some(peer), refusal),
                Ok(()) => {
                    let handshake = ClientHandshake::new(&self.endpoint.config, channel, peer);
                    self.state = ClientLink::Handshake(Box::new(handshake));
                    return;
                }
            },
        };
        let violation = refused.1.is_violation();
        self.endpoint.refuse(&channel, refused.0, refused.1);
        self.wait(violation);
    }

    fn connected(&mut self, peer_name: crate::text::Text<32>) {
        let ClientLink::Handshake(handshake) =
            std::mem::replace(&mut self.state, ClientLink::Waiting(Instant::now()))
        else {
            return;
        };
        let peer = handshake.peer;
        match handshake.finish(peer_name) {
            Ok(made) => {
                let (link, connection) = Link::new(self.endpoint.next_id(), made);
                self.state = ClientLink::Linked(link, Instant::now());
                self.endpoint.emit(Event::Connected(connection));
            }
            Err((channel, reason)) => {
                let violation = reason.is_violation();
                self.endpoint.refuse(&channel, Some(peer), reason);
                self.wait(violation);
            }
        }
    }

    /// Ends the handshake or connection, if any, and schedules the next try.
    fn end(&mut self, reason: Refusal) {
        let violation = reason.is_violation();
        match std::mem::replace(&mut self.state, ClientLink::Waiting(Instant::now())) {
            ClientLink::Waiting(_) => {}
            ClientLink::Handshake(handshake) => {
                self.endpoint
                    .refuse(&handshake.channel, Some(handshake.peer), reason);
            }
            ClientLink::Linked(link, since) => {
                let id = link.id;
                self.stuck = link.end(&reason);
                self.endpoint.emit_end(id, reason, since.elapsed());
            }
        }
        self.wait(violation);
    }

    /// Schedules the next try; `violation`: the peer broke the protocol.
    fn wait(&mut self, violation: bool) {
        self.endpoint.failed(violation);
        let now = Instant::now();
        self.state = ClientLink::Waiting(self.endpoint.pace.until(now).unwrap_or(now));
    }
}
