// SPDX-License-Identifier: Apache-2.0
//! Handshake of a client: drives the state machine over the control socket and allocates the memory.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use sluice_mem::SharedRegion;

use super::EndpointConfig;
use super::link::{Established, Queues, RingEnd};
use crate::handshake::{CarriedFd, ClientMachine, ClientParams, ClientStep};
use crate::layout::Direction;
use crate::memory::Plan;
use crate::queue::{Ring, RxBuffers, TxBuffers};
use crate::refusal::Refusal;
use crate::socket::Channel;
use crate::text::Text;
use sluice_peer::PeerCred;

/// Client's handshake with one server.
pub(super) struct ClientHandshake {
    pub(super) channel: Channel,
    pub(super) peer: PeerCred,
    pub(super) deadline: Instant,
    machine: ClientMachine,
    memory: Option<Memory>,
    buffer_size: u32,
    max_bytes: u64,
    interrupts: bool,
}

/// Memory that we allocated for this connection, and its eventfds.
struct Memory {
    plan: Plan,
    region: SharedRegion,
    fd: OwnedFd,
    /// Eventfds, one for each ring of the plan.
    events: Vec<OwnedFd>,
}

impl Memory {
    fn allocate(plan: Plan, interrupts: bool) -> Result<Memory, Refusal> {
        let (region, fd) = plan.allocate(interrupts)?;
        let events = plan
            .rings
            .iter()
            .map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK))
            .collect::<Result<_, _>>()
            .map_err(|errno| Refusal::Allocation(errno.to_string()))?;
        Ok(Memory {
            plan,
            region,
            fd,
            events,
        })
    }
}

impl ClientHandshake {
    /// Waits for the server's HELLO.
    pub(super) fn new(
        config: &EndpointConfig,
        channel: Channel,
        peer: PeerCred,
    ) -> ClientHandshake {
        let machine = ClientMachine::new(ClientParams {
            id: config.id,
            secret: config.secret,
            program: Text::new(crate::PROGRAM),
            interface: Text::new(&config.name),
            queue_pairs: config.queue_pairs,
            log2: config.log2_ring_size,
        });
        ClientHandshake {
            channel,
            peer,
            deadline: Instant::now() + config.handshake_limit,
            machine,
            memory: None,
            buffer_size: config.buffer_size,
            max_bytes: config.max_bytes,
            interrupts: config.interrupts,
        }
    }

    /// Takes the server's messages. `Some`: it is connected, and this is the server's name for
    /// its interface.
    pub(super) fn step(&mut self) -> Result<Option<Text<32>>, Refusal> {
        while let Some(received) = self.channel.receive()? {
            match self.machine.take(&received.message)? {
                ClientStep::Allocate { queue_pairs, log2 } => {
                    let plan = Plan::new(queue_pairs, log2, self.buffer_size, self.max_bytes)?;
                    let memory = Memory::allocate(plan, self.interrupts)?;
                    let init = self
                        .machine
                        .offer(memory.plan.bytes, memory.plan.rings.clone());
                    self.memory = Some(memory);
                    self.channel.send(&init, None)?;
                }
                ClientStep::Send(message, carry) => {
                    let fd = match (carry, &self.memory) {
                        (CarriedFd::Region, Some(memory)) => Some(memory.fd.as_fd()),
                        (CarriedFd::Ring(ring), Some(memory)) => {
                            memory.events.get(ring).map(AsFd::as_fd)
                        }
                        _ => None,
                    };
                    self.channel.send(&message, fd)?;
                }
                ClientStep::Connected { peer } => return Ok(Some(peer)),
            }
        }
        Ok(None)
    }

    /// Builds the queues, once the server is connected and has zeroed the indices for the last
    /// time.
    pub(super) fn finish(self, peer_name: Text<32>) -> Result<Established, (Channel, Refusal)> {
        match self.memory.map(|memory| build(memory, self.interrupts)) {
            Some(Ok((queues, shared_bytes))) => Ok(Established {
                peer_program: self
                    .machine
                    .program()
                    .map(Text::to_string)
                    .unwrap_or_default(),
                peer_name: peer_name.to_string(),
                peer: self.peer,
                shared_bytes,
                channel: self.channel,
                queues,
            }),
            Some(Err(reason)) => Err((self.channel, reason)),
            // The machine does not get that far without it.
            None => Err((
                self.channel,
                Refusal::Allocation("there is none".to_owned()),
            )),
        }
    }
}

fn build(memory: Memory, interrupts: bool) -> Result<(Queues, u64), Refusal> {
    let Memory {
        plan,
        region,
        events,
        ..
    } = memory;
    let mut rx = Vec::new();
    let mut tx = Vec::new();
    for (at, (spec, event)) in plan.rings.iter().zip(events).enumerate() {
        let Some(buffers) = plan.buffers(at) else {
            continue;
        };
        let part = RingEnd {
            ring: Ring::new(region.clone(), spec)?,
            event,
        };
        match spec.direction {
            Direction::ClientToServer => tx.push((part, TxBuffers::Own(region.clone(), buffers))),
            Direction::ServerToClient => rx.push((part, RxBuffers::Own(region.clone(), buffers))),
        }
    }
    Ok((Queues::build(rx, tx, interrupts)?, plan.bytes))
}
