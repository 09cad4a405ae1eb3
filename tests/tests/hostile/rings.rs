// SPDX-License-Identifier: Apache-2.0
//! Attacks by writes into connected rings.

use std::time::Duration;

use anyhow::Result;

use super::fake_client::{
    BUFFER, BYTES, Descriptor, FROM_ENGINE, FakeClient, HEAD, SLOTS, TAIL, TO_ENGINE, Target,
};
use super::{Attack, attack};

/// Flag of a descriptor whose packet continues in the next one.
const NEXT: u16 = 1;

pub(crate) const ATTACKS: &[Attack] = &[
    attack("head-jumps", "index-jump", "index jumped", |target| {
        let client = FakeClient::connected(target)?;
        client.index(TO_ENGINE, HEAD, 4000)?;
        ended(&client)
    }),
    attack("head-runs-back", "index-back", "index went back", run_back),
    attack(
        "posts-more-than-there-is",
        "index-jump",
        "index jumped",
        |target| {
            let client = FakeClient::connected(target)?;
            client.index(FROM_ENGINE, HEAD, 2 * SLOTS)?;
            provoke(&client);
            ended(&client)
        },
    ),
    attack(
        "descriptor-in-no-region",
        "",
        "unknown region 9",
        |target| {
            let wild = Descriptor {
                region: 9,
                length: 64,
                ..Descriptor::default()
            };
            one(target, wild)
        },
    ),
    attack(
        "descriptor-past-the-end",
        "range",
        "leaves its memory",
        |target| {
            let wild = Descriptor {
                length: 64,
                offset: BYTES as u32 - 32,
                ..Descriptor::default()
            };
            one(target, wild)
        },
    ),
    attack(
        "descriptor-that-wraps",
        "range",
        "leaves its memory",
        |target| {
            let wild = Descriptor {
                length: 64,
                offset: u32::MAX - 31,
                ..Descriptor::default()
            };
            one(target, wild)
        },
    ),
    attack("packet-too-long", "long-packet", "packet of", |target| {
        chain(target, 5, 8 * BUFFER as u32, true)
    }),
    attack("chain-too-long", "long-chain", "more than", |target| {
        chain(target, 70, 60, true)
    }),
    attack(
        "chain-that-does-not-end",
        "open-chain",
        "goes on past",
        |target| chain(target, 10, 60, false),
    ),
    attack(
        "posts-a-buffer-past-the-end",
        "posted-range",
        "leaves its memory",
        |target| {
            let client = FakeClient::connected(target)?;
            for slot in 0..SLOTS {
                let wild = Descriptor {
                    length: BUFFER as u32,
                    offset: BYTES as u32 - 64,
                    ..Descriptor::default()
                };
                client.describe(FROM_ENGINE, slot, wild)?;
            }
            client.index(FROM_ENGINE, HEAD, SLOTS)?;
            provoke(&client);
            ended(&client)
        },
    ),
    attack(
        "posts-a-buffer-in-no-region",
        "",
        "unknown region 8",
        |target| {
            let client = FakeClient::connected(target)?;
            for slot in 0..SLOTS {
                let wild = Descriptor {
                    region: 8,
                    length: BUFFER as u32,
                    ..Descriptor::default()
                };
                client.describe(FROM_ENGINE, slot, wild)?;
            }
            client.index(FROM_ENGINE, HEAD, SLOTS)?;
            provoke(&client);
            ended(&client)
        },
    ),
];

/// Sends one frame with this descriptor.
fn one(target: &Target, descriptor: Descriptor) -> Result<()> {
    let client = FakeClient::connected(target)?;
    client.describe(TO_ENGINE, 0, descriptor)?;
    client.index(TO_ENGINE, HEAD, 1)?;
    ended(&client)
}

/// Waits up to half a second for the engine to end the connection; it need not, as it tolerates some writes.
fn ended(client: &FakeClient) -> Result<()> {
    let _ = last_message(client, Duration::from_millis(500));
    Ok(())
}

fn last_message(client: &FakeClient, limit: Duration) -> Option<String> {
    let said = || match client.channel.receive() {
        Ok(received) => Some(format!("{:?}", received?.message)),
        Err(error) => Some(error.to_string()),
    };
    sluice_tests::wait_for("the last message", limit, said).ok()
}

/// Gives the engine 200 ms to send to this pod the frames of the attacker's VLAN.
fn provoke(client: &FakeClient) {
    let _ = last_message(client, Duration::from_millis(200));
}

/// Sends one packet of `count` descriptors; with `ends`, the last one has no NEXT flag.
fn chain(target: &Target, count: u16, length: u32, ends: bool) -> Result<()> {
    let client = FakeClient::connected(target)?;
    for slot in 0..count {
        let last = ends && slot + 1 == count;
        let part = Descriptor {
            flags: if last { 0 } else { NEXT },
            length,
            ..Descriptor::default()
        };
        client.describe(TO_ENGINE, slot, part)?;
    }
    client.index(TO_ENGINE, HEAD, count)?;
    ended(&client)
}

/// Takes back descriptors that the engine has seen and not yet consumed. The moment is a matter of luck: a try
/// that comes too late has only moved the index, and is repeated.
fn run_back(target: &Target) -> Result<()> {
    for _ in 0..10 {
        let client = FakeClient::connected(target)?;
        for slot in 0..SLOTS {
            let frame = Descriptor {
                length: 60,
                offset: FakeClient::buffer(slot) as u32,
                ..Descriptor::default()
            };
            client.describe(TO_ENGINE, slot, frame)?;
        }
        for _ in 0..100 {
            let tail = client.read_index(TO_ENGINE, TAIL)?;
            client.index(TO_ENGINE, HEAD, tail.wrapping_add(SLOTS))?;
            let mut now = tail;
            // As soon as it has begun to take.
            for _ in 0..100_000 {
                now = client.read_index(TO_ENGINE, TAIL)?;
                if now != tail {
                    break;
                }
            }
            client.index(TO_ENGINE, HEAD, now.wrapping_add(300))?;
            match last_message(&client, Duration::from_millis(2)) {
                None => {}
                Some(words) if words.contains("back") => return Ok(()),
                Some(_) => break,
            }
        }
    }
    Ok(())
}
