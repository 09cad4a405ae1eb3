// SPDX-License-Identifier: Apache-2.0
//! Thread of an endpoint that connects.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::client_handshake::ClientHandshake;
use super::link::Link;
use super::wait::wait;
use super::{Endpoint, Event};
use crate::kick::Kicker;
use crate::refusal::Refusal;

/// First wait before another try; doubles up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// Age from which an ended connection resets the wait to [`FIRST_RETRY`].
const GOOD: Duration = Duration::from_secs(1);

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
    retry: Duration,
    /// Kicker whose thread is still held by the last peer.
    stuck: Option<Kicker>,
}

/// Runs until the owner stops the endpoint.
pub(super) fn run(endpoint: &mut Endpoint) {
    let mut client = Client {
        endpoint,
        state: ClientLink::Waiting(Instant::now()),
        retry: FIRST_RETRY,
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
            return self.wait();
        }
        self.stuck = None;
        let channel = match self.endpoint.opener.connect() {
            Ok(channel) => channel,
            Err(error) => {
                self.endpoint.emit_waiting(error);
                return self.wait();
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
        self.endpoint.refuse(&channel, refused.0, refused.1);
        self.wait();
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
                self.endpoint.refuse(&channel, Some(peer), reason);
                self.wait();
            }
        }
    }

    /// Ends the handshake or connection, if any, and schedules the next try.
    fn end(&mut self, reason: Refusal) {
        match std::mem::replace(&mut self.state, ClientLink::Waiting(Instant::now())) {
            ClientLink::Waiting(_) => {}
            ClientLink::Handshake(handshake) => {
                self.endpoint
                    .refuse(&handshake.channel, Some(handshake.peer), reason);
            }
            ClientLink::Linked(link, since) => {
                if since.elapsed() >= GOOD {
                    self.retry = FIRST_RETRY;
                }
                let id = link.id;
                self.stuck = link.end(&reason);
                self.endpoint.emit(Event::Disconnected { id, reason });
            }
        }
        self.wait();
    }

    fn wait(&mut self) {
        self.state = ClientLink::Waiting(Instant::now() + self.retry);
        self.retry = (2 * self.retry).min(LAST_RETRY);
    }
}
