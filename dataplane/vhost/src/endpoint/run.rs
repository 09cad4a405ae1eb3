// SPDX-License-Identifier: Apache-2.0
//! Thread of an endpoint: listens or connects, and serves one front end at a time.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use sluice_peer::{Allowance, Kicker, Listener, PeerCred, sooner, wait};

use super::session::{Effort, Session};
use super::{Endpoint, Event, Role};
use crate::refusal::Refusal;

/// Pause after a failure of our own socket.
const RETRY: Duration = Duration::from_secs(1);
/// Most connections that are accepted in one turn.
const ACCEPT_BURST: usize = 8;
/// Most messages that are taken in one turn.
const MESSAGE_BURST: usize = 64;

/// Endpoint's thread.
struct Runner<'endpoint> {
    endpoint: &'endpoint mut Endpoint,
    listener: Option<Listener>,
    /// Moment of the next try, after a failure of our own socket.
    not_before: Option<Instant>,
    session: Option<Session>,
    /// Kicker whose thread is still held by the last peer: no next front end until it is free.
    stuck: Option<Kicker>,
    /// Connections that may be accepted.
    accepts: Allowance,
    /// Messages that may be taken: 1024 at once, then 1000 a second.
    messages: Allowance,
    /// Starts of rings and changes of the memory: 64 at once, then 100 a second. Each takes a command
    /// to the worker, or the kernel's time.
    changes: Allowance,
}

/// Runs until the owner stops the endpoint.
pub(super) fn run(endpoint: &mut Endpoint) {
    let now = Instant::now();
    let mut runner = Runner {
        endpoint,
        listener: None,
        not_before: None,
        session: None,
        stuck: None,
        accepts: Allowance::of_connections(now),
        messages: Allowance::new(1024, Duration::from_millis(1), now),
        changes: Allowance::new(64, Duration::from_millis(10), now),
    };
    while runner.turn() {}
    runner.listener = None;
    runner.end(Refusal::Stopped);
}

impl Runner<'_> {
    /// Waits for the next event and handles it. `false`: the owner stopped the endpoint.
    fn turn(&mut self) -> bool {
        if self.stuck.as_ref().is_some_and(Kicker::gone) {
            self.stuck = None;
        }
        let opened_until = self.open();
        let now = Instant::now();
        let throttled = self.throttled(now);
        let paused = self.accepts.until(now).max(self.endpoint.pace.until(now));
        let mut fds = vec![self.endpoint.control.wakeup()];
        let session = self.session.as_ref().filter(|_| throttled.is_none());
        fds.extend(session.map(AsFd::as_fd));
        let listener = self.listener.as_ref().filter(|_| paused.is_none());
        fds.extend(listener.map(AsFd::as_fd));
        let mut until = sooner(opened_until, throttled);
        until = sooner(until, self.session.as_ref().and_then(Session::deadline));
        if self.listener.is_some() {
            until = sooner(until, paused);
        }
        if self.stuck.is_some() {
            until = sooner(until, Some(now + Duration::from_millis(10)));
        }
        let ready = wait(&fds, until);
        if ready.first() == Some(&true) {
            let commands = self.endpoint.control.take();
            if commands.stop {
                return false;
            }
            if let Some((id, reason)) = commands.disconnect
                && self.session.as_ref().and_then(Session::connection) == Some(id)
            {
                self.end(reason);
            }
        }
        // The session before the listener: a front end that was killed and is back finds its place free.
        if let Err(reason) = self.serve() {
            self.end(reason);
        }
        self.accept();
        true
    }

    /// Moment until which no message is taken; `None`: now.
    fn throttled(&mut self, now: Instant) -> Option<Instant> {
        self.messages.until(now).max(self.changes.until(now))
    }

    /// Listens or connects, where that is due. Returns the moment of the next try.
    fn open(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let later = self.not_before.filter(|moment| *moment > now);
        match self.endpoint.config.role {
            Role::Server if self.listener.is_some() => None,
            Role::Server if later.is_some() => later,
            Role::Server => match self.endpoint.opener.listen() {
                Ok(listener) => {
                    self.listener = Some(listener);
                    self.endpoint.opened();
                    None
                }
                Err(error) => {
                    self.endpoint.emit_waiting(error);
                    self.not_before = Some(now + RETRY);
                    self.not_before
                }
            },
            Role::Client if self.session.is_some() => None,
            Role::Client => {
                let pause = self.endpoint.pace.until(now);
                if pause.is_some() || self.stuck.is_some() {
                    return pause;
                }
                match self.endpoint.opener.connect() {
                    Ok(socket) => {
                        self.endpoint.opened();
                        self.greet(socket);
                    }
                    Err(error) => {
                        self.endpoint.emit_waiting(error);
                        self.endpoint.failed(false);
                    }
                }
                self.endpoint.pace.until(Instant::now())
            }
        }
    }

    /// Takes the messages that are there, and starts what is ready by then.
    fn serve(&mut self) -> Result<(), Refusal> {
        for _ in 0..MESSAGE_BURST {
            if self.throttled(Instant::now()).is_some() {
                break;
            }
            let Some(session) = &mut self.session else {
                return Ok(());
            };
            let endpoint = &mut *self.endpoint;
            let mut stop = |id, reason| endpoint.emit(Event::Stopped { id, reason });
            let effort = session.step(&mut stop)?;
            if effort == Effort::None {
                break;
            }
            let now = Instant::now();
            self.messages.take(now);
            if effort == Effort::Mapping {
                self.changes.take(now);
            }
            if session.is_due() {
                session.stop(Refusal::RingsStopped(crate::msg::Name(18)), &mut stop);
                let id = endpoint.next_id();
                if let Some(connection) = session.start(id)? {
                    self.changes.take(now);
                    endpoint.emit(Event::Started(connection));
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        let now = Instant::now();
        if self.endpoint.pace.until(now).is_some() {
            return;
        }
        let mut accepted = Vec::new();
        if let Some(listener) = &self.listener {
            while accepted.len() < ACCEPT_BURST && self.accepts.take(Instant::now()) {
                match listener.accept() {
                    Ok(Some(socket)) => accepted.push(socket),
                    Ok(None) => break,
                    Err(error) => {
                        // For example no fd left: other endpoints go on, this one listens anew.
                        self.not_before = Some(now + RETRY);
                        let reason = Refusal::Socket(error);
                        self.endpoint.emit(Event::Refused { peer: None, reason });
                        break;
                    }
                }
            }
        }
        if self.not_before.is_some_and(|moment| moment > now) {
            self.listener = None;
        }
        for socket in accepted {
            self.greet(socket);
        }
    }

    /// Begins a session, if none runs and the peer is admitted.
    fn greet(&mut self, socket: OwnedFd) {
        let peer = match PeerCred::of(socket.as_fd()) {
            Ok(peer) => peer,
            Err(error) => return self.refuse(None, Refusal::Socket(error)),
        };
        if self.session.is_some() || self.stuck.is_some() {
            return self.refuse(Some(peer), Refusal::AlreadyConnected);
        }
        if let Err(refusal) = self.endpoint.opener.admit(peer) {
            return self.refuse(Some(peer), refusal);
        }
        match Session::new(&self.endpoint.config, socket, peer) {
            Ok(session) => {
                self.session = Some(session);
                self.endpoint.emit(Event::Accepted { peer });
            }
            Err(refusal) => self.refuse(Some(peer), refusal),
        }
    }

    fn refuse(&mut self, peer: Option<PeerCred>, reason: Refusal) {
        let violation = reason.is_violation();
        self.endpoint.emit(Event::Refused { peer, reason });
        if violation || self.endpoint.config.role == Role::Client {
            self.endpoint.failed(violation);
        }
    }

    /// Ends the session, if there is one: its rings stop first.
    fn end(&mut self, reason: Refusal) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        let violation = reason.is_violation();
        self.endpoint.pace.lasted(session.since.elapsed());
        let endpoint = &mut *self.endpoint;
        match session.connection() {
            Some(_) => session.stop(reason, &mut |id, reason| {
                endpoint.emit(Event::Stopped { id, reason });
            }),
            None if violation => endpoint.emit(Event::Refused {
                peer: Some(session.peer),
                reason,
            }),
            None => endpoint.emit(Event::Left { reason }),
        }
        self.stuck = session.end();
        if violation || self.endpoint.config.role == Role::Client {
            self.endpoint.failed(violation);
        }
    }
}
