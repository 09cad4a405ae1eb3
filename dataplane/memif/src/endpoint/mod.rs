// SPDX-License-Identifier: Apache-2.0
//! Control side of one memif: a thread that opens its control socket, shakes hands, and reconnects.
//!
//! The thread hands out the queues of each connection and watches the control socket; it never
//! touches the rings again. The owner of the queues reports a broken ring through
//! [`EndpointHandle::disconnect`].

mod client;
mod client_handshake;
mod config;
mod link;
mod server;
mod server_handshake;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

pub use config::{ConfigError, EndpointConfig, Role};

use sluice_peer::{Address, EndpointCounts, OpenError, Pace, PeerCred, SharedCounts};

use crate::listener::{self, Listener};
use crate::queue::{RxQueue, TxQueue};
use crate::refusal::Refusal;
use crate::socket::Channel;

/// Opens an endpoint's control sockets, called on the endpoint's thread. An [`Address`] is one; the
/// engine has its own, which goes to the pod's network namespace first.
pub trait Opener: Send {
    /// Opens a listening socket, for a server.
    ///
    /// # Errors
    /// The endpoint tries again a second later.
    fn listen(&mut self) -> Result<Listener, OpenError>;

    /// Opens a connection, for a client.
    ///
    /// # Errors
    /// The endpoint tries again after 0.1 to 1 seconds.
    fn connect(&mut self) -> Result<Channel, OpenError>;

    /// Admits or refuses a peer, before the first message to it.
    ///
    /// # Errors
    /// [`Refusal::NotAdmitted`] with the reason, which is sent to the peer too.
    fn admit(&mut self, peer: PeerCred) -> Result<(), Refusal> {
        let _ = peer;
        Ok(())
    }
}

impl Opener for Address {
    fn listen(&mut self) -> Result<Listener, OpenError> {
        Listener::bind(self)
    }

    fn connect(&mut self) -> Result<Channel, OpenError> {
        listener::connect(self)
    }
}

/// Number of a connection of one endpoint, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Connection that was just made. Its queues stay valid memory after it ended, but without a peer;
/// drop them soon.
#[derive(Debug)]
pub struct Connection {
    /// Number of the connection.
    pub id: ConnectionId,
    /// Program and version of the peer, as it calls itself.
    pub peer_program: String,
    /// Name of the peer's interface, as it calls it.
    pub peer_name: String,
    /// Credentials of the peer's process.
    pub peer: PeerCred,
    /// Frames from the peer, a queue each ring.
    pub rx: Vec<RxQueue>,
    /// Frames to the peer, a queue each ring.
    pub tx: Vec<TxQueue>,
    /// Shared memory in bytes.
    pub shared_bytes: u64,
}

/// Event of an endpoint.
#[derive(Debug)]
pub enum Event {
    /// Listening or connecting fails for now. Emitted again only if the reason changes.
    Waiting(OpenError),
    /// Connection made: frames may flow.
    Connected(Connection),
    /// Connection that ended: drop its queues. The endpoint makes the next one.
    Disconnected {
        /// Number of the connection.
        id: ConnectionId,
        /// Reason of the end.
        reason: Refusal,
    },
    /// Handshake that failed. A running connection is not concerned.
    Refused {
        /// Peer of the handshake, if it is known.
        peer: Option<PeerCred>,
        /// Reason of the end.
        reason: Refusal,
    },
}

/// Commands to the endpoint's thread, and the eventfd that wakes it.
#[derive(Debug)]
pub(crate) struct Control {
    wakeup: OwnedFd,
    commands: Mutex<Commands>,
    counts: SharedCounts,
}

#[derive(Debug, Default)]
pub(crate) struct Commands {
    pub(crate) stop: bool,
    pub(crate) disconnect: Option<(ConnectionId, Refusal)>,
}

impl Control {
    fn send(&self, command: impl FnOnce(&mut Commands)) {
        command(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner));
        // EAGAIN would mean that a wake-up is pending already.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    pub(crate) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    pub(crate) fn take(&self) -> Commands {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wakeup, &mut counter);
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        Commands {
            stop: commands.stop,
            disconnect: commands.disconnect.take(),
        }
    }
}

/// A running endpoint. Dropping it stops it.
#[derive(Debug)]
pub struct EndpointHandle {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

impl EndpointHandle {
    /// Ends connection `id`, if it is still the one that runs, and sends the reason to the peer. The endpoint
    /// then accepts or makes another. A [`Fault`](crate::Fault) of a queue is such a reason;
    /// [`Refusal::ByOwner`] is for others.
    pub fn disconnect(&self, id: ConnectionId, reason: impl Into<Refusal>) {
        let reason = reason.into();
        self.control
            .send(|commands| commands.disconnect = Some((id, reason)));
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> EndpointCounts {
        self.control.counts.read()
    }

    /// Disconnects, closes everything, removes the socket's path and waits until that is done:
    /// milliseconds, or about a second if the peer holds on to the kick thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.control.send(|commands| commands.stop = true);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The receiver of events may be the one that drops the handle.
        if thread.thread().id() != std::thread::current().id() {
            // A panic of the receiver of events was its own and is reported already.
            let _ = thread.join();
        }
    }
}

impl Drop for EndpointHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a memif. `on_event` is called on its thread, one event at a time; until it returns,
/// nothing else happens to this endpoint.
///
/// # Errors
/// The configuration is out of range, or no thread or fd is left.
pub fn spawn(
    config: EndpointConfig,
    opener: impl Opener + 'static,
    on_event: impl FnMut(Event) + Send + 'static,
) -> Result<EndpointHandle, ConfigError> {
    config.check()?;
    let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| ConfigError::Start(errno.into()))?;
    let control = Arc::new(Control {
        wakeup,
        commands: Mutex::default(),
        counts: SharedCounts::default(),
    });
    let mut endpoint = Endpoint {
        control: Arc::clone(&control),
        opener: Box::new(opener),
        on_event: Box::new(on_event),
        connections: 0,
        waiting: None,
        pace: match config.role {
            Role::Server => Pace::of_server(),
            Role::Client => Pace::of_client(),
        },
        config,
    };
    let thread = std::thread::Builder::new()
        .name(sluice_peer::thread_name("memif", &endpoint.config.name))
        .spawn(move || match endpoint.config.role {
            Role::Server => server::run(&mut endpoint),
            Role::Client => client::run(&mut endpoint),
        })
        .map_err(ConfigError::Start)?;
    Ok(EndpointHandle {
        control,
        thread: Some(thread),
    })
}

/// State of the endpoint's thread that both roles share.
pub(crate) struct Endpoint {
    pub(crate) config: EndpointConfig,
    pub(crate) control: Arc<Control>,
    pub(crate) opener: Box<dyn Opener>,
    on_event: Box<dyn FnMut(Event) + Send>,
    connections: u64,
    waiting: Option<String>,
    pace: Pace,
}

impl Endpoint {
    pub(crate) fn next_id(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    pub(crate) fn emit(&mut self, event: Event) {
        let counts = &self.control.counts;
        match &event {
            Event::Connected(_) => counts.made(),
            Event::Disconnected { reason, .. } if reason.is_violation() => counts.broken(),
            Event::Refused { .. } => counts.refused(),
            Event::Disconnected { .. } | Event::Waiting(_) => {}
        }
        (self.on_event)(event);
    }

    /// Notes a failure, which may begin a pause. One that is the peer's fault is counted.
    fn failed(&mut self, violation: bool) {
        let now = Instant::now();
        let pause = self.pace.failed(now).filter(|_| violation);
        if let Some(pause) = pause {
            self.control.counts.paused(now + pause);
        }
    }

    /// Emits the end of a connection that had lasted for `time`.
    fn emit_end(&mut self, id: ConnectionId, reason: Refusal, time: Duration) {
        self.pace.lasted(time);
        self.emit(Event::Disconnected { id, reason });
    }

    /// Emits [`Event::Waiting`], unless the reason is the last one emitted.
    pub(crate) fn emit_waiting(&mut self, error: OpenError) {
        let text = error.to_string();
        if self.waiting.as_ref() != Some(&text) {
            self.waiting = Some(text);
            self.emit(Event::Waiting(error));
        }
    }

    pub(crate) fn opened(&mut self) {
        self.waiting = None;
    }

    /// Sends the reason of a failed handshake to the peer, as far as that is possible, and emits it.
    pub(crate) fn refuse(&mut self, channel: &Channel, peer: Option<PeerCred>, reason: Refusal) {
        send_disconnect(channel, &reason);
        self.emit(Event::Refused { peer, reason });
    }
}

/// Sends DISCONNECT, unless it was the peer that ended it.
pub(crate) fn send_disconnect(channel: &Channel, reason: &Refusal) {
    if !matches!(reason, Refusal::ByPeer { .. } | Refusal::Closed) {
        let _ = channel.send(&crate::msg::Message::disconnect(&reason.to_string()), None);
    }
}
