// SPDX-License-Identifier: Apache-2.0
//! Thread of an endpoint that listens.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::link::Link;
use super::server_handshake::ServerHandshake;
use super::{Endpoint, Event};
use crate::listener::Listener;
use crate::refusal::Refusal;
use crate::socket::Channel;
use sluice_peer::Allowance;
use sluice_peer::Kicker;
use sluice_peer::PeerCred;
use sluice_peer::{sooner, wait};

/// Most handshakes at once: each holds the fds it was sent. One without INIT is dropped first.
const MAX_HANDSHAKES: usize = 4;
/// Most connections accepted before the others are served again.
const ACCEPT_BURST: usize = 16;
/// Wait after listening or accepting failed.
const RETRY: Duration = Duration::from_secs(1);

struct Server<'endpoint> {
    endpoint: &'endpoint mut Endpoint,
    listener: Option<Listener>,
    /// Moment before which the endpoint neither listens nor accepts.
    not_before: Option<Instant>,
    /// Connection, and the moment since when there is one.
    link: Option<(Link, Instant)>,
    /// Kicker whose thread is still held by the last peer: until it is gone there is no next
    /// connection, so that a hostile pod holds one thread at most.
    stuck: Option<Kicker>,
    handshakes: VecDeque<ServerHandshake>,
    allowance: Allowance,
}

/// Runs until the owner stops the endpoint.
pub(super) fn run(endpoint: &mut Endpoint) {
    let mut server = Server {
        endpoint,
        listener: None,
        not_before: None,
        link: None,
        stuck: None,
        handshakes: VecDeque::new(),
        allowance: Allowance::of_connections(Instant::now()),
    };
    while server.turn() {}
    server.end();
}

impl Server<'_> {
    /// Waits for the next event and handles it. `false`: the owner stopped the endpoint.
    fn turn(&mut self) -> bool {
        self.listen();
        let paused = self.paused_until();
        let listener = self.listener.as_ref().filter(|_| paused.is_none());
        let mut fds = vec![self.endpoint.control.wakeup()];
        fds.extend(self.link.iter().map(|(link, _)| link.channel.as_fd()));
        let first_handshake = fds.len();
        fds.extend(
            self.handshakes
                .iter()
                .map(|accepted| accepted.channel.as_fd()),
        );
        fds.extend(listener.map(AsFd::as_fd));
        let mut until = self
            .handshakes
            .iter()
            .map(|accepted| accepted.deadline)
            .min();
        until = sooner(until, paused);
        let ready = wait(&fds, until);
        let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);

        if is_ready(0) {
            let commands = self.endpoint.control.take();
            if commands.stop {
                return false;
            }
            if let Some((id, reason)) = commands.disconnect
                && self.link.as_ref().is_some_and(|(link, _)| link.id == id)
            {
                self.unlink(reason);
            }
        }
        // The link before the handshakes: a client that was killed and is back finds its place
        // free.
        if let Some(Err(reason)) = self.link.as_ref().map(|(link, _)| link.read()) {
            self.unlink(reason);
        }
        // From the last, so that removing one leaves the places of the others.
        for at in (0..self.handshakes.len()).rev() {
            self.shake(at, is_ready(first_handshake + at));
        }
        self.accept();
        true
    }

    /// End of the pause, if there is one: after failures of peers or of our own socket, or because
    /// enough peers were accepted for now.
    fn paused_until(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let own = self.not_before.filter(|moment| *moment > now);
        let reasons = [
            own,
            self.endpoint.pace.until(now),
            self.allowance.until(now),
        ];
        reasons.into_iter().flatten().max()
    }

    fn listen(&mut self) {
        let now = Instant::now();
        if self.listener.is_some() || self.not_before.is_some_and(|moment| moment > now) {
            return;
        }
        match self.endpoint.opener.listen() {
            Ok(listener) => {
                self.listener = Some(listener);
                self.not_before = None;
                self.endpoint.opened();
            }
            Err(error) => {
                self.endpoint.emit_waiting(error);
                self.not_before = Some(now + RETRY);
            }
        }
    }

    fn accept(&mut self) {
        // What waits in the backlog meanwhile is the pod's own.
        if self.paused_until().is_some() {
            return;
        }
        let Some(listener) = &self.listener else {
            return;
        };
        let mut accepted = Vec::new();
        while accepted.len() < ACCEPT_BURST && self.allowance.take(Instant::now()) {
            match listener.accept() {
                Ok(Some(channel)) => accepted.push(channel),
                Ok(None) => break,
                Err(error) => {
                    // For example no fd left: other endpoints' connections go on, this one waits.
                    self.not_before = Some(Instant::now() + RETRY);
                    self.endpoint.emit(Event::Refused {
                        peer: None,
                        reason: Refusal::Socket(error),
                    });
                    break;
                }
            }
        }
        for channel in accepted {
            self.greet(channel);
        }
    }

    fn greet(&mut self, channel: Channel) {
        let peer = match channel.peer() {
            Ok(peer) => peer,
            Err(error) => return self.refuse(&channel, None, Refusal::Socket(error)),
        };
        if let Err(refusal) = self.endpoint.opener.admit(peer) {
            return self.refuse(&channel, Some(peer), refusal);
        }
        match ServerHandshake::new(&self.endpoint.config, channel, peer) {
            Ok(accepted) => self.handshakes.push_back(accepted),
            Err((channel, reason)) => self.refuse(&channel, Some(peer), reason),
        }
        if self.handshakes.len() > MAX_HANDSHAKES {
            let oldest = self
                .handshakes
                .iter()
                .position(|a| !a.introduced())
                .unwrap_or(0);
            self.drop_handshake(oldest, Refusal::GaveWay);
        }
    }

    fn shake(&mut self, at: usize, ready: bool) {
        if self.stuck.as_ref().is_some_and(Kicker::gone) {
            self.stuck = None;
        }
        let busy = self.link.is_some() || self.stuck.is_some();
        let Some(accepted) = self.handshakes.get_mut(at) else {
            return;
        };
        if ready {
            match accepted.step(busy) {
                Ok(None) => {}
                Err(reason) => return self.drop_handshake(at, reason),
                Ok(Some(finished)) => {
                    let Some(accepted) = self.handshakes.remove(at) else {
                        return;
                    };
                    let peer = accepted.peer;
                    match accepted.finish(finished) {
                        Ok(made) => {
                            let (link, connection) = Link::new(self.endpoint.next_id(), made);
                            self.link = Some((link, Instant::now()));
                            self.endpoint.emit(Event::Connected(connection));
                        }
                        Err((channel, reason)) => {
                            self.refuse(&channel, Some(peer), reason);
                        }
                    }
                    return;
                }
            }
        }
        if accepted.deadline <= Instant::now() {
            let limit = self.endpoint.config.handshake_limit.as_millis();
            self.drop_handshake(at, Refusal::Deadline(limit));
        }
    }

    fn drop_handshake(&mut self, at: usize, reason: Refusal) {
        if let Some(accepted) = self.handshakes.remove(at) {
            self.refuse(&accepted.channel, Some(accepted.peer), reason);
        }
    }

    fn unlink(&mut self, reason: Refusal) {
        if let Some((link, since)) = self.link.take() {
            let id = link.id;
            self.stuck = link.end(&reason);
            let violation = reason.is_violation();
            self.endpoint.emit_end(id, reason, since.elapsed());
            if violation {
                self.endpoint.failed(violation);
            }
        }
    }

    /// Refuses a handshake. After several that broke the protocol none is accepted for a while.
    fn refuse(&mut self, channel: &Channel, peer: Option<PeerCred>, reason: Refusal) {
        let violation = reason.is_violation();
        self.endpoint.refuse(channel, peer, reason);
        if violation {
            self.endpoint.failed(violation);
        }
    }

    fn end(&mut self) {
        self.listener = None;
        while !self.handshakes.is_empty() {
            self.drop_handshake(0, Refusal::Stopped);
        }
        self.unlink(Refusal::Stopped);
    }
}
