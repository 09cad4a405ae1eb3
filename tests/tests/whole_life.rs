// SPDX-License-Identifier: Apache-2.0
//! An engine's life at random: pods come, send, go and die, policies change, uplinks fail, the engine restarts. After
//! every step it serves what it was told to; at the end nothing is left.
//!
//! `SLUICE_LIFE_SECONDS` says how long (15), `SLUICE_LIFE_SEED` repeats a run that failed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;
mod life;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use life::World;
use sluice_tests::root_or_skip;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
    )
}

#[test]
fn a_life_at_random_leaves_nothing() {
    if !root_or_skip("a_life_at_random_leaves_nothing") {
        return;
    }
    let seconds = variable("SLUICE_LIFE_SECONDS").unwrap_or(15);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = variable("SLUICE_LIFE_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    eprintln!("SLUICE_LIFE_SEED={seed}");
    let mut world = World::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        world.step();
    }
    world.end();
}
