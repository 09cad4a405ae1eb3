// SPDX-License-Identifier: Apache-2.0
//! Handshake of a server: checks what a client passes, and builds the queues.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use sluice_mem::SharedRegion;

use super::EndpointConfig;
use super::link::{Established, Queues, RingEnd};
use crate::handshake::{ServerMachine, ServerParams, ServerWork};
use crate::layout::{COOKIE, Direction};
use crate::queue::{Ring, RxBuffers, TxBuffers};
use crate::refusal::Refusal;
use crate::region::{self, CheckedRegion};
use crate::socket::{Channel, Received};
use crate::text::Text;
use sluice_peer::PeerCred;
use sluice_peer::checks::check;

/// Most regions of one client. Reference clients have one or two, zero-copy ones a few more.
const MAX_REGIONS: u16 = 16;

/// Server's handshake with one client.
pub(super) struct ServerHandshake {
    pub(super) channel: Channel,
    pub(super) peer: PeerCred,
    pub(super) deadline: Instant,
    machine: ServerMachine,
    regions: Vec<CheckedRegion>,
    /// Eventfds, one for each ring that the machine accepted.
    events: Vec<OwnedFd>,
    allow_unsealed: bool,
    interrupts: bool,
}

impl ServerHandshake {
    /// Starts a handshake with HELLO.
    pub(super) fn new(
        config: &EndpointConfig,
        channel: Channel,
        peer: PeerCred,
    ) -> Result<ServerHandshake, (Channel, Refusal)> {
        let machine = ServerMachine::new(ServerParams {
            id: config.id,
            secret: config.secret,
            program: Text::new(crate::PROGRAM),
            interface: Text::new(&config.name),
            queue_pairs: config.queue_pairs,
            max_log2: config.log2_ring_size,
            max_regions: MAX_REGIONS,
            max_bytes: config.max_bytes,
        });
        if let Err(refusal) = channel.send(&machine.hello(), None) {
            return Err((channel, refusal));
        }
        Ok(ServerHandshake {
            channel,
            peer,
            deadline: Instant::now() + config.handshake_limit,
            machine,
            regions: Vec::new(),
            events: Vec::new(),
            allow_unsealed: config.allow_unsealed,
            interrupts: config.interrupts,
        })
    }

    /// Whether INIT came.
    pub(super) fn introduced(&self) -> bool {
        self.machine.program().is_some()
    }

    /// Takes the client's messages. `Some`: all is built, and CONNECTED may be sent by
    /// [`ServerHandshake::finish`].
    pub(super) fn step(&mut self, busy: bool) -> Result<Option<Finished>, Refusal> {
        while let Some(Received { message, fd }) = self.channel.receive()? {
            let kind = message.kind();
            let step = self.machine.take(&message, busy)?;
            let fd = fd.ok_or(Refusal::MissingFd(kind));
            match step.work {
                ServerWork::None => {}
                ServerWork::Region { size } => {
                    self.regions
                        .push(region::check_memory(fd?, size, self.allow_unsealed)?);
                }
                ServerWork::Ring(_) => {
                    let fd = fd?;
                    region::check_eventfd(std::os::fd::AsFd::as_fd(&fd))?;
                    self.events.push(fd);
                }
                ServerWork::Connect { peer } => {
                    let (queues, shared_bytes) = self.build()?;
                    return Ok(Some(Finished {
                        queues,
                        peer,
                        reply: step.reply,
                        shared_bytes,
                    }));
                }
            }
            self.channel.send(&step.reply, None)?;
        }
        Ok(None)
    }

    fn build(&mut self) -> Result<(Queues, u64), Refusal> {
        let regions = self.regions.drain(..).map(CheckedRegion::map);
        let regions: Arc<[SharedRegion]> = regions.collect::<Result<_, _>>()?;
        let mut rx = Vec::new();
        let mut tx = Vec::new();
        for (spec, event) in self.machine.rings().iter().zip(self.events.drain(..)) {
            let region = regions
                .get(usize::from(spec.region))
                .ok_or(Refusal::RingRegion(spec.region))?;
            let ring = Ring::new(region.clone(), spec)?;
            let cookie = ring.cookie()?;
            check!("ring-cookie", cookie == COOKIE, Refusal::RingCookie(cookie));
            let part = RingEnd { ring, event };
            match spec.direction {
                Direction::ClientToServer => {
                    rx.push((part, RxBuffers::Peer(Arc::clone(&regions))));
                }
                Direction::ServerToClient => {
                    tx.push((part, TxBuffers::Peer(Arc::clone(&regions))));
                }
            }
        }
        let bytes = regions.iter().map(|region| region.len() as u64).sum();
        Ok((Queues::build(rx, tx, self.interrupts)?, bytes))
    }

    /// Tells the client that it is connected.
    pub(super) fn finish(self, finished: Finished) -> Result<Established, (Channel, Refusal)> {
        let Finished {
            queues,
            peer,
            reply,
            shared_bytes,
        } = finished;
        if let Err(refusal) = self.channel.send(&reply, None) {
            return Err((self.channel, refusal));
        }
        Ok(Established {
            peer_program: self
                .machine
                .program()
                .map(Text::to_string)
                .unwrap_or_default(),
            peer_name: peer.to_string(),
            peer: self.peer,
            shared_bytes,
            channel: self.channel,
            queues,
        })
    }
}

/// Queues that wait for CONNECTED to be sent.
pub(super) struct Finished {
    queues: Queues,
    peer: Text<32>,
    reply: crate::msg::Message,
    shared_bytes: u64,
}
