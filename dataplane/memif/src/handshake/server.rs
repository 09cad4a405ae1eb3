// SPDX-License-Identifier: Apache-2.0
//! State machine of the server's handshake: the peer owns the memory, so every message is checked.

use crate::layout::{Direction, MAX_LOG2, RING_ALIGN, RingSpec};
use crate::msg::{AddRing, Hello, Init, MODE_ETHERNET, Message, VERSION};
use crate::refusal::Refusal;
use crate::text::{Secret, Text};
use sluice_peer::checks::check;

/// Limits that a server offers and requirements that it makes.
#[derive(Debug, Clone)]
pub struct ServerParams {
    /// The interface's id on this socket.
    pub id: u32,
    /// Secret that a client must know; `None`: none is required.
    pub secret: Option<Secret>,
    /// Name of our program, for HELLO.
    pub program: Text<32>,
    /// Name of our interface, for CONNECTED.
    pub interface: Text<32>,
    /// Most rings in each direction, at least 1.
    pub queue_pairs: u16,
    /// Largest ring, 1 to [`MAX_LOG2`].
    pub max_log2: u8,
    /// Most regions, at least 1.
    pub max_regions: u16,
    /// Most bytes of all regions together.
    pub max_bytes: u64,
}

/// Work to be done before the answer may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerWork {
    /// Nothing.
    None,
    /// Check the fd that came and map it: the next region.
    Region {
        /// Declared size in bytes.
        size: u64,
    },
    /// Check that the fd that came is an eventfd and keep it: the next ring.
    Ring(RingSpec),
    /// Build the queues: all regions and rings are there.
    Connect {
        /// The client's name for its interface.
        peer: Text<32>,
    },
}

/// Next step after a message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStep {
    /// Work to be done first.
    pub work: ServerWork,
    /// Answer to be sent then.
    pub reply: Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    Init,
    /// At least INIT; regions are welcome until the first ring.
    Regions,
    Rings,
    Done,
    Refused,
}

/// Server's side of the handshake, without I/O; see the [module](super).
#[derive(Debug)]
pub struct ServerMachine {
    params: ServerParams,
    state: ServerState,
    program: Option<Text<32>>,
    regions: Vec<u64>,
    rings: Vec<RingSpec>,
}

impl ServerMachine {
    /// A machine for one new connection. Send [`ServerMachine::hello`] first.
    pub fn new(params: ServerParams) -> ServerMachine {
        ServerMachine {
            params,
            state: ServerState::Init,
            program: None,
            regions: Vec::new(),
            rings: Vec::new(),
        }
    }

    /// The first message.
    pub fn hello(&self) -> Message {
        let last_ring = self.params.queue_pairs.saturating_sub(1);
        Message::Hello(Hello {
            name: self.params.program,
            min_version: VERSION,
            max_version: VERSION,
            max_region: self.params.max_regions.saturating_sub(1),
            max_client_to_server: last_ring,
            max_server_to_client: last_ring,
            max_log2: self.params.max_log2,
        })
    }

    /// The client's program, once INIT came.
    pub fn program(&self) -> Option<&Text<32>> {
        self.program.as_ref()
    }

    /// The rings that were accepted.
    pub fn rings(&self) -> &[RingSpec] {
        &self.rings
    }

    /// Takes the client's next message. `busy`: another client holds the interface.
    ///
    /// # Errors
    /// The violation; nothing is accepted afterwards.
    pub fn take(&mut self, message: &Message, busy: bool) -> Result<ServerStep, Refusal> {
        let result = self.step(message, busy);
        if result.is_err() {
            self.state = ServerState::Refused;
        }
        result
    }

    fn step(&mut self, message: &Message, busy: bool) -> Result<ServerStep, Refusal> {
        let ack = |work| {
            Ok(ServerStep {
                work,
                reply: Message::Ack,
            })
        };
        match (self.state, message) {
            (_, Message::Disconnect { code, reason }) => Err(Refusal::ByPeer {
                code: *code,
                reason: reason.to_string(),
            }),
            (ServerState::Init, Message::Init(init)) => {
                self.admit(init, busy)?;
                self.program = Some(init.name);
                self.state = ServerState::Regions;
                ack(ServerWork::None)
            }
            (ServerState::Regions, Message::AddRegion { index, size }) => {
                self.add_region(*index, *size)?;
                ack(ServerWork::Region { size: *size })
            }
            (ServerState::Regions | ServerState::Rings, Message::AddRing(ring)) => {
                let spec = self.add_ring(ring)?;
                self.state = ServerState::Rings;
                ack(ServerWork::Ring(spec))
            }
            (ServerState::Rings, Message::Connect { name }) => {
                // A second handshake may have won in the meantime.
                if busy {
                    return Err(Refusal::AlreadyConnected);
                }
                for direction in [Direction::ClientToServer, Direction::ServerToClient] {
                    check!(
                        "no-ring",
                        self.count(direction) != 0,
                        Refusal::NoRing(direction)
                    );
                }
                self.state = ServerState::Done;
                Ok(ServerStep {
                    work: ServerWork::Connect { peer: *name },
                    reply: Message::Connected {
                        name: self.params.interface,
                    },
                })
            }
            (state, message) => Err(Refusal::Unexpected {
                expected: match state {
                    ServerState::Init => "INIT",
                    ServerState::Regions => "ADD_REGION or ADD_RING",
                    ServerState::Rings => "ADD_RING or CONNECT",
                    ServerState::Done => "DISCONNECT",
                    ServerState::Refused => "nothing",
                },
                got: message.kind(),
            }),
        }
    }

    fn admit(&self, init: &Init, busy: bool) -> Result<(), Refusal> {
        check!(
            "version",
            init.version == VERSION,
            Refusal::Version(init.version)
        );
        check!("mode", init.mode == MODE_ETHERNET, Refusal::Mode(init.mode));
        check!(
            "id",
            init.id == self.params.id,
            Refusal::UnknownId {
                asked: init.id,
                ours: self.params.id,
            }
        );
        // The secret comes before "Already connected": an unknown peer must not learn that it is in use.
        if self.params.secret.is_some() {
            if init.secret.is_none() {
                return Err(Refusal::SecretRequired);
            }
            if init.secret != self.params.secret {
                return Err(Refusal::SecretWrong);
            }
        }
        if busy {
            return Err(Refusal::AlreadyConnected);
        }
        Ok(())
    }

    fn add_region(&mut self, index: u16, size: u64) -> Result<(), Refusal> {
        let expected = u16::try_from(self.regions.len()).unwrap_or(u16::MAX);
        check!(
            "region-count",
            expected < self.params.max_regions,
            Refusal::TooManyRegions(self.params.max_regions)
        );
        check!(
            "region-index",
            index == expected,
            Refusal::RegionIndex {
                expected,
                got: index,
            }
        );
        check!("region-empty", size != 0, Refusal::RegionEmpty(index));
        let asked = self
            .regions
            .iter()
            .fold(size, |sum, &size| sum.saturating_add(size));
        check!(
            "memory-limit",
            asked <= self.params.max_bytes,
            Refusal::MemoryLimit {
                asked,
                limit: self.params.max_bytes,
            }
        );
        self.regions.push(size);
        Ok(())
    }

    fn add_ring(&mut self, ring: &AddRing) -> Result<RingSpec, Refusal> {
        check!(
            "ring-flags",
            ring.flags_are_defined(),
            Refusal::RingFlags(ring.flags)
        );
        check!(
            "private-header",
            ring.private_header == 0,
            Refusal::RingPrivateHeader(ring.private_header)
        );
        let spec = ring.spec();
        let expected = u16::try_from(self.count(spec.direction)).unwrap_or(u16::MAX);
        check!(
            "ring-count",
            expected < self.params.queue_pairs,
            Refusal::TooManyRings {
                direction: spec.direction,
                limit: self.params.queue_pairs,
            }
        );
        check!(
            "ring-index",
            spec.index == expected,
            Refusal::RingIndex {
                direction: spec.direction,
                expected,
                got: spec.index,
            }
        );
        let max = self.params.max_log2.min(MAX_LOG2);
        check!(
            "ring-size",
            (1..=max).contains(&spec.log2),
            Refusal::RingSize {
                log2: spec.log2,
                max,
            }
        );
        let Some(&size) = self.regions.get(usize::from(spec.region)) else {
            return Err(Refusal::RingRegion(spec.region));
        };
        check!(
            "ring-alignment",
            u64::from(spec.offset).is_multiple_of(RING_ALIGN),
            Refusal::RingAlignment(spec.offset)
        );
        check!(
            "ring-range",
            spec.end() <= size,
            Refusal::RingRange {
                end: spec.end(),
                size,
            }
        );
        check!(
            "ring-overlap",
            !self.rings.iter().any(|other| other.overlaps(&spec)),
            Refusal::RingOverlap
        );
        self.rings.push(spec);
        Ok(spec)
    }

    fn count(&self, direction: Direction) -> usize {
        self.rings
            .iter()
            .filter(|ring| ring.direction == direction)
            .count()
    }
}
