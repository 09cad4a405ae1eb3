// SPDX-License-Identifier: Apache-2.0
//! Seeds, and what was found, under every target, without a fuzzer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

#[test]
fn seeds_and_found_cases_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in sluice_fuzz::TARGETS {
        let mut seeds = 0;
        for folder in ["seeds", "found"] {
            let folder = root.join(folder).join(target.name);
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                println!("{}", path.display());
                (target.body)(&fs::read(&path).unwrap());
                seeds += 1;
            }
        }
        assert!(seeds > 0, "{} has no seeds", target.name);
    }
}

#[test]
fn nonsense_passes() {
    for target in sluice_fuzz::TARGETS {
        for length in [0, 1, 63, 64, 127, 128, 129, 4096] {
            for byte in [0, 1, 0x7b, 0xff] {
                (target.body)(&vec![byte; length]);
            }
        }
    }
}
