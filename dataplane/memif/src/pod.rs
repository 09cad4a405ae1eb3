// SPDX-License-Identifier: Apache-2.0
//! Memif of a program that is itself the pod: link, queues and sleeping in one value.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use sluice_peer::Sink;

use crate::endpoint::{
    self, ConfigError, Connection, EndpointConfig, EndpointHandle, Event, Opener,
};
use crate::fault::Fault;

/// Notices kept for an owner that does not ask; the link's state itself is never lost.
const MAX_NOTICES: usize = 64;

/// Change of a [`Memif`]'s link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Link up: frames flow.
    Up {
        /// The peer's program and interface.
        peer: String,
        /// Receive and transmit queues.
        queues: (usize, usize),
        /// Shared memory in bytes.
        shared_bytes: u64,
    },
    /// Link down: frames no longer flow. It reconnects by itself.
    Down {
        /// Reason, for people.
        reason: String,
    },
    /// Notice while the link does not change: it cannot come up yet, or a peer was refused.
    Notice {
        /// Text of the notice, for people.
        what: String,
    },
}

/// Memif interface for one thread. Reconnects by itself; frames sent while it is down are dropped.
///
/// The fd ([`AsFd`]) is readable when there may be something to do; see [`Memif::arm`].
#[derive(Debug)]
pub struct Memif {
    // Declared first: dropped first, so the endpoint's thread ends before the mailbox goes.
    handle: EndpointHandle,
    mailbox: Arc<Mailbox>,
    epoll: OwnedFd,
    connection: Option<Connection>,
}

#[derive(Debug)]
/// Queue of endpoint events for the owner's thread, with an eventfd that wakes it.
struct Mailbox {
    events: Mutex<VecDeque<Event>>,
    pending: AtomicBool,
    wakeup: OwnedFd,
}

impl Mailbox {
    fn put(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let notice = matches!(event, Event::Waiting(_) | Event::Refused { .. });
        if !notice || events.len() < MAX_NOTICES {
            events.push_back(event);
        }
        self.pending.store(true, Ordering::Release);
        // Private to this process: it cannot be made to block.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    fn take(&self) -> Option<Event> {
        if !self.pending.load(Ordering::Acquire) {
            return None;
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let event = events.pop_front();
        if events.is_empty() {
            self.pending.store(false, Ordering::Release);
            let mut counter = [0; 8];
            let _ = rustix::io::read(&self.wakeup, &mut counter);
        }
        event
    }
}

impl Memif {
    /// Starts a memif. `opener` is usually an [`Address`](crate::Address).
    ///
    /// # Errors
    /// The configuration is out of range, or no thread or fd is left.
    pub fn open(
        config: EndpointConfig,
        opener: impl Opener + 'static,
    ) -> Result<Memif, ConfigError> {
        let start = |errno: rustix::io::Errno| ConfigError::Start(errno.into());
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(start)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(start)?;
        epoll::add(
            &epoll,
            &wakeup,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )
        .map_err(start)?;
        let mailbox = Arc::new(Mailbox {
            events: Mutex::default(),
            pending: AtomicBool::new(false),
            wakeup,
        });
        let theirs = Arc::clone(&mailbox);
        let handle = endpoint::spawn(config, opener, move |event| theirs.put(event))?;
        Ok(Memif {
            handle,
            mailbox,
            epoll,
            connection: None,
        })
    }

    /// Next change of the link, if any: call it often, it is one load if there is
    /// nothing. Only in here does the link go up or down for its owner.
    pub fn change(&mut self) -> Option<LinkChange> {
        Some(match self.mailbox.take()? {
            Event::Connected(connection) => {
                for queue in &connection.rx {
                    // Edge-triggered: every interrupt wakes without a read, and a peer can make a
                    // read block. If it fails, the cap on sleeping bounds the wait.
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                    let data = epoll::EventData::new_u64(1);
                    let _ = epoll::add(&self.epoll, queue.event_fd(), data, flags);
                }
                let change = LinkChange::Up {
                    peer: format!("{} ({})", connection.peer_name, connection.peer_program),
                    queues: (connection.rx.len(), connection.tx.len()),
                    shared_bytes: connection.shared_bytes,
                };
                self.unlink();
                self.connection = Some(connection);
                change
            }
            Event::Disconnected { id, reason } => {
                if self
                    .connection
                    .as_ref()
                    .is_some_and(|connection| connection.id == id)
                {
                    self.unlink();
                }
                LinkChange::Down {
                    reason: reason.to_string(),
                }
            }
            Event::Waiting(error) => LinkChange::Notice {
                what: error.to_string(),
            },
            Event::Refused { reason, .. } => LinkChange::Notice {
                what: reason.to_string(),
            },
        })
    }

    /// Whether frames can flow.
    pub fn is_up(&self) -> bool {
        self.connection.is_some()
    }

    /// Receive and transmit queues; none while it is down.
    pub fn queues(&self) -> (usize, usize) {
        self.connection
            .as_ref()
            .map_or((0, 0), |c| (c.rx.len(), c.tx.len()))
    }

    /// Receives at most `max` frames from queue `queue` into `sink`; 0 if there are none, no such
    /// queue, or the link is down. A peer that breaks its rings is disconnected.
    pub fn recv(&mut self, queue: usize, max: usize, sink: &mut impl Sink) -> usize {
        let Some(rx) = self.connection.as_mut().and_then(|c| c.rx.get_mut(queue)) else {
            return 0;
        };
        match rx.recv(max, sink) {
            Ok(packets) => packets,
            Err(fault) => {
                self.fault(fault);
                0
            }
        }
    }

    /// Adds a frame, gathered from `parts`, to transmit queue `queue` modulo their number. It goes
    /// with the next [`Memif::flush`]. `false`: no room, or the link is down; the frame is not
    /// taken.
    pub fn send(&mut self, queue: usize, parts: &[&[u8]]) -> bool {
        let Some(connection) = self.connection.as_mut() else {
            return false;
        };
        let count = connection.tx.len().max(1);
        let Some(tx) = connection.tx.get_mut(queue % count) else {
            return false;
        };
        match tx.push(parts) {
            Ok(taken) => taken,
            Err(fault) => {
                self.fault(fault);
                false
            }
        }
    }

    /// Publishes all sent frames to the peer and wakes it if it sleeps.
    pub fn flush(&mut self) {
        let mut found = None;
        for tx in self
            .connection
            .iter_mut()
            .flat_map(|connection| &mut connection.tx)
        {
            match tx.publish() {
                Ok(true) => tx.kick(),
                Ok(false) => {}
                Err(fault) => found = Some(fault),
            }
        }
        if let Some(fault) = found {
            self.fault(fault);
        }
    }

    /// Prepares for sleeping: the peer is to interrupt from now on. `true`: nothing waits, the
    /// owner may sleep until the fd is readable. `false`: there is something to do first. Call
    /// [`Memif::disarm`] afterwards in either case.
    ///
    /// Peers without a fence between their index and the look at the flag (DPDK) can miss it;
    /// sleep no longer than a late frame may take.
    pub fn arm(&mut self) -> bool {
        if self.mailbox.pending.load(Ordering::Acquire) {
            return false;
        }
        let mut quiet = true;
        let mut found = None;
        for rx in self
            .connection
            .iter_mut()
            .flat_map(|connection| &mut connection.rx)
        {
            match rx.set_interrupts(true).and_then(|()| rx.pending()) {
                Ok(pending) => quiet &= pending == 0,
                Err(fault) => found = Some(fault),
            }
        }
        if let Some(fault) = found {
            self.fault(fault);
            return false;
        }
        quiet
    }

    /// Back from sleeping: the peer need not interrupt while its rings are polled.
    pub fn disarm(&mut self) {
        // Takes the events that ended the sleep: at most one for each queue and one of the mailbox.
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 64];
        let _ = epoll::wait(&self.epoll, &mut events[..], Some(&now));
        for rx in self
            .connection
            .iter_mut()
            .flat_map(|connection| &mut connection.rx)
        {
            // Memory that is gone shows at the next burst.
            let _ = rx.set_interrupts(false);
        }
    }

    /// Queues of the connection, for uses that the calls above do not offer.
    pub fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_mut()
    }

    fn fault(&mut self, fault: Fault) {
        if let Some(id) = self.connection.as_ref().map(|connection| connection.id) {
            self.unlink();
            self.handle.disconnect(id, fault);
        }
    }

    fn unlink(&mut self) {
        if let Some(connection) = self.connection.take() {
            for queue in &connection.rx {
                // Closing would not do it, the peer has the same file open.
                let _ = epoll::delete(&self.epoll, queue.event_fd());
            }
        }
    }
}

impl AsFd for Memif {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
