// SPDX-License-Identifier: Apache-2.0
//! Control side of one device: a thread that opens its socket and serves one front end at a time.
//!
//! The thread hands out queues when rings begin to run and asks for them back before anything that
//! they rest on changes; it never touches the rings meanwhile. The owner of the queues reports a
//! broken ring through [`EndpointHandle::disconnect`].

mod config;
mod run;
mod session;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use sluice_peer::{
    Address, EndpointCounts, Listener, OpenError, Pace, PeerCred, SharedCounts, SocketKind,
};

pub use config::{ConfigError, EndpointConfig, MAX_QUEUE_PAIRS, Role};

use crate::queue::{RxQueue, TxQueue};
use crate::refusal::Refusal;

/// Opens an endpoint's control sockets, called on the endpoint's thread. An [`Address`] is one; the
/// engine has its own, which goes to the pod's network namespace first.
pub trait Opener: Send {
    /// Opens a listening stream socket, for a server.
    ///
    /// # Errors
    /// The endpoint tries again a second later.
    fn listen(&mut self) -> Result<Listener, OpenError>;

    /// Opens a stream connection, for a client.
    ///
    /// # Errors
    /// The endpoint tries again after 0.1 to 1 seconds.
    fn connect(&mut self) -> Result<OwnedFd, OpenError>;

    /// Admits or refuses a peer, before its first message.
    ///
    /// # Errors
    /// [`Refusal::NotAdmitted`] with the reason.
    fn admit(&mut self, peer: PeerCred) -> Result<(), Refusal> {
        let _ = peer;
        Ok(())
    }
}

impl Opener for Address {
    fn listen(&mut self) -> Result<Listener, OpenError> {
        Listener::bind(SocketKind::Stream, self)
    }

    fn connect(&mut self) -> Result<OwnedFd, OpenError> {
        sluice_peer::connect(SocketKind::Stream, self)
    }
}

/// Number of a run of rings of one endpoint, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Rings that began to run.
#[derive(Debug)]
pub struct Connection {
    /// Number of this run of the rings.
    pub id: ConnectionId,
    /// Credentials of the front end's process.
    pub peer: PeerCred,
    /// Frames from the front end, a queue for each pair.
    pub rx: Vec<RxQueue>,
    /// Frames to the front end, a queue for each pair.
    pub tx: Vec<TxQueue>,
    /// Shared memory in bytes.
    pub shared_bytes: u64,
    /// Whether the front end can still make that memory's file shorter.
    pub can_shrink: bool,
    /// Features that the front end chose; see [`crate::features`].
    pub features: u64,
}

/// Event of an endpoint.
#[derive(Debug)]
pub enum Event {
    /// Listening or connecting fails for now. Emitted again only if the reason changes.
    Waiting(OpenError),
    /// Front end connected; its rings do not run yet.
    Accepted {
        /// Process of the front end.
        peer: PeerCred,
    },
    /// Rings began to run: frames may flow.
    Started(Connection),
    /// Rings stopped: their queues must be dropped before the receiver of events returns, since the
    /// front end may then do as it likes with its memory.
    Stopped {
        /// Number of the run.
        id: ConnectionId,
        /// Reason of the end.
        reason: Refusal,
    },
    /// Front end that broke the protocol before its rings ran, or was not admitted.
    Refused {
        /// Peer, if it is known.
        peer: Option<PeerCred>,
        /// Violation.
        reason: Refusal,
    },
    /// Front end that left while its rings did not run.
    Left {
        /// Reason of the end.
        reason: Refusal,
    },
}

/// Commands to the endpoint's thread, and the eventfd that wakes it.
#[derive(Debug)]
struct Control {
    wakeup: OwnedFd,
    commands: Mutex<Commands>,
    counts: SharedCounts,
}

#[derive(Debug, Default)]
struct Commands {
    stop: bool,
    disconnect: Option<(ConnectionId, Refusal)>,
}

impl Control {
    fn send(&self, command: impl FnOnce(&mut Commands)) {
        command(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner));
        // EAGAIN would mean that a wake-up is pending already.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    fn take(&self) -> Commands {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wakeup, &mut counter);
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        Commands {
            stop: commands.stop,
            disconnect: commands.disconnect.take(),
        }
    }
}

/// Running endpoint. Dropping it stops it.
#[derive(Debug)]
pub struct EndpointHandle {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

impl EndpointHandle {
    /// Ends the connection whose rings are run `id`, if they still are. The endpoint then accepts or
    /// makes another. A [`Fault`](crate::Fault) of a queue is such a reason; [`Refusal::ByOwner`] is for
    /// others.
    pub fn disconnect(&self, id: ConnectionId, reason: impl Into<Refusal>) {
        let reason = reason.into();
        self.control
            .send(|commands| commands.disconnect = Some((id, reason)));
    }

    /// Returns what was counted so far. A connection counts as made each time that rings begin to run.
    pub fn counts(&self) -> EndpointCounts {
        self.control.counts.read()
    }

    /// Closes everything, removes the socket's path and waits until that is done: milliseconds, or
    /// about a second if the peer holds on to the kick thread.
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

/// Starts a device. `on_event` is called on its thread, one event at a time; until it returns,
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
        .name(sluice_peer::thread_name("vhost", &endpoint.config.name))
        .spawn(move || run::run(&mut endpoint))
        .map_err(ConfigError::Start)?;
    Ok(EndpointHandle {
        control,
        thread: Some(thread),
    })
}

/// State of the endpoint's thread.
struct Endpoint {
    config: EndpointConfig,
    control: Arc<Control>,
    opener: Box<dyn Opener>,
    on_event: Box<dyn FnMut(Event) + Send>,
    connections: u64,
    waiting: Option<String>,
    pace: Pace,
}

impl Endpoint {
    fn next_id(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    fn emit(&mut self, event: Event) {
        let counts = &self.control.counts;
        match &event {
            Event::Started(_) => counts.made(),
            Event::Stopped { reason, .. } if reason.is_violation() => counts.broken(),
            Event::Refused { .. } => counts.refused(),
            _ => {}
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

    /// Emits [`Event::Waiting`], unless the reason is the last one emitted.
    fn emit_waiting(&mut self, error: OpenError) {
        let text = error.to_string();
        if self.waiting.as_ref() != Some(&text) {
            self.waiting = Some(text);
            self.emit(Event::Waiting(error));
        }
    }

    fn opened(&mut self) {
        self.waiting = None;
    }
}
