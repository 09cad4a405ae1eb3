// SPDX-License-Identifier: Apache-2.0
//! The control messages: 128 bytes each, packed, little-endian, padded with zeros.

use crate::layout::{Direction, RingSpec};
use crate::text::{Secret, Text};

/// Bytes of every message.
pub const MESSAGE_LEN: usize = 128;
/// The protocol version spoken here: 2.0.
pub const VERSION: u16 = 0x0200;
/// The only interface mode spoken here: whole Ethernet frames.
pub const MODE_ETHERNET: u8 = 0;

const RING_CLIENT_TO_SERVER: u16 = 1;

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Server: the last message was accepted.
    Ack,
    /// Server, first message: its limits.
    Hello(Hello),
    /// Client: the interface it wants.
    Init(Init),
    /// Client, with the memory's fd.
    AddRegion {
        /// Index of the region: 0, 1, ...
        index: u16,
        /// Size in bytes.
        size: u64,
    },
    /// Client, with the ring's eventfd.
    AddRing(AddRing),
    /// Client: all is there.
    Connect {
        /// The client's name for its interface.
        name: Text<32>,
    },
    /// Server: packets may flow.
    Connected {
        /// The server's name for its interface.
        name: Text<32>,
    },
    /// Either: end of the connection, with the reason.
    Disconnect {
        /// A number without agreed meaning.
        code: u32,
        /// Reason in words.
        reason: Text<96>,
    },
}

/// HELLO: limits of the server. All maxima are inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The server's program.
    pub name: Text<32>,
    /// Lowest version it speaks.
    pub min_version: u16,
    /// Highest version it speaks.
    pub max_version: u16,
    /// Largest region index.
    pub max_region: u16,
    /// Largest index of a client-to-server ring.
    pub max_client_to_server: u16,
    /// Largest index of a server-to-client ring.
    pub max_server_to_client: u16,
    /// Binary logarithm of the largest ring.
    pub max_log2: u8,
}

/// INIT: interface that the client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// The version it will speak.
    pub version: u16,
    /// The interface on this socket.
    pub id: u32,
    /// 0 Ethernet, 1 IP, 2 punt/inject.
    pub mode: u8,
    /// The secret, if it has one.
    pub secret: Option<Secret>,
    /// The client's program.
    pub name: Text<32>,
}

/// A ring as the client describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddRing {
    /// Bit 0: client to server. The others are not defined.
    pub flags: u16,
    /// Number among the rings of its direction.
    pub index: u16,
    /// Index of the region it lies in.
    pub region: u16,
    /// Offset of its first byte in that region.
    pub offset: u32,
    /// Binary logarithm of its descriptors.
    pub log2: u8,
    /// Bytes before each packet that only VPP ever used; 0.
    pub private_header: u16,
}

impl AddRing {
    /// Whether only defined flags are set.
    pub fn flags_are_defined(&self) -> bool {
        self.flags & !RING_CLIENT_TO_SERVER == 0
    }

    /// Ring that it describes, unchecked.
    pub fn spec(&self) -> RingSpec {
        RingSpec {
            direction: if self.flags & RING_CLIENT_TO_SERVER != 0 {
                Direction::ClientToServer
            } else {
                Direction::ServerToClient
            },
            index: self.index,
            region: self.region,
            offset: self.offset,
            log2: self.log2,
        }
    }
}

impl From<&RingSpec> for AddRing {
    fn from(spec: &RingSpec) -> AddRing {
        AddRing {
            flags: match spec.direction {
                Direction::ClientToServer => RING_CLIENT_TO_SERVER,
                Direction::ServerToClient => 0,
            },
            index: spec.index,
            region: spec.region,
            offset: spec.offset,
            log2: spec.log2,
            private_header: 0,
        }
    }
}

/// Reason why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not exactly [`MESSAGE_LEN`] bytes.
    #[error("a message of {0} bytes instead of 128: the peer does not speak memif")]
    Length(usize),
    /// A type that version 2.0 does not have.
    #[error("unknown message type {0}: the peer speaks another memif version")]
    Type(u16),
}

impl Message {
    /// Name of the message in the protocol.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Ack => "ACK",
            Message::Hello(_) => "HELLO",
            Message::Init(_) => "INIT",
            Message::AddRegion { .. } => "ADD_REGION",
            Message::AddRing(_) => "ADD_RING",
            Message::Connect { .. } => "CONNECT",
            Message::Connected { .. } => "CONNECTED",
            Message::Disconnect { .. } => "DISCONNECT",
        }
    }

    /// Whether the message must come with exactly one fd; all others must come with none.
    pub fn carries_fd(&self) -> bool {
        matches!(self, Message::AddRegion { .. } | Message::AddRing(_))
    }

    /// Makes a DISCONNECT with code 0 and `reason`, cut to 95 bytes.
    pub fn disconnect(reason: &str) -> Message {
        Message::Disconnect {
            code: 0,
            reason: Text::new(reason),
        }
    }

    /// Decodes a message. Values are taken as they are: the handshake checks what is allowed.
    ///
    /// # Errors
    /// Wrong length or unknown type.
    pub fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
        let mut fields = Fields::new(bytes)?;
        Ok(match fields.u16() {
            1 => Message::Ack,
            2 => Message::Hello(Hello {
                name: fields.text(),
                min_version: fields.u16(),
                max_version: fields.u16(),
                max_region: fields.u16(),
                max_client_to_server: fields.u16(),
                max_server_to_client: fields.u16(),
                max_log2: fields.u8(),
            }),
            3 => Message::Init(Init {
                version: fields.u16(),
                id: fields.u32(),
                mode: fields.u8(),
                secret: Secret::from_bytes(fields.take()),
                name: fields.text(),
            }),
            4 => Message::AddRegion {
                index: fields.u16(),
                size: fields.u64(),
            },
            5 => Message::AddRing(AddRing {
                flags: fields.u16(),
                index: fields.u16(),
                region: fields.u16(),
                offset: fields.u32(),
                log2: fields.u8(),
                private_header: fields.u16(),
            }),
            6 => Message::Connect {
                name: fields.text(),
            },
            7 => Message::Connected {
                name: fields.text(),
            },
            8 => Message::Disconnect {
                code: fields.u32(),
                reason: fields.text(),
            },
            unknown => return Err(MessageError::Type(unknown)),
        })
    }

    /// Encodes the message.
    pub fn encode(&self) -> [u8; MESSAGE_LEN] {
        let mut fields = Fields {
            bytes: [0; MESSAGE_LEN],
            at: 0,
        };
        match self {
            Message::Ack => fields.put(1_u16.to_le_bytes()),
            Message::Hello(hello) => {
                fields.put(2_u16.to_le_bytes());
                fields.put(*hello.name.bytes());
                fields.put(hello.min_version.to_le_bytes());
                fields.put(hello.max_version.to_le_bytes());
                fields.put(hello.max_region.to_le_bytes());
                fields.put(hello.max_client_to_server.to_le_bytes());
                fields.put(hello.max_server_to_client.to_le_bytes());
                fields.put([hello.max_log2]);
            }
            Message::Init(init) => {
                fields.put(3_u16.to_le_bytes());
                fields.put(init.version.to_le_bytes());
                fields.put(init.id.to_le_bytes());
                fields.put([init.mode]);
                fields.put(
                    init.secret
                        .map_or([0; Secret::LEN], |secret| *secret.bytes()),
                );
                fields.put(*init.name.bytes());
            }
            Message::AddRegion { index, size } => {
                fields.put(4_u16.to_le_bytes());
                fields.put(index.to_le_bytes());
                fields.put(size.to_le_bytes());
            }
            Message::AddRing(ring) => {
                fields.put(5_u16.to_le_bytes());
                fields.put(ring.flags.to_le_bytes());
                fields.put(ring.index.to_le_bytes());
                fields.put(ring.region.to_le_bytes());
                fields.put(ring.offset.to_le_bytes());
                fields.put([ring.log2]);
                fields.put(ring.private_header.to_le_bytes());
            }
            Message::Connect { name } => {
                fields.put(6_u16.to_le_bytes());
                fields.put(*name.bytes());
            }
            Message::Connected { name } => {
                fields.put(7_u16.to_le_bytes());
                fields.put(*name.bytes());
            }
            Message::Disconnect { code, reason } => {
                fields.put(8_u16.to_le_bytes());
                fields.put(code.to_le_bytes());
                fields.put(*reason.bytes());
            }
        }
        fields.bytes
    }
}

/// A message's bytes and where in them we are. The longest message ends at byte 102 of 128, so
/// neither reading nor writing can run past the end.
struct Fields {
    bytes: [u8; MESSAGE_LEN],
    at: usize,
}

impl Fields {
    fn new(bytes: &[u8]) -> Result<Fields, MessageError> {
        let bytes = bytes
            .try_into()
            .map_err(|_| MessageError::Length(bytes.len()))?;
        Ok(Fields { bytes, at: 0 })
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        for (to, from) in taken.iter_mut().zip(self.bytes.iter().skip(self.at)) {
            *to = *from;
        }
        self.at += N;
        taken
    }

    fn put<const N: usize>(&mut self, field: [u8; N]) {
        for (to, from) in self.bytes.iter_mut().skip(self.at).zip(field) {
            *to = from;
        }
        self.at += N;
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn text<const N: usize>(&mut self) -> Text<N> {
        Text::from_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Message> {
        let spec = RingSpec {
            direction: Direction::ClientToServer,
            index: 3,
            region: 1,
            offset: 0x1122_3340,
            log2: 10,
        };
        vec![
            Message::Ack,
            Message::Hello(Hello {
                name: Text::new("a server"),
                min_version: VERSION,
                max_version: VERSION,
                max_region: 15,
                max_client_to_server: 3,
                max_server_to_client: 4,
                max_log2: 14,
            }),
            Message::Init(Init {
                version: VERSION,
                id: 7,
                mode: 0,
                secret: Secret::new("secret"),
                name: Text::new("a client"),
            }),
            Message::AddRegion {
                index: 1,
                size: 1 << 40,
            },
            Message::AddRing(AddRing::from(&spec)),
            Message::Connect {
                name: Text::new("net1"),
            },
            Message::Connected {
                name: Text::new("net_memif0"),
            },
            Message::Disconnect {
                code: 9,
                reason: Text::new("Already connected"),
            },
        ]
    }

    #[test]
    fn what_is_encoded_decodes() {
        for message in all() {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn bytes_are_where_the_protocol_has_them() {
        let init = all().remove(2).encode();
        assert_eq!(init[..9], [3, 0, 0, 2, 7, 0, 0, 0, 0]);
        assert_eq!(&init[9..16], b"secret\0");
        assert_eq!(&init[33..42], b"a client\0");
        let ring = all().remove(4).encode();
        assert_eq!(
            ring[..15],
            [5, 0, 1, 0, 3, 0, 1, 0, 0x40, 0x33, 0x22, 0x11, 10, 0, 0]
        );
        let hello = all().remove(1).encode();
        assert_eq!(hello[34..45], [0, 2, 0, 2, 15, 0, 3, 0, 4, 0, 14]);
    }

    #[test]
    fn other_lengths_and_types_are_refused() {
        assert_eq!(Message::decode(&[0; 127]), Err(MessageError::Length(127)));
        assert_eq!(Message::decode(&[0; 129]), Err(MessageError::Length(129)));
        assert_eq!(Message::decode(&[0; 128]), Err(MessageError::Type(0)));
        assert_eq!(Message::decode(&[9; 128]), Err(MessageError::Type(0x0909)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn decoding_is_stable(kind in 1_u16..9, body in any::<[u8; 32]>()) {
            let mut bytes = [0_u8; MESSAGE_LEN];
            bytes[..2].copy_from_slice(&kind.to_le_bytes());
            bytes[2..34].copy_from_slice(&body);
            let message = Message::decode(&bytes);
            prop_assert!(message.is_ok());
            if let Ok(message) = message {
                let _ = (message.kind(), format!("{message:?}"));
                prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
            }
        }
    }
}
