//! Attacks by what is written into rings once they are connected.

use std::time::Duration;

use anyhow::Result;

use super::stranger::{
    BUFFER, BYTES, Descriptor, FROM_ENGINE, HEAD, SLOTS, Stranger, TAIL, TO_ENGINE, Target,
};
use super::{Attack, attack};

/// The flag of a descriptor whose packet goes on in the next.
const NEXT: u16 = 1;

pub(crate) const ATTACKS: &[Attack] = &[
    attack("head-jumps", "index-jump", "index jumped", |target| {
        let stranger = Stranger::connected(target)?;
        stranger.index(TO_ENGINE, HEAD, 4000)?;
        ended(&stranger)
    }),
    attack("head-runs-back", "index-back", "index went back", run_back),
    attack(
        "posts-more-than-there-is",
        "index-jump",
        "index jumped",
        |target| {
            let stranger = Stranger::connected(target)?;
            stranger.index(FROM_ENGINE, HEAD, 2 * SLOTS)?;
            provoke(&stranger);
            ended(&stranger)
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
            let stranger = Stranger::connected(target)?;
            for slot in 0..SLOTS {
                let wild = Descriptor {
                    length: BUFFER as u32,
                    offset: BYTES as u32 - 64,
                    ..Descriptor::default()
                };
                stranger.describe(FROM_ENGINE, slot, wild)?;
            }
            stranger.index(FROM_ENGINE, HEAD, SLOTS)?;
            provoke(&stranger);
            ended(&stranger)
        },
    ),
    attack(
        "posts-a-buffer-in-no-region",
        "",
        "unknown region 8",
        |target| {
            let stranger = Stranger::connected(target)?;
            for slot in 0..SLOTS {
                let wild = Descriptor {
                    region: 8,
                    length: BUFFER as u32,
                    ..Descriptor::default()
                };
                stranger.describe(FROM_ENGINE, slot, wild)?;
            }
            stranger.index(FROM_ENGINE, HEAD, SLOTS)?;
            provoke(&stranger);
            ended(&stranger)
        },
    ),
];

/// Sends one frame that is described so.
fn one(target: &Target, descriptor: Descriptor) -> Result<()> {
    let stranger = Stranger::connected(target)?;
    stranger.describe(TO_ENGINE, 0, descriptor)?;
    stranger.index(TO_ENGINE, HEAD, 1)?;
    ended(&stranger)
}

/// Waits for the engine's last words, or for half a second: an engine that takes no offence says none.
fn ended(stranger: &Stranger) -> Result<()> {
    let _ = last_words(stranger, Duration::from_millis(500));
    Ok(())
}

fn last_words(stranger: &Stranger, limit: Duration) -> Option<String> {
    let said = || match stranger.channel.receive() {
        Ok(received) => Some(format!("{:?}", received?.message)),
        Err(error) => Some(error.to_string()),
    };
    sluice_tests::wait_for("last words", limit, said).ok()
}

/// Lets the engine want to send: the witness's frames are for this pod.
fn provoke(stranger: &Stranger) {
    let _ = last_words(stranger, Duration::from_millis(200));
}

/// One packet of `count` descriptors; `ends`: the last says so.
fn chain(target: &Target, count: u16, length: u32, ends: bool) -> Result<()> {
    let stranger = Stranger::connected(target)?;
    for slot in 0..count {
        let last = ends && slot + 1 == count;
        let part = Descriptor {
            flags: if last { 0 } else { NEXT },
            length,
            ..Descriptor::default()
        };
        stranger.describe(TO_ENGINE, slot, part)?;
    }
    stranger.index(TO_ENGINE, HEAD, count)?;
    ended(&stranger)
}

/// Takes back descriptors that the engine has seen and not yet taken. When that is, is for luck to say:
/// whoever takes them back too late has only jumped, and tries again.
fn run_back(target: &Target) -> Result<()> {
    for _ in 0..10 {
        let stranger = Stranger::connected(target)?;
        for slot in 0..SLOTS {
            let frame = Descriptor {
                length: 60,
                offset: Stranger::buffer(slot) as u32,
                ..Descriptor::default()
            };
            stranger.describe(TO_ENGINE, slot, frame)?;
        }
        for _ in 0..100 {
            let tail = stranger.read_index(TO_ENGINE, TAIL)?;
            stranger.index(TO_ENGINE, HEAD, tail.wrapping_add(SLOTS))?;
            let mut now = tail;
            // As soon as it has begun to take.
            for _ in 0..100_000 {
                now = stranger.read_index(TO_ENGINE, TAIL)?;
                if now != tail {
                    break;
                }
            }
            stranger.index(TO_ENGINE, HEAD, now.wrapping_add(300))?;
            match last_words(&stranger, Duration::from_millis(2)) {
                None => {}
                Some(words) if words.contains("back") => return Ok(()),
                Some(_) => break,
            }
        }
    }
    Ok(())
}
