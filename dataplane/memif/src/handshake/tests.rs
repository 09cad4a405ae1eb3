// SPDX-License-Identifier: Apache-2.0
//! Both machines against each other, against every message at every moment, and against lies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::layout::{Direction, RingSpec};
use crate::msg::{AddRing, Hello, Init, Message, VERSION};
use crate::refusal::Refusal;
use crate::text::{Secret, Text};
use proptest::prelude::*;

fn offered() -> ServerParams {
    ServerParams {
        id: 5,
        secret: None,
        program: Text::new("server"),
        interface: Text::new("net1"),
        queue_pairs: 2,
        max_log2: 10,
        max_regions: 2,
        max_bytes: 1 << 20,
    }
}

fn asked() -> ClientParams {
    ClientParams {
        id: 5,
        secret: None,
        program: Text::new("client"),
        interface: Text::new("memif0"),
        queue_pairs: 4,
        log2: 12,
    }
}

fn init() -> Init {
    Init {
        version: VERSION,
        id: 5,
        mode: 0,
        secret: None,
        name: Text::new("client"),
    }
}

fn ring(flags: u16, index: u16, offset: u32) -> AddRing {
    AddRing {
        flags,
        index,
        region: 0,
        offset,
        log2: 4,
        private_header: 0,
    }
}

const RING: u32 = 128 + 16 * 16;

fn region(index: u16) -> Message {
    Message::AddRegion { index, size: 8192 }
}

fn server_after(messages: &[Message]) -> ServerMachine {
    let mut server = ServerMachine::new(offered());
    for message in messages {
        server.take(message, false).unwrap();
    }
    server
}

#[test]
fn the_two_machines_finish_together() {
    let mut server = ServerMachine::new(offered());
    let mut client = ClientMachine::new(asked());
    let mut to_client = server.hello();
    let mut works = Vec::new();
    let peer = loop {
        let to_server = match client.take(&to_client).unwrap() {
            ClientStep::Allocate { queue_pairs, log2 } => {
                assert_eq!((queue_pairs, log2), (2, 10));
                let bytes = 128 + 16 * 1024;
                let mut offset = 0;
                let rings = client::ring_order(queue_pairs)
                    .map(|(direction, index)| {
                        let spec = RingSpec {
                            direction,
                            index,
                            region: 0,
                            offset,
                            log2,
                        };
                        offset += bytes;
                        spec
                    })
                    .collect();
                client.offer(u64::from(4 * bytes), rings)
            }
            ClientStep::Send(message, carry) => {
                assert_eq!(message.carries_fd(), carry != CarriedFd::Nothing);
                message
            }
            ClientStep::Connected { peer } => break peer,
        };
        let step = server.take(&to_server, false).unwrap();
        works.push(step.work);
        to_client = step.reply;
    };
    assert_eq!(peer.to_string(), "net1");
    assert_eq!(server.rings().len(), 4);
    assert_eq!(server.rings()[1].direction, Direction::ClientToServer);
    assert_eq!(server.rings()[2].direction, Direction::ServerToClient);
    assert_eq!(server.program().unwrap().to_string(), "client");
    assert_eq!(client.program().unwrap().to_string(), "server");
    assert_eq!(
        works.last(),
        Some(&ServerWork::Connect {
            peer: Text::new("memif0")
        })
    );
    assert!(client.take(&Message::Ack).is_err());
    assert!(
        server
            .take(
                &Message::Connect {
                    name: Text::new("")
                },
                false
            )
            .is_err()
    );
}

#[test]
fn init_is_judged() {
    let refused = |offered: ServerParams, init: Init, busy| {
        ServerMachine::new(offered)
            .take(&Message::Init(init), busy)
            .unwrap_err()
    };
    let strict = || ServerParams {
        secret: Secret::new("key"),
        ..offered()
    };
    let with = |secret| Init {
        secret: Secret::new(secret),
        ..init()
    };
    assert!(matches!(
        refused(
            offered(),
            Init {
                version: 0x0100,
                ..init()
            },
            false
        ),
        Refusal::Version(0x0100)
    ));
    assert!(matches!(
        refused(offered(), Init { mode: 1, ..init() }, false),
        Refusal::Mode(1)
    ));
    assert!(matches!(
        refused(offered(), Init { id: 6, ..init() }, false),
        Refusal::UnknownId { asked: 6, ours: 5 }
    ));
    assert!(matches!(
        refused(offered(), init(), true),
        Refusal::AlreadyConnected
    ));
    assert!(matches!(
        refused(strict(), init(), true),
        Refusal::SecretRequired
    ));
    assert!(matches!(
        refused(strict(), with("Key"), true),
        Refusal::SecretWrong
    ));
    assert!(matches!(
        refused(strict(), with("key"), true),
        Refusal::AlreadyConnected
    ));
    assert!(
        ServerMachine::new(strict())
            .take(&Message::Init(with("key")), false)
            .is_ok()
    );
    // No secret here: the client's does not matter.
    assert!(
        ServerMachine::new(offered())
            .take(&Message::Init(with("x")), false)
            .is_ok()
    );
}

#[test]
fn regions_are_judged() {
    let refused = |before: &[Message], message: Message| {
        let mut messages = vec![Message::Init(init())];
        messages.extend_from_slice(before);
        server_after(&messages).take(&message, false).unwrap_err()
    };
    assert!(matches!(
        refused(&[], region(1)),
        Refusal::RegionIndex {
            expected: 0,
            got: 1
        }
    ));
    assert!(matches!(
        refused(&[region(0)], region(0)),
        Refusal::RegionIndex {
            expected: 1,
            got: 0
        }
    ));
    assert!(matches!(
        refused(&[region(0), region(1)], region(2)),
        Refusal::TooManyRegions(2)
    ));
    let sized = |index, size| Message::AddRegion { index, size };
    assert!(matches!(refused(&[], sized(0, 0)), Refusal::RegionEmpty(0)));
    assert!(matches!(
        refused(&[sized(0, 1)], sized(1, u64::MAX)),
        Refusal::MemoryLimit {
            asked: u64::MAX,
            limit: 0x10_0000
        }
    ));
    let rings = [region(0), Message::AddRing(ring(1, 0, 0))];
    assert!(matches!(
        refused(&rings, region(1)),
        Refusal::Unexpected { .. }
    ));
}

#[test]
fn rings_are_judged() {
    let first = || Message::AddRing(ring(1, 0, 0));
    let refused = |ring: AddRing| {
        let before = [Message::Init(init()), region(0), first()];
        server_after(&before)
            .take(&Message::AddRing(ring), false)
            .unwrap_err()
    };
    let good = || ring(0, 0, RING);
    assert!(matches!(
        refused(AddRing { flags: 2, ..good() }),
        Refusal::RingFlags(2)
    ));
    assert!(matches!(
        refused(AddRing {
            private_header: 8,
            ..good()
        }),
        Refusal::RingPrivateHeader(8)
    ));
    assert!(matches!(
        refused(AddRing { index: 1, ..good() }),
        Refusal::RingIndex {
            expected: 0,
            got: 1,
            direction: Direction::ServerToClient
        }
    ));
    assert!(matches!(
        refused(AddRing { log2: 0, ..good() }),
        Refusal::RingSize { log2: 0, max: 10 }
    ));
    assert!(matches!(
        refused(AddRing { log2: 11, ..good() }),
        Refusal::RingSize { .. }
    ));
    assert!(matches!(
        refused(AddRing {
            log2: 255,
            ..good()
        }),
        Refusal::RingSize { .. }
    ));
    assert!(matches!(
        refused(AddRing {
            region: 1,
            ..good()
        }),
        Refusal::RingRegion(1)
    ));
    assert!(matches!(
        refused(AddRing {
            offset: 424,
            ..good()
        }),
        Refusal::RingAlignment(424)
    ));
    assert!(matches!(
        refused(AddRing {
            offset: 0xffff_ffc0,
            ..good()
        }),
        Refusal::RingRange {
            end: 0x1_0000_0140,
            size: 8192
        }
    ));
    assert!(matches!(
        refused(AddRing {
            offset: 7872,
            ..good()
        }),
        Refusal::RingRange { .. }
    ));
    assert!(matches!(
        refused(AddRing {
            offset: 320,
            ..good()
        }),
        Refusal::RingOverlap
    ));
    assert!(matches!(
        refused(AddRing {
            offset: 0,
            ..good()
        }),
        Refusal::RingOverlap
    ));

    let connect = Message::Connect {
        name: Text::new("x"),
    };
    let mut one_way = server_after(&[Message::Init(init()), region(0), first()]);
    assert!(matches!(
        one_way.take(&connect, false),
        Err(Refusal::NoRing(Direction::ServerToClient))
    ));
    let mut late = server_after(&[
        Message::Init(init()),
        region(0),
        first(),
        Message::AddRing(good()),
    ]);
    assert!(matches!(
        late.take(&connect, true),
        Err(Refusal::AlreadyConnected)
    ));
    let mut many = server_after(&[
        Message::Init(init()),
        region(0),
        first(),
        Message::AddRing(ring(1, 1, RING)),
    ]);
    let third = Message::AddRing(ring(1, 2, 2 * RING));
    assert!(matches!(
        many.take(&third, false),
        Err(Refusal::TooManyRings { limit: 2, .. })
    ));
}

#[test]
fn a_server_accepts_nothing_out_of_order() {
    let order = [
        Message::Init(init()),
        region(0),
        Message::AddRing(ring(1, 0, 0)),
        Message::AddRing(ring(0, 0, RING)),
        Message::Connect {
            name: Text::new("x"),
        },
    ];
    // What may follow after so many messages: their indices in `order`. Reference clients announce
    // client-to-server rings first, but nothing depends on it.
    let next: [&[usize]; 6] = [&[0], &[1], &[2, 3], &[3], &[4], &[]];
    let mut strangers = order.to_vec();
    strangers.push(Message::Ack);
    strangers.push(Message::Connected {
        name: Text::new("x"),
    });
    strangers.push(ServerMachine::new(offered()).hello());
    for (done, allowed) in next.iter().enumerate() {
        for (which, message) in strangers.iter().enumerate() {
            let mut server = server_after(&order[..done]);
            let result = server.take(message, false);
            assert_eq!(
                result.is_ok(),
                allowed.contains(&which),
                "{done} then {}",
                message.kind()
            );
            if result.is_err() {
                assert!(
                    server.take(&order[done.min(4)], false).is_err(),
                    "it is over after that"
                );
            }
        }
        let mut server = server_after(&order[..done]);
        let result = server.take(&Message::disconnect("enough"), false);
        assert!(matches!(result, Err(Refusal::ByPeer { code: 0, reason }) if reason == "enough"));
    }
}

#[test]
fn a_client_judges_hello() {
    let hello = |change: fn(&mut Hello)| {
        let Message::Hello(mut hello) = ServerMachine::new(offered()).hello() else {
            panic!("not HELLO");
        };
        change(&mut hello);
        ClientMachine::new(asked()).take(&Message::Hello(hello))
    };
    assert!(matches!(
        hello(|h| h.min_version = 0x0201),
        Err(Refusal::Version(_))
    ));
    assert!(matches!(
        hello(|h| h.max_version = 0x01ff),
        Err(Refusal::Version(0x01ff))
    ));
    assert!(matches!(
        hello(|h| h.max_log2 = 0),
        Err(Refusal::NoRingSize(0))
    ));
    let generous = hello(|h| {
        h.max_client_to_server = u16::MAX;
        h.max_server_to_client = u16::MAX;
        h.max_log2 = 255;
    });
    assert_eq!(
        generous.unwrap(),
        ClientStep::Allocate {
            queue_pairs: 4,
            log2: 12
        }
    );
    let narrow = hello(|h| h.max_server_to_client = 0);
    assert_eq!(
        narrow.unwrap(),
        ClientStep::Allocate {
            queue_pairs: 1,
            log2: 10
        }
    );
}

#[test]
fn a_client_accepts_nothing_out_of_order() {
    let hello = ServerMachine::new(offered()).hello();
    let connected = Message::Connected {
        name: Text::new("x"),
    };
    let order = [
        hello.clone(),
        Message::Ack,
        Message::Ack,
        Message::Ack,
        connected.clone(),
    ];
    let strangers = [
        hello,
        Message::Ack,
        connected,
        region(0),
        Message::Init(init()),
    ];
    for done in 0..=order.len() {
        for message in &strangers {
            let mut client = ClientMachine::new(asked());
            for (at, message) in order[..done].iter().enumerate() {
                client.take(message).unwrap();
                if at == 0 {
                    client.offer(8192, vec![ring(1, 0, 0).spec()]);
                }
            }
            let result = client.take(message);
            let right = order.get(done) == Some(message);
            assert_eq!(result.is_ok(), right, "{done} then {}", message.kind());
        }
    }
}

#[test]
fn an_ack_before_our_init_is_refused() {
    let mut client = ClientMachine::new(asked());
    client.take(&ServerMachine::new(offered()).hello()).unwrap();
    assert!(matches!(
        client.take(&Message::Ack),
        Err(Refusal::Unexpected { .. })
    ));
}

fn any_message() -> impl Strategy<Value = Message> {
    let small = prop_oneof![Just(0_u16), Just(1), 0..4_u16, any::<u16>()];
    let offset = prop_oneof![(0..64_u32).prop_map(|n| n * 64), any::<u32>()];
    prop_oneof![
        Just(Message::Init(init())),
        Just(Message::Connect {
            name: Text::new("x")
        }),
        Just(Message::Ack),
        (0..3_u16, prop_oneof![Just(8192), any::<u64>()])
            .prop_map(|(index, size)| Message::AddRegion { index, size }),
        (0..2_u16, 0..3_u16, 0..2_u16, offset, 0..12_u8, small).prop_map(
            |(flags, index, region, offset, log2, header)| Message::AddRing(AddRing {
                flags,
                index,
                region,
                offset,
                log2,
                private_header: header & 1,
            })
        ),
    ]
}

proptest! {
    /// A server accepts only sound regions and rings, in whatever order messages come.
    #[test]
    fn accepted_rings_are_sound(messages in prop::collection::vec(any_message(), 0..40)) {
        let mut server = ServerMachine::new(offered());
        let mut sizes = Vec::new();
        for message in &messages {
            match server.take(message, false) {
                Ok(ServerStep { work: ServerWork::Region { size }, .. }) => sizes.push(size),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        prop_assert!(sizes.iter().sum::<u64>() <= offered().max_bytes);
        for (at, ring) in server.rings().iter().enumerate() {
            prop_assert!(ring.offset % 64 == 0);
            prop_assert!(ring.end() <= sizes[usize::from(ring.region)]);
            prop_assert!(server.rings()[..at].iter().all(|other| !other.overlaps(ring)));
        }
    }
}
