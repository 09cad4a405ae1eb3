// SPDX-License-Identifier: Apache-2.0
//! State machine of the client's handshake: we own the memory, the server accepts it.

use crate::layout::{Direction, RingSpec};
use crate::msg::{AddRing, Hello, Init, MODE_ETHERNET, Message, VERSION};
use crate::refusal::Refusal;
use crate::text::{Secret, Text};

/// Parameters that a client asks for.
#[derive(Debug, Clone)]
pub struct ClientParams {
    /// The interface's id on the server's socket.
    pub id: u32,
    /// Secret that the server may require.
    pub secret: Option<Secret>,
    /// Name of our program, for INIT.
    pub program: Text<32>,
    /// Name of our interface, for CONNECT.
    pub interface: Text<32>,
    /// Rings wanted in each direction, at least 1.
    pub queue_pairs: u16,
    /// Ring size wanted, 1 to 14.
    pub log2: u8,
}

/// File descriptor that goes with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarriedFd {
    /// None.
    Nothing,
    /// The memory of the one region.
    Region,
    /// Eventfd of the ring at this index of the list given to [`ClientMachine::offer`].
    Ring(usize),
}

/// Next step after a message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStep {
    /// Allocate memory for that many queue pairs and descriptors, then call [`ClientMachine::offer`]
    /// and send the message that it returns.
    Allocate {
        /// Number of pairs: our wish or the server's limit, whichever is lower.
        queue_pairs: u16,
        /// Binary logarithm of the ring size: our wish or the server's limit, whichever is lower.
        log2: u8,
    },
    /// Send the message, with that fd.
    Send(Message, CarriedFd),
    /// Done: packets may flow.
    Connected {
        /// The server's name for its interface.
        peer: Text<32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    Hello,
    Allocating,
    InitSent,
    RegionSent,
    /// The ring of this number waits for its ACK.
    RingSent(usize),
    ConnectSent,
    Done,
    Refused,
}

/// Client's side of the handshake, without I/O; see the [module](super).
#[derive(Debug)]
pub struct ClientMachine {
    params: ClientParams,
    state: ClientState,
    program: Option<Text<32>>,
    region_bytes: u64,
    rings: Vec<RingSpec>,
}

impl ClientMachine {
    /// A machine for one new connection. The server speaks first.
    pub fn new(params: ClientParams) -> ClientMachine {
        ClientMachine {
            params,
            state: ClientState::Hello,
            program: None,
            region_bytes: 0,
            rings: Vec::new(),
        }
    }

    /// The server's program, once HELLO came.
    pub fn program(&self) -> Option<&Text<32>> {
        self.program.as_ref()
    }

    /// Takes the layout of the memory, in answer to [`ClientStep::Allocate`]: one region of that many
    /// bytes and the rings in it, in the order in which they are to be announced. Returns INIT, to
    /// be sent.
    pub fn offer(&mut self, region_bytes: u64, rings: Vec<RingSpec>) -> Message {
        self.region_bytes = region_bytes;
        self.rings = rings;
        if self.state == ClientState::Allocating {
            self.state = ClientState::InitSent;
        }
        Message::Init(Init {
            version: VERSION,
            id: self.params.id,
            mode: MODE_ETHERNET,
            secret: self.params.secret,
            name: self.params.program,
        })
    }

    /// Takes the server's next message.
    ///
    /// # Errors
    /// The violation, or the server's refusal; nothing is accepted afterwards.
    pub fn take(&mut self, message: &Message) -> Result<ClientStep, Refusal> {
        let result = self.step(message);
        if result.is_err() {
            self.state = ClientState::Refused;
        }
        result
    }

    fn step(&mut self, message: &Message) -> Result<ClientStep, Refusal> {
        match (self.state, message) {
            (_, Message::Disconnect { code, reason }) => Err(Refusal::ByPeer {
                code: *code,
                reason: reason.to_string(),
            }),
            (ClientState::Hello, Message::Hello(hello)) => self.hello(hello),
            (ClientState::InitSent, Message::Ack) => {
                self.state = ClientState::RegionSent;
                let region = Message::AddRegion {
                    index: 0,
                    size: self.region_bytes,
                };
                Ok(ClientStep::Send(region, CarriedFd::Region))
            }
            (ClientState::RegionSent, Message::Ack) => Ok(self.send_ring(0)),
            (ClientState::RingSent(ring), Message::Ack) => Ok(self.send_ring(ring + 1)),
            (ClientState::ConnectSent, Message::Connected { name }) => {
                self.state = ClientState::Done;
                Ok(ClientStep::Connected { peer: *name })
            }
            (state, message) => Err(Refusal::Unexpected {
                expected: match state {
                    ClientState::Hello => "HELLO",
                    ClientState::Allocating | ClientState::Refused => "nothing",
                    ClientState::InitSent | ClientState::RegionSent | ClientState::RingSent(_) => {
                        "ACK"
                    }
                    ClientState::ConnectSent => "CONNECTED",
                    ClientState::Done => "DISCONNECT",
                },
                got: message.kind(),
            }),
        }
    }

    fn hello(&mut self, hello: &Hello) -> Result<ClientStep, Refusal> {
        if !(hello.min_version..=hello.max_version).contains(&VERSION) {
            return Err(Refusal::Version(hello.max_version));
        }
        // Maxima are inclusive indices; u16::MAX rings would be one too many to count in u16.
        let limit = hello
            .max_client_to_server
            .min(hello.max_server_to_client)
            .saturating_add(1);
        let queue_pairs = self.params.queue_pairs.min(limit);
        let log2 = self.params.log2.min(hello.max_log2);
        if log2 == 0 {
            return Err(Refusal::NoRingSize(hello.max_log2));
        }
        self.program = Some(hello.name);
        self.state = ClientState::Allocating;
        Ok(ClientStep::Allocate { queue_pairs, log2 })
    }

    fn send_ring(&mut self, ring: usize) -> ClientStep {
        match self.rings.get(ring) {
            Some(spec) => {
                self.state = ClientState::RingSent(ring);
                ClientStep::Send(Message::AddRing(AddRing::from(spec)), CarriedFd::Ring(ring))
            }
            None => {
                self.state = ClientState::ConnectSent;
                ClientStep::Send(
                    Message::Connect {
                        name: self.params.interface,
                    },
                    CarriedFd::Nothing,
                )
            }
        }
    }
}

/// The rings of `queue_pairs` pairs in the order in which peers expect them: all of client to
/// server first. Offsets and the region are the caller's to fill.
pub(crate) fn ring_order(queue_pairs: u16) -> impl Iterator<Item = (Direction, u16)> {
    [Direction::ClientToServer, Direction::ServerToClient]
        .into_iter()
        .flat_map(move |direction| (0..queue_pairs).map(move |index| (direction, index)))
}
