// SPDX-License-Identifier: Apache-2.0
//! The plugins start twice for every delegate (see `exec`), and a start is most of what they cost. As
//! position-independent programs they would spend half of it on 25,000 relocations of client code that
//! a call without an API server never runs: 0.5 ms of 1 ms, measured. They read what the container
//! runtime, root itself, gives them; the engine, which faces pods, stays position-independent.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    // rustc asks for `-static-pie` before this, which `-no-pie` takes back: the last of them counts, for the start
    // files as well.
    if features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo::rustc-link-arg-bins=-static");
    }
}
