//! The thread of an endpoint that connects.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::link::Link;
use super::reaching::Reaching;
use super::wait::wait;
use super::{Endpoint, Event};
use crate::kick::Kicker;
use crate::refusal::Refusal;

/// First wait before another try; doubles up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A connection that lasted so long was a good one: the next try comes after [`FIRST_RETRY`].
const GOOD: Duration = Duration::from_secs(1);

enum State {
    /// Until then.
    Waiting(Instant),
    Reaching(Box<Reaching>),
    /// Since then.
    Linked(Link, Instant),
}

struct Client<'endpoint> {
    endpoint: &'endpoint mut Endpoint,
    state: State,
    retry: Duration,
    /// Its thread is still held by the last peer.
    stuck: Option<Kicker>,
}

/// Runs until the owner says stop.
pub(super) fn run(endpoint: &mut Endpoint) {
    let mut client = Client {
        endpoint,
        state: State::Waiting(Instant::now()),
        retry: FIRST_RETRY,
        stuck: None,
    };
    while client.turn() {}
    client.end(Refusal::Stopped);
}

impl Client<'_> {
    /// Waits for something and deals with it. `false`: the owner said stop.
    fn turn(&mut self) -> bool {
        let mut fds = vec![self.endpoint.control.bell()];
        let until = match &self.state {
            State::Waiting(until) => Some(*until),
            State::Reaching(reaching) => {
                fds.push(reaching.channel.as_fd());
                Some(reaching.deadline)
            }
            State::Linked(link, _) => {
                fds.push(link.channel.as_fd());
                None
            }
        };
        let ready = wait(&fds, until);
        if ready.first() == Some(&true) {
            let orders = self.endpoint.control.take();
            if orders.stop {
                return false;
            }
            if let Some((id, reason)) = orders.disconnect
                && matches!(&self.state, State::Linked(link, _) if link.id == id)
            {
                self.end(reason);
            }
        }
        match &mut self.state {
            State::Waiting(until) if *until <= Instant::now() => self.connect(),
            State::Waiting(_) => {}
            State::Reaching(reaching) => match reaching.step() {
                Ok(Some(peer_name)) => self.connected(peer_name),
                Err(reason) => self.end(reason),
                Ok(None) if reaching.deadline <= Instant::now() => {
                    self.end(Refusal::Deadline(
                        self.endpoint.config.handshake_limit.as_millis(),
                    ));
                }
                Ok(None) => {}
            },
            State::Linked(link, _) => {
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
                self.endpoint.tell_waiting(error);
                return self.wait();
            }
        };
        self.endpoint.opened();
        let refused = match channel.peer() {
            Err(error) => (None, Refusal::Socket(error)),
            Ok(peer) => match self.endpoint.opener.admit(peer) {
                Err(reason) => (Some(peer), Refusal::NotAdmitted(reason)),
                Ok(()) => {
                    let reaching = Reaching::new(&self.endpoint.config, channel, peer);
                    self.state = State::Reaching(Box::new(reaching));
                    return;
                }
            },
        };
        self.endpoint.refuse(&channel, refused.0, refused.1);
        self.wait();
    }

    fn connected(&mut self, peer_name: crate::text::Text<32>) {
        let State::Reaching(reaching) =
            std::mem::replace(&mut self.state, State::Waiting(Instant::now()))
        else {
            return;
        };
        let peer = reaching.peer;
        match reaching.finish(peer_name) {
            Ok(made) => {
                let (link, connection) = Link::new(self.endpoint.next_id(), made);
                self.state = State::Linked(link, Instant::now());
                self.endpoint.tell(Event::Connected(connection));
            }
            Err((channel, reason)) => {
                self.endpoint.refuse(&channel, Some(peer), reason);
                self.wait();
            }
        }
    }

    /// Ends whatever there is and plans the next try.
    fn end(&mut self, reason: Refusal) {
        match std::mem::replace(&mut self.state, State::Waiting(Instant::now())) {
            State::Waiting(_) => {}
            State::Reaching(reaching) => {
                self.endpoint
                    .refuse(&reaching.channel, Some(reaching.peer), reason);
            }
            State::Linked(link, since) => {
                if since.elapsed() >= GOOD {
                    self.retry = FIRST_RETRY;
                }
                let id = link.id;
                self.stuck = link.end(&reason);
                self.endpoint.tell(Event::Disconnected { id, reason });
            }
        }
        self.wait();
    }

    fn wait(&mut self) {
        self.state = State::Waiting(Instant::now() + self.retry);
        self.retry = (2 * self.retry).min(LAST_RETRY);
    }
}
