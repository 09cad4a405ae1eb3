// SPDX-License-Identifier: Apache-2.0
//! memif control messages, one after the other, to a server's and to a client's half of a handshake. The
//! first byte says which; each further 128 bytes are a message, the last what is left.

use sluice_memif::Text;
use sluice_memif::handshake::{
    ClientMachine, ClientParams, ClientStep, ServerMachine, ServerParams, ServerWork,
};
use sluice_memif::msg::{MESSAGE_LEN, Message};

/// Maximum number of regions and of rings that are offered.
const REGIONS: u16 = 4;
const RINGS: u16 = 2;
const BYTES: u64 = 1 << 20;

/// Hands the messages to both halves of the handshake.
pub(crate) fn body(bytes: &[u8]) {
    let Some((which, said)) = bytes.split_first() else {
        return;
    };
    let messages = said.chunks(MESSAGE_LEN).map_while(|raw| {
        let message = Message::decode(raw).ok()?;
        // What was understood is said again in the same words.
        let again = Message::decode(&message.encode());
        assert_eq!(again.as_ref(), Ok(&message));
        Some(message)
    });
    if which & 1 == 0 {
        to_server(messages);
    } else {
        to_client(messages);
    }
}

fn to_server(messages: impl Iterator<Item = Message>) {
    let mut machine = ServerMachine::new(ServerParams {
        id: 0,
        secret: None,
        program: Text::new("fuzz"),
        interface: Text::new("net1"),
        queue_pairs: RINGS,
        max_log2: 10,
        max_regions: REGIONS,
        max_bytes: BYTES,
    });
    let mut regions = Vec::new();
    let mut refused = false;
    for message in messages {
        let step = machine.take(&message, false);
        assert!(!refused || step.is_err(), "it went on after a refusal");
        refused = step.is_err();
        match step.map(|step| step.work) {
            Ok(ServerWork::Region { size }) => regions.push(size),
            Ok(ServerWork::Connect { .. }) => assert!(!machine.rings().is_empty()),
            _ => {}
        }
    }
    assert!(regions.len() <= usize::from(REGIONS));
    assert!(regions.iter().sum::<u64>() <= BYTES);
    let rings = machine.rings();
    assert!(rings.len() <= 2 * usize::from(RINGS));
    for (at, ring) in rings.iter().enumerate() {
        assert!(ring.end() <= regions[usize::from(ring.region)], "{ring:?}");
        assert!(!rings[..at].iter().any(|other| other.overlaps(ring)));
    }
}

fn to_client(messages: impl Iterator<Item = Message>) {
    let mut machine = ClientMachine::new(ClientParams {
        id: 0,
        secret: None,
        program: Text::new("fuzz"),
        interface: Text::new("net1"),
        queue_pairs: RINGS,
        log2: 10,
    });
    for message in messages {
        match machine.take(&message) {
            Ok(ClientStep::Allocate { queue_pairs, log2 }) => {
                assert!(queue_pairs <= RINGS && log2 <= 10);
                let _ = machine.offer(BYTES, Vec::new());
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
