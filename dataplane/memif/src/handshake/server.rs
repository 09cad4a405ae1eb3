//! The server's side: the peer owns the memory, so all it says is checked.

use crate::checks::out;
use crate::layout::{Direction, MAX_LOG2, RING_ALIGN, RingSpec};
use crate::msg::{AddRing, Hello, Init, MODE_ETHERNET, Message, VERSION};
use crate::refusal::Refusal;
use crate::text::{Secret, Text};

/// What a server offers and insists on.
#[derive(Debug, Clone)]
pub struct Offered {
    /// The interface's id on this socket.
    pub id: u32,
    /// A client must know it, if set.
    pub secret: Option<Secret>,
    /// Our program, for HELLO.
    pub program: Text<32>,
    /// Our interface, for CONNECTED.
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

/// What to do before the answer may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// Check the fd that came and map it: the next region.
    Region {
        /// Bytes declared.
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

/// What to do with a message, and the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStep {
    /// First this.
    pub work: Work,
    /// Then this is sent.
    pub reply: Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Init,
    /// At least INIT; regions are welcome until the first ring.
    Regions,
    Rings,
    Done,
    Refused,
}

/// See the [module](super).
#[derive(Debug)]
pub struct ServerMachine {
    offered: Offered,
    state: State,
    program: Option<Text<32>>,
    regions: Vec<u64>,
    rings: Vec<RingSpec>,
}

impl ServerMachine {
    /// A machine for one new connection. Send [`ServerMachine::hello`] first.
    pub fn new(offered: Offered) -> ServerMachine {
        ServerMachine {
            offered,
            state: State::Init,
            program: None,
            regions: Vec::new(),
            rings: Vec::new(),
        }
    }

    /// The first message.
    pub fn hello(&self) -> Message {
        let last_ring = self.offered.queue_pairs.saturating_sub(1);
        Message::Hello(Hello {
            name: self.offered.program,
            min_version: VERSION,
            max_version: VERSION,
            max_region: self.offered.max_regions.saturating_sub(1),
            max_client_to_server: last_ring,
            max_server_to_client: last_ring,
            max_log2: self.offered.max_log2,
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
            self.state = State::Refused;
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
            (State::Init, Message::Init(init)) => {
                self.admit(init, busy)?;
                self.program = Some(init.name);
                self.state = State::Regions;
                ack(Work::None)
            }
            (State::Regions, Message::AddRegion { index, size }) => {
                self.add_region(*index, *size)?;
                ack(Work::Region { size: *size })
            }
            (State::Regions | State::Rings, Message::AddRing(ring)) => {
                let spec = self.add_ring(ring)?;
                self.state = State::Rings;
                ack(Work::Ring(spec))
            }
            (State::Rings, Message::Connect { name }) => {
                // A second handshake may have won in the meantime.
                if busy {
                    return Err(Refusal::AlreadyConnected);
                }
                for direction in [Direction::ClientToServer, Direction::ServerToClient] {
                    if self.count(direction) == 0 && !out("no-ring") {
                        return Err(Refusal::NoRing(direction));
                    }
                }
                self.state = State::Done;
                Ok(ServerStep {
                    work: Work::Connect { peer: *name },
                    reply: Message::Connected {
                        name: self.offered.interface,
                    },
                })
            }
            (state, message) => Err(Refusal::Unexpected {
                expected: match state {
                    State::Init => "INIT",
                    State::Regions => "ADD_REGION or ADD_RING",
                    State::Rings => "ADD_RING or CONNECT",
                    State::Done => "DISCONNECT",
                    State::Refused => "nothing",
                },
                got: message.kind(),
            }),
        }
    }

    fn admit(&self, init: &Init, busy: bool) -> Result<(), Refusal> {
        if init.version != VERSION && !out("version") {
            return Err(Refusal::Version(init.version));
        }
        if init.mode != MODE_ETHERNET && !out("mode") {
            return Err(Refusal::Mode(init.mode));
        }
        if init.id != self.offered.id && !out("id") {
            return Err(Refusal::UnknownId {
                asked: init.id,
                ours: self.offered.id,
            });
        }
        // The secret comes before "Already connected": a stranger need not learn about it.
        if self.offered.secret.is_some() {
            if init.secret.is_none() {
                return Err(Refusal::SecretRequired);
            }
            if init.secret != self.offered.secret {
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
        if expected >= self.offered.max_regions && !out("region-count") {
            return Err(Refusal::TooManyRegions(self.offered.max_regions));
        }
        if index != expected && !out("region-index") {
            return Err(Refusal::RegionIndex {
                expected,
                got: index,
            });
        }
        if size == 0 && !out("region-empty") {
            return Err(Refusal::RegionEmpty(index));
        }
        let asked = self
            .regions
            .iter()
            .fold(size, |sum, &size| sum.saturating_add(size));
        if asked > self.offered.max_bytes && !out("memory-limit") {
            return Err(Refusal::MemoryLimit {
                asked,
                limit: self.offered.max_bytes,
            });
        }
        self.regions.push(size);
        Ok(())
    }

    fn add_ring(&mut self, ring: &AddRing) -> Result<RingSpec, Refusal> {
        if !ring.flags_are_defined() && !out("ring-flags") {
            return Err(Refusal::RingFlags(ring.flags));
        }
        if ring.private_header != 0 && !out("private-header") {
            return Err(Refusal::RingPrivateHeader(ring.private_header));
        }
        let spec = ring.spec();
        let expected = u16::try_from(self.count(spec.direction)).unwrap_or(u16::MAX);
        if expected >= self.offered.queue_pairs && !out("ring-count") {
            return Err(Refusal::TooManyRings {
                direction: spec.direction,
                limit: self.offered.queue_pairs,
            });
        }
        if spec.index != expected && !out("ring-index") {
            return Err(Refusal::RingIndex {
                direction: spec.direction,
                expected,
                got: spec.index,
            });
        }
        let max = self.offered.max_log2.min(MAX_LOG2);
        if (spec.log2 == 0 || spec.log2 > max) && !out("ring-size") {
            return Err(Refusal::RingSize {
                log2: spec.log2,
                max,
            });
        }
        let Some(&size) = self.regions.get(usize::from(spec.region)) else {
            return Err(Refusal::RingRegion(spec.region));
        };
        if !u64::from(spec.offset).is_multiple_of(RING_ALIGN) && !out("ring-alignment") {
            return Err(Refusal::RingAlignment(spec.offset));
        }
        if spec.end() > size && !out("ring-range") {
            return Err(Refusal::RingRange {
                end: spec.end(),
                size,
            });
        }
        if self.rings.iter().any(|other| other.overlaps(&spec)) && !out("ring-overlap") {
            return Err(Refusal::RingOverlap);
        }
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
