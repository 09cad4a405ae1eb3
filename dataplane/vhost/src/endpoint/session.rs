// SPDX-License-Identifier: Apache-2.0
//! Connection of a front end: its messages, its device, and its rings while they run.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use sluice_peer::{Kicker, PeerCred};

use super::{Connection, ConnectionId, EndpointConfig};
use crate::device::{Answer, Device, eventfd};
use crate::features::{self, MRG_RXBUF};
use crate::msg::{Name, Request, reply_state, reply_word};
use crate::queue::{RxQueue, TxQueue};
use crate::refusal::Refusal;
use crate::socket::{Channel, Received};

/// Connection of a front end.
#[derive(Debug)]
pub(super) struct Session {
    channel: Channel,
    pub(super) peer: PeerCred,
    pub(super) since: Instant,
    device: Device,
    kicker: Kicker,
    /// Queue pairs that the owner has, bit n for pair n, and the number of their connection.
    running: Option<(ConnectionId, u64)>,
}

/// Effort that a message took, for the one who paces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// No message was there.
    None,
    /// Message that costs little.
    Little,
    /// Message that mapped memory.
    Mapping,
}

impl Session {
    /// Session over a connected socket.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn new(
        config: &EndpointConfig,
        socket: OwnedFd,
        peer: PeerCred,
    ) -> Result<Session, Refusal> {
        let rings = 2 * usize::from(config.queue_pairs);
        let none = std::iter::repeat_with(|| None).take(rings).collect();
        let kicker = Kicker::spawn("vhost-kick", none);
        Ok(Session {
            channel: Channel::new(socket),
            peer,
            since: Instant::now(),
            device: Device::new(config.queue_pairs, config.max_bytes),
            kicker: kicker.map_err(|error| Refusal::Thread(error.to_string()))?,
            running: None,
        })
    }

    /// Moment by which a message that has begun must be whole.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.channel.deadline()
    }

    /// Number of the connection whose queues the owner has.
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        self.running.map(|(id, _)| id)
    }

    /// Takes the next message, if one is there, and answers it. `stop` is called before anything is
    /// changed that queues rest on: when it returns, they are gone.
    ///
    /// # Errors
    /// The front end is gone or broke the protocol: the session must end.
    pub(super) fn step(
        &mut self,
        stop: &mut dyn FnMut(ConnectionId, Refusal),
    ) -> Result<Effort, Refusal> {
        let Some(Received {
            header,
            request,
            fds,
        }) = self.channel.receive()?
        else {
            return Ok(Effort::None);
        };
        let name = Name(header.request);
        if self.device.disturbs(&request) {
            self.stop(Refusal::RingsStopped(name), stop);
        }
        let effort = match &request {
            Request::SetMemTable(_) | Request::AddMemReg(_) | Request::RemMemReg(_) => {
                Effort::Mapping
            }
            _ => Effort::Little,
        };
        let answer = match self.apply(request, fds) {
            Ok(answer) => answer,
            Err(refusal) => {
                // The reason is in our log; the front end learns that it was refused.
                if header.need_reply {
                    let _ = self.channel.send(&reply_word(header.request, 1));
                }
                return Err(refusal);
            }
        };
        match answer {
            Answer::Word(word) => self.channel.send(&reply_word(header.request, word))?,
            Answer::Base(state) => self.channel.send(&reply_state(state))?,
            Answer::Done if header.need_reply => {
                self.channel.send(&reply_word(header.request, 0))?;
            }
            Answer::Failed if header.need_reply => {
                self.channel.send(&reply_word(header.request, 1))?;
            }
            Answer::Done | Answer::Failed => {}
        }
        Ok(effort)
    }

    fn apply(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, Refusal> {
        let Request::SetVringCall(fd) = request else {
            return self.device.apply(request, fds);
        };
        let answer = self.device.apply(request, Vec::new())?;
        // A virtual machine changes it while the rings run, each time the guest masks an interrupt.
        let ring = usize::try_from(fd.index).unwrap_or(usize::MAX);
        self.kicker.replace(ring, eventfd(13, fds)?);
        Ok(answer)
    }

    /// Whether other queue pairs are ready than those that run.
    pub(super) fn is_due(&self) -> bool {
        self.running.map_or(0, |(_, pairs)| pairs) != self.device.ready()
    }

    /// Builds the queues of all pairs that are ready; `None` if there is none. No pair runs before.
    ///
    /// # Errors
    /// A ring is not in the front end's memory, or not aligned: the session must end.
    pub(super) fn start(&mut self, id: ConnectionId) -> Result<Option<Connection>, Refusal> {
        let ready = self.device.ready();
        if ready == 0 {
            return Ok(None);
        }
        let memory = self.device.memory();
        let (header, merge) = {
            let features = self.device.features();
            (features::header_bytes(features), features & MRG_RXBUF != 0)
        };
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for pair in (0..64).filter(|pair| ready >> pair & 1 == 1) {
            let (receive, send) = self.device.run(pair, &memory)?;
            let kick = |ring: u16| {
                let wrong = || Refusal::Thread("the ring has no place there".to_owned());
                self.kicker.kick(usize::from(ring)).ok_or_else(wrong)
            };
            let call = kick(2 * pair)?;
            tx.push(TxQueue::new(
                send.ring,
                memory.clone(),
                call,
                header,
                merge,
            )?);
            let call = kick(2 * pair + 1)?;
            rx.push(RxQueue::new(
                receive.ring,
                memory.clone(),
                receive.kick,
                call,
                header,
            )?);
        }
        self.running = Some((id, ready));
        Ok(Some(Connection {
            id,
            peer: self.peer,
            rx,
            tx,
            shared_bytes: memory.bytes(),
            can_shrink: memory.can_shrink(),
            features: self.device.features(),
        }))
    }

    /// Stops the rings that run, if any.
    pub(super) fn stop(&mut self, reason: Refusal, stop: &mut dyn FnMut(ConnectionId, Refusal)) {
        if let Some((id, _)) = self.running.take() {
            stop(id, reason);
        }
        self.device.stopped();
    }

    /// Closes the connection. Returns the kicker if the peer holds its thread.
    pub(super) fn end(mut self) -> Option<Kicker> {
        self.device.clear();
        // Closed before the kick thread is waited for: a peer that holds it notices at once.
        drop(self.channel);
        self.kicker.stop().err()
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
